"""Values that are rewritten so as to pass a filter, or encoded, found in a view of the text.

A view is a text made readable, and where its parts come from: escapes are decoded, look-alike
characters folded, invisible ones dropped. More views are made of it without the spaces between
single characters and without a line break inside a value. The ordinary scans run over all views
at once.
"""

from __future__ import annotations

import html
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

from upshot.privacy import patterns
from upshot.privacy.emails import AT_WORD, DOT_WORD
from upshot.privacy.ibans import COUNTRIES
from upshot.privacy.labels import word_list
from upshot.privacy.numbers import is_card, keep_digits
from upshot.privacy.scan import (
    LETTER,
    Batch,
    TypedSpan,
    compile_pattern,
    count_characters,
    find_spans,
)

_HIDDEN = "\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff"
_INVISIBLE = _HIDDEN + "\ufe00-\ufe0f"
_SPACES = "\u00a0\u2000-\u200a\u202f\u205f\u3000"
_DASHES = "\u2010-\u2015\u2043\u2212\ufe58\ufe63\uff0d"
_DOTS = "\u00b7\u2022\u2024\u2219\u22c5\u30fb\uff0e\u3002\uff61"
_LOOK_ALIKES = (
    "\uff10-\uff19\uff20-\uff3a\uff41-\uff5a\uff0b\ufe6b"  # full width
    "\u0660-\u0669\u06f0-\u06f9\u07c0-\u07c9\u0966-\u096f\u09e6-\u09ef\u0a66-\u0a6f\u0ae6-\u0aef\u0b66-\u0b6f"
    "\u0be6-\u0bef\u0c66-\u0c6f\u0ce6-\u0cef\u0d66-\u0d6f\u0e50-\u0e59\u0ed0-\u0ed9\u0f20-\u0f29\u1040-\u1049"
    "\u17e0-\u17e9\u1810-\u1819\u2070-\u209c\u2460-\u249b\u24b6-\u24ff\u2776-\u2793\U0001d400-\U0001d7ff\U0001f100-\U0001f10a"
)
_LINE_END = r"[ \t]*(?:\r?\n|\\n)[ \t>|]*"
_NUMBER_WORDS = dict(entry.split(":") for entry in word_list("number_words"))
_NUMBER_WORD = f"(?:{'|'.join(sorted(_NUMBER_WORDS, key=lambda word: (-len(word), word)))})"
_GAP = r"[ \t\[\](){}<>_*\-]+"


def _cut_phones() -> str:
    """North American numbers with a line break between any two of their characters."""
    digits = [
        r"\(?[2-9]",
        "[0-9]",
        "[0-9]",
        r"\)?[\-. ]{0,2}",
        "[2-9]",
        "[0-9]",
        "[0-9]",
        r"[\-. ]",
    ]
    parts = [*digits, *["[0-9]"] * 4]
    cuts = ("".join((*parts[:i], _LINE_END, *parts[i:])) for i in range(1, len(parts)))
    return "(?:" + "|".join(cuts) + r")\b"


def _split_digits(left: int, right: int) -> str:
    """So many digits at the end of a line, and so many at the start of the next."""
    return rf"(?:[0-9][ \-.]?){{{left},}}{_LINE_END}\-?(?:[0-9][ \-.]?){{{right},}}"


