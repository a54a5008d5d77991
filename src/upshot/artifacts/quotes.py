"""Quotations: where their words are in a source, character by character, and what was changed.

A quotation is located exactly, or after white space, ligatures, quotation marks and hyphens at the
end of lines are made equal, or part by part where an ellipsis or a bracketed change stands. One
changed word makes it a misquote, never a match.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from functools import lru_cache
from typing import NamedTuple

from upshot.artifacts.library import Library
from upshot.artifacts.records import Artifact, Citation, Document, Quote, Span
from upshot.artifacts.structure import Outline
from upshot.artifacts.words import normalise_key

MIN_WORDS = 4
"""Words of a quotation; fewer are a term or an expression, which every text may hold."""
_MARKS = re.compile(
    r"“(?P<curly>[^“”]{8,1500})”|(?<![\w\"])\"(?P<straight>[^\"\n]{8,1500}(?:\n[^\"\n]{1,500}){0,6})\"(?!\w)"
    r"|``(?P<tex>[^`']{12,800})''|«(?P<guillemets>[^«»]{8,1500})»"
)
_TOKEN = re.compile(r"[\w'-]+")
_ELLIPSIS = re.compile(r"\s*(?:\[\s*)?(?:\.\s?\.\s?\.(?:\s?\.)?|…)(?:\s*\])?\s*")
_ALTERED = re.compile(r"\[([^\[\]]{0,60})\]")
_MIN_MATCHED = 4
"""Words that a misquotation has in common with its source: fewer are chance."""
_SIMILAR = 0.6
"""Share of a quotation's words that a place must have, in order, for the quotation to be a misquote
of that place; below it, the quotation is of something else.
"""


class Normal:
    """A text made comparable, and where each of its characters was.

    Lower case; white space, markup and dashes are one blank; hyphens are left out, and a line's
    end after them; quotation marks and ligatures are plain.

    >>> Normal("The  ﬁrst\\nre-lease").text
    'the first release'
    """

    def __init__(self, original: str) -> None:
        parts: list[str] = []
        self._places: list[int] = []
        """Where each part begins here, and there."""
        self._origins: list[int] = []
        length = position = 0

        def add(part: str, origin: int) -> None:
            nonlocal length
            if part:
                self._places.append(length)
                self._origins.append(origin)
                parts.append(part)
                length += len(part)

        for match in _SPECIAL.finditer(original):
            add(original[position : match.start()].translate(_PLAIN).lower(), position)
            if match["letter"]:
                add(_EXPANDED[match["letter"]], match.start())
            elif match["blank"] and parts and not parts[-1].endswith(" "):
                add(" ", match.start())
            position = match.end()
        add(original[position:].translate(_PLAIN).lower(), position)
        self._origins.append(len(original))
        self.text = "".join(parts)

    def origin(self, place: int) -> int:
        """Where a character was."""
        part = bisect_right(self._places, place) - 1
        return min(
            self._origins[part] + place - self._places[part],
            max(self._origins[part], self._origins[part + 1] - 1),
        )


@lru_cache(maxsize=1024)
def normalise(text: str) -> str:
    """A text made comparable."""
    return Normal(text).text


_EXPANDED = {
    "ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st", "İ": "i",
    "…": "...",
}  # fmt: skip
_PLAIN = {**dict.fromkeys(map(ord, "‘’‚‛′`"), "'"), **dict.fromkeys(map(ord, "“”„‟″«»"), '"')}
_SPECIAL = re.compile(
    r"(?P<drop>[-‐‑](?:[ \t]*\n[ \t]*(?=[a-z]))?(?![-\s])(?<!--)"
    r"|[\u00ad\u200b\u2060\ufeff]+)"
    rf"|(?P<letter>[{''.join(_EXPANDED)}])"
    r"|(?P<blank>[\s*_>|–—―‒−-]{2,}|[^\S ]|[*_>|–—―‒−-])"
)


def normal_of(library: Library, source: str) -> Normal:
    """A source made comparable; computed once."""
    normals: dict[str, Normal] = library.cache.setdefault("normal", {})
    if source not in normals:
        normals[source] = Normal(library[source].text)
    return normals[source]


class Marked(NamedTuple):
    """A quotation's place in an artifact and its words."""

    start: int
    end: int
    text: str


def find_marked(document: Document) -> Iterator[Marked]:
    """What stands in quotation marks or block quotes and is long enough to be a quotation."""
    literal = sorted(document.literal)
    starts = [span.start for span in literal]
    for match in _MARKS.finditer(document.text):
        number = bisect_left(starts, match.start() + 1) - 1
        if number >= 0 and match.start() < literal[number].end:
            continue
        text = next(group for group in match.groups() if group is not None)
        if len(_TOKEN.findall(text)) >= MIN_WORDS:
            yield Marked(match.start() + 1, match.end() - 1, text)
    for span in document.block_quotes:
        text = re.sub(r"^[ \t]*>[ \t]?", "", document.text[span.start : span.end], flags=re.M)
        bare = text.strip().strip('“”"')
        if len(_TOKEN.findall(bare)) >= MIN_WORDS and not _MARKS.search(text):
            yield Marked(span.start, span.end, bare)


