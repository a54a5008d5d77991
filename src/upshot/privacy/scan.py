"""Candidates of personal data in many texts at once, and what rules make of them.

The texts of a batch are joined and scanned by RE2, whose time is linear in the text whatever it
holds. Rules that look for different things are scanned apart, so that a candidate of one cannot
hide that of another. Positions are bytes of UTF-8 here.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import re2

SEPARATOR = "\x1e"
"""Stands between texts."""
_MAX_MEMORY = 96 << 20
"""Bytes for the states of one automaton; RE2 drops them all when it has more."""

BEGIN = r"(?:\b|\\[nrt])"
"""Where a word begins, or a line in a string of JSON; `trim_escape` takes the escape off again."""

LETTER = r"A-Za-z\x{AA}-\x{52F}\x{1E00}-\x{1EFF}"
"""Members of a class of Latin, Greek and Cyrillic letters; `\\p{L}` makes automata ten times as
large.
"""
CAPITAL = r"A-Z\x{C0}-\x{DE}\x{100}-\x{24F}\x{386}-\x{3AB}\x{400}-\x{42F}"
"""Members of a class of their capitals, with small letters that stand between them."""

TypedSpan = tuple[str, int, int]
"""Type, start, end."""


_BACKSLASH = ord("\\")


class Region(NamedTuple):
    """A candidate in its text, in bytes of all texts together."""

    blob: bytes
    start: int
    end: int
    low: int
    """Where the text of the candidate begins."""
    high: int
    """Where the text of the candidate ends."""

    @property
    def text(self) -> str:
        """The candidate."""
        return decode(self.blob[self.start : self.end])

    def before(self, size: int) -> str:
        """What stands before the candidate in its text, at most `size` bytes of it."""
        return decode(self.blob[max(self.low, self.start - size) : self.start])

    def after(self, size: int) -> str:
        """What follows the candidate in its text, at most `size` bytes of it."""
        return decode(self.blob[self.end : min(self.high, self.end + size)])

    def trim_escape(self) -> Region:
        """The candidate without an escape in front, as `BEGIN` lets one in."""
        if self.blob[self.start] != _BACKSLASH or self.blob[self.start + 1] not in b"nrt":
            return self
        return self._replace(start=self.start + 2)

    def span_after(self, kind: str, after: str, start: int, end: int) -> TypedSpan:
        """The span of characters [start, end) of `after`, a value of the method of that name."""
        first = self.end + count_bytes(after[:start])
        return kind, first, first + count_bytes(after[start:end])

    def span(self, kind: str, text: str, start: int, end: int) -> TypedSpan:
        """The span of characters [start, end) of `text`, the candidate's own."""
        first = self.start + count_bytes(text[:start])
        return kind, first, first + count_bytes(text[start:end])


def decode(part: bytes) -> str:
    """Characters of UTF-8; bytes that are none, such as those of a cut character, are escaped."""
    return part.decode("utf-8", "surrogateescape")


def count_bytes(text: str) -> int:
    """Bytes of what `decode` gave."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogateescape"))


_CONTINUATION = bytes(range(0x80, 0xC0))
"""Bytes that begin no character."""


def count_characters(part: bytes) -> int:
    """Characters of UTF-8.

    >>> count_characters("né".encode())
    2
    """
    return len(part) if part.isascii() else len(part.translate(None, _CONTINUATION))


class Rule(NamedTuple):
    """What a candidate looks like, and what of it is personal data."""

    pattern: str
    """In RE2's syntax."""
    read: Callable[[Region], Iterable[TypedSpan]]
    """The personal data at a candidate; it may reach beyond it, in the same text."""
    skips_rejected: bool = False
    """Whether all of a rejected candidate is passed over, not just its first word."""