_TRIGGER = compile_pattern(
    "|".join(
        (
            f"[{_LOOK_ALIKES}{_HIDDEN}]",
            f"[0-9)][ ]?[{_SPACES}{_DASHES}{_DOTS}][ ]?[0-9A-Za-z(]"
            f"|[A-Za-z+][{_SPACES}{_DASHES}{_DOTS}][0-9]",
            r"(?i:%40|%2B[0-9]|[a-z0-9)]%20[a-z0-9]|[0-9]%2D[0-9]|%3A%2F%2F"
            r"|\\u[0-9a-f]{4}|\\x[2-7][0-9a-f]"
            r"|&#x?[0-9a-f]+;|&commat;|&period;|&nbsp;)",
            (
                rf"(?i:\b{AT_WORD}{_GAP}[{LETTER}0-9\-]+{_GAP}{DOT_WORD}{_GAP}"
                rf"|{DOT_WORD}{_GAP}[{LETTER}0-9\-]+{_GAP}{AT_WORD}{_GAP})"
            ),
            (
                rf"[{LETTER}0-9] ?[\[({{<] ?(?:(?i:{AT_WORD}|{DOT_WORD})|[@.:])"
                rf" ?[\])}}>] ?[{LETTER}0-9]"
            ),
            r"[a-z0-9]AT[a-z0-9]+(?:DOT|\.)[a-z]|(?i:[a-z0-9]_at_[a-z0-9\-]+(?:_dot_|\.)[a-z])",
            r"(?i:\b(?:e-?mail|mail|reach|write|contact|address|correo|courriel|adresse)\b"
            r"[: ]{0,3}(?:[^\s@]{1,24}[ \t]){0,6}at[ \t][a-z0-9\-]+\.[a-z][a-z])",
            rf"(?i:\b(?:{_NUMBER_WORD}[ ,\-]{{1,2}}){{6,}}{_NUMBER_WORD}\b)|[0-9] \. [0-9]",
            r"[A-Za-z0-9._+\-][ ]{1,2}@[ ]?[A-Za-z0-9\-]+ ?\. ?[A-Za-z]"
            r"|[A-Za-z0-9]@[ ]{1,2}[A-Za-z0-9\-]+ ?\. ?[A-Za-z]"
            r"|[A-Za-z0-9]@[A-Za-z0-9\-]+ \. ?[A-Za-z]",
            r"[0-9](?:[ .\-/_*()]{1,3}[0-9]){6,}|(?:[A-Za-z0-9@.] ){7,}",
            rf"(?:{_split_digits(11, 2)}|{_split_digits(8, 5)}|{_split_digits(5, 8)}"
            rf"|{_split_digits(3, 10)})"
            r"(?:[\s,.;)\"'<]|$)",
            rf"\+[0-9][0-9 ().\-]*{_LINE_END}[0-9(]",
            _cut_phones(),
            rf"(?i:(?:{COUNTRIES})[0-9]{{2}}(?:[ \-]?[A-Z0-9]){{0,30}}{_LINE_END}[A-Z0-9])",
            rf"\b[A-Z]{{2}}[0-9]?{_LINE_END}[0-9]{{1,2}}(?:[ \-]?[A-Z0-9]){{11,}}",
            rf"[A-Za-z0-9]@[A-Za-z0-9.\-]*{_LINE_END}[A-Za-z0-9.\-]"
            rf"|[A-Za-z0-9]{_LINE_END}[A-Za-z0-9._+\-]{{0,2}}@[A-Za-z0-9\-]+\.[A-Za-z]",
            r"\b(?:AKIA|ASIA|gh[pousr]_|github_pat_|sk-|xox[abposer]-|AIza|hf_|npm_|glpat-"
            r"|[rs]k_live_|SG\."
            rf"|eyJ|pypi-|ya29\.)[A-Za-z0-9_.\-]{{0,120}}{_LINE_END}[A-Za-z0-9]",
        )
    )
)
_RADIUS = 200
"""Bytes on each side of a trigger that are looked at: the longest values fit."""
_ESCAPE = re.compile(
    rf"%[2-7][0-9A-Fa-f]|\\{{1,4}}u[0-9A-Fa-f]{{4}}|\\x[2-7][0-9A-Fa-f]|\\[ntr/]"
    rf"|(?<=[0-9]) \. (?=[0-9])|&#?[A-Za-z0-9]{{2,8}};|[\[({{<]\s?[.@:]\s?[\])}}>]|[{_INVISIBLE}]+"
)


class View(NamedTuple):
    """A text made readable, in pieces that are taken from the original as they are or rewritten."""

    text: str
    starts: list[int]
    """Where each piece begins in the text."""
    pieces: list[tuple[int, int, bool]]
    """(start, end) of each piece in the original, and whether it is taken as it is."""

    def original(self, start: int, end: int) -> tuple[int, int]:
        """The original span of [start, end), which must not be empty."""
        first, last = (bisect_right(self.starts, place) - 1 for place in (start, end - 1))
        begin, _, same = self.pieces[first]
        if same:
            begin += start - self.starts[first]
        stop, finish, same = self.pieces[last]
        return begin, stop + end - self.starts[last] if same else finish


def rewrite(text: str, pattern: re.Pattern[str], replace: Callable[[str], str]) -> View:
    """A view with the matches of a pattern replaced.

    >>> view = rewrite("a--b", re.compile("-+"), lambda _: "")
    >>> view.text, view.original(0, 2)
    ('ab', (0, 4))
    """
    parts: list[str] = []
    starts: list[int] = []
    pieces: list[tuple[int, int, bool]] = []
    last = place = 0

    def add(part: str, start: int, end: int, same: bool) -> None:
        nonlocal place
        if part:
            parts.append(part)
            starts.append(place)
            pieces.append((start, end, same))
            place += len(part)

    for match in pattern.finditer(text):
        add(text[last : match.start()], last, match.start(), True)
        add(replace(match.group()), match.start(), match.end(), False)
        last = match.end()
    add(text[last:], last, len(text), True)
    return View("".join(parts), starts, pieces)