def locate(library: Library, source: str, text: str) -> tuple[Span, str] | None:
    """Where a quotation is in a source and how it was located; None where a word differs."""
    whole = library[source].text
    words = text.strip()
    trimmed = words.rstrip(".,;:")
    for exact in (words, trimmed):
        position = whole.find(exact)
        if position >= 0:
            return Span(position, position + len(exact)), "exact"
    normal = normal_of(library, source)
    wanted = normalise(trimmed).strip()
    position = _find_word(normal.text, wanted)
    if position >= 0:
        return _span(normal, position, position + len(wanted)), "spacing"
    return _locate_parts(normal, trimmed)


def _find_word(text: str, wanted: str, start: int = 0) -> int:
    """Where words begin and end with a word of the text, or -1."""
    position = text.find(wanted, start)
    while position >= 0 and wanted:
        end = position + len(wanted)
        if not (position and text[position - 1].isalnum() and wanted[0].isalnum()) and not (
            end < len(text) and text[end].isalnum() and wanted[-1].isalnum()
        ):
            return position
        position = text.find(wanted, position + 1)
    return -1


def _span(normal: Normal, start: int, end: int) -> Span:
    return Span(normal.origin(start), normal.origin(end - 1) + 1)


_MAX_GAP = 1_500
"""Characters that an ellipsis may stand for."""


def _locate_parts(normal: Normal, text: str) -> tuple[Span, str] | None:
    """Part by part, in order, where ellipses and bracketed changes stand."""
    if not (_ELLIPSIS.search(text) or _ALTERED.search(text)):
        return None
    pieces: list[str] = []
    for part in _ELLIPSIS.split(text):
        pieces += [normalise(p).strip(" ,;:.") for p in re.split(r"\[[^\[\]]{0,60}\]", part)]
    pieces = [piece for piece in pieces if piece]
    if not pieces or sum(len(piece.split()) for piece in pieces) < MIN_WORDS - 1:
        return None
    # A bracket changes letters or a word, so pieces may begin and end within a word.
    start = normal.text.find(pieces[0])
    while start >= 0:
        position = start + len(pieces[0])
        for piece in pieces[1:]:
            following = normal.text.find(piece, position, position + _MAX_GAP + len(piece))
            if following < 0:
                break
            position = following + len(piece)
        else:
            return _span(normal, start, position), "ellipsis"
        start = normal.text.find(pieces[0], start + 1)
    return None


@lru_cache(maxsize=512)
def _tokens(text: str) -> tuple[tuple[str, ...], tuple[int, ...], tuple[int, ...]]:
    matches = list(_TOKEN.finditer(text))
    return (
        tuple(m[0] for m in matches),
        tuple(m.start() for m in matches),
        tuple(m.end() for m in matches),
    )


def nearest(library: Library, source: str, text: str) -> tuple[float, Span, str]:
    """The place of a source most like a quotation: share of its words, place, what differs."""
    normal = normal_of(library, source)
    words, starts, ends = _tokens(normal.text)
    wanted = _tokens(normalise(text))[0]
    if not words or not wanted:
        return 0.0, Span(0, 0), ""
    best = (0.0, 0, 0, "")
    for left in _candidate_starts(words, wanted):
        right = min(len(words), left + len(wanted) + 2)
        left = max(0, left)
        matcher = SequenceMatcher(None, words[left:right], wanted, autojunk=False)
        blocks = [block for block in matcher.get_matching_blocks() if block.size]
        share = sum(block.size for block in blocks) / len(wanted)
        if blocks and share > best[0]:
            first, last = blocks[0], blocks[-1]
            changed = _describe(words[left:right], wanted, matcher)
            best = (share, left + first.a, left + last.a + last.size - 1, changed)
    if not best[0]:
        return 0.0, Span(0, 0), ""
    start, end = starts[best[1]], ends[best[2]]
    return best[0], _span(normal, start, end), best[3]


