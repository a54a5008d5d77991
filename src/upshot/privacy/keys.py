"""Secrets that show by their form: vendors' keys, private keys, hashes of passwords, URLs and
commands that hold a password, and tokens that can only have been drawn at random.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from upshot.privacy.key_formats import read_key_formats
from upshot.privacy.labels import word_list
from upshot.privacy.randomness import (
    MIN_RATE_AFTER_LABEL,
    MIN_RATE_AFTER_PREFIX,
    is_made_of_words,
    is_random,
    is_random_alone,
)
from upshot.privacy.scan import Region, Rule, TypedSpan, compile_pattern, count_bytes

_FORMATS = tuple(read_key_formats())
TELLING_KEY = "|".join(form.pattern for form in _FORMATS if form.is_telling)
"""Formats with a prefix that hardly anything else has."""
LOOSE_KEY = "|".join(form.pattern for form in _FORMATS if not form.is_telling)
"""Formats whose literal text is short, or follows random characters."""

_BLANKED = re.compile(r"[xX]{6}|0{8}")
_MARKS = re.compile(r"[^A-Za-z0-9]")
_UPPER = re.compile(r"[A-Z0-9]{16,}")
_MIN_DISTINCT = 4
"""Different characters behind a telling prefix; placeholders have one or two."""


def is_telling_key(text: str) -> bool:
    """Whether what stands behind a telling prefix is no placeholder and no words.

    >>> is_telling_key("glpat-" + "x" * 20), is_telling_key("AKIA" + "QWERTYUIOPASDFGH")
    (False, True)
    """
    if _BLANKED.search(text):
        return False
    whole = _MARKS.sub("", text)
    upper = _UPPER.search(whole)
    return is_random(whole, MIN_RATE_AFTER_PREFIX, _MIN_DISTINCT) or (
        (upper is not None and len(set(upper.group())) >= 8)
        or (_has_two_classes(whole) and not is_made_of_words(text))
    )


@cache
def _vendor_key() -> Any:
    return compile_pattern(f"{TELLING_KEY}|{LOOSE_KEY}")


def is_vendor_key(text: str) -> bool:
    """Whether a key is of a vendor's form rather than just random.

    >>> is_vendor_key("ghp_" + "a1B2" * 9), is_vendor_key("hT7vQ2xLw9RbK4nZsY8dFe3G")
    (True, False)
    """
    return _vendor_key().fullmatch(text.encode()) is not None


def _has_two_classes(text: str) -> bool:
    """Whether there are digits, or capitals in the middle of words."""
    return any(map(str.isdigit, text)) or len(re.findall("[a-z][A-Z]", text)) >= 3


def is_loose_key(text: str) -> bool:
    """Whether what stands behind a short prefix looks drawn at random.

    >>> is_loose_key("sk-learn-wrapper-for-tests"), is_loose_key("sk-9f3aK27cLq81Zx04")
    (False, True)
    """
    if _BLANKED.search(text):
        return False
    whole = _MARKS.sub("", text)
    return (
        is_random(text, MIN_RATE_AFTER_LABEL)
        or (is_random(whole, MIN_RATE_AFTER_LABEL) and not is_made_of_words(text))
        or re.search("[0-9]{16}", text) is not None
    )


PRIVATE_KEY_HEADER = (
    r"-{4,5} ?BEGIN (?:[A-Z0-9]{1,12} ){0,4}PRIVATE KEY(?: BLOCK)? ?-{4,5}"
    r"|PuTTY-User-Key-File-[0-9]"
)
_KEY_END = re.compile(
    rb"-{4,5} ?(?:END|BEGIN) [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)? ?-{4,5}"
    rb"|Private-MAC: [0-9a-f]{20,}"
)
_KEY_BODY = re.compile(
    rb"(?:[ \t>]*(?:\r?\n|\\n)[ \t>]*(?:MI[A-Za-z0-9+/]{2,}[^\n\x1e\\]*"
    rb"|b3BlbnNzaC[^\n\x1e\\]*|[A-Za-z0-9+/=]{16,}"
    rb"|[A-Za-z0-9\-]{2,30}: [^\n\x1e\\]{1,200}|[A-Za-z0-9+/]{1,76}={1,2})?)+"
)
"""Lines of a key whose end is missing."""
_MAX_PRIVATE_KEY = 16_384
"""Bytes between the first and the last line: an RSA key of 16,384 bits has 12,700."""


def read_private_key(region: Region) -> Iterator[TypedSpan]:
    """A private key to its last line, or as far as its lines go: half a key is secret too."""
    limit = min(region.high, region.end + _MAX_PRIVATE_KEY)
    match = _KEY_END.search(region.blob, region.end, limit)
    if match and b"BEGIN" not in match.group():
        yield "PRIVATE_KEY", region.start, match.end()
        return
    body = _KEY_BODY.match(region.blob, region.end, limit)
    yield "PRIVATE_KEY", region.start, body.end() if body else region.end


URL_CREDENTIALS = (
    r"[a-zA-Z0-9]://[^\s/:@\"'<>?#\x1e\\]{0,64}:[^\s/\"'<>\x1e\\]{1,128}@[A-Za-z0-9\[$]"
    r"|[a-zA-Z0-9]://[A-Za-z0-9_\-~]{20,200}@[A-Za-z0-9]"
    r"|jdbc:oracle:thin:[^\s/:@\"'<>\x1e]{1,40}/[^\s/:@\"'<>\x1e]{1,40}@"
)
_USER_AND_PASSWORD = re.compile(r"(?:://|thin:)([^@]*(?:@(?!.?$)[^@]*)*)@[^@]?$")
_NO_PASSWORD = re.compile(
    r"(?i)[^:/]*[:/](?:[0-9]{1,5}|\*+|x{3,}|\.{3}|<.*>|\$\{?[\w.]+\}?|\{\{?[\w.]+\}?\}"
    r"|%[sdv]|%\([\w]+\)s|\[.*\])"
)


_EXAMPLE_PASSWORD = re.compile(
    r"(?i)[:/](?:pass(?:word|wd)?|pwd?|secret|token|your[\w\-]*|x-oauth-basic)$"
)


def read_url_password(region: Region) -> Iterator[TypedSpan]:
    """The user and password of a URL; a port, a variable or a placeholder is none."""
    text = region.text
    match = _USER_AND_PASSWORD.search(text)
    if match is None or not match[1] or _NO_PASSWORD.fullmatch(match[1]):
        return
    if _EXAMPLE_PASSWORD.search(match[1]):
        return
    if ":" not in match[1] and "/" not in match[1] and not is_random(match[1]):
        return
    yield region.span("CREDENTIALS", text, *match.span(1))


CRYPT_HASH = (
    r"\$(?:1|2[abxy]?|5|6|7|y|gy|apr1|md5|sha1|argon2(?:id|i|d)|scrypt"
    r"|pbkdf2(?:-[a-z0-9]+)?|bcrypt-sha256)"
    r"\$[./A-Za-z0-9$=,+\-]{16,}|\{(?:SSHA|SHA|SMD5|CRYPT|SSHA512|SSHA256"
    r"|PBKDF2)\}[A-Za-z0-9+/=$.]{16,}"
    r"|pbkdf2_sha[0-9]+\$[0-9]+\$[A-Za-z0-9]+\$[A-Za-z0-9+/=]{16,}"
)

COMMAND = (
    r"\b(?:curl|mysql|mysqldump|mysqladmin|mariadb|sshpass|docker login|podman login"
    r"|helm registry login"
    r"|redis-cli|mongo|mongosh|mongodump|mongorestore|psql|sqlcmd|ldapsearch|smbclient"
    r"|openssl|gpg|7z|7za|zip|unzip"
    r"|rar|unrar|net use|az login|wget|http|https|xfreerdp|rdesktop|ftp|lftp|sqlplus"
    r"|htpasswd|chpasswd|snmpwalk"
    r"|mosquitto_pub|mosquitto_sub|keytool|kinit|expect|cqlsh|influx|rabbitmqctl|ansible"
    r"|winrm|crackmapexec)[ \t]"
)


def _pair(group: str) -> str:
    """`name:password`."""
    return rf"[\"']?[A-Za-z0-9._@+\-\\]{{1,64}}:(?P<{group}>[^\s\"'\x1e]{{3,128}})"


def _word(group: str) -> str:
    """An argument, quoted or not; the groups' names begin with `group`."""
    return (
        rf"(?:\"(?P<{group}q>[^\"\n\x1e]{{3,128}})\"|'(?P<{group}s>[^'\n\x1e]{{3,128}})'"
        rf"|(?P<{group}b>[^\s\"'\x1e\-][^\s\"'\x1e]{{2,127}}))"
    )