class _Folding(dict[int, int]):
    """Characters that look like one of ASCII, each with that; filled as they are met."""

    def __missing__(self, code: int) -> int:
        folded = _fold_character(chr(code))
        self[code] = ord(folded)
        return self[code]


def _fold_character(character: str) -> str:
    if character.isascii():
        return character
    digit = unicodedata.digit(character, None)
    if digit is not None:
        return str(digit)
    if re.match(f"[{_DASHES}]", character):
        return "-"
    if re.match(f"[{_DOTS}]", character):
        return "."
    compatible = unicodedata.normalize("NFKC", character)
    return compatible if len(compatible) == 1 and compatible.isascii() else character


_FOLDING = _Folding()


def normalise(text: str) -> View:
    """Decode escapes, fold look-alike characters and digits, drop invisible characters.

    >>> normalise("ｊ%40x").text
    'j@x'
    """
    folded = text if text.isascii() else text.translate(_FOLDING)
    return rewrite(folded, _ESCAPE, _decode_escape)


def _decode_escape(escape: str) -> str:
    if escape[0] == "%" or escape[:2] == "\\x":
        return chr(int(escape[-2:], 16))
    if escape[0] == "\\":
        if escape[1] in "ntr/":
            return {"n": "\n", "t": "\t", "r": "\n", "/": "/"}[escape[1]]
        decoded = chr(int(escape[-4:], 16))
        if re.match(f"[{_INVISIBLE}]", decoded):
            return ""
        return " " if 0xD800 <= ord(decoded) < 0xE000 else _fold_character(decoded)
    if escape[0] == "&":
        return html.unescape(escape).replace("\u00a0", " ")
    return re.sub(r"[^.@:]", "", escape)  # brackets around a mark, or invisible characters


class _Part(NamedTuple):
    """A view of a part of a text, and which of its spans count."""

    number: int
    """Of the text."""
    place: int
    """Where the part begins in its text, in characters."""
    views: tuple[View, ...]
    """From the innermost, of the text, to the outermost, which is scanned."""
    middle: int = -1
    """Where two lines were joined; spans count that lie on both sides; -1: all count."""

    def original(self, start: int, end: int) -> tuple[int, int]:
        """The span in the text, in characters."""
        for view in reversed(self.views):
            start, end = view.original(start, end)
        return self.place + start, self.place + end


def find_rewritten(batch: Batch, names: bool = False) -> Iterator[tuple[int, TypedSpan]]:
    """Personal data that only shows in a view, with the number of its text.

    `names`: whether people's names are looked for where escapes are all that is rewritten.

    >>> [kind for _, (kind, _, _) in find_rewritten(Batch(["jane at example dot org"]))]
    ['EMAIL']
    """
    parts: list[_Part] = []
    for number, place, window in _find_windows(batch):
        view = normalise(window)
        part = _Part(number, place, (view,))
        parts.append(part)
        parts += _compact(part)
        for span in (*_find_spelled_phones(view), *_find_spoken_numbers(view)):
            yield number, (span[0], place + span[1], place + span[2])
        parts += _join_lines(part)
    if not parts:
        return
    families = (*patterns.REWRITTEN, *(patterns.NAMES if names else ()))
    scanned = [part.views[-1].text for part in parts]
    for row, spans in find_spans(Batch(scanned), families).items():
        part = parts[row]
        for kind, start, end in spans:
            if kind == "NAME" and len(part.views) > 1:
                continue
            if part.middle < 0 or (
                kind in _JOINED_TYPES and _is_split(scanned[row], start, part.middle, end, kind)
            ):
                yield part.number, (kind, *part.original(start, end))