def _candidate_starts(words: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Places where most words of a quotation would line up, the best first."""
    places: defaultdict[str, list[int]] = defaultdict(list)
    chosen = set(wanted)
    for position, word in enumerate(words):
        if word in chosen:
            places[word].append(position)
    votes: defaultdict[int, int] = defaultdict(int)
    for offset, word in enumerate(wanted):
        if len(places[word]) <= _MAX_PLACES:
            for position in places[word]:
                for shift in (-1, 0, 1):
                    votes[position - offset + shift] += 2 - abs(shift)
    return sorted(votes, key=lambda start: (-votes[start], start))[:4]


_MAX_PLACES = 60
"""Places of a word beyond which it is too common to line up by."""


def _describe(there: Sequence[str], here: Sequence[str], matcher: SequenceMatcher[str]) -> str:
    changes = [
        f"{' '.join(there[a:b]) or 'nothing'} became {' '.join(here[c:d]) or 'nothing'}"
        for tag, a, b, c, d in matcher.get_opcodes()
        if tag != "equal" and not (tag == "delete" and (a == 0 or b == len(there)))
    ]
    return "; ".join(changes[:3])


def find_quotes(
    artifact: Artifact, outline: Outline, citations: Sequence[Citation], library: Library
) -> list[Quote]:
    """Every quotation of an artifact: located, misquoted, taken from elsewhere, or unattributed.

    Titles of sources in quotation marks are no quotations.
    """
    titles: set[str] | None = library.cache.get("titles")
    if titles is None:
        titles = {normalise_key(source.title) for source in library.sources.values()}
        library.cache["titles"] = titles
    anchors = _anchor_notes(artifact.document, citations)
    return [
        _judge_quote(
            marked,
            _attributions(anchors.get(marked, marked), outline, citations),
            citations,
            library,
            artifact.id,
        )
        for marked in find_marked(artifact.document)
        if normalise_key(marked.text) not in titles
    ]


def _anchor_notes(document: Document, citations: Sequence[Citation]) -> dict[Marked, Marked]:
    """For a quotation in a footnote, the place in the text that the footnote belongs to."""
    anchors: dict[Marked, Marked] = {}
    references = {citation.text.strip("[]^#_ "): citation for citation in reversed(citations)}
    for marked in find_marked(document) if document.notes else ():
        for label, span in document.notes.items():
            reference = references.get(label)
            if reference is not None and span.start <= marked.start < span.end:
                anchors[marked] = Marked(reference.start, reference.start, marked.text)
    return anchors


def _attributions(marked: Marked, outline: Outline, citations: Sequence[Citation]) -> list[int]:
    """Citations that a quotation may be attributed to, the nearest first: of its own sentence, the
    first after it in the next sentence, the last before it in its paragraph.
    """
    sentences = outline.sentences
    if not sentences:
        return list(range(len(citations)))
    index = outline.sentence_at(marked.start)
    last = outline.sentence_at(max(marked.start, marked.end - 1))
    own, after, before = list[int](), list[int](), list[int]()
    for number, citation in enumerate(citations):
        at = outline.sentence_at(citation.start)
        if index <= at <= last:
            own.append(number)
        elif at == last + 1 and citation.start - marked.end < 400:
            after.append(number)
        elif at < index and index - at <= 2:
            before.append(number)
    own.sort(key=lambda n: (abs(citations[n].start - marked.end) if citations[n].start >= marked.end
                            else marked.start - citations[n].end))  # fmt: skip
    return [*own, *after[:1], *reversed(before[-2:])]


def _judge_quote(
    marked: Marked,
    attributed: Sequence[int],
    citations: Sequence[Citation],
    library: Library,
    own: str,
) -> Quote:
    resolved = [n for n in attributed if citations[n].status == "resolved"]
    for number in resolved:
        place = locate(library, citations[number].source, marked.text)
        if place is not None:
            source = citations[number].source
            return Quote(
                marked.start, marked.end, marked.text, "located", source, *place, "", number
            )
    for number in resolved[:3]:
        share, span, difference = nearest(library, citations[number].source, marked.text)
        matched = share * len(_TOKEN.findall(marked.text))
        if share >= _SIMILAR and matched >= _MIN_MATCHED:
            source = citations[number].source
            return Quote(*marked, "misquote", source, span, difference=difference, citation=number)
    if not resolved:
        return Quote(*marked, "unattributed")
    elsewhere = _look_elsewhere(marked.text, citations, library, own)
    if elsewhere is not None:
        source, span, how = elsewhere
        return Quote(*marked, "elsewhere", source, span, how, citation=resolved[0])
    return Quote(*marked, "unlocated", citations[resolved[0]].source, citation=resolved[0])


def _look_elsewhere(
    text: str, citations: Sequence[Citation], library: Library, own: str
) -> tuple[str, Span, str] | None:
    """Another source that has the words: those cited, in force or not, then the whole library where
    it is small enough to be read through.
    """
    cited = [c.source for c in citations if c.source]
    cited += [candidate for c in citations for candidate in c.candidates]
    others = list(library.sources) if len(library) <= _MAX_READ_THROUGH else []
    for source in dict.fromkeys((*cited, *others)):
        place = None if source == own else locate(library, source, text)
        if place is not None:
            return source, *place
    return None


_MAX_READ_THROUGH = 1_000
"""Sources that a quotation without a place is looked for in, one by one."""
