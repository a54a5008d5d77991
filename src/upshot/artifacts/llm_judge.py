"""A language model beside the rules: issues, reasons, and whether passages entail claims.

It adds to a trail of rules and changes none of its sources, steps or spans. Every reply passes the
same checks: an answer that is not a stretch of the artifact's text is refused, a question that
gives away the reasoning is dropped, a step that is not there is no step. Entailment is voted; a tie
abstains, and a claim that a majority finds unsupported becomes a problem of the check of support.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from upshot.artifacts.checks import check_leak, run_checks
from upshot.artifacts.desk import Desk
from upshot.artifacts.questions import ROOT
from upshot.artifacts.records import Check, Issue, Span, Step, Trail
from upshot.hindsight.trust import hostile
from upshot.llm import (
    Asker,
    Budget,
    Endpoint,
    Replies,
    Spent,
    load_prompt,
    make_question,
    work_through,
)

MAKER = "llm/1"
_MAX_TEXT = 24_000
"""Characters of an artifact that the model is shown; of a longer one the start and the end."""
_MAX_CLAIMS = 40
_TOKENS = 1_200
"""Of the answer about issues: ten questions with their quotations."""
_TOKENS_PER_CLAIM = 60
_MAX_WHY = 200
"""Characters of a reason."""


class IssueSeen(msgspec.Struct, frozen=True):
    """One issue as the model sees it."""

    question: str
    answer: str
    """Words of the artifact, exactly."""


class Issues(msgspec.Struct, frozen=True):
    """The issues of an artifact."""

    question: str
    """What the whole artifact answers."""
    issues: list[IssueSeen]


class StepJudged(msgspec.Struct, frozen=True):
    """What the model says of one claim."""

    step: int
    entailed: Literal["yes", "no", "unclear"]
    why: str


class Claims(msgspec.Struct, frozen=True):
    """What the model says of the claims of a trail."""

    steps: list[StepJudged]


class JudgeCost(msgspec.Struct):
    """What a model's reading of trails cost, and how many it could not read."""

    trails: int = 0
    unreadable: int = 0
    refused_spans: int = 0
    """Answers that are not in the artifact."""
    refused_questions: int = 0
    """Questions that give away the reasoning."""
    ties: int = 0
    """Claims on which the votes were divided."""
    stopped: str = ""
    spent: Spent = msgspec.field(default_factory=Spent)


def judge_trails(
    trails: Sequence[Trail],
    desk: Desk,
    endpoint: Endpoint,
    budget: Budget,
    replies: Replies,
    *,
    votes: int = 3,
    temperature: float = 0.7,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[Trail], JudgeCost]:
    """Trails with what a model adds, two requests each; once the budget is spent the rest stay as
    they are.
    """
    cost = JudgeCost(len(trails), spent=budget.spent)

    async def work(number: int, asker: Asker) -> Trail:
        trail = trails[number]
        request = make_question(
            endpoint,
            load_prompt("upshot.artifacts", "issues.md"),
            {"text": hostile.sanitise(trail.text, _MAX_TEXT)},
            Issues,
            _TOKENS,
            temperature=0.0,
        )
        (issues,) = await asker.ask(
            request, Issues, lambda a: check_issues(a, trail), trail.artifact
        )
        claims = _claims_of(trail)
        judged: list[Claims] = []
        if claims:
            request = make_question(
                endpoint,
                load_prompt("upshot.artifacts", "claims.md"),
                {"claims": claims},
                Claims,
                _TOKENS + _TOKENS_PER_CLAIM * len(claims),
                temperature=temperature,
                n=votes,
                seed=1,
            )
            numbers = {int(key) for key in claims}
            samples = await asker.ask(
                request, Claims, lambda a: check_claims(a, numbers), trail.artifact
            )
            judged = [s for s in samples if s is not None and not check_claims(s, numbers)]
        if issues is None and not judged:
            cost.unreadable += 1
            return trail
        return apply_judgement(trail, issues, judged, desk, cost)

    results, cost.stopped = work_through(
        len(trails), work, endpoint, budget, replies, progress=progress
    )
    return [results.get(number, trail) for number, trail in enumerate(trails)], cost


def _claims_of(trail: Trail) -> dict[str, dict[str, object]]:
    """The claims that rest on passages, with the passages, by the number of their step."""
    by_number = {step.n: step for step in trail.steps}
    claims: dict[str, dict[str, object]] = {}
    for step in trail.steps:
        texts = [by_number[n].text for n in step.uses if by_number[n].text]
        if step.action == "infer" and texts and len(claims) < _MAX_CLAIMS:
            claims[str(step.n)] = {
                "claim": hostile.sanitise(step.claim, 1_000),
                "passages": [hostile.sanitise(text, 2_000) for text in texts],
            }
    return claims


