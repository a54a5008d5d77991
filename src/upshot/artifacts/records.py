"""The nouns of artifacts: documents, sources, passages, citations, quotes, issues, steps, trails.

Every span counts characters of the text it belongs to, from 0, the end excluded. Dates are ISO
days (`2024-03-31`); "" is a date that is not known.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Action = Literal["search", "open", "find", "quote", "infer", "conclude"]
CitationStatus = Literal["resolved", "ambiguous", "missing", "younger", "expired", "self"]
QuoteStatus = Literal["located", "misquote", "elsewhere", "unlocated", "unattributed"]
Role = Literal["facts", "issue", "analysis", "conclusion", "references", "other"]
MAKER = "embedded/1"
"""Who made a trail without a language model, and by which version of the rules."""


class Span(msgspec.Struct, frozen=True, order=True):
    """A stretch of a text."""

    start: int
    end: int


class Heading(msgspec.Struct, frozen=True):
    """A heading and where its line lies."""

    title: str
    level: int
    """1 is the outermost."""
    start: int
    end: int


class Document(msgspec.Struct, frozen=True):
    """A text with what its markup says of it."""

    text: str
    title: str = ""
    headings: tuple[Heading, ...] = ()
    notes: dict[str, Span] = {}
    """Footnotes and references by label: where the note's own text lies."""
    literal: tuple[Span, ...] = ()
    """Code and other text that is not prose."""
    block_quotes: tuple[Span, ...] = ()
    fields: dict[str, str] = {}
    """What a header says (`date`, `title`, `status`), keys in lower case."""


class Artifact(msgspec.Struct, frozen=True):
    """One finished piece of expert work."""

    id: str
    document: Document
    date: str = ""
    title: str = ""
    status: str = ""
    """A conclusion that the file states apart from its text, for instance a PEP's status."""


class SourcePart(msgspec.Struct, frozen=True):
    """Where one record of the input lies in a source that was put together from several."""

    id: str
    start: int
    end: int


class Source(msgspec.Struct, frozen=True):
    """One text that experts cite."""

    id: str
    title: str
    text: str
    date: str = ""
    valid_from: str = ""
    valid_to: str = ""
    """The last day on which it is in force."""
    supersedes: str = ""
    licence: str = ""
    url: str = ""
    parts: tuple[SourcePart, ...] = ()

    def is_in_force(self, as_of: str) -> bool:
        """Whether the source could be relied upon on a day; always so where the day is not known.

        >>> Source("s", "", "", valid_to="2020-12-31").is_in_force("2021-01-01")
        False
        """
        if not as_of:
            return True
        return self.begins <= as_of and (not self.valid_to or as_of <= self.valid_to)

    @property
    def begins(self) -> str:
        """The first day on which the source can be relied upon."""
        return max(self.date, self.valid_from)


class Passage(msgspec.Struct, frozen=True):
    """A paragraph, or an enumerated part, of a source."""

    source: str
    start: int
    end: int
    heading: str = ""
    path: tuple[str, ...] = ()
    """Enumerators from the outermost: ("d", "1") is subsection (d)(1)."""


class Mention(msgspec.Struct, frozen=True):
    """A place in a text that names a source, before anything is looked up."""

    start: int
    end: int
    kind: str
    keys: tuple[str, ...]
    """Names under which a library may hold the source, the most specific first."""
    pinpoint: tuple[str, ...] = ()
    code: str = ""
    """The code or act that the mention names beside the number."""
    is_weak: bool = False
    """It may mean another part of the same text, so it counts only where the library has it."""


class Citation(msgspec.Struct, frozen=True, omit_defaults=True):
    """A mention, looked up in the library as of the artifact's date."""

    start: int
    end: int
    text: str
    kind: str
    status: CitationStatus
    source: str = ""
    pinpoint: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    """Ids of all sources that the mention could mean, or of the one that was not in force."""


class Quote(msgspec.Struct, frozen=True, omit_defaults=True):
    """A quotation and where its words are in a source."""

    start: int
    end: int
    text: str
    status: QuoteStatus
    source: str = ""
    at: Span | None = None
    """In the source's text."""
    how: str = ""
    """exact, spacing (white space, ligatures, quotation marks, hyphens) or ellipsis."""
    difference: str = ""
    """Of a misquote: what the source has in its place."""
    citation: int = -1
    """Index of the citation that attributes it."""


class Issue(msgspec.Struct, frozen=True):
    """A question that the artifact answers."""

    id: str
    question: str
    parent: str = ""
    answer: Span | None = None
    """Of the artifact."""
    origin: str = ""
    """stated, heading, claim or llm."""


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """One step of research or reasoning."""

    n: int
    issue: str
    action: Action
    input: str = ""
    """A query, a source's id, or what is looked for in an open source."""
    source: str = ""
    passage: Span | None = None
    """Of the source."""
    text: str = ""
    """The passage's own text, so that a trail can be read without its library."""
    claim: str = ""
    at: Span | None = None
    """Of the artifact: the sentence that the claim is."""
    why: str = ""
    uses: tuple[int, ...] = msgspec.field(default=(), name="from")
    rank: int = 0
    """Place of the opened source in the results of its search, from 1."""


class Conclusion(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the artifact concludes."""

    text: str
    label: str = ""
    """yes or no to the question, or what the artifact's status says."""
    number: float | None = None
    at: Span | None = None


class Check(msgspec.Struct, frozen=True):
    """One check of a trail."""

    score: float
    """Share of what was checked that passed, in [0, 1]; 1 where nothing was to be checked."""
    problems: tuple[str, ...] = ()


class Trail(msgspec.Struct, frozen=True):
    """An artifact as the research that leads to its conclusion."""

    artifact: str
    title: str
    as_of: str
    text: str
    """The artifact's own text, to which spans refer."""
    question: str
    facts: tuple[Span, ...]
    reasoning: tuple[Span, ...]
    """Analysis and conclusion, of which nothing may leak into questions and queries."""
    issues: tuple[Issue, ...]
    steps: tuple[Step, ...]
    conclusion: Conclusion
    citations: tuple[Citation, ...] = ()
    quotes: tuple[Quote, ...] = ()
    unreachable: tuple[str, ...] = ()
    """Cited sources that no path reaches: what the expert simply knew."""
    unresolved: tuple[str, ...] = ()
    """Citations that the library does not have, or has more than once."""
    checks: dict[str, Check] = {}
    maker: str = MAKER

    @property
    def is_exportable(self) -> bool:
        """Whether the trail passes the checks of leak, order and quotes, and has a step."""
        gates = (self.checks.get(name) for name in ("leak", "order", "quotes"))
        return bool(self.steps) and all(gate is None or not gate.problems for gate in gates)

    @property
    def question_text(self) -> str:
        """The question and the issues that the artifact states."""
        stated = [issue.question for issue in self.issues if issue.origin in ("stated", "llm")]
        return " ".join(dict.fromkeys((self.title, self.question, *stated)))

    @property
    def fact_text(self) -> str:
        """The facts alone."""
        return "\n\n".join(self.text[span.start : span.end] for span in self.facts)