def _find_windows(batch: Batch) -> Iterator[tuple[int, int, str]]:
    """Parts of texts around triggers: the text's number, where in it, and the part."""
    blob, offsets = batch.blob, batch.offsets
    windows: list[list[int]] = []
    for match in _TRIGGER.finditer(blob):
        number = bisect_right(offsets, match.start()) - 1
        low = max(offsets[number], match.start() - _RADIUS)
        high = min(offsets[number + 1] - 1, match.end() + _RADIUS)
        if windows and windows[-1][0] == number and low <= windows[-1][2]:
            windows[-1][2] = max(high, windows[-1][2])
        elif high > low:
            windows.append([number, low, high])
    current, byte, place = -1, 0, 0
    for number, low, high in windows:
        low, high = _widen(blob, low, high, offsets[number], offsets[number + 1] - 1)
        if number != current:
            current, byte, place = number, offsets[number], 0
        place += count_characters(blob[byte:low])
        byte = low
        yield number, place, blob[low:high].decode("utf-8", "surrogatepass")


_MAX_WIDENING = 64
_SPACE = re.compile(rb"[\s,;\"']")


def _widen(blob: bytes, low: int, high: int, first: int, last: int) -> tuple[int, int]:
    """A window that cuts no word in two, nor a character."""
    before = blob[max(first, low - _MAX_WIDENING) : low]
    if low > first and (spaces := list(_SPACE.finditer(before))):
        low -= len(before) - spaces[-1].end()
    if high < last and (space := _SPACE.search(blob, high, min(last, high + _MAX_WIDENING))):
        high = space.start()
    while low > first and blob[low] & 0xC0 == 0x80:
        low -= 1
    while high < last and blob[high] & 0xC0 == 0x80:
        high += 1
    return low, high


_SPACED = re.compile(
    r"(?<![^\s\"'(:=>])(?:[A-Za-z0-9_+\-@.(] ){6,}[A-Za-z0-9_+\-@.)](?![^\s,;:!?)\"'<])"
    r"|(?<![0-9A-Za-z])[+(]{0,2}[ .\-/_*]{0,3}[0-9](?:[ .\-/_*()]{1,3}[0-9]){6,}(?![0-9])"
)
"""Single characters with spaces between them, or digits with some marks between all of them."""
_MARKS = re.compile(
    r"(?<=[A-Za-z0-9_+\-@.()])[ ]|[.\-/_*]{1,3}(?=[0-9)(])|(?<=[(+)])[.\-/_*]{1,3}|[ ]"
)
_MAX_SPACED = 400


def _compact(part: _Part) -> Iterator[_Part]:
    """Views without what stands between single characters."""
    view = part.views[-1]
    for match in _SPACED.finditer(view.text):
        start, end = match.span()
        if end - start > _MAX_SPACED:
            continue
        inner = _cut(view.text, start, end)
        yield part._replace(views=(*part.views, inner, rewrite(inner.text, _MARKS, _drop)))


_SINGLE_DIGITS = re.compile(
    r"(?<![0-9A-Za-z.\-/_*])[(]?[0-9](?:[.\-/_*()]{1,3}[0-9]){9,11}(?![0-9A-Za-z]|[.\-/_*][0-9])"
)


def _find_spelled_phones(view: View) -> Iterator[TypedSpan]:
    """Ten to twelve single digits with a mark between all of them: 4.1.5.5.5.5.0.1.3.2."""
    for match in _SINGLE_DIGITS.finditer(view.text):
        digits = keep_digits(match.group())
        steps = {int(b) - int(a) for a, b in pairwise(digits)}
        if len(steps) > 1 and len(set(digits)) > 2:
            yield "PHONE", *view.original(*match.span())


_SPOKEN = re.compile(
    rf"(?i)(?:\bplus[ ,]+)?\b{_NUMBER_WORD}(?:[ ,\-]{{1,2}}{_NUMBER_WORD}){{6,18}}\b"
)
_MIN_SPOKEN = 7
"""Digits of the shortest phone number."""


def _find_spoken_numbers(view: View) -> Iterator[TypedSpan]:
    """Cards and phones whose digits are written as words; counting is none."""
    for match in _SPOKEN.finditer(view.text):
        words = re.findall(r"[^\W\d_]+", match.group().lower())
        digits = "".join(_NUMBER_WORDS.get(word, "") for word in words)
        steps = {int(b) - int(a) for a, b in pairwise(digits)}
        if is_card(digits):
            yield "CARD", *view.original(*match.span())
        elif _MIN_SPOKEN <= len(digits) <= _MAX_PHONE and len(steps) > 2:
            yield "PHONE", *view.original(*match.span())


_MAX_PHONE = 15
"""Digits of the longest phone number (E.164)."""


def _drop(_: str) -> str:
    return ""


def _cut(text: str, start: int, end: int) -> View:
    """A part of a text as a view of it."""
    return View(text[start:end], [0], [(start, end, True)])