def check_issues(answer: Issues, trail: Trail) -> str:
    """What is wrong with an answer about issues; "" if nothing is."""
    if not answer.question.strip():
        return "`question` is empty"
    for issue in answer.issues:
        if issue.answer and issue.answer not in trail.text:
            return (
                f"`answer` must be words of the text, exactly; {issue.answer[:60]!r} is not in it"
            )
    return ""


def check_claims(answer: Claims, numbers: set[int]) -> str:
    """What is wrong with an answer about claims; "" if nothing is."""
    unknown = [row.step for row in answer.steps if row.step not in numbers]
    if unknown:
        return f"there is no step {unknown[0]}"
    missing = sorted(numbers - {row.step for row in answer.steps})
    return f"`steps` lacks step {missing[0]}" if missing else ""


def apply_judgement(
    trail: Trail,
    issues: Issues | None,
    judged: Sequence[Claims],
    desk: Desk,
    cost: JudgeCost,
) -> Trail:
    """A trail with the model's issues and reasons, checked anew; votes against claims become
    problems of the check of support.
    """
    if issues is not None:
        trail = _apply_issues(trail, issues, desk, cost)
    steps, problems = _apply_votes(trail.steps, judged, cost)
    trail = msgspec.structs.replace(trail, steps=steps, maker=MAKER)
    checks = run_checks(trail, desk)
    support = checks["support"]
    total = max(1, sum(step.action == "infer" for step in steps))
    listed = tuple(dict.fromkeys((*support.problems, *problems)))
    checks["support"] = Check(max(0.0, 1 - len(listed) / total), listed)
    return msgspec.structs.replace(trail, checks=checks)


def _apply_issues(trail: Trail, answer: Issues, desk: Desk, cost: JudgeCost) -> Trail:
    """The model's questions in place of those of headings and claims; stated ones stay."""
    stated = [issue for issue in trail.issues if issue.origin == "stated"]
    has_root = any(issue.id == ROOT for issue in stated)
    root = [] if has_root else [Issue(ROOT, answer.question, origin="llm")]
    added: list[Issue] = []
    for number, issue in enumerate(answer.issues, 1):
        start = trail.text.find(issue.answer) if issue.answer else -1
        if issue.answer and start < 0:
            cost.refused_spans += 1
            continue
        span = Span(start, start + len(issue.answer)) if issue.answer else None
        added.append(Issue(f"m{number}", issue.question, ROOT, span, "llm"))
    sound = [issue for issue in (*root, *added) if not _leaks(trail, issue, desk)]
    cost.refused_questions += len(root) + len(added) - len(sound)
    others = [issue for issue in trail.issues if issue.origin in ("heading", "claim")]
    if root and root[0] not in sound:
        sound = [*(issue for issue in others if issue.id == ROOT), *sound]
    used = {step.issue for step in trail.steps}
    needed = [i for i in others if i.id in used and i.id not in {s.id for s in sound}]
    first = stated if has_root else [*sound[:1], *stated]
    rest = sound if has_root else sound[1:]
    issues = (*first, *rest, *needed)
    return msgspec.structs.replace(trail, issues=issues, question=issues[0].question)


def _leaks(trail: Trail, issue: Issue, desk: Desk) -> bool:
    alone = msgspec.structs.replace(trail, issues=(issue,), steps=())
    return bool(check_leak(alone, desk).problems)


def _apply_votes(
    steps: Sequence[Step], judged: Sequence[Claims], cost: JudgeCost
) -> tuple[tuple[Step, ...], list[str]]:
    votes: dict[int, Counter[str]] = {}
    reasons: dict[int, str] = {}
    for answer in judged:
        for row in answer.steps:
            votes.setdefault(row.step, Counter())[row.entailed] += 1
            reasons.setdefault(row.step, " ".join(row.why.split())[:_MAX_WHY])
    problems: list[str] = []
    new: list[Step] = []
    for step in steps:
        count = votes.get(step.n)
        if count is None:
            new.append(step)
            continue
        if count["no"] > count["yes"] + count["unclear"]:
            problems.append(f"step {step.n}: the model finds it unsupported: {reasons[step.n]}")
        elif count["no"] and count["no"] == count["yes"]:
            cost.ties += 1
        new.append(msgspec.structs.replace(step, why=step.why or reasons[step.n]))
    return tuple(new), problems
