"""E-mail addresses: as they are, and with @ and dots spelled in words, brackets or spaces."""

from __future__ import annotations

import re
from collections.abc import Iterator

from upshot.privacy.labels import word_list
from upshot.privacy.scan import LETTER, Region, TypedSpan, count_bytes

_HOST = rf"[{LETTER}0-9](?:[{LETTER}0-9.\-]*[{LETTER}0-9])?"
_IDEOGRAPH = r"\x{3040}-\x{9FFF}\x{AC00}-\x{D7AF}"
EMAIL = (
    rf"[{LETTER}{_IDEOGRAPH}0-9_+\-\"]@"
    rf"(?:{_HOST}\.(?:[{LETTER}][{LETTER}]+|xn--[a-z0-9\-]+)|\[[0-9.]{{7,15}}\]"
    rf"|[{_IDEOGRAPH}A-Za-z0-9.\-]+\.[{_IDEOGRAPH}]+)"
)
"""From the last character before the @ on: what may stand before it begins in too many places."""
_LOCAL_BACKWARDS = re.compile(
    r"\"\\?[A-Za-z0-9. ]{1,62}[A-Za-z]\"|[\w+\-][\w.%+'\-]{0,63}(?<![.'%\-])"
)
_LATIN = re.compile("[\u0000-\u052f\u1e00-\u1eff]*")
_MAX_LOCAL = 260
"""Bytes in front of an @ that are looked at: 64 characters of four bytes, and a mark."""
_ROBOTS = re.compile(
    r"(?i)(?:git|hg|svn|bzr|aur|gitea|forgejo)@|(?:no[\-_.]?reply|do[\-_.]?not[\-_.]?reply)@"
)
_NO_HOST = re.compile(
    r"(?i)[0-9]+x\.\w+|v?[0-9]+(?:\.[0-9]+)+.*|.*\.(?:png|jpe?g|gif|svg|webp|css|js|mjs|ts"
    r"|tsx|jsx|html|json|yaml|yml|txt|toml|lock|ini|cfg|shape|transpose|sum"
    r"|mean|weight|weights|bias|grad|copy|values|numpy|reshape|dtype|conj|inv|dot|flatten"
    r"|astype|service|target|socket|timer|pkl|csv|log)"
)


_ACCOUNTS = word_list("accounts")
"""Names in URLs that are no person's."""


def is_email(text: str) -> bool:
    """Whether a candidate is a person's address rather than a forge's, a product or an image.

    >>> is_email("jane@example.org"), is_email("git@github.com"), is_email("logo@2x.png")
    (True, False, False)
    """
    local, _, host = text.rpartition("@")
    return not (
        _ROBOTS.match(text)
        or _NO_HOST.fullmatch(host)
        or (len(local) == 1 and local.isupper() and host[:1].isupper())
    )


def read_email(region: Region) -> Iterator[TypedSpan]:
    """An address without what only surrounds it: an escape, a percent sign, a dot."""
    before = region.before(_MAX_LOCAL)
    backwards = (before + region.text[0])[::-1]
    match = _LOCAL_BACKWARDS.match(backwards)
    local = match.group()[::-1] if match else ""
    if local.isascii() is False and local[-1:].isascii():
        latin = _LATIN.match(local[::-1])  # in a sentence of Chinese no space parts them
        local = latin.group()[::-1] if latin else local
    rest = len(before) + 1 - len(local)
    if before[rest - 1 : rest] == "\\" and local[:1] in ("n", "r", "t"):
        local = local[1:]
    local = local.lstrip(".'%-")
    if not local or (
        local.lower() in _ACCOUNTS and before[: len(before) + 1 - len(local)].endswith("://")
    ):
        return
    if is_email(local + region.text[1:]):
        start = region.start + count_bytes(region.text[0]) - count_bytes(local)
        yield "EMAIL", start, region.end


