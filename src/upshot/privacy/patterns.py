"""The patterns of personal data, and the checks that its digits must pass.

RE2 finds candidates in a whole batch in one pass; each candidate is then classified and validated
here. A candidate pattern may be loose, since `classify` decides. A new type is one line in `TYPES`
or, for digits and separators, in `NUMBER_TYPES` (docs/extending.md). Check digits are those of
python-stdnum; only where its validators demand more than a check digit (Germany's tax id, India's
Aadhaar, IBAN by country) is the bare checksum used, since redaction prefers false alarms to leaks.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from stdnum import luhn, verhoeff
from stdnum.br import cpf
from stdnum.es import dni, nie
from stdnum.fr import nir
from stdnum.iso7064 import mod_11_10, mod_97_10

TypedSpan = tuple[str, int, int]
"""Type, start, end."""


def _accept(_: str) -> bool:
    return True


class RedactionType(NamedTuple):
    """A type of personal data: how its values look, and which of them are real."""

    name: str
    """In capitals; the placeholder of a value is `<NAME_4821>`."""
    pattern: str
    """Candidates, in RE2's syntax; no letters beyond ASCII in character classes."""
    is_valid: Callable[[str], bool] = _accept
    """The check that a candidate must pass."""


_STREET = (
    "Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Place|Pl|Square|Sq|"
    "Terrace|Way|Circle|Parkway|Pkwy|Highway|Hwy|Crescent|Close|Row|Trail|Alley|Mews"
)
_WORD = r"[A-Z][a-zA-Z'’\-]+"

KEYS = (
    r"(?:AKIA|ASIA|AGPA|AIDA|AROA)[0-9A-Z]{16}",
    r"gh[pousr]_[A-Za-z0-9]{30,}",
    r"github_pat_[A-Za-z0-9_]{22,}",
    r"gl(?:pat|dt|rt|ptt|cbt)-[A-Za-z0-9_\-]{20,}",
    r"xox[abeoprs]-[A-Za-z0-9\-]{10,}",
    r"xapp-[A-Za-z0-9\-]{20,}",
    r"hooks\.slack\.com/services/[A-Za-z0-9/]{20,}",
    r"discord(?:app)?\.com/api/webhooks/[0-9]{15,}/[A-Za-z0-9_\-]{30,}",
    r"sk-(?:proj-|ant-|or-|svcacct-|live-)?[A-Za-z0-9_\-]{20,}",
    r"AIza[A-Za-z0-9_\-]{30,}",
    r"ya29\.[A-Za-z0-9_\-]{20,}",
    r"GOCSPX-[A-Za-z0-9_\-]{20,}",
    r"(?:sk|pk|rk)_(?:live|test)_[A-Za-z0-9]{16,}",
    r"whsec_[A-Za-z0-9+/=]{20,}",
    r"\b(?:SK|AC)[0-9a-f]{32}\b",
    r"SG\.[A-Za-z0-9_\-]{16,}\.[A-Za-z0-9_\-]{16,}",
    r"npm_[A-Za-z0-9]{30,}",
    r"pypi-[A-Za-z0-9_\-]{40,}",
    r"hf_[A-Za-z0-9]{30,}",
    r"dop_v1_[0-9a-f]{60,}",
    r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{30,}",
    r"dapi[0-9a-f]{32}",
    r"\bkey-[0-9a-f]{32}\b",
    r"\b[0-9]{8,10}:[A-Za-z0-9_\-]{35}\b",
    r"eyJ[A-Za-z0-9_\-]{8,}\.eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}",
    r"AccountKey=[A-Za-z0-9+/=]{40,}",
    r"sq0(?:atp|csp)-[A-Za-z0-9_\-]{20,}",
    r"(?:gsk|xai|tvly|pplx|r8|lin_api|ntn|secret|figd|dckr_pat|rubygems|sntrys|phc)"
    r"_[A-Za-z0-9_]{24,}",
    r"pplx-[A-Za-z0-9]{32,}",
    r"nvapi-[A-Za-z0-9_\-]{32,}",
    r"vercel_[A-Za-z0-9]{20,}",
    r"AGE-SECRET-KEY-1[0-9A-Z]{40,}",
)
_LABELS = (
    r"(?:api[_\-]?key|apikey|secret(?:[_\-]?(?:access[_\-]?)?key)?|access[_\-]?token"
    r"|auth[_\-]?token|client[_\-]?secret|token|passw(?:or)?d|passwd|pwd|passphrase|bearer)"
)
CONTEXT = (
    rf"(?i:\b(?:[a-z0-9]+[_\-])*{_LABELS}[\"']?(?: ?(?:=>|:=|[:=])| is| )["
    r" ]?[\"']?)[^\s\"'`,;<>()\[\]{}]{6,}"
)
PRIVATE_KEY = r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"