def _options(*spelled: str) -> re.Pattern[str]:
    return re.compile("|".join(spelled))


_GLUED_P = (
    r"\s-p(?P<g>[^\s\"'\x1e\-][^\s\"'\x1e]{2,127})"
    r"|\s-p(?:\"(?P<gq>[^\"\n]{3,128})\"|'(?P<gs>[^'\n]{3,128})')"
)
_SPACED_P = r"\s-p[ =]" + _word("p")
_USER = r"\s(?:-u|--user|--proxy-user|-U|-a|--auth)[ =]?" + _pair("u")
_BY_COMMAND = {
    "curl": _options(_USER),
    "wget": _options(_USER),
    "http": _options(_USER),
    "https": _options(_USER),
    "lftp": _options(r"\s-u ?[^\s,]{1,64},(?P<l>[^\s\"'\x1e]{3,128})"),
    "smbclient": _options(r"\s-U ?[\"']?[^\s%\"']{1,64}%(?P<m>[^\s\"'\x1e]{3,128})"),
    "redis-cli": _options(r"\s-a[ =]" + _word("a")),
    "ldapsearch": _options(r"\s-w ?" + _word("w")),
    "sqlcmd": _options(r"\s-P ?" + _word("P")),
    "zip": _options(r"\s-P ?" + _word("P")),
    "unzip": _options(r"\s-P ?" + _word("P")),
    "openssl": _options(r"\bpass:(?P<o>[^\s\"'\x1e]{3,128})", r"\s-k ?" + _word("k")),
    "snmpwalk": _options(r"\s-[AX] ?" + _word("x")),
    "mosquitto_pub": _options(r"\s-P ?" + _word("P")),
    "mosquitto_sub": _options(r"\s-P ?" + _word("P")),
    "htpasswd": _options(r"\s-[a-zA-Z]*b[a-zA-Z]* \S{1,200} \S{1,64} " + _word("h")),
    "sqlplus": _options(r"\s[\w.]{1,64}/(?P<s>[^\s@\"'\x1e/]{3,128})@"),
    "net": _options(r"\s/user:\S{1,64} " + _word("n"), r"\\\S{1,120} " + _word("e") + r" /user:"),
    "winrm": _options(_SPACED_P),
    "xfreerdp": _options(r"\s/p:(?P<r>[^\s\"'\x1e]{3,128})"),
}
_DATABASE = _options(_GLUED_P, _SPACED_P)
_MAX_COMMAND = 400
"""Bytes of a command that are looked at."""
_NO_ARGUMENT = re.compile(
    r"[$%{<\[].*|[0-9]{1,5}|\*+|x{3,}|\.{3}|(?:your|my)[_\-]?\w*|pass(?:word)?|secret|token"
)