class Family:
    """Rules that are scanned together; where several match at the same place, the first wins."""

    def __init__(self, *rules: Rule) -> None:
        self._rules = [(compile_pattern(rule.pattern), rule) for rule in rules]
        self._candidates = compile_pattern("|".join(f"(?:{rule.pattern})" for rule in rules))

    def find(self, blob: bytes, offsets: Sequence[int]) -> Iterator[tuple[int, TypedSpan]]:
        """Spans of all texts, each with the number of its text; spans may overlap.

        `offsets`: as `join_texts` gives them.
        """
        position = 0
        while position >= 0:
            resume = -1
            for match in self._candidates.finditer(blob, position):
                start, end = span = match.span()
                number = bisect_right(offsets, start) - 1
                low, high = offsets[number], offsets[number + 1] - 1
                if end > high:  # the rest is another text's
                    shorter = self._candidates.search(blob, start, high)
                    if shorter is None:
                        resume = high + 1
                        break
                    start, end = shorter.span()
                resume = end
                for secret in self._read(Region(blob, start, end, low, high)):
                    if secret:
                        yield number, secret
                        resume = max(resume, secret[2])
                    else:
                        resume = _skip_word(blob, start, end)
                if resume != span[1]:
                    break
                resume = -1
            position = resume

    def _read(self, region: Region) -> Iterable[TypedSpan | None]:
        """The spans at a candidate; None: there are none, but perhaps behind its first word."""
        candidate = region.blob[region.start : region.end] if len(self._rules) > 1 else b""
        skips = True
        for pattern, rule in self._rules:
            if not candidate or pattern.fullmatch(candidate):
                if spans := tuple(rule.read(region)):
                    return spans
                skips = skips and rule.skips_rejected
        return () if skips else (None,)


def _skip_word(blob: bytes, start: int, end: int) -> int:
    word = _WORD.match(blob, start, end)
    return word.end() if word else start + 1


_WORD = re.compile(rb"[A-Za-z0-9\x80-\xff]+")


def compile_pattern(pattern: str) -> Any:
    """An RE2 automaton for UTF-8; letters of all scripts are `\\p{L}`."""
    options = re2.Options()
    options.max_mem = _MAX_MEMORY
    return re2.compile(pattern.encode(), options)


def join_texts(texts: Sequence[str]) -> tuple[bytes, list[int]]:
    """The texts in one, where each begins, and where another would begin.

    >>> join_texts(["ab", "c"])
    (b'ab\\x1ec', [0, 3, 5])
    """
    joined = SEPARATOR.join(texts)
    blob = joined.encode("utf-8", "surrogatepass")
    if joined.isascii():
        sizes: Iterable[int] = map(len, texts)
    elif blob.count(SEPARATOR.encode()) == len(texts) - 1:
        marks = np.flatnonzero(np.frombuffer(blob, np.uint8) == ord(SEPARATOR))
        return blob, [0, *(marks + 1).tolist(), len(blob) + 1]
    else:
        sizes = [len(text.encode("utf-8", "surrogatepass")) for text in texts]
    return blob, [0, *accumulate(size + 1 for size in sizes)]


class Batch:
    """Texts that are scanned together."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.blob, self.offsets = join_texts(texts)


def find_spans(batch: Batch, families: Sequence[Family]) -> dict[int, list[TypedSpan]]:
    """Spans of each text that has any, in characters; they may overlap, in any order."""
    offsets = batch.offsets
    spans_by_text: dict[int, list[TypedSpan]] = {}
    for family in families:
        for number, (kind, start, end) in family.find(batch.blob, offsets):
            low = offsets[number]
            spans_by_text.setdefault(number, []).append((kind, start - low, end - low))
    if not batch.blob.isascii():
        for number, spans in spans_by_text.items():
            text = batch.blob[offsets[number] : offsets[number + 1] - 1]
            spans_by_text[number] = spans if text.isascii() else _to_characters(text, spans)
    return spans_by_text


def _to_characters(encoded: bytes, spans: Sequence[TypedSpan]) -> list[TypedSpan]:
    """Spans of bytes as spans of characters, in one walk over the text."""
    places: dict[int, int] = {}
    last = count = 0
    for place in sorted({place for _, start, end in spans for place in (start, end)}):
        count += count_characters(encoded[last:place])
        places[place] = count
        last = place
    return [(kind, places[start], places[end]) for kind, start, end in spans]