EMAIL = (
    r"[A-Za-z0-9._%+'\-]*[A-Za-z0-9_+\-]@[A-Za-z0-9][A-Za-z0-9.\-]*\.[A-Za-z][A-Za-z0-9\-]*[A-Za-z]"
)
NUMBER = r"[+(]?[0-9][0-9 ().\-/\t]{5,}[0-9](?: ?(?:x|ext\.?) ?[0-9]{1,6})?"
IBAN = r"\b[A-Z]{2}[0-9]{2}(?:[ \-]?[A-Z0-9]){11,30}\b"
IPV6 = r"(?:[0-9A-Fa-f]{1,4}:|::)(?:[0-9A-Fa-f]{0,4}:){1,6}[0-9A-Fa-f]{1,4}(?:\.[0-9.]+)?"
URL = r"[A-Za-z][A-Za-z0-9+.\-]*://[^\s/:@\"'<>?#]*:[^\s/@\"'<>]+@"
NATIONAL = (
    r"\b[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D]\b",
    r"\b[A-Z]{6}[0-9]{2}[A-EHLMPRST][0-9]{2}[A-Z][0-9]{3}[A-Z]\b",
    r"\b[0-9]{8}[\- ]?[A-Z]\b",
    r"\b[XYZ][\- ]?[0-9]{7}[\- ]?[A-Z]\b",
    r"\b[A-Z]{5}[0-9]{4}[A-Z]\b",
)
ADDRESS = (
    rf"\b[0-9]{{1,5}}[A-Za-z]? (?:(?:[NSEW]\.?|{_WORD}) ){{1,4}}(?:{_STREET})\b\.?"
    r"(?:,? (?:Apt|Apartment|Suite|Ste|Unit|Flat|#)\.? ?[0-9A-Za-z\-]+)?",
    r"\b[A-Z][a-zäöüß]+(?:straße|strasse|str\.|weg|allee|platz|gasse) [0-9]{1,4}[a-z]?\b",
    (
        r"\b[0-9]{1,4},? (?:bis )?(?:rue|avenue|boulevard|place|chemin|impasse|quai) (?:[a-zé]+"
        rf" |[dl]['’])*{_WORD}(?: {_WORD})*"
    ),
    (
        rf"\b(?:Calle|Avenida|Via|Viale|Piazza|Rua|Plaza|Paseo) (?:{_WORD} |d[aeio] |della |del |de"
        rf" la ){{0,3}}{_WORD},? [0-9]{{1,4}}\b"
    ),
    r"(?i:\bP\.? ?O\.? Box [0-9]{1,6})",
)
NAMED_NUMBER = (
    r"(?i:\b(?:ssn|social security|phone|telephone|tel|mobile|cell|fax|whatsapp|call me|text"
    r" me|reach me)\b"
    r"[^0-9+(\x1e\n]{0,24})[+(]?[0-9][0-9 ().\-/]{5,18}[0-9]"
)
NAME = (
    (
        r"(?i:\b(?:my (?:full |last |first )?name(?:'s| is)|name:|i am called|call me|this is))["
        rf" ]{_WORD}(?: {_WORD}){{0,3}}"
    ),
    rf"\b(?:Mr|Mrs|Ms|Mx|Dr|Prof)\.? {_WORD}(?: {_WORD}){{0,2}}",
    rf"(?:^|[\n\x1e])(?:Dear|Hi|Hello) {_WORD}(?: {_WORD})?,",
    (
        r"(?:Best|Kind|Warm)?(?: ?[Rr]egards|Sincerely|Cheers|Yours(?: truly|"
        rf" sincerely)?),\s+{_WORD}(?: {_WORD}){{0,2}}"
    ),
)


def is_ipv6(text: str) -> bool:
    """A valid address that is not loopback; `a::b` in program code is none."""
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return not address.is_loopback and text.count(":") >= 3 and any(c.isdigit() for c in text)


TYPES: tuple[RedactionType, ...] = (
    RedactionType("KEY", "|".join(KEYS)),
    RedactionType("EMAIL", EMAIL),
    RedactionType("ADDRESS", "|".join(ADDRESS)),
    RedactionType("IP", IPV6, is_ipv6),
)
"""Types of which a candidate is a value as a whole, in order of precedence."""

