"""From an artifact to its trail: structure, citations, quotes, questions, path, steps, checks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from upshot.artifacts.checks import run_checks
from upshot.artifacts.citations.resolve import find_citations
from upshot.artifacts.claims import Claim, find_claims
from upshot.artifacts.conclusions import read_conclusion
from upshot.artifacts.desk import Desk
from upshot.artifacts.questions import ROOT, IssueTree, find_issues
from upshot.artifacts.quotes import find_quotes
from upshot.artifacts.records import Artifact, Citation, Span, Step, Trail
from upshot.artifacts.steps import StepWriter
from upshot.artifacts.structure import Outline, read_outline
from upshot.artifacts.trail import PathFinder, select_start_texts
from upshot.errors import RecordError


def reconstruct_artifact(artifact: Artifact, desk: Desk, as_of: str = "") -> Trail:
    """The trail of an artifact, as of its own date, or of another.

    Raises:
        RecordError: it holds no prose.
    """
    if as_of:
        artifact = msgspec.structs.replace(artifact, date=as_of)
    outline = read_outline(artifact.document)
    if not outline.sentences:
        raise RecordError("it holds no sentence of prose")
    citations = find_citations(artifact, desk.library)
    quotes = find_quotes(artifact, outline, citations, desk.library)
    facts = _choose_facts(outline, citations)
    tree = find_issues(artifact, outline, citations, facts, desk.rarity)
    claims = find_claims(
        artifact, outline, citations, quotes, tree, library=desk.library, rarity=desk.rarity
    )
    finder = _find_paths(artifact, tree, facts, claims, desk)
    targets = [ground.source for claim in claims for ground in claim.grounds]
    unreachable = [source for source in dict.fromkeys(targets) if source not in finder.visits]
    text = artifact.document.text
    prompts = [issue.question for issue in tree.issues if issue.origin != "heading"]
    basis = [artifact.title, *prompts, *(text[span.start : span.end] for span in facts)]
    steps = StepWriter(desk, finder, quotes, " ".join(basis)).write(claims)
    conclusion = read_conclusion(artifact, outline)
    if conclusion.text and steps:
        uses = tuple(step.n for step in steps if step.action == "infer")
        steps.append(
            Step(
                len(steps) + 1, ROOT, "conclude", claim=conclusion.text, at=conclusion.at, uses=uses
            )
        )
    trail = Trail(
        artifact.id,
        artifact.title,
        artifact.date,
        artifact.document.text,
        tree.issues[0].question,
        facts,
        (*outline.spans_of("analysis"), *outline.spans_of("conclusion")),
        tree.issues,
        tuple(steps),
        conclusion,
        tuple(citations),
        tuple(quotes),
        tuple(unreachable),
        tuple(_unresolved(citations)),
    )
    return msgspec.structs.replace(trail, checks=run_checks(trail, desk))


def _unresolved(citations: Iterable[Citation]) -> Iterator[str]:
    described: set[str] = set()
    for citation in citations:
        if citation.status in ("resolved", "self"):
            continue
        candidates = f": {', '.join(citation.candidates[:5])}" if citation.candidates else ""
        line = f"{citation.text.strip()} ({citation.status}{candidates})"
        if line not in described:
            described.add(line)
            yield line


def _choose_facts(outline: Outline, citations: Sequence[Citation]) -> tuple[Span, ...]:
    """The paragraphs of the facts, without sentences that name a source of the library: which
    sources matter is what a replay has to find out.
    """
    spans: list[Span] = []
    last = (-1, -1)
    cited = {outline.sentence_at(c.start) for c in citations if c.status == "resolved"}
    for index, sentence in enumerate(outline.sentences):
        if sentence.role != "facts" or index in cited:
            continue
        if last == (sentence.paragraph, index - 1):
            spans[-1] = Span(spans[-1].start, sentence.end)
        else:
            spans.append(Span(sentence.start, sentence.end))
        last = (sentence.paragraph, index)
    return tuple(spans)


def _find_paths(
    artifact: Artifact,
    tree: IssueTree,
    facts: Sequence[Span],
    claims: Sequence[Claim],
    desk: Desk,
) -> PathFinder:
    text = artifact.document.text
    finder = PathFinder(desk.index, desk.rarity, artifact.date, exclude=[artifact.id])
    parts = [text[span.start : span.end] for span in facts]
    stated = [issue.question for issue in tree.issues[1:] if issue.origin != "claim"]
    finder.start_from(
        select_start_texts(f"{artifact.title} {tree.issues[0].question}", parts, stated)
    )
    prompts = {issue.answer: issue.question for issue in tree.issues if issue.origin == "claim"}
    for claim in claims:
        question = prompts.get(claim.at)
        if question:
            finder.start_from([question])
        finder.reach([ground.source for ground in claim.grounds])
        for ground in claim.grounds:
            if ground.source in finder.visits and ground.passage is not None:
                finder.read(ground.passage)
    return finder
