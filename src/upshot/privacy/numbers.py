"""Personal data of digits and separators: IP addresses, cards, national ids, phones.

RE2 finds runs of digits of the shapes that matter; each run is then read here by patterns that may
look around, and checked. What stands before a run decides where its form does not: behind `version`
four numbers are no address, behind `order` ten digits are no phone.
"""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections.abc import Iterable, Iterator

from stdnum import luhn

from upshot.privacy.labels import word_list
from upshot.privacy.national_ids import DIGIT_IDS, is_checked
from upshot.privacy.scan import Region, Rule, TypedSpan

_ISO_TIME = (
    r"[12][0-9]{3}-[0-9]{2}-[0-9]{2}(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]{1,9})?)?)?"
)
_GROUPS = r"[0-9]{1,8}(?:[ .\-/_*]{1,2}[0-9]{1,8}){2,18}"
_TWO_GROUPS = (
    r"(?:\(|\b)0[0-9]{1,5}\)?[ \-/.]{1,3}[0-9]{4,9}|[0-9]{5}[ \-][0-9]{5}"
    r"|[0-9]{6,8}[\-+A-FU-Y/ ][0-9]{3,7}[0-9A-Y]?"
    r"|[0-9]{4} [0-9]{6}"
)
_INTERNATIONAL = r"(?:\+|\(\+|\b00)[ (]{0,2}[0-9](?:[ ().\-/]{0,3}[0-9]){6,17}"
_AREA_CODE = r"(?:\b[178][ .\-]?)?\([0-9]{1,5}\)[ ./\-]{0,3}[0-9](?:[ .\-/]{0,2}[0-9]){4,12}"
_EXTENSION = r"(?:,? ?(?:x|ext\.?|extension|#|dw|-) ?[0-9]{1,6})?"
NUMBER = "|".join(
    (
        _ISO_TIME,
        f"(?:{_INTERNATIONAL}|{_AREA_CODE}){_EXTENSION}",
        rf"(?:{_GROUPS}|{_TWO_GROUPS}){_EXTENSION}",
        r"[0-9]{13,19}[Xx]?",
    )
)
"""Runs of digits that may be personal data, and times, which are passed over."""
_IS_ISO_TIME = re.compile(_ISO_TIME)
_IS_DECIMALS = re.compile(r"[0-9]*\.[0-9]+(?: [0-9]*\.[0-9]+)*")

# ---- IP addresses

_IPV4 = re.compile(r"(?<![0-9.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?!\.?[0-9])")
_VERSION_WORDS = word_list("words_for_versions")
_ADDRESS_WORDS = word_list("words_for_hosts")
_WORD = re.compile(r"[A-Za-z]+")
_WORDS_BEFORE = 4
"""Words before four numbers that may say what they are."""
_VERSION_AFTER = re.compile(
    (
        r"[\-+](?:alpha|beta|rc|snapshot|preview|dev|final)|\.(?:jar|zip|tar|whl|exe|dll|nupkg)"
        r"|\)? (?:driver|version|release|build)\b"
    ),
    re.I,
)


def is_public_ipv4(text: str) -> bool:
    """An address that can belong to a person: not of a private or other special network.

    The three networks for documentation count, since logs that were made anonymous use them.

    >>> is_public_ipv4("203.0.113.9"), is_public_ipv4("192.168.1.20"), is_public_ipv4("1.2.3.4.5")
    (True, False, False)
    """
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError:
        return False
    if any(address in network for network in _DOCUMENTATION):
        return True
    return not (address.is_private or address.is_multicast or address.is_reserved) and (
        address not in _SHARED
    )