CANDIDATES = "|".join(
    f"(?:{pattern})"
    for pattern in (
        PRIVATE_KEY,
        URL,
        *(kind.pattern for kind in TYPES),
        CONTEXT,
        IBAN,
        *NATIONAL,
        NAMED_NUMBER,
        NUMBER,
        *NAME,
    )
)
CANDIDATES_WITHOUT_NAMES = CANDIDATES.removesuffix(
    "|" + "|".join(f"(?:{pattern})" for pattern in NAME)
)

_TYPES = tuple((kind.name, re.compile(kind.pattern), kind.is_valid) for kind in TYPES)
_IS_EMAIL = re.compile(EMAIL)
_IS_NAMED_NUMBER = re.compile(NAMED_NUMBER)
_CONTEXT_NAME = re.compile(
    rf"(?i)^(?:[a-z0-9]+[_\-])*{_LABELS}[\"']?(?: ?(?:=>|:=|[:=])| is| ) ?[\"']?"
)
_IS_IBAN = re.compile(IBAN)
_IS_URL = re.compile(URL)
_IS_NAME = re.compile("|".join(NAME), re.MULTILINE)
_NAME_LEAD = re.compile(
    r"(?i)^\s*(?:my (?:full |last |first )?name(?:'s| is)|name:|i am called|call me|this"
    r" is|mr\.?|mrs\.?|ms\.?|mx\.?|dr\.?"
    r"|prof\.?|dear|hi|hello|(?:best|kind|warm)? ?regards,|sincerely,|cheers,|yours(?: truly|"
    r" sincerely)?,)\s+"
)
_NOT_NAMES = frozenset(
    [
        "The",
        "This",
        "That",
        "There",
        "Here",
        "Sir",
        "Madam",
        "All",
        "Everyone",
        "Team",
        "Folks",
        "Please",
        "Thanks",
        "Thank",
        "Can",
        "Could",
        "What",
        "How",
        "Why",
        "When",
        "Where",
        "Is",
        "Are",
        "Not",
        "Just",
        "My",
        "Your",
        "Our",
        "It",
        "A",
        "An",
        "Python",
        "Java",
        "JavaScript",
        "Docker",
        "Linux",
        "Windows",
        "Ubuntu",
        "Claude",
        "ChatGPT",
        "GPT",
        "AI",
        "Assistant",
        "Google",
        "Bing",
        "World",
        "User",
        "Friend",
        "Customer",
        "Hiring",
        "Support",
        "I",
        "If",
        "In",
        "On",
        "For",
        "So",
        "But",
        "And",
        "Now",
        "Yes",
        "No",
    ]
)


def classify(text: str, names: bool = True) -> Iterator[TypedSpan]:
    """Classify the personal data in one candidate; yields nothing where there is none.

    >>> list(classify("jane@example.org"))
    [('EMAIL', 0, 16)]
    >>> list(classify("4111 1111 1111 1112"))
    []
    """
    if text.startswith("-----BEGIN"):
        yield "PRIVATE_KEY", 0, len(text)
    elif match := _IS_URL.fullmatch(text):
        yield "CREDENTIALS", text.index("://") + 3, match.end() - 1
    elif name := _find_type(text):
        yield name, 0, len(text)
    elif match := _CONTEXT_NAME.match(text):
        yield from _classify_secret(text, match.end())
    elif text[0].isalpha() and _IS_IBAN.fullmatch(text) and (end := find_iban_end(text)):
        yield "IBAN", 0, end
    elif text[0].isalpha() and _IS_NAMED_NUMBER.fullmatch(text):
        yield from _classify_named_number(text)
    elif match := _NAME_LEAD.match(text):
        if names:
            yield from _classify_name(text, match.end())
    else:
        yield from _classify_numbers(text)


def _find_type(text: str) -> str:
    """The type of which the whole text is a value; empty: it is none of `TYPES`."""
    return next(
        (name for name, pattern, is_valid in _TYPES if pattern.fullmatch(text) and is_valid(text)),
        "",
    )


def _classify_secret(text: str, start: int) -> Iterator[TypedSpan]:
    value = text[start:].rstrip(".")
    name = text[:start].lower()
    if _IS_EMAIL.fullmatch(value) or value.startswith(("<", "$", "%", "{", "*")):
        return
    mixed = any(c.isdigit() for c in value) and any(c.isalpha() for c in value)
    assigned = any(mark in name for mark in ":=")
    if "pass" in name or "pwd" in name:
        if mixed and (assigned or " is" in name) and not re.fullmatch(r"[\w.]+\(.*", value):
            yield "SECRET", start, start + len(value)
    elif mixed and len(value) >= 16 and "." not in value.rstrip(".")[:12]:
        yield "SECRET", start, start + len(value)


