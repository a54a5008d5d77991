"""A language model as reviewer: one pass blind to the outcome, one that knows it.

The blind pass weighs the importance of steps, the informed one names the step that decided it.

Weights assigned without the outcome cannot favour whatever won, so they split the gain of a run.
Where it failed, the votes for the place of the error split the loss, as far as they agree; without
a majority the split is uniform. To combine several reviewers, give `split_outcomes` the mean of
their raw credits.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from upshot.credit.reviewers import Review, baseline_outcome
from upshot.credit.trajectories import Trajectory
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

Array = NDArray[np.float64]
_MAX_CHARACTERS = 2_000
"""Characters of a step; of a longer one the start and the end."""
_TOKENS_PER_STEP = 120
"""Of a blind answer: a sentence, a few numbers and the JSON around them."""
_BASE_TOKENS = 600
"""Of a blind answer, for the ranking and what models write before the JSON."""
_PLACE_TOKENS = 840
"""Of an informed answer: two reasons and a few numbers."""
_MAJORITY = 0.5
"""Share of the votes that a step must exceed to be blamed."""
_MAX_REASON = 400
"""Characters of a reason in a credit."""


class StepSeen(msgspec.Struct, frozen=True):
    """One step in the answer of the blind pass."""

    step: int
    changed: str
    used_by: list[int]
    importance: float


class Importance(msgspec.Struct, frozen=True):
    """The answer of the blind pass."""

    steps: list[StepSeen]
    ranking: list[int]


class Place(msgspec.Struct, frozen=True):
    """The answer of the informed pass."""

    step: int
    reason: str
    sooner: str
    skipped: list[int]


class Cost(msgspec.Struct):
    """What the reviews cost, and how many failed."""

    runs: int = 0
    unreadable: int = 0
    """Runs without a usable answer, which are split uniformly."""
    divided: int = 0
    """Failed runs without a majority for the place of the error."""
    seconds: float = 0.0
    stopped: str = ""
    spent: Spent = msgspec.field(default_factory=Spent)


def review(
    runs: Sequence[Trajectory],
    endpoint: Endpoint,
    budget: Budget,
    replies: Replies,
    *,
    votes: int = 3,
    temperature: float = 0.7,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[Review], Cost]:
    """Review runs with two requests each, of `votes` samples; uniform once the budget is spent."""
    started = time.monotonic()
    b = baseline_outcome(runs)
    cost = Cost(len(runs), spent=budget.spent)

    async def review_run(number: int, asker: Asker) -> Review:
        run = runs[number]
        if not run.steps:
            return Review(np.zeros(0), b)
        size = len(run.steps)
        shown: dict[str, Any] = {
            "task": hostile.sanitise(run.task, _MAX_CHARACTERS),
            "steps": {
                str(t + 1): hostile.sanitise(step.text, _MAX_CHARACTERS)
                for t, step in enumerate(run.steps)
            },
        }
        blind_question = make_question(
            endpoint,
            load_prompt("upshot.credit", "importance.md"),
            shown,
            Importance,
            _BASE_TOKENS + _TOKENS_PER_STEP * size,
            temperature=temperature,
            n=votes,
            seed=1,
        )
        importance = await asker.ask(
            blind_question, Importance, lambda answer: _importance_problem(answer, size), run.id
        )
        informed = shown | {"outcome": run.outcome, "expected": round(b, 4)}
        place_question = make_question(
            endpoint,
            load_prompt("upshot.credit", "place.md"),
            informed,
            Place,
            _PLACE_TOKENS,
            temperature=temperature,
            n=votes,
            seed=1,
        )
        places = await asker.ask(
            place_question, Place, lambda answer: _place_problem(answer, size), run.id
        )
        blind = [
            weights
            for answer in importance
            if answer is not None and (weights := blind_weights(answer, size)) is not None
        ]
        valid = [
            answer for answer in places if answer is not None and not _place_problem(answer, size)
        ]
        return _combine(run, b, blind, valid, cost)

    reviews, cost.stopped = work_through(
        len(runs), review_run, endpoint, budget, replies, progress=progress
    )
    cost.seconds = time.monotonic() - started
    return [
        reviews.get(number, Review(np.zeros(len(run.steps)), b)) for number, run in enumerate(runs)
    ], cost


def blind_weights(answer: Importance, size: int) -> Array | None:
    """Weights of the steps that sum to 1: importance, with ties broken by the ranking.

    None if the answer lacks a step.

    >>> answer = Importance([StepSeen(1, "", [], 10), StepSeen(2, "", [], 0)], [1, 2])
    >>> blind_weights(answer, 2).tolist()
    [1.0, 0.0]
    """
    if _importance_problem(answer, size):
        return None
    weight = np.zeros(size)
    for row in answer.steps:
        weight[row.step - 1] = min(10.0, max(0.0, row.importance))
    ranked = [step - 1 for step in dict.fromkeys(answer.ranking) if 1 <= step <= size]
    weight[ranked] *= 1 + 0.1 * (1 - np.arange(len(ranked)) / max(1, len(ranked)))
    return weight / weight.sum() if weight.sum() > 0 else np.full(size, 1 / size)


def _importance_problem(answer: Importance, size: int) -> str:
    missing = sorted(set(range(1, size + 1)) - {row.step for row in answer.steps})
    if missing:
        return f"`steps` lacks step {missing[0]}"
    valid = all(1 <= row.step <= size and not math.isnan(row.importance) for row in answer.steps)
    return "" if valid else "a step number is out of range"


def _place_problem(answer: Place, size: int) -> str:
    exists = answer.step == -1 or 1 <= answer.step <= size
    return "" if exists else f"there is no step {answer.step}"


def _combine(
    run: Trajectory, b: float, blind: Sequence[Array], places: Sequence[Place], cost: Cost
) -> Review:
    size = len(run.steps)
    flat = np.full(size, 1 / size)
    weight = np.mean(blind, axis=0) if blind else flat
    if not blind and not places:
        cost.unreadable += 1
        return Review(np.zeros(size), b)
    reasons = [""] * size
    if run.outcome < b and places:
        votes = Counter(vote.step for vote in places)
        step, count = votes.most_common(1)[0]
        agreement = count / len(places)
        if agreement > _MAJORITY and step > 0:
            share = np.zeros(size)
            share[step - 1] = 1.0
            weight = agreement * share + (1 - agreement) * weight
            chosen = next(vote for vote in places if vote.step == step)
            reasons[step - 1] = " ".join(f"{chosen.reason} {chosen.sooner}".split())[:_MAX_REASON]
        else:
            cost.divided += agreement <= _MAJORITY
            weight = flat
    return Review((run.outcome - b) * weight, b, 0.0, tuple(reasons))