_AT_WORDS = sorted(word_list("words_for_at"), key=lambda word: (-len(word), word))
AT_WORD = f"(?:{'|'.join(_AT_WORDS)})"
_DOT_WORDS = sorted(word_list("words_for_dot"), key=lambda word: (-len(word), word))
DOT_WORD = f"(?:{'|'.join(_DOT_WORDS)})"
_SPELLED_AT = (
    rf"(?:\s?[\[({{<]\s?(?i:{AT_WORD}|@)\s?[\])}}>]\s?|[ \t]+(?i:{AT_WORD})[ \t]+"
    r"|[ \t]*[\-_*~][ \t]?(?i:at)[ \t]?[\-_*~][ \t]*|[ \t]+@[ \t]*|@[ \t]+|[ \t]?AT[ \t]?)"
)
_SPELLED_DOT = (
    rf"(?:\s?[\[({{<]\s?(?i:{DOT_WORD}|\.)\s?[\])}}>]\s?|[ \t]+(?i:{DOT_WORD})[ \t]+"
    r"|[ \t]*[\-_*~][ \t]?(?i:dot)[ \t]?[\-_*~][ \t]*|\.|[ \t]+\.[ \t]*|[ \t]?DOT[ \t]?)"
)
_PART = rf"[{LETTER}0-9+\-]{{1,40}}"
SPELLED_EMAIL = (
    rf"[{LETTER}0-9]{_SPELLED_AT}{_PART}(?:{_SPELLED_DOT}{_PART}){{0,3}}{_SPELLED_DOT}"
    rf"[{LETTER}]{{2,24}}\b"
)
"""From the last character before the word for @ on."""
_PART_BACKWARDS = re.compile(r"[\w.+\-]{1,64}")
_DOT_BACKWARDS = re.compile(
    r"\s?[\])}>]\s?(?:tod|\.)\s?[\[({<]\s?|[\-_*~]tod[\-_*~]|[ \t]+(?:"
    + "|".join(word[::-1] for word in (*_DOT_WORDS, "underscore", "dash", "plus", "hyphen"))
    + r")[ \t]+",
    re.IGNORECASE,
)
_MAX_PARTS = 5


def _find_spelled_local(before: str) -> str:
    """The local part at the end of a text, its dots spelled or not."""
    backwards = before[::-1]
    end = 0
    for _ in range(_MAX_PARTS):
        dot = _DOT_BACKWARDS.match(backwards, end) if end else None
        part = _PART_BACKWARDS.match(backwards, dot.end() if dot else end)
        if part is None or (end and dot is None):
            break
        end = part.end()
    return backwards[:end][::-1].lstrip(".")


_MARK = re.compile(
    rf"(?i)[\[({{<]\s?(?:{AT_WORD}|@)\s?[\])}}>]|\s{DOT_WORD}\s"
    rf"|[\[({{<]\s?{DOT_WORD}\s?[\])}}>]|[\-_*~]\s?(?:at|dot)\s?[\-_*~]|\s@|@\s"
)
_UPPER_MARK = re.compile(r"[a-z0-9]AT[a-z0-9]|[a-z0-9]DOT[a-z]")
_CUE = re.compile(
    r"(?i)\b(?:e-?mail|mail|address|reach|write|contact|account|adresse|correo|courriel"
    r"|kontakt|gmail|to me)\b[^.\n]{0,30}$"
)
_TOP_LEVEL = re.compile(
    r"(?i)(?:[a-z]{2}|com|org|net|edu|gov|mil|int|info|biz|name|pro|museum|app|dev|cloud"
    r"|online|shop|site|xyz|tech|email|mail|blog|club|live|life|world|today|group|agency"
    r"|company|digital|studio|design|solutions|network|systems|academy|school|university"
    r"|health|care|law|bank|finance|example|test|invalid|local|internal|berlin|london|paris"
    r"|wien|zone|space|store|news|media|social|software|tools|works|xn--.*|[^\x00-\x7f]+)"
)
_WORD_POINT = re.compile(r"(?i)\b(?:point|punt|pont|piste)\b")
_POINT_DOMAINS = word_list("domains_after_point")
"""Domains behind words for dot that are English words too."""
_NO_LOCAL = word_list("no_local_parts")
_PYTHON = re.compile(r"^\s*@|[=(]\s*@")


def read_spelled_email(region: Region) -> Iterator[TypedSpan]:
    """An address whose @ and dots are written in words, in brackets or with spaces."""
    before = region.before(_MAX_LOCAL)
    local = _find_spelled_local(before + region.text[0])
    if not local:
        return
    text = local + region.text[1:]
    before = before[: len(before) + 1 - len(local)]
    if not (_MARK.search(text) or _UPPER_MARK.search(text) or _CUE.search(before)):
        return
    top = re.search(r"[^\W\d_]+$", re.split("DOT", text)[-1])
    if top is None or not _TOP_LEVEL.fullmatch(top.group()):
        return
    if _WORD_POINT.search(text) and top.group().lower() not in _POINT_DOMAINS:
        return
    if _is_decorator(text, region.after(2)) or _NO_DOMAIN.search(region.text):
        return
    if local.split()[-1].lower() in _NO_LOCAL and not _MARK.search(text):
        return
    yield "EMAIL", region.start + count_bytes(region.text[0]) - count_bytes(local), region.end


_NO_DOMAIN = re.compile(r"(?i)\bat (?:the|a|an|this|that|my|your|our|their|each|any|some|every)\b")


def _is_decorator(text: str, after: str) -> bool:
    """Whether ` @name.part` is a decorator or a mention: only a space stands before the @."""
    match = re.search(r"\s@(?P<name>[A-Za-z_][\w.]*)$", text)
    return match is not None and (
        after[:1] in ("(", ".") or match["name"].rsplit(".", 1)[-1].lower() not in _COMMON_TOP_LEVEL
    )


_COMMON_TOP_LEVEL = word_list("common_domains")
