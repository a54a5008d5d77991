"""What a document is made of: sections by role, and sentences with their places."""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources
from typing import Any

import msgspec

from upshot.artifacts.records import Document, Heading, Role, Span
from upshot.artifacts.word_lists import load_words

ABBREVIATIONS = load_words("abbreviations")
"""Words whose full stop ends no sentence (Bluebook tables T6, T8, T10, T12; common English)."""
_END = re.compile(r"[.!?][\"”’')\]]*(?:\[\^?[\w#*]+\]_?)*(?=\s+[\"“‘'(\[§*_`:]*[A-Z0-9§])")
_WORD_BEFORE = re.compile(r"[\w.'’]+$")
_PARAGRAPH = re.compile(r"\n[ \t]*\n|\n(?=[ \t]*(?:[-*•+]|\d{1,2}[.)]|\([a-z0-9]{1,3}\))[ \t]+\S)")
_MARKUP_LINE = re.compile(r"^[ \t]*(?:[=\-~^`#*_+]{3,}|\.\. \S[^\n]*)$", re.MULTILINE)
_INITIALS = re.compile(r"(?:[A-Za-z]\.)+[A-Za-z]")
_LEAD = re.compile(r"[\s>*#•+-]*(?:\d{1,2}[.)]\s+)?")
_NUMBERING = re.compile(
    r"^(?:(?:issue|question|part|section)\s+(?:[ivx]{1,5}|[a-z]|\d{1,2}(?:\.\d+)*)\b[\s.):—–-]*"
    r"|(?:[ivx]{1,5}|[a-z]|\d{1,2}(?:\.\d+)*)[.):—–-]+\s*|\d{1,2}(?:\.\d+)*\s+)(?=\w)|\s*[:.]$",
    re.IGNORECASE,
)


class Section(msgspec.Struct, frozen=True):
    """The text under one heading, up to the next."""

    title: str
    level: int
    start: int
    end: int
    role: Role
    parent: int = -1
    """Index of the section around it."""


class Sentence(msgspec.Struct, frozen=True):
    """One sentence."""

    start: int
    end: int
    section: int
    role: Role
    paragraph: int


class Outline(msgspec.Struct, frozen=True):
    """Sections and sentences of a document, in order."""

    sections: tuple[Section, ...]
    sentences: tuple[Sentence, ...]
    starts: tuple[int, ...]
    """Of the sentences."""

    def sentence_at(self, position: int) -> int:
        """Index of the sentence that a position lies in, or of the last one before it."""
        return max(0, bisect_right(self.starts, position) - 1)

    def spans_of(self, role: Role) -> tuple[Span, ...]:
        """The paragraphs of a role."""
        spans: list[Span] = []
        last = -1
        for sentence in self.sentences:
            if sentence.role != role:
                continue
            if sentence.paragraph == last:
                spans[-1] = Span(spans[-1].start, sentence.end)
            else:
                spans.append(Span(sentence.start, sentence.end))
            last = sentence.paragraph
        return tuple(spans)


@cache
def load_cues() -> dict[str, Any]:
    """The words by which roles are told: `headings.ROLE` and `sentences.ROLE`, as patterns."""
    text = resources.files("upshot.artifacts").joinpath("cues.toml").read_text("utf-8")
    cues = tomllib.loads(text)
    return {
        kind: {
            role: re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.IGNORECASE)
            for role, patterns in table.items()
        }
        for kind, table in cues.items()
    }


def strip_numbering(title: str) -> str:
    """A heading without its number.

    >>> strip_numbering("II. Facts:"), strip_numbering("Issue 2 - Is it a ship?")
    ('Facts', 'Is it a ship?')
    """
    bare = _NUMBERING.sub("", title.strip(" *_`#")).lstrip("-—–: ").strip()
    return bare or title.strip()


def heading_role(title: str, inherited: Role) -> Role:
    """The role of a section by its heading; that of the section around it where it says nothing.

    >>> heading_role("Statement of Facts", "analysis"), heading_role("Mooring", "facts")
    ('facts', 'facts')
    """
    bare = strip_numbering(title)
    for role, pattern in load_cues()["headings"].items():
        if pattern.fullmatch(bare):
            return role
    return inherited


def read_outline(document: Document) -> Outline:
    """Sections by heading, sentences by full stop, and a role for each."""
    sections = _make_sections(document)
    sentences = list(_split_sections(document, sections))
    if not any(section.role in ("facts", "conclusion", "issue") for section in sections):
        sentences = _assign_roles(document.text, sentences)
    else:
        sentences = _mark_sentences(document.text, sentences, sections)
    return Outline(tuple(sections), tuple(sentences), tuple(s.start for s in sentences))