_BREAK = re.compile(r"[ \t\r]*\n[ \t>|]*")
_REACH = 80
"""Characters on each side of a line break that are joined."""
_JOINED_TYPES = frozenset({"EMAIL", "CARD", "IBAN", "KEY", "CREDENTIALS", "PHONE"})
_JOINABLE = re.compile(
    r"(?P<left>[A-Za-z0-9@._+\-](?:[ ]?[A-Za-z0-9@._+\-()]){0,79})\n(?P<right>(?:[ ]?"
    r"[A-Za-z0-9@._+\-()]){1,80})"
)
_KEY_LIKE = re.compile(
    r"(?:AKIA|ASIA|gh[pousr]_|github_pat_|sk-|xox|AIza|hf_|npm_|glpat-|[rs]k_live_|SG\.|eyJ"
    r"|pypi-|ya29\.)[\w.\-]*$"
)


def _join_lines(part: _Part) -> Iterator[_Part]:
    """Views of two lines in one, where a value may go on from the first to the second."""
    text = part.views[-1].text
    for line_break in _BREAK.finditer(text):
        first = max(text.rfind("\n", 0, line_break.start()) + 1, line_break.start() - _REACH)
        after = text.find("\n", line_break.end(), line_break.end() + _REACH)
        last = after if after >= 0 else min(len(text), line_break.end() + _REACH)
        left, right = text[first : line_break.start()], text[line_break.end() : last]
        if not left or not right or not _may_go_on(left, right):
            continue
        view = View(
            left + right,
            [0, len(left)],
            [(first, line_break.start(), True), (line_break.end(), last, True)],
        )
        yield part._replace(views=(*part.views, view), middle=len(left))


def _may_go_on(left: str, right: str) -> bool:
    """Whether a value may be cut between two lines: digits meet, or an address or a key is open."""
    if _KEY_LIKE.search(left) and right[0].isalnum():
        return True
    if "@" in left[-64:] or "@" in right[:64]:
        return True
    if _IBAN_START.search(left[-_REACH:]):
        return True
    tail = _DIGITS_BACKWARDS.match(left[::-1])
    head = _DIGITS_AHEAD.match(right)
    if tail is None or head is None:
        return False
    digits = keep_digits(tail.group()[::-1]) + keep_digits(head.group())
    return "+" in tail.group() or len(digits) in _PHONE_LENGTHS or is_card(digits)


_DIGITS_AHEAD = re.compile(r"[0-9\-().]+(?:[ ][0-9\-().]+)*")
_DIGITS_BACKWARDS = re.compile(r"[0-9\-().]+(?:[ ][0-9\-().]+)*[+(]{0,2}")
_IBAN_START = re.compile(rf"(?i:(?:{COUNTRIES})[0-9]{{2}}(?:[ \-]?[0-9A-Z])*$)|\b[A-Z]{{2}}[0-9]?$")
_PHONE_LENGTHS = (10, 11)
"""Digits of a North American number."""
_MIN_CARD = 14
_MIN_PHONE = 9
"""Digits of the shortest card, and of the shortest phone without a word for it."""
_COMMON_DOMAIN = re.compile(r"\.(?:com|org|net|edu|gov|io|de|uk|fr|es|it|eu|ch|at|nl|example)$")


def _is_split(text: str, start: int, middle: int, end: int, kind: str) -> bool:
    """Whether the value needs both lines: neither half is one, as in `…at\\njane@example.org`."""
    if not start < middle < end:
        return False
    halves = (text[start:middle], text[middle:end])
    if kind == "EMAIL":
        at = text.index("@", start) if "@" in text[start:end] else start
        if at == middle and not _COMMON_DOMAIN.search(text[start:end]):
            return False  # a decorator on a line of its own
        if at < middle:
            return re.search(r"\.[a-z]{2,}$", text[at:middle]) is None
        return re.match(r"[\w.+\-]{3,}@", halves[1]) is None
    if kind == "CARD":
        numbers = map(keep_digits, halves)
        return not any(len(number) >= _MIN_CARD and is_card(number) for number in numbers)
    if kind == "PHONE":
        digits = [len(keep_digits(half)) for half in halves]
        return digits[0] < _MIN_PHONE and (digits[1] < _MIN_PHONE or "+" in halves[0])
    spans_by_half = find_spans(Batch(halves), patterns.WITHOUT_NAMES)
    return all(span[0] != kind for spans in spans_by_half.values() for span in spans)
