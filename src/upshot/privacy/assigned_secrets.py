"""Passwords and keys that something names: `DB_PASSWORD=…`, `"token": "…"`, `the password is …`.

A label is looked for, then what assigns a value to it, then the value is judged. After a word
for password any value counts that is no description and no code; after a word for key or token
only what looks drawn at random.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from typing import NamedTuple

from upshot.privacy.labels import pattern_of, word_list, words_of
from upshot.privacy.randomness import compute_change_rate, is_made_of_words, is_random
from upshot.privacy.scan import Region, Rule, TypedSpan

_GLUED = (
    r"(?i:pass(?:word|wd|phrase|code|wort)|pwd|secret|token|credential|authorization|cookie"
    r"|(?:api|access|account|auth|private|signing|encryption|master|client|service|shared|license"
    r"|admin|session|storage|deploy|webhook|consumer|application|app)[_\-. ]?key|signature)"
    r"|[a-z](?:Key|Pass|Auth)\b|[A-Za-z0-9][_\-](?i:key|pass|pw|auth|sig|sid|pat|jwt)\b"
    r"|\b(?:pass|pw|PASS|PW|Pass)\b|(?i:\b(?:creds|login|mnemonic|(?:seed|recovery|backup|secret)"
    r"[ _\-](?:phrase|words))\b)"
)
"""Labels that may be part of an identifier."""
LABEL = f"{_GLUED}|{pattern_of('password', 'key')}"

_IS = (
    "is|was|are|equals|ist|lautet|war|es|era|est|était|è|é|foi|jest|to|är|er|on|je|este|это|είναι"
    "|là|adalah"
)
_AFTER_LABEL = r"(?:[A-Za-z0-9_]|-(?=[A-Za-z0-9])){0,30}(?:\\?[\"'`]|[\])]|\*{1,2}|_){0,3}"
_SIGN = (
    r"(?:[ \t]{0,4}(?P<sign>=>|:=|->|→|：|＝|={1,3}|:(?!:)|\||>"
    r"|(?<=[\"'\]]),(?=[ \t]?[\"']))[ \t]{0,4}(?:\r?\n[ \t>*\-]{0,8}|\\n)?"
    rf"|(?P<verb>(?:'s|[ \t]+(?:{_IS}))"
    r"(?:[ \t]+(?:now|still|currently|set to|simply|just|actually|changed to))?[ \t]*:?[ \t]+"
    r"|[ \t]*(?:是|は|은|는|がです)[ \t]*))(?:(?i:bearer|basic|token|digest|apikey|ssws)[ \t]+)?"
)
_SEPARATORS = (
    re.compile(_AFTER_LABEL + _SIGN),
    re.compile(
        _AFTER_LABEL + r"(?:[ \t]+\(?[^\s:=()\"'`,;|<>]{1,24}\)?){1,5}?" + _SIGN
    ),  # `the token for staging is …`
    re.compile(_AFTER_LABEL + r"[ \t]+(?P<sign>)(?P<verb>)"),
)
"""What may stand between a label and its value, most certain first."""
_VALUE = re.compile(
    r"(?:[rbfu](?=[\"']))?(?:(?P<quote>\\?[\"'`])(?P<quoted>(?:(?!(?P=quote))"
    r"[^\n\x1e]){1,512})(?P=quote)"
    r"|[«“„‘「](?P<typographic>[^\n\x1e»”“’」]{1,512})[»”“’」]"
    r"|\\?[\"'](?P<open>[^\s\"'`,;<>\\\x1e]{4,512})|(?P<bare>[^\s\"'`,;<>\\\x1e]{1,256}))"
)
_WORDS_OF_PASSWORDS = frozenset(words_of("password"))


class _Assignment(NamedTuple):
    """A value and what stands around it."""

    label: str
    """With the identifier that it is part of."""
    sign: str
    """`=`, `:`, `is`, or a space."""
    value: str
    is_quoted: bool
    next: str
    """The character behind the value."""
    is_flag: bool
    """Whether the label is an option of a command line."""
    is_direct: bool
    """Whether nothing but a sign or a verb stands between label and value."""

    @property
    def is_setting(self) -> bool:
        """Whether the label is written as environment variables are."""
        spaced = self.sign == " " and "_" in self.label and any(map(str.isdigit, self.value))
        return self.label.isupper() and ("=" in self.sign or spaced)

    @property
    def is_prose(self) -> bool:
        """Whether a verb or nothing but a space assigns the value."""
        return self.sign in ("is", " ")


def read_assigned(region: Region) -> Iterator[TypedSpan]:
    """The secret that a label announces, if one follows."""
    blob, end = region.blob, region.end
    if not _MAY_ASSIGN.match(blob, end, min(region.high, end + 160)):
        is_flag = region.start > region.low and blob[region.start - 1] == ord("-")
        if not (is_flag or _PHRASE_LABEL.search(region.text)):
            return
    region = region.trim_escape()
    label, after = region.text, region.after(_REACH)
    before = _read_head(region.before(40))
    if _PHRASE_LABEL.search(label) and (phrase := _SEED_PHRASE.match(after)):
        yield region.span_after("SECRET", after, *phrase.span("words"))
        return
    if _LOGIN_LABEL.search(label) and (login := _LOGIN.match(after)):
        yield region.span_after("SECRET", after, *login.span("password"))
        return
    for separator in _SEPARATORS:
        if separator is _SEPARATORS[1] and not _SIGN_AHEAD.match(after):
            continue
        link = separator.match(after)
        value = _VALUE.match(after, link.end()) if link else None
        if link is None or value is None:
            continue
        if link["sign"] == ">" and not before.startswith("<"):
            continue
        if (link["verb"] or "").strip() == "to" and not _SETS.search(region.before(48)):
            continue
        if separator is _SEPARATORS[1] and (link["verb"] or "").startswith("'"):
            continue
        group = str(value.lastgroup)
        start, end = value.span(group)
        if "\n" in link.group() and group == "bare" and value["bare"].isalpha():
            continue
        if group == "bare":
            end = start + len(_trim(value["bare"]))
        name = _NAME.match(after)
        assignment = _Assignment(
            before.lstrip("-.<") + label + (name.group() if name else ""),
            "is" if link["verb"] else link["sign"] or " ",
            after[start:end],
            group != "bare",
            after[end : end + 1],
            before.startswith("-") and separator is not _SEPARATORS[1],
            separator is _SEPARATORS[0],
        )
        if is_secret(assignment):
            yield region.span_after("SECRET", after, start, end)
            return


_MAY_ASSIGN = re.compile(
    rb"[A-Za-z0-9_\-]{0,30}(?:[\"'`\])*\\_]{0,3}[ \t]{0,4}(?:[:=|>,]|->|[\xe2-\xef])"
    rb"|[\"'`\])*\\_]{0,3}[ \t]+(?:\S{0,80}[0-9]|[^\n]{0,120}?(?:[:=|]|[\xc3-\xef]|\b(?:"
    + "|".join(word for word in _IS.split("|") if word.isascii()).encode()
    + rb")\b))|'s )"
)
"""What follows a label that may have a value; behind most words of code nothing of it does."""
_SIGN_AHEAD = re.compile(
    r"[^\n]{0,120}?(?:[:=|→：＝]| (?:is|was|ist|est|es|è|é|lautet|war|era|jest|это)\b)"
)
_PHRASE_LABEL = re.compile(r"(?i)phrase|mnemonic|seed|recovery")
_SEED_PHRASE = re.compile(
    r"[\"'`*_)]{0,3}(?: ?(?:words|is|are))?[ \t]*[:=]?[ \t]*(?:\r?\n|\\n)?[\"'`*_(]{0,3}"
    r"(?P<words>(?:[a-z]{3,8}[ ,]{1,2}){11,23}[a-z]{3,8})"
)
"""Twelve to twenty-four words, as BIP 39 has them."""
_LOGIN_LABEL = re.compile(r"(?i)^(?:credentials?|creds|login|log-?in)$")
_LOGIN = re.compile(
    r"s?[\"'`*_)]{0,3}[ \t]*(?:[:=]|(?:is|are|with)\b)[ \t]*(?=\S{0,64} ?[/|:])"
    r"[\w.@+\-]{2,64} ?[/|:] ?"
    r"(?P<password>(?=[^\s\"'`,;<>]{0,64}[0-9])(?=[^\s\"'`,;<>]{0,64}[A-Za-z])(?!/)[^\s\"'`,;<>/]{5,64})"
)
"""A name and a password on two sides of a stroke."""
_SETS = re.compile(
    r"(?i)\b(?:set|sets|chang\w+|reset\w*|updat\w+|make|made|use|switch\w*)\b[^.\n]*$"
)
_REACH = 700
"""Bytes behind a label that are looked at."""
_HEAD_CHARACTERS = string.ascii_letters + string.digits + "_-."
_NAME = re.compile(r"(?:[A-Za-z0-9_]|-(?=[A-Za-z0-9])){0,30}")


def _read_head(before: str) -> str:
    """The part of an identifier, option or tag that stands right before a label.

    >>> _read_head("use --db_"), _read_head("<"), _read_head("my ")
    ('--db_', '<', '')
    """
    size = len(before.rstrip(_HEAD_CHARACTERS))
    return before[size - 1 if before[:size].endswith("<") else size :]


def _trim(value: str) -> str:
    """A bare value without the punctuation of its sentence."""
    if "=" in value:
        value = value.partition("&")[0]
    if ")" in value and "(" not in value:
        value = re.split(r"\)(?=[.;,)]|$)", value, maxsplit=1)[0]
    return re.split("[。，、]", value, maxsplit=1)[0].rstrip(".:)]}?&*_|")


def is_secret(assignment: _Assignment) -> bool:
    """Whether a value is a secret, by its label and its form."""
    if len(assignment.value) < _MIN_KEY and not _PASSWORD_LABEL.search(assignment.label):
        return False
    words = _split_identifier(assignment.label)
    if len(set(assignment.value)) < _MIN_DISTINCT or assignment.value[:1] in (
        " ",
        ")",
        "}",
        "]",
        ",",
        ";",
        ":",
    ):
        return False
    if not assignment.value or words & _NO_SECRETS or _ENDS_OTHERWISE.search(assignment.label):
        return False
    if assignment.value.count("=") > _MAX_SIGNS or _is_placeholder(assignment.value):
        return False
    if _PASSWORD.search(assignment.label) or assignment.label.lower() in _WORDS_OF_PASSWORDS:
        return _is_password(assignment)
    if words & {"pass", "pw"}:
        spoken = assignment.sign == "is" and any(map(str.isdigit, assignment.value))
        named = assignment.is_flag or assignment.is_setting
        named = named or (assignment.is_direct and (spoken or not assignment.is_prose))
        bare = assignment.value.isalpha() and not (assignment.is_setting or assignment.is_flag)
        return named and not bare and _is_password(assignment) and "_" not in assignment.value
    return _is_key(assignment, words)


_PASSWORD = re.compile(
    "(?i)pass(?:word|wd|phrase|code|wort)|pwd|passw|contraseñ|kennwort|senha|hasł"
)
_PASSWORD_LABEL = re.compile(
    f"{_PASSWORD.pattern}|pass|pw|^(?:{'|'.join(map(re.escape, sorted(_WORDS_OF_PASSWORDS)))})$"
)
"""Labels behind which a short value may be a secret."""
_NO_SECRETS = word_list("no_secrets")
"""Words of identifiers that hold no secret: `max_tokens`, `cache_key`, `password_field`."""
_ENDS_OTHERWISE = re.compile(r"(?i)(?:less|token(?:s|iz.*)|board|(?<!pass)words?|able)$")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def _split_identifier(label: str) -> set[str]:
    """The words of an identifier in lower case.

    >>> sorted(_split_identifier("dbPassword_OLD"))
    ['db', 'old', 'password']
    """
    parts = re.split(r"[_\-. ]+", _CAMEL.sub("_", label))
    return {part.lower() for part in parts if part}


_NO_VALUES = word_list("no_values")
_PLACEHOLDER = re.compile(
    r"(?i)[<{%*#\[(].*|\$[A-Za-z_{(][\w.:\-]*[})]*|.*(?:\.{3}|…|\*{3}|x{4}|•{3}).*|[x_\-.]+"
    r"|.*(?:\{\{|\$\{|<[a-z]|process\.env|os\.environ|getenv|\(\)).*|@[A-Za-z_]+@?"
    r"|(?:[a-z_]+[_\-])?(?:your|my|placeholder|redacted|replace|insert|changeme)[_\-].*"
)


def _is_placeholder(value: str) -> bool:
    """Whether a value stands for another, or describes one.

    >>> _is_placeholder("your_api_key_here"), _is_placeholder("${TOKEN}"), _is_placeholder("pa55W")
    (True, True, False)
    """
    spelled = value.strip().rstrip("!?:")
    words = [word for word in re.split(r"[_\-. ]+", spelled.lower().rstrip("0123456789")) if word]
    return (
        all(word in _NO_VALUES or word.removesuffix("s") in _NO_VALUES for word in words)
        or _PLACEHOLDER.fullmatch(spelled) is not None
        or spelled.lower() in _WORDS_OF_PASSWORDS
        or (spelled.isalpha() and "password" in spelled.lower())
    )


_MAX_SIGNS = 4
"""Signs of equality in a value; more make it a list of settings."""
_MIN_DISTINCT = 3
"""Different characters of a secret; `xxxx` and `****` have one."""
_MAX_PASSWORD = 128
_TECHNICAL = re.compile(
    r"(?i)(?:sha|md|aes|rsa|rs|hs|es|base|utf|oauth|http|x|v|pbkdf|argon|bcrypt|scrypt|py"
    r"|python|php|ipv|id|ed"
    r"|tls|ssl|node|s|ec|k|i|l|win|top|mysql|postgres|api)[\-_]?[0-9][0-9.a-z\-]{0,5}|[0-9]+[\-_]?"
    r"(?:st|nd|rd|th|x|bit|bits|byte|bytes|char|chars|character|characters|digit|digits"
    r"|letters|days?|hours?"
    r"|times?|min|mins|minutes?|seconds?|ms|mb|kb|gb)s?(?:[\-_].*)?"
)
_CODE = re.compile(r"[A-Za-z_$][\w$]*(?:(?:\.|->|::)[A-Za-z_$][\w$]*)+\(?|[a-z]+(?:[A-Z][a-z]+)+")


def _is_password(assignment: _Assignment) -> bool:
    """Whether the value behind a word for password is one."""
    value = assignment.value
    if not 4 <= len(value) <= _MAX_PASSWORD or "://" in value or _EMAIL.fullmatch(value):
        return False
    if not assignment.is_quoted and (_is_call(assignment) or assignment.value.endswith("=")):
        return False
    if assignment.is_flag:
        return not value.startswith("-")
    if assignment.sign == "," and (value.isalpha() or not assignment.is_quoted):
        return False
    if any(c.isspace() for c in value):
        return assignment.is_quoted and _is_phrase(assignment)
    if _TECHNICAL.fullmatch(value) or (_CODE.fullmatch(value) and not assignment.is_setting):
        return False
    digits = any(c.isdigit() for c in value)
    letters = any(c.isalpha() for c in value)
    symbols = any(not c.isalnum() and c not in "_-.'’" for c in value.rstrip("!?"))
    if assignment.is_prose:
        return _is_spoken_password(assignment, digits, letters, symbols)
    if digits or symbols:
        return not (value.isdigit() and assignment.next in "./:-" and assignment.next)
    return assignment.is_quoted or assignment.is_setting or _is_alone(assignment)


def _is_call(assignment: _Assignment) -> bool:
    """Whether a bare value is a call or an index of code."""
    return assignment.next in ("(", "[") or re.match(r"[\w.$]+[(\[]", assignment.value) is not None


_SENTENCE = word_list("words_of_sentences")


def _is_phrase(assignment: _Assignment) -> bool:
    """Whether words are a passphrase rather than a sentence about one."""
    words = assignment.value.lower().split()
    return "phrase" in assignment.label.lower() or (
        len(words) >= 3 and assignment.value.islower() and not _SENTENCE & set(words)
    )


def _is_spoken_password(
    assignment: _Assignment, digits: bool, letters: bool, symbols: bool
) -> bool:
    """Whether a value is a password that a sentence names."""
    value = assignment.value
    if (digits and letters) or (symbols and (letters or digits)) or assignment.is_quoted:
        return len(value) >= 5 and not value.startswith(("(", "/", "-", "~/", "http"))
    if assignment.sign == " ":
        return False
    if digits:
        return assignment.next not in (" ", "-") or len(value) >= 6
    return len(value) >= 6 and assignment.next in (".", "", "\n", "!", ",", ";") and value.isalpha()


def _is_alone(assignment: _Assignment) -> bool:
    """Whether a bare word is a value of settings rather than a variable of code."""
    return (
        len(assignment.value) >= 5
        and assignment.next in ("\n", "", " ", "\r", ";")
        and "_" not in assignment.value
        and assignment.sign.strip() in (":", "=", "：")
    )


_EMAIL = re.compile(r"[^\s@]+@[^\s@]+\.[A-Za-z]{2,}")
_HEX = re.compile(r"[0-9a-fA-F]{20,}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_WEAK = frozenset({"key", "sig", "auth", "session", "sid", "signature", "cookie"})
"""Labels of other things too: a bare hexadecimal number behind them is rather a hash."""
_STRONG = word_list("words_for_keys")
_OPERATORS = re.compile(r"[?(){}\[\]|*<>]|\+$")
_MIN_KEY = 8
_MIN_SURE_KEY = 12


def _is_key(assignment: _Assignment, words: set[str]) -> bool:
    """Whether the value behind a word for key or token is one."""
    value = assignment.value
    if len(value) < _MIN_KEY or any(c.isspace() for c in value) or "://" in value:
        return False
    if not assignment.is_quoted and _OPERATORS.search(value):
        return False
    if _CODE.fullmatch(value) or _EMAIL.fullmatch(value) or _TECHNICAL.fullmatch(value):
        return False
    if not assignment.is_quoted and _is_call(assignment):
        return False
    if _UUID.fullmatch(value) or _HEX.fullmatch(value):
        return bool(words - _WEAK) and len(set(value)) > 4
    digits, letters = sum(map(str.isdigit, value)), sum(map(str.isalpha, value))
    if len(value) >= 16 and is_random(value) and not is_made_of_words(value):
        return True
    symbols = sum(not c.isalnum() and c not in "_-./" for c in value)
    if words & _STRONG and digits and letters >= 3:
        whole = max(re.split(r"[_\-./:]", value), key=len)
        if len(whole) >= _MIN_SURE_KEY and digits >= 4:
            return True
        if symbols or (len(whole) >= _MIN_KEY and compute_change_rate(whole) >= 0.25):
            return True
    if "secret" in words and (assignment.is_setting or assignment.is_flag):
        return True
    is_assigned = assignment.is_quoted or assignment.is_setting
    return is_assigned and len(value) >= 16 and symbols >= 2 and digits >= 2


ASSIGNED_SECRET = Rule(LABEL, read_assigned)
"""Values that a label announces."""