def _classify_named_number(text: str) -> Iterator[TypedSpan]:
    """A number whose kind is named by the words before it."""
    match = re.search(r"[+(]?[0-9][0-9 ().\-/]*$", text)
    numbers = list(_classify_numbers(text[match.start() :])) if match else []
    if match and numbers:
        yield from (
            (kind, start + match.start(), end + match.start()) for kind, start, end in numbers
        )
    elif match and is_phone(match.group()):
        yield ("NATIONAL_ID" if text[0] in "sS" else "PHONE"), match.start(), match.end()


def _classify_name(text: str, start: int) -> Iterator[TypedSpan]:
    first = re.split(r"[ ,]", text[start:], maxsplit=1)[0]
    if first not in _NOT_NAMES:
        yield "NAME", start, len(text.rstrip(","))


_PLAIN_NUMBER = re.compile(
    r"[0-9]*\.[0-9]+|[0-9]{7,9}|[01][0-9]{9}|[0-9]{11,12}|[0-9]{20,}|[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"|[0-9]{1,2}/[0-9]{1,2}/[0-9]{2,4}"
)
"""Decimals, plain integers, timestamps, short dates and ranges: never personal data."""
_CARD = r"(?<![0-9.])[2-6][0-9]{3}(?:[ \-.]?[0-9]){9,15}(?![0-9])"
_IPV4 = r"(?<![0-9.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![0-9.])"
_SSN = r"(?<![0-9\-])(?!000|666|9)[0-9]{3}([\- ])(?!00)[0-9]{2}\1(?!0000)[0-9]{4}(?![0-9\-])"
_CPF = r"(?<![0-9])[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}(?![0-9])"
_AADHAAR = r"(?<![0-9])[2-9][0-9]{3}[ \-][0-9]{4}[ \-][0-9]{4}(?![0-9])"
_NIR = (
    r"(?<![0-9])[12] ?[0-9]{2} ?(?:0[1-9]|1[0-2]) ?[0-9]{2} ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}(?![0-9])"
)
_TAX_DE = r"(?<![0-9])[1-9][0-9] [0-9]{3} [0-9]{3} [0-9]{3}(?![0-9])"
_PHONES = (
    r"(?<![0-9])\+[0-9][0-9 ().\-/]{6,18}[0-9](?: ?(?:x|ext\.?) ?[0-9]{1,6})?",
    (
        r"(?<![0-9+])(?:\+?1[ .\-]?)?\([0-9]{3}\)[ .\-]?[0-9]{3}[ .\-]?[0-9]{4}(?: ?(?:x|ext\.?)"
        r" ?[0-9]{1,6})?(?![0-9])"
    ),
    (
        r"(?<![0-9.\-])(?:1[.\-])?[2-9][0-9]{2}([.\- ])[0-9]{3}\1[0-9]{4}(?: ?(?:x|ext\.?)"
        r" ?[0-9]{1,6})?(?![0-9])"
    ),
    r"(?<![0-9.\-/])\(?00?[1-9][0-9]{0,4}\)?(?:[ /\-][0-9]{2,5}){2,4}(?![0-9])",
    r"(?<![0-9.\-/])\(?0[1-9][0-9]{1,4}\)?[ /\-][0-9]{5,8}(?![0-9])",
    (
        r"(?<![0-9])001[ .\-]?[0-9]{3}[ .\-]?[0-9]{3}[ .\-]?[0-9]{4}(?: ?(?:x|ext\.?)"
        r" ?[0-9]{1,6})?(?![0-9])"
    ),
    r"(?<![0-9.\-/_#])[2-9][0-9]{2}[2-9][0-9]{6}(?![0-9.\-/_])",
    r"(?<![0-9])[2-9][0-9]{2}[.\-]?[0-9]{3}[.\-]?[0-9]{4} ?(?:x|ext\.?) ?[0-9]{1,6}(?![0-9])",
)
_DATE = re.compile(
    r"(?:19|20)[0-9]{2}[\-/. ][01]?[0-9][\-/."
    r" ][0-3]?[0-9]|[0-3]?[0-9][\-/.][01]?[0-9][\-/.](?:19|20)[0-9]{2}"
)


def _classify_numbers(text: str) -> Iterator[TypedSpan]:
    """Cards, IP addresses, national ids and phones in one run of digits and separators."""
    if text[0].isalpha() or text[-1].isalpha():
        if is_letter_id(text):
            yield "NATIONAL_ID", 0, len(text)
        return
    if _PLAIN_NUMBER.fullmatch(text):
        return
    spans: list[tuple[int, int]] = []

    def is_free(match: re.Match[str]) -> bool:
        return all(match.end() <= start or match.start() >= end for start, end in spans)

    for name, pattern, is_valid in _NUMBER_TYPES:
        for match in pattern.finditer(text):
            if is_free(match) and is_valid(match.group()):
                spans.append(match.span())
                yield name, match.start(), match.end()


