"""Values that are rewritten so as to pass a filter, found in a normalised view of the text.

A view is a list of characters, each with the original span it came from: escapes are decoded,
look-alike digits and full-width letters folded, invisible characters dropped. The ordinary patterns
are tried again on the view, and on versions without line breaks or without the spaces between
single characters.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from stdnum import verhoeff

from upshot.privacy import patterns
from upshot.privacy.patterns import TypedSpan

_DIGIT_JOIN = r"[ \t.\-/_*]"
TRIGGERS = (
    rb"\xEF\xBC[\x90-\x99\xA0-\xBA]|\xEF\xBD[\x81-\x9A]"  # full-width digits, letters, @
    rb"|\xE2\x80[\x8B-\x8F\xAA-\xAE]|\xE2\x81[\xA0-\xA4]|\xEF\xBB\xBF|\xC2\xAD"  # invisible
    # other scripts' digits, letters
    rb"|\xD9[\xA0-\xA9]|\xDB[\xB0-\xB9]|\xE0\xA5[\xA6-\xAF]|\xF0\x9D[\x90-\x9F]"
    rb"|[0-9](?:\xC2\xA0|\xE2\x80[\x80-\x95\xAF]|\xC2\xB7)[0-9]"
    rb"|(?i:%40|%2B[0-9]|[0-9)]%20[0-9]|[0-9]%2D[0-9]|\\u00[0-9a-f][0-9a-f]|&#x?[0-9a-f]+;"
    rb"|&commat;|&period;)"
    rb"|(?i:[ \[({<]at[ \])}>][^\x1e\n]{1,80}[ \[({<]dot[ \])}>])|(?i:[\[({<] ?(?:at|dot) ?[\])}>])"
    rb"|(?i: dot [^\x1e\n@]{1,40}(?:@| at ))|(?i:@[a-z0-9\-]+ dot )"
    rb"|[0-9](?:[ .\-/_*][0-9]){6,}"
    rb"|[0-9][ \t]{2,}[0-9]{2,}[0-9 \t]{6,}"
    rb"|[0-9][0-9 \-.()]{2,}(?:\r?\n|\\n)[ \t]*[0-9\-]"
    rb"|@ ?[A-Za-z0-9.\-]*(?:\r?\n|\\n)[A-Za-z0-9.]|\n[A-Za-z0-9._+\-]+@"
    rb"|[A-Za-z0-9._+\-]+ @ ?[A-Za-z0-9]|[A-Za-z0-9]@ [A-Za-z0-9]"
    rb"|(?:[A-Za-z0-9._+\-@] ){7,}"
    rb"|\b[A-Z]{2}[0-9]{2}[ A-Z0-9]*(?:\r?\n|\\n)[A-Z0-9]|\b[A-Z](?:[ \-.][A-Z0-9]){12,}"
    rb"|(?:AKIA|gh[pousr]_|github_pat_|sk-|xox[abp]-|AIza|hf_|npm_|glpat-|[rs]k_live_|SG\.)"
    rb"[A-Za-z0-9_.\-]*(?:\r?\n|\\n)[A-Za-z0-9]"
)
_AT = r"(?:\s*[\[({<]\s*(?:at|@)\s*[\])}>]\s*|[ \t]+at[ \t]+|[ \t]*@[ \t]*)"
_DOT = r"(?:\s*[\[({<]\s*(?:dot|\.)\s*[\])}>]\s*|[ \t]+dot[ \t]+|\.)"
_SPELLED_EMAIL = re.compile(
    rf"(?i)(?<![\w.])[a-z0-9_+\-]+(?:(?:{_DOT}|\s+(?:underscore|dash|plus)\s+)"
    rf"[a-z0-9_+\-]+){{0,4}}{_AT}[a-z0-9\-]+(?:{_DOT}[a-z0-9\-]+){{0,3}}{_DOT}[a-z]{{2,}}\b"
)
_SPELLED_MARK = re.compile(r"(?i)\bdot\b|[\[({<]\s*(?:at|@)\s*[\])}>]|\s@|@\s")
_CANDIDATES = re.compile(patterns.CANDIDATES_WITHOUT_NAMES)
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\\[ntr]|&#?[A-Za-z0-9]{2,8};")
_SINGLE_CHARACTERS = re.compile(
    r"(?<!\S)(?:[A-Za-z0-9_+\-@.] ){6,}[A-Za-z0-9_+\-@.](?![^\s,;:!?)])"
)
_DIGITS = re.compile(
    rf"(?<![0-9A-Za-z])[+(]?[0-9](?:{_DIGIT_JOIN}{{0,3}}\(?[0-9]\)?){{6,22}}(?![0-9])"
)
_SINGLE_DIGITS = re.compile(r"[0-9](?:([ \-_*/.]{1,3})\(?[0-9]\)?)(?:\1\(?[0-9]\)?){5,}")
"""Single digits with the same separator between all of them."""
_INVISIBLE = frozenset(
    "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\u2061\u2062\u2063\u2064\ufeff"
    "\u202a\u202b\u202c\u202d\u202e"
)
_SAFE_JOINED = frozenset(
    {"EMAIL", "CARD", "IBAN", "KEY", "IP", "CREDENTIALS", "NATIONAL_ID", "PHONE"}
)


class View(NamedTuple):
    """Normalised characters, each with its original span."""

    text: str
    starts: list[int]
    ends: list[int]

    def original(self, start: int, end: int) -> tuple[int, int]:
        """The original span of [start, end) of the view."""
        return self.starts[start], self.ends[end - 1]

    def without(self, pattern: re.Pattern[str]) -> View:
        """The view without the matches of a pattern."""
        keep = [True] * len(self.text)
        for match in pattern.finditer(self.text):
            keep[match.start() : match.end()] = [False] * (match.end() - match.start())
        return self.take([i for i, flag in enumerate(keep) if flag])

    def take(self, rows: Sequence[int]) -> View:
        """The view of some of its characters."""
        return View(
            "".join(self.text[i] for i in rows),
            [self.starts[i] for i in rows],
            [self.ends[i] for i in rows],
        )


def normalise(text: str) -> View:
    """Decode escapes, fold compatibility characters and digits, drop invisible characters.

    >>> normalise("ｊ%40x").text
    'j@x'
    """
    characters: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    position = 0
    while position < len(text):
        end = position + 1
        character = text[position]
        if character in "%\\&" and (escape := _ESCAPE.match(text, position)):
            end = escape.end()
            character = _decode_escape(escape.group())
        elif character in _INVISIBLE:
            position = end
            continue
        elif not character.isascii():
            character = _fold_character(character)
        for folded in character:
            characters.append(folded)
            starts.append(position)
            ends.append(end)
        position = end
    return View("".join(characters), starts, ends)


def _decode_escape(escape: str) -> str:
    if escape[0] == "%":
        code = int(escape[1:], 16)
        return chr(code) if 0x20 <= code < 0x7F else escape
    if escape[0] == "\\":
        return {"\\n": "\n", "\\t": "\t", "\\r": "\n"}.get(escape) or chr(int(escape[2:], 16))
    return html.unescape(escape)


def _fold_character(character: str) -> str:
    digit = unicodedata.digit(character, None)
    if digit is not None:
        return str(digit)
    if unicodedata.category(character) == "Pd":
        return "-"
    if character in "\u00b7\u2022\u2024":
        return "."
    return unicodedata.normalize("NFKC", character)


def find_rewritten(text: str) -> Iterator[TypedSpan]:
    """Personal data that only shows in the normalised text; spans are of the original.

    >>> [kind for kind, _, _ in find_rewritten("jane at example dot org")]
    ['EMAIL']
    """
    view = normalise(text)
    yield from _find_plain(view)
    for match in _SPELLED_EMAIL.finditer(view.text):
        if _SPELLED_MARK.search(match.group()):
            yield ("EMAIL", *view.original(*match.span()))
    yield from _find_spaced_digits(view)
    for match in _SINGLE_CHARACTERS.finditer(view.text):
        part = view.take(range(*match.span()))
        yield from _find_plain(part.without(_SPACE))
    if "\n" in view.text:
        yield from _find_joined_lines(view)


def _find_plain(view: View) -> Iterator[TypedSpan]:
    for kind, start, end in _find_plain_spans(view):
        yield (kind, *view.original(start, end))


def _find_spaced_digits(view: View) -> Iterator[TypedSpan]:
    """Cards, phones and ids whose digits are separated."""
    for match in _DIGITS.finditer(view.text):
        digits = patterns.keep_digits(match.group())
        if patterns.is_card(digits):
            yield ("CARD", *view.original(*match.span()))
        elif _SINGLE_DIGITS.fullmatch(match.group().lstrip("+(")):
            if _is_counting(digits):
                continue
            if len(digits) == 9 or (len(digits) == 12 and verhoeff.is_valid(digits)):
                yield ("NATIONAL_ID", *view.original(*match.span()))
            elif patterns.is_phone(digits):
                yield ("PHONE", *view.original(*match.span()))


def _is_counting(digits: str) -> bool:
    """Whether digits count up or are bits (1 2 3 4 …, 0 1 0 1 …), which are not personal data."""
    steps = {int(b) - int(a) for a, b in pairwise(digits)}
    return len(steps) == 1 or len(set(digits)) <= 2


_SPACE = re.compile(" ")
_MIN_DIGITS = 7
"""Of the shortest phone number."""
_KEY_START = re.compile(r"AKIA|gh[pousr]_|sk[-_]|xox[abp]-|AIza|hf_|npm_|glpat-|SG\.")
_BREAK = re.compile(r"[ \t]*\n[ \t]*")


def _find_joined_lines(view: View) -> Iterator[TypedSpan]:
    """Values that a line break splits, of types that can be checked."""
    for line_break in _BREAK.finditer(view.text):
        around = view.text[max(0, line_break.start() - 40) : line_break.end() + 40]
        if (
            "@" not in around
            and sum(map(str.isdigit, around)) < _MIN_DIGITS
            and not _KEY_START.search(around)
        ):
            continue
        before = max(view.text.rfind("\n", 0, line_break.start()) + 1, line_break.start() - 80)
        after = view.text.find("\n", line_break.end())
        after = min(after if after >= 0 else len(view.text), line_break.end() + 80)
        joined = view.take([*range(before, line_break.start()), *range(line_break.end(), after)])
        middle = line_break.start() - before
        for kind, start, end in _find_plain_spans(joined):
            if (
                kind in _SAFE_JOINED
                and start < middle < end
                and _is_split(joined.text, start, middle, end, kind)
            ):
                yield (kind, *joined.original(start, end))


def _find_plain_spans(view: View) -> Iterator[TypedSpan]:
    for match in _CANDIDATES.finditer(view.text):
        for kind, start, end in patterns.classify(match.group(), names=False):
            yield kind, match.start() + start, match.start() + end


def _is_split(text: str, start: int, middle: int, end: int, kind: str) -> bool:
    """Whether neither half is the value by itself, as in `…at\\njane@example.org`."""
    if kind != "EMAIL":
        return not any(
            True for half in (text[start:middle], text[middle:end]) for _ in patterns.classify(half)
        )
    at = text.index("@", start)
    if at < middle:
        return (
            "." not in text[at:middle]
            or middle == end
            or not re.search(r"\.[a-z]{2,}$", text[at:middle])
        )
    return middle < at and not re.match(r"[\w.+\-]{3,}@", text[middle:end])
