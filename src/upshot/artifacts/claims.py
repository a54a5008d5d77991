"""The claims of an artifact's reasoning, each with the quotes and passages it rests on."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from upshot.artifacts.citations.pinpoints import passages_at
from upshot.artifacts.library import Library
from upshot.artifacts.questions import ROOT, IssueTree, is_result
from upshot.artifacts.records import Artifact, Citation, Passage, Quote, Role, Span
from upshot.artifacts.structure import Outline
from upshot.artifacts.support import best_passages, is_bare_rule
from upshot.artifacts.words import Rarity, content_words, features, numbers

MIN_MARGIN = 0.08
"""Lead of the best passage of a cited source over the second, relative to the best, below which no
passage is named: chosen on the memos of `examples/`.
"""
_NORMATIVE = re.compile(
    r"""\b(?:must|shall|may\b(?!\s+\d)|is|are)\s+(?:not\s+)?(?:also\s+)?(?:exempt\w*|liable|due|payable
      |deductible|taxable|subject|entitled|required|allowed|permitted|imposed|excluded|included|waived
      |reduced|met|satisfied|treated|covered|owed|available)\b
      |\b(?:qualif(?:y|ies|ied)|appl(?:y|ies)|exceeds?|falls?\s+(?:outside|within|under)|owes?|fails?)\b""",
    re.VERBOSE | re.IGNORECASE,
)
"""What makes a sentence without a citation a step of reasoning, rather than narration."""
_MAX_UNCITED = 60
"""Uncited sentences that become steps; a text with more is no memorandum but a treatise."""


class Ground(msgspec.Struct, frozen=True):
    """What one citation or quote contributes to a claim."""

    source: str
    passage: Passage | None
    """None where no passage of the source stands out."""
    quote: int = -1
    """Index of the quote that it was located by."""
    citation: int = -1
    margin: float = 0.0
    """Lead of the passage over the second, relative to it; 1 where quoted or pinpointed."""


class Claim(msgspec.Struct, frozen=True):
    """One sentence of the reasoning."""

    at: Span
    text: str
    issue: str
    role: Role
    grounds: tuple[Ground, ...]

    @property
    def is_cited(self) -> bool:
        """Whether it rests on a source."""
        return bool(self.grounds)


def find_claims(
    artifact: Artifact,
    outline: Outline,
    citations: Sequence[Citation],
    quotes: Sequence[Quote],
    tree: IssueTree,
    *,
    library: Library,
    rarity: Rarity,
) -> list[Claim]:
    """The sentences of the reasoning that cite, quote, or draw a conclusion; in order."""
    text = artifact.document.text
    homes = _attach_citation_sentences(text, outline, citations)
    ends = {home: outline.sentences[index].end for index, home in enumerate(homes)}
    by_sentence: dict[int, list[int]] = {}
    for number, citation in enumerate(citations):
        if citation.status == "resolved":
            by_sentence.setdefault(homes[outline.sentence_at(citation.start)], []).append(number)
    quoted: dict[int, list[int]] = {}
    for number, quote in enumerate(quotes):
        if quote.source and quote.status in ("located", "misquote", "elsewhere"):
            quoted.setdefault(homes[outline.sentence_at(quote.start)], []).append(number)
    claims: list[Claim] = []
    uncited = 0
    for index, sentence in enumerate(outline.sentences):
        if sentence.role not in ("analysis", "conclusion") and not (
            sentence.role in ("facts", "other") and (index in by_sentence or index in quoted)
        ):
            continue
        if homes[index] != index:
            continue
        part = text[sentence.start : sentence.end]
        grounds = _find_grounds(
            part, by_sentence.get(index, ()), quoted.get(index, ()), citations, quotes,
            library=library, rarity=rarity,
        )  # fmt: skip
        computes = len(numbers(part)) > 1
        states = (
            computes
            or is_result(part)
            or is_bare_rule(part, "")
            or bool(_NORMATIVE.search(part))
            or sentence.role == "conclusion"
        )
        if not grounds and (not states or part.rstrip().endswith("?") or uncited >= _MAX_UNCITED):
            continue
        uncited += not grounds
        issue = tree.by_sentence.get(index, ROOT)
        span = Span(sentence.start, ends[index])
        claims.append(Claim(span, part, issue, sentence.role, grounds))
    return claims


_MAX_OWN_WORDS = 1
"""Words beside its citations that a sentence may have which only cites."""


def _attach_citation_sentences(
    text: str, outline: Outline, citations: Sequence[Citation]
) -> list[int]:
    """For each sentence the one whose claim it supports: itself, or, where it only cites ("§ 12(a).
    See Gull."), the sentence before it.
    """
    inside: dict[int, list[Citation]] = {}
    for citation in citations:
        inside.setdefault(outline.sentence_at(citation.start), []).append(citation)
    homes: list[int] = []
    for index, sentence in enumerate(outline.sentences):
        bare = text[sentence.start : sentence.end]
        for citation in inside.get(index, ()):
            left, right = citation.start - sentence.start, citation.end - sentence.start
            bare = bare[:left] + " " * (right - left) + bare[right:]
        follows = index > 0 and outline.sentences[index - 1].paragraph == sentence.paragraph
        only_cites = index in inside and len(content_words(bare)) <= _MAX_OWN_WORDS
        homes.append(homes[index - 1] if only_cites and follows else index)
    return homes


def _find_grounds(
    claim: str,
    cited: Sequence[int],
    quoted: Sequence[int],
    citations: Sequence[Citation],
    quotes: Sequence[Quote],
    *,
    library: Library,
    rarity: Rarity,
) -> tuple[Ground, ...]:
    grounds: list[Ground] = []
    covered: set[int] = set()
    for number in quoted:
        quote = quotes[number]
        passage = passage_around(library, quote.source, quote.at)
        grounds.append(Ground(quote.source, passage, number, quote.citation, 1.0))
        covered.add(quote.citation)
    sources = {ground.source for ground in grounds}
    words = features(claim)
    for number in cited:
        citation = citations[number]
        if number in covered or (citation.source in sources and not citation.pinpoint):
            continue
        passage, margin = choose_passage(words, citation, library, rarity)
        grounds.append(Ground(citation.source, passage, citation=number, margin=margin))
        sources.add(citation.source)
    return tuple(grounds)


def passage_around(library: Library, source: str, span: Span | None) -> Passage | None:
    """The passage that a span of a source begins in."""
    if span is None:
        return None
    inside = [p for p in library.passages(source) if p.start <= span.start < p.end]
    if inside:
        return inside[0]
    before = [p for p in library.passages(source) if p.start <= span.start]
    return before[-1] if before else None


def choose_passage(
    words: Sequence[str], citation: Citation, library: Library, rarity: Rarity
) -> tuple[Passage | None, float]:
    """The passage of a cited source that a claim rests on, and its lead over the second.

    A pinpoint leads to its passage, and to the best of them where it names several. Without one the
    best passage is named if it leads the second clearly; else none is.
    """
    passages = library.passages(citation.source)
    if not passages:
        return None, 0.0
    named = passages_at(library, citation.source, citation.pinpoint)
    choices = named or passages
    if len(choices) == 1:
        return choices[0], 1.0
    ranked = best_passages(words, [library.text_of(p) for p in choices], rarity)
    (first, index), (second, _) = ranked[0], ranked[1]
    margin = (first - second) / first if first > 0 else 0.0
    if named:
        return choices[index], margin
    return (choices[index], margin) if margin >= MIN_MARGIN else (None, margin)