def keep_digits(text: str) -> str:
    """The digits of a text.

    >>> keep_digits("+1 (415) 5")
    '14155'
    """
    return "".join(c for c in text if c.isdigit())


def is_phone(text: str) -> bool:
    """Nine to fifteen digits (E.164; seven after a +), not a date, not all one digit."""
    digits = keep_digits(re.split("x|ext", text)[0])
    return (
        (7 if text[0] == "+" else 9) <= len(digits) <= 15
        and not _DATE.search(text)
        and len(set(digits)) > 1
        and "  " not in text.strip()
    )


def is_card(digits: str) -> bool:
    """Luhn's check, 13 to 19 digits, a known issuer.

    >>> is_card("4111111111111111"), is_card("4111111111111112")
    (True, False)
    """
    if (
        not 13 <= len(digits) <= 19
        or len(set(digits)) < 2
        or not re.match(r"4|5[0-8]|2[2-7]|3[0-9]|6", digits)
    ):
        return False
    return luhn.is_valid(digits)


def find_iban_end(text: str) -> int:
    """Where the IBAN at the start of the text ends (ISO 13616, mod 97), 0 where there is none."""
    for end in range(len(text), 14, -1):
        compact = text[:end].replace(" ", "").replace("-", "")
        if 15 <= len(compact) <= 34 and text[end - 1].isalnum():
            moved = compact[4:] + compact[:4]
            if mod_97_10.is_valid(moved):
                return end
    return 0


def is_public_ipv4(text: str) -> bool:
    """An address that could be a person's: not loopback, unspecified, a mask or a version."""
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return not (
        address.is_loopback
        or address.is_unspecified
        or text.startswith(("255.", "0."))
        or address.packed[0] < 5
    )


def is_cpf(digits: str) -> bool:
    """Brazil's two check digits; not all digits alike.

    >>> is_cpf("11144477735"), is_cpf("11144477736")
    (True, False)
    """
    return len(set(digits)) > 1 and cpf.is_valid(digits)


def is_tax_de(digits: str) -> bool:
    """The check digit of Germany's tax id (ISO 7064, mod 11, 10)."""
    return mod_11_10.is_valid(digits)


_NINO = re.compile(NATIONAL[0])
_CODICE = re.compile(NATIONAL[1])


def is_letter_id(text: str) -> bool:
    """Ids with letters: UK NINO, Italy's codice fiscale, Spain's DNI and NIE (checked).

    >>> is_letter_id("12345678Z"), is_letter_id("12345678A")
    (True, False)
    """
    compact = text.replace(" ", "").replace("-", "")
    if match := re.fullmatch(r"([XYZ]?)([0-9]{7,8})([A-Z])", compact):
        prefix = match.group(1)
        return nie.is_valid(compact) if prefix else dni.is_valid(compact)
    return bool(
        _NINO.fullmatch(text)
        or _CODICE.fullmatch(text)
        or re.fullmatch(r"[A-Z]{3}[ABCFGHJLPT][A-Z][0-9]{4}[A-Z]", text)
    )


def _on_digits(check: Callable[[str], bool]) -> Callable[[str], bool]:
    """A check of digits as one of the text that holds them."""
    return lambda text: check(keep_digits(text))


NUMBER_TYPES: tuple[RedactionType, ...] = (
    RedactionType("IP", _IPV4, is_public_ipv4),
    RedactionType("CARD", _CARD, _on_digits(is_card)),
    RedactionType("NATIONAL_ID", _SSN),
    RedactionType("NATIONAL_ID", _CPF, _on_digits(is_cpf)),
    RedactionType("NATIONAL_ID", _AADHAAR, _on_digits(verhoeff.is_valid)),
    RedactionType("NATIONAL_ID", _NIR, _on_digits(nir.is_valid)),
    RedactionType("NATIONAL_ID", _TAX_DE, _on_digits(is_tax_de)),
    *(RedactionType("PHONE", pattern, is_phone) for pattern in _PHONES),
)
"""Types whose values are digits and separators, in order of precedence. Candidates are the matches
of `NUMBER`; these patterns are Python's and may look around.
"""
_NUMBER_TYPES = tuple((kind.name, re.compile(kind.pattern), kind.is_valid) for kind in NUMBER_TYPES)