def read_command(region: Region) -> Iterator[TypedSpan]:
    """Passwords among the options of a command: `curl -u name:password`, `mysql -ppassword`."""
    after = " " + region.after(_MAX_COMMAND).partition("\n")[0]
    name = region.text.split()[0]
    for match in _BY_COMMAND.get(name, _DATABASE).finditer(after):
        group = match.lastgroup
        if group is None or _NO_ARGUMENT.fullmatch(match[group]):
            continue
        value = match[group]
        if group == "u" and not _is_argument(value):
            continue
        start, end = match.span(group)
        yield region.span_after("SECRET", after[1:], start - 1, end - 1)


def _is_argument(value: str) -> bool:
    """Whether what follows `name:` is a password, not a path or a port."""
    return "/" not in value and not value.isdigit()


LONG_RUN = r"[A-Za-z0-9_\-+/=]{20,}"
_LINE_LENGTHS = (64, 76)
"""Of the lines of base64 in PEM and MIME."""
_MAX_TOKEN = 256
"""Characters of the longest token; what is longer is data."""
_IDS = tuple(word_list("prefixes_of_ids"))
"""Prefixes of ids that services give to what may be seen: messages, calls, files, customers."""
_BEFORE_DATA = re.compile(
    rb"(?i)(?:base64,|sha(?:1|256|384|512)-|h1:|integrity\W{1,4}|;base64\W|\bdata:\S*)$"
)
_LABELLED = compile_pattern(
    r"(?is:.*)(?i:(?P<secret>key|token|secret|passw|credential|bearer|authori[sz]ation"
    r"|\bpat\b|\bsid\b|schlüssel|clave|clé|chave"
    r"|chiave|ключ|токен|密钥|令牌|キー|トークン|키|토큰)|(?P<other>commit|sha-?[0-9]|md5|hash|digest|checksum"
    r"|etag|revision|\brev\b|blob|tree|parent|fingerprint|\buuid|\bguid|trace|span"
    r"|\brequest|build|image|layer"
    r"|public[ _\-]?key|cache|idempotency|object|merge|branch|index|\bsum|file|version|session))"
)
_NO_SECRET_KEY = re.compile(
    rb"(?i)(?:cache|public|primary|foreign|sort|partition|row|idempotency|object|hash"
    rb"|lookup|group|map|index|unique|pub)"
    rb"[ _\-]?$"
)
"""Words in front of `key` that make it no secret."""
_LABEL_REACH = 56
_HEX = re.compile(r"[0-9a-f]{20,}|[0-9A-F]{20,}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DIGIT = re.compile(rb"[0-9]")


def read_token(region: Region) -> Iterator[TypedSpan]:
    """A long token that looks drawn at random, alone or behind a word such as `key`."""
    blob, start, end = region.blob, region.start, region.end
    if end - start > _MAX_TOKEN or not _DIGIT.search(blob, start, end):
        return
    text = region.text
    if "/" not in text or not _is_path(text):
        if _is_key_token(region, text):
            yield "KEY", start, end
        return
    for match in _PATH_PART.finditer(text):
        token = match.group()
        if (
            any(map(str.isupper, token))
            and is_random_alone(token)
            and _is_key_token(region._replace(start=start + match.start()), token)
        ):
            yield "KEY", start + match.start(), start + match.end()


_PATH_PART = re.compile(r"[A-Za-z0-9_\-+=]{20,}")
_PATH_WORD = re.compile(r"(?:^|/)[a-z]{3,}(?:/|$)")


def _is_path(text: str) -> bool:
    """Whether slashes part names rather than stand in base64, where they come once in 64."""
    return text.count("/") > len(text) / 16 + 1 or _PATH_WORD.search(text) is not None


def _is_key_token(region: Region, token: str) -> bool:
    """Whether a token, where the region begins, is a key."""
    hexadecimal = _HEX.fullmatch(token) is not None or _UUID.fullmatch(token) is not None
    if not hexadecimal and not (any(map(str.isalpha, token)) and is_random(token)):
        return False
    before = region.blob[max(region.low, region.start - _LABEL_REACH) : region.start]
    label = _find_label(before)
    if label == "other" or (not label and _NO_KEY.fullmatch(token)):
        return False
    if token.startswith(_IDS) or _BEFORE_DATA.search(before):
        return False
    if label == "secret":
        return len(set(token)) > 6 and (hexadecimal or not is_made_of_words(token))
    if len(token) < _MIN_ALONE or _PUBLIC_URL.search(region.before(256)):
        return False
    return is_random_alone(token) and not _is_data_line(region, token)


_NO_KEY = re.compile(r"0[0-7][0-9A-HJKMNP-TV-Z]{24}|c[a-z0-9]{24}|[0-9a-fA-F\-_=]+")
"""Ids of the kinds ULID and CUID, hashes and UUIDs."""
_MIN_ALONE = 20
"""Characters of a key that nothing but its form tells."""
_PUBLIC_URL = re.compile(
    r"(?i)://(?![^\s]*(?:reset|invite|verif|confirm|unsubscribe|magic|token|auth|activat"
    r"|shar|sign|secret|webhook|hook))[^\s\"'<>]*$"
)
"""A link whose path does not say that it lets anybody in."""


def _find_label(before: bytes) -> str:
    """What the nearest word before a token on its line says: `secret`, `other`, or nothing."""
    line = before[before.rfind(b"\n") + 1 :]
    match = _LABELLED.search(line)
    if match is None:
        return ""
    start = match.span(1)[0]
    return "secret" if start >= 0 and not _NO_SECRET_KEY.search(line[:start]) else "other"


def _is_data_line(region: Region, token: str) -> bool:
    """Whether a token is a line of base64, as certificates and images have them."""
    before = region.before(1)
    return (
        len(token) in _LINE_LENGTHS
        and before in ("", "\n", " ", "n")
        and region.after(1) in ("", "\n", "\r", "\\")
    )


KEY_RULES = (
    Rule(PRIVATE_KEY_HEADER, read_private_key),
    Rule(URL_CREDENTIALS, read_url_password, skips_rejected=True),
)
TOKEN_RULE = Rule(LONG_RUN, read_token, skips_rejected=True)
PIPED = r"[\"']?[ \t]*\|[ \t]*(?:sudo )?(?:chpasswd|passwd --stdin)\b"
_PIPED_PASSWORD = re.compile(r"[\"']?(?:[\w.\-]{1,32}:)?(?P<password>[^\s\"':]{4,128})$")


def read_piped(region: Region) -> Iterator[TypedSpan]:
    """The password that `echo` pipes into a program that sets it."""
    before = region.before(200)
    match = _PIPED_PASSWORD.search(before)
    if match and not _NO_ARGUMENT.fullmatch(match["password"]):
        end = region.start - count_bytes(before[match.end("password") :])
        yield "SECRET", end - count_bytes(match["password"]), end


COMMAND_RULE = Rule(COMMAND, read_command)
PIPED_RULE = Rule(PIPED, read_piped)