def _make_sections(document: Document) -> list[Section]:
    headings: Sequence[Heading] = document.headings
    sections: list[Section] = []
    first = headings[0].start if headings else len(document.text)
    sections.append(Section("", 0, 0, first, "other" if headings else "analysis"))
    open_sections: list[int] = []
    for number, heading in enumerate(headings):
        while open_sections and sections[open_sections[-1]].level >= heading.level:
            open_sections.pop()
        parent = open_sections[-1] if open_sections else -1
        inherited: Role = "analysis" if parent < 0 else sections[parent].role
        if inherited == "other":
            inherited = "analysis"
        end = headings[number + 1].start if number + 1 < len(headings) else len(document.text)
        role = heading_role(heading.title, inherited)
        if number == 0 and heading.level == 1 and _is_title(headings):
            role = "other"
        sections.append(Section(heading.title, heading.level, heading.end, end, role, parent))
        open_sections.append(len(sections) - 1)
    return sections


def _is_title(headings: Sequence[Heading]) -> bool:
    return len(headings) > 1 and all(heading.level > 1 for heading in headings[1:])


def _split_sections(document: Document, sections: Sequence[Section]) -> Iterator[Sentence]:
    skip = sorted((*document.literal, *document.notes.values()))
    skip_starts = [span.start for span in skip]
    paragraph = 0
    for index, section in enumerate(sections):
        for start, end in _split_paragraphs(document.text, section.start, section.end):
            lead = _LEAD.match(document.text, start, end)
            begin = start if lead is None else lead.end()
            place = bisect_right(skip_starts, begin) - 1
            if place >= 0 and begin < skip[place].end:
                continue
            paragraph += 1
            for left, right in split_sentences(document.text, start, end):
                yield Sentence(left, right, index, section.role, paragraph)


def _split_paragraphs(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    left = start
    for match in _PARAGRAPH.finditer(text, start, end):
        yield left, match.start()
        left = match.start() + 1
    yield left, end


def split_sentences(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Spans of the sentences of one paragraph, without bullets and white space around them.

    >>> text = "See Sec. 12. It applies, e.g. to boats."
    >>> [text[a:b] for a, b in split_sentences(text, 0, len(text))]
    ['See Sec. 12.', 'It applies, e.g. to boats.']
    """
    left = start
    for match in _END.finditer(text, start, end):
        if text[match.start()] == "." and _is_abbreviation(text, left, match.start()):
            continue
        yield from _trim(text, left, match.end())
        left = match.end()
    yield from _trim(text, left, end)


def _is_abbreviation(text: str, left: int, stop: int) -> bool:
    word = _WORD_BEFORE.search(text, max(left, stop - 24), stop)
    if word is None:
        return False
    bare = word[0].lower().strip("'’.")
    is_list_number = bare.isdigit() and not text[left : word.start()].strip(" \n\t>*-")
    return (
        bare in ABBREVIATIONS
        or is_list_number
        or (len(bare) == 1 and bare.isalpha() and word[0].isupper())
        or _INITIALS.fullmatch(word[0]) is not None
    )


def _trim(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    lead = _LEAD.match(text, start, end)
    left = lead.end() if lead is not None else start
    right = end
    while right > left and text[right - 1].isspace():
        right -= 1
    part = text[left:right]
    if right - left > 1 and any(map(str.isalnum, part)) and not _MARKUP_LINE.fullmatch(part):
        yield left, right


def _assign_roles(text: str, sentences: Sequence[Sentence]) -> list[Sentence]:
    """Roles of a text without telling headings, by cue words: what stands before the first cue of
    an issue or a conclusion, and cites nothing, are the facts.
    """
    cues = load_cues()["sentences"]
    roles: list[Role] = []
    state: Role = "facts"
    for sentence in sentences:
        part = text[sentence.start : sentence.end]
        if sentence.role == "references":
            roles.append("references")
        elif cues["pleasantry"].search(part):
            roles.append("other")
        elif cues["issue"].search(part) or cues["question"].search(part):
            roles.append("issue")
            state = "analysis" if state != "facts" or roles.count("facts") else "facts"
        elif cues["conclusion"].search(part):
            roles.append("conclusion")
        elif state == "facts" and cues["law"].search(part):
            state = "analysis"
            roles.append("analysis")
        elif cues["facts"].search(part) and not cues["law"].search(part):
            roles.append("facts")
        else:
            roles.append(state)
    return [
        msgspec.structs.replace(sentence, role=role)
        for sentence, role in zip(sentences, roles, strict=True)
    ]


def _mark_sentences(
    text: str, sentences: Sequence[Sentence], sections: Sequence[Section]
) -> list[Sentence]:
    """Roles that a sentence has against its section: a question put, a conclusion drawn, where no
    section has that role.
    """
    cues = load_cues()["sentences"]
    present = {section.role for section in sections}
    marked: list[Sentence] = []
    for sentence in sentences:
        part = text[sentence.start : sentence.end]
        role = sentence.role
        puts_question = role in ("other", "facts") and "issue" not in present
        is_issue = puts_question and cues["issue"].search(part)
        if is_issue or (role == "other" and cues["question"].search(part)):
            role = "issue"
        elif role in ("other", "analysis") and "conclusion" not in present:
            role = "conclusion" if cues["conclusion"].search(part) else role
        elif role == "other" and "facts" not in present and not cues["law"].search(part):
            role = "other" if cues["pleasantry"].search(part) else "facts"
        marked.append(msgspec.structs.replace(sentence, role=role))
    return marked