_DOCUMENTATION = tuple(
    map(ipaddress.IPv4Network, ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"))
)
_SHARED = ipaddress.IPv4Network("100.64.0.0/10")


def _is_version(text: str, before: str, after: str) -> bool:
    """Whether four numbers are rather a version, by what stands around them, then by size."""
    line = before.rpartition("\n")[2]
    for word in reversed(_WORD.findall(line)[-_WORDS_BEFORE:]):
        if word.lower() in _ADDRESS_WORDS:
            return False
        if word.lower() in _VERSION_WORDS:
            return True
    if _VERSION_AFTER.match(after):
        return True
    last = before[-1:]
    if last in ("/", "~", "^", "_", "-") or (last == "=" and before[-2:-1] in "=<>~!"):
        return before[-3:] != "://"
    parts = [int(part) for part in text.split(".")]
    small = sum(part < _MAX_VERSION for part in parts)
    product = last == "@" or line[-2:-1].isalpha()
    return small == 4 or (small == 3 and parts[0] < _MAX_VERSION and 0 in parts and product)


_MAX_VERSION = 30
"""Numbers below are common in versions and rare in addresses, where they make up an eighth."""


_MASK = re.compile("/[0-9]")


_HOST_NAME = re.compile(r"(?<![0-9])[0-9]{1,3}(?:-[0-9]{1,3}){3}$")
"""An address in the name of a host: 203-0-113-9.dsl.example.net."""


def _find_ip(run: str, before: str, after: str) -> Iterator[TypedSpan]:
    host = _HOST_NAME.search(run) if re.match(r"[.\-][a-z]", after) else None
    if host and is_public_ipv4(host.group().replace("-", ".")):
        yield "IP", *host.span()
    for match in _IPV4.finditer(run):
        text = match.group()
        left = (before + run[: match.start()])[-40:]
        if text.endswith(".0") and _MASK.match(run[match.end() :] + after):
            continue  # a network
        if is_public_ipv4(text) and not _is_version(text, left, run[match.end() :] + after):
            yield "IP", *match.span()


# ---- Cards

_JOIN = r"[ \-./_*]{0,2}"


def _digits(lead: str, size: int) -> str:
    """A pattern of `size` digits that begin with one of some leads, with separators or not."""
    spelled: list[str] = []
    for one in lead.split("|"):
        parts = re.findall(r"\[[^\]]+\]|[0-9]", one)
        rest = f"(?:{_JOIN}[0-9]){{{size - len(parts)}}}"
        spelled.append(_JOIN.join(parts) + rest)
    return "|".join(spelled)


_CARD = re.compile(
    "(?<![0-9])(?:"
    + "|".join(
        (
            _digits("62|6[0]11|65|4", 19),
            _digits("4|5[0-8]|2[2-7]|35|36|6[0-9]|220|81|82|9792", 16),
            _digits("3[47]|2131|1800", 15),
            _digits("30[0-5]|36|38|39", 14),
        )
    )
    + ")(?![0-9])"
)
"""Visa, Mastercard, Amex, Discover, Diners, JCB, UnionPay, Maestro, Mir, RuPay, Troy."""
_MIN_CARD_DIGITS = 14
_HEXADECIMAL_BEFORE = re.compile(r"[0-9A-Fa-f]-$|[0-9]\.$")


def is_card(digits: str) -> bool:
    """Luhn's check, 12 to 19 digits, not all alike.

    >>> is_card("4111111111111111"), is_card("4111111111111112")
    (True, False)
    """
    return 12 <= len(digits) <= 19 and len(set(digits)) > 1 and luhn.is_valid(digits)


def keep_digits(text: str) -> str:
    """The ASCII digits of a text.

    >>> keep_digits("+1 (415) 5")
    '14155'
    """
    return "".join(c for c in text if "0" <= c <= "9")


def _find_cards(run: str, before: str) -> Iterator[TypedSpan]:
    for match in _CARD.finditer(run):
        text = match.group()
        left = (before + run[: match.start()])[-2:]
        if _HEXADECIMAL_BEFORE.search(left) or not is_card(keep_digits(text)):
            continue
        sizes = [len(group) for group in re.findall("[0-9]+", text)]
        if len(sizes) == 1 or min(sizes[:-1]) >= 3 or set(sizes) == {1}:
            yield "CARD", *match.span()


# ---- National ids

_IDS = [
    (re.compile(rf"(?<![0-9.\-/+])(?:{one.pattern})(?![0-9]|[.\-/][0-9])", re.ASCII), one.check)
    for one in DIGIT_IDS
]


_ANY_ID = re.compile("|".join(one.pattern.replace(r"\1", r"[\- ]") for one in DIGIT_IDS), re.ASCII)
"""Whatever has the form of one of them; most runs have none."""


def _find_ids(run: str) -> Iterator[TypedSpan]:
    if not _ANY_ID.search(run):
        return
    for pattern, check in _IDS:
        for match in pattern.finditer(run):
            if is_checked(match.group(), check):
                yield "NATIONAL_ID", *match.span()


# ---- Phones

_COUNTRY = (
    r"(?:1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|2[1-689][0-9]"
    r"|3[578][0-9]|42[0-9]|5[09][0-9]"
    r"|6[789][0-9]|8[058][0-9]|9[679][0-9])"
)
"""Country codes of E.164."""
_EXT = r"(?:,? ?(?:x|ext\.?|extension|#|dw) ?[0-9]{1,6})?"
_GLOBAL_PHONE = re.compile(
    rf"(?<![\w+.=])\(?\+ ?\(?(?={_COUNTRY})[1-9](?:[ ().\-/]{{0,3}}[0-9]){{6,14}}(?![0-9]){_EXT}",
    re.ASCII,
)
_NATIONAL = (
    (
        rf"(?<![0-9] )00[ \-.]?(?={_COUNTRY})[1-9][0-9]{{0,2}}(?:[ \-./]{{1,2}}\(?"
        rf"[0-9]{{1,8}}\)?){{2,6}}"
    ),
    r"(?:1[ .\-]?)?\([2-9][0-9]{2}\)[ .\-/]{0,2}[0-9]{3}[ .\-]?[0-9]{4}",
    r"(?:1[.\- ])?[2-9][0-9]{2}([.\- ])[0-9]{3}\1[0-9]{4}",
    r"[2-9][0-9]{2}[/ ][0-9]{3}-[0-9]{4}",
    r"\(0[1-9][0-9]{0,4}\)[ /\-]{0,3}[0-9]{2,8}(?:[ \-/.][0-9]{1,6}){0,4}",
    r"0[1-9][0-9]{0,5}(?: ?[/\-] ?| )[0-9]{5,9}",
    r"(?<![0-9] )0[1-9][0-9]{0,4}(?:[ \-./]{1,3}[0-9]{2,8}){2,5}",
    r"\([1-9][0-9]{0,3}\) ?9?[0-9]{3,4}[\- ][0-9]{4}",
    r"[1-9][1-9] 9[0-9]{4}-[0-9]{4}",
    r"1[3-9][0-9]([ \-])[0-9]{4}\1[0-9]{4}",
    r"[78][ \-]?\(?[3489][0-9]{2}\)?[ \-][0-9]{3}[ \-]?[0-9]{2}[ \-]?[0-9]{2}",
    r"[6-9][0-9]{4}[ \-][0-9]{5}",
    r"[67][0-9]{2}([ \-.])[0-9]{2}\1[0-9]{2}\1[0-9]{2}",
)
"""National forms that hardly any other number has: with the international prefix 00, North
America, an area code that begins with 0 or stands in brackets, Brazil, China, Russia, India, Spain.
"""
_PHONES = tuple(
    re.compile(rf"(?<![\w.\-/+#_])(?:{pattern})(?![0-9]|[.\-/_][0-9]|[A-Za-z_]){_EXT}", re.ASCII)
    for pattern in _NATIONAL
)
_DATE = re.compile(
    r"(?:19|20)[0-9]{2}[\-/. ][01]?[0-9][\-/. ][0-3]?[0-9](?![0-9])"
    r"|[0-3]?[0-9][\-/.][01]?[0-9][\-/. ](?:19|20)[0-9]{2}"
)
_OTHER_BEFORE = re.compile(
    r"(?i)\b(?:order|invoice|ticket|case|ref|reference|id|ids|isbn|issn|sku|serial|s/n|part"
    r"|model|version|article|art|doi|rfc|lot"
    r"|batch|tracking|parcel|shipment|bestellung|rechnung|auftrag|commande|facture|pedido"
    r"|factura|zip|plz|postcode|coordinates"
    r"|lat|lon|lng|latitude|longitude|pmid|patent|clause|section|line|lines|page|pages|pp"
    r"|chapter|column|row|build|commit|pid|port|size|bytes"
    r"|sum|total|count|price|amount|eur|usd|gbp|score|scores|record|seed|epoch|step|range"
    r"|hex|bits|barcode|ean|upc|asin|gtin|vin|code)"
    r"\b[^A-Za-z0-9\n]{0,6}(?:(?:no|nr|number|num|nº|n°)\b[^A-Za-z0-9\n]{0,4})?$|[#№]$|[$€£]\s?$"
)


def is_phone(text: str) -> bool:
    """Nine to fifteen digits (E.164; seven after a +), not a date, not all one digit.

    >>> is_phone("+1 415 555 0132"), is_phone("2026-05-06 12:30")
    (True, False)
    """
    digits = keep_digits(re.split("x|ext|#|dw", text, maxsplit=1)[0])
    return (
        (7 if text.startswith(("+", "(+")) else 9) <= len(digits) <= 15
        and not _DATE.search(text)
        and len(set(digits)) > 1
        and "  " not in text.strip()
    )


_ANY_PHONE = re.compile("|".join(one.replace(r"\1", r"[ .\-]") for one in _NATIONAL), re.ASCII)
"""Whatever has the form of one of them; most runs have none."""


_NORTH_AMERICAN = re.compile(r"(?:1[.\- ])?[2-9][0-9]{2}([.\- ])[2-9][0-9]{2}\1[0-9]{4}")


def _find_phones(run: str, before: str) -> Iterator[TypedSpan]:
    if "+" in run:
        for match in _GLOBAL_PHONE.finditer(run):
            if is_phone(match.group()) and not _is_added(run, match, before):
                yield "PHONE", *match.span()
    if not _ANY_PHONE.search(run):
        return
    for pattern in _PHONES:
        for match in pattern.finditer(run):
            if (
                is_phone(match.group())
                and not _is_sequence(match.group())
                and not _OTHER_BEFORE.search(before)
            ):
                yield "PHONE", *match.span()


_MIN_ADDED = 11
"""Characters of a phone number at the start of a line, where a diff has its marks."""


def _is_added(run: str, match: re.Match[str], before: str) -> bool:
    """Whether a + adds or marks a line of a diff rather than begins a phone number."""
    text = match.group()
    if re.fullmatch(r"\+ ?[0-9]+\.[0-9]+", text):
        return True
    if re.search("[ ().\\-/]", text.lstrip("+ ")):
        return False
    left = before + run[: match.start()]
    return text[1:2] == " " or len(text) < (_MIN_ADDED if left.endswith("\n") else _MIN_DIGITS)


def _is_sequence(text: str) -> bool:
    """Whether groups of two count upwards (01 02 03 04 05), as those of tables and dumps do."""
    groups = re.findall("[0-9]+", text)
    return len(groups) >= 4 and all(int(b) - int(a) == 1 for a, b in itertools.pairwise(groups))


# ---- All of them

_REACH = 48
"""Bytes before a run that are looked at."""


def read_number(region: Region) -> Iterable[TypedSpan]:
    """IP addresses, cards, national ids and phones in one run of digits and separators."""
    run = region.text
    if _IS_ISO_TIME.fullmatch(run) or _IS_DECIMALS.fullmatch(run):
        return ()
    before = region.before(_REACH)
    if _is_inside_word(before):
        return ()
    after = region.after(16)
    if after[:1].isalnum() or after[:1] == "_":
        run = re.sub(r"[0-9]+[A-Za-z]?$", "", run)  # the last group is part of a word
    spans: list[TypedSpan] = []
    taken = bytearray(len(run))
    for kind, start, end in _find_all(run, before, after):
        if not any(taken[start:end]):
            taken[start:end] = b"\1" * (end - start)
            spans.append((kind, region.start + start, region.start + end))
    return sorted(spans, key=lambda span: span[1])


_FOUR_NUMBERS = re.compile(r"[0-9]{1,5}(?:\.[0-9]{1,5}){3}")
_MIN_DIGITS = 9
"""Digits of the shortest id or phone that is looked for without a word for it (after a +: 7)."""


def _find_all(run: str, before: str, after: str) -> Iterator[TypedSpan]:
    """All readings of a run, most certain first."""
    if run.count(".") >= 3 or run.count("-") == 3:
        yield from _find_ip(run, before, after)
        if len(run) < _MIN_CARD_DIGITS + 2 and _FOUR_NUMBERS.fullmatch(run):
            return
    digits = len(keep_digits(run))
    if _NORTH_AMERICAN.fullmatch(run) and not before[-1:].isalnum():
        if before[-1:] not in ("-", ".", "/", "+", "#", "_") and not _OTHER_BEFORE.search(before):
            yield "PHONE", 0, len(run)
        return
    if digits >= _MIN_CARD_DIGITS:
        yield from _find_cards(run, before)
    if digits >= _MIN_DIGITS or "+" in run:
        yield from _find_ids(run)
        yield from _find_phones(run, before)


_LABEL_GLUED = re.compile(
    r"(?i)(?:card|cc|visa|nr|no|number|phone|tel|mobile|fax|ip|addr|id|ssn|\\[ntr])$"
)


def _is_inside_word(before: str) -> bool:
    """Whether a run goes on with a word or a number: part of a hash, an id or a decimal."""
    last = before[-1:]
    if last.isalnum() or last == "_":
        return _LABEL_GLUED.search(before) is None
    return (
        len(before) >= 2
        and last in ".-"
        and before[-2].isalnum()
        and before[-2].isascii()
        and last == "-"
    )


NUMBER_RULE = Rule(NUMBER, read_number, skips_rejected=True)
