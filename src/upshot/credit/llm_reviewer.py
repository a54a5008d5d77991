"""A language model as reviewer: a blind pass for importance, which has not seen the outcome, and an
informed pass for the place that decided it.

Weights given without the outcome cannot favour whatever won (METHODS, "Credit"), so they split what
a run earned; where it failed, votes for the place of the error do, as far as they agree: with no
majority the split is uniform. Several reviewers are averaged by giving `credit` the mean of their
raws.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from upshot.credit.reviewers import Review, expected
from upshot.credit.trajectories import Trajectory
from upshot.hindsight.trust import hostile
from upshot.llm import Asker, Budget, Endpoint, Replies, Spent, question, work_through

Array = NDArray[np.float64]
_SHOWN = 2_000
"""Characters of a step; of a longer one the start and the end."""
_TOKENS_A_STEP = 120
_LEAST_TOKENS = 600
_PLACE_TOKENS = 840
_MAJORITY = 0.5


class StepSeen(msgspec.Struct, frozen=True):
    """What the blind pass says of one step."""

    step: int
    changed: str
    used_by: list[int]
    importance: float


class Importance(msgspec.Struct, frozen=True):
    """What the blind pass answers."""

    steps: list[StepSeen]
    ranking: list[int]


class Place(msgspec.Struct, frozen=True):
    """What the informed pass answers."""

    step: int
    reason: str
    sooner: str
    skipped: list[int]


class Cost(msgspec.Struct):
    """What deliberation took."""

    runs: int = 0
    unreadable: int = 0
    """Runs whose answers could not be used: they are split uniformly."""
    divided: int = 0
    """Failed runs for whose error no place had a majority."""
    seconds: float = 0.0
    stopped: str = ""
    spent: Spent = msgspec.field(default_factory=Spent)


def review(
    runs: Sequence[Trajectory],
    endpoint: Endpoint,
    budget: Budget,
    replies: Replies,
    votes: int = 3,
    temperature: float = 0.7,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[Review], Cost]:
    """Two requests a run, each with `votes` samples.

    Where the budget ends early, the rest is uniform.
    """
    started = time.monotonic()
    b = expected(runs)
    cost = Cost(len(runs), spent=budget.spent)

    async def one(number: int, asker: Asker) -> Review:
        run = runs[number]
        if not run.steps:
            return Review(np.zeros(0), b)
        size = len(run.steps)
        shown: dict[str, Any] = {
            "task": hostile.shown(run.task, _SHOWN),
            "steps": {
                str(t + 1): hostile.shown(step.text, _SHOWN) for t, step in enumerate(run.steps)
            },
        }
        blind_question = question(
            endpoint,
            _system("importance.md"),
            shown,
            Importance,
            _LEAST_TOKENS + _TOKENS_A_STEP * size,
            temperature,
            votes,
            1,
        )
        importance = await asker.ask(
            blind_question, Importance, lambda answer: _complete(answer, size), run.id
        )
        informed = shown | {"outcome": run.outcome, "expected": round(b, 4)}
        places = await asker.ask(
            question(
                endpoint, _system("place.md"), informed, Place, _PLACE_TOKENS, temperature, votes, 1
            ),
            Place,
            lambda answer: _there(answer, size),
            run.id,
        )
        blind = [
            weights
            for answer in importance
            if answer is not None and (weights := weighed(answer, size)) is not None
        ]
        named = [answer for answer in places if answer is not None and not _there(answer, size)]
        return _joined(run, b, blind, named, cost)

    made, cost.stopped = work_through(len(runs), one, endpoint, budget, replies, progress)
    cost.seconds = time.monotonic() - started
    return [
        made.get(number, Review(np.zeros(len(run.steps)), b)) for number, run in enumerate(runs)
    ], cost


def weighed(answer: Importance, size: int) -> Array | None:
    """Blind weights of the steps, adding up to 1: importance, with ties broken by the ranking; None
    where a step is missing.

    >>> weighed(Importance([StepSeen(1, "", [], 10), StepSeen(2, "", [], 0)], [1, 2]), 2).tolist()
    [1.0, 0.0]
    """
    if _complete(answer, size):
        return None
    weight = np.zeros(size)
    for seen in answer.steps:
        weight[seen.step - 1] = min(10.0, max(0.0, seen.importance))
    ranked = [step - 1 for step in dict.fromkeys(answer.ranking) if 1 <= step <= size]
    weight[ranked] *= 1 + 0.1 * (1 - np.arange(len(ranked)) / max(1, len(ranked)))
    return weight / weight.sum() if weight.sum() > 0 else np.full(size, 1 / size)


def _complete(answer: Importance, size: int) -> str:
    missing = sorted(set(range(1, size + 1)) - {seen.step for seen in answer.steps})
    if missing:
        return f"`steps` lacks step {missing[0]}"
    return (
        ""
        if all(
            1 <= seen.step <= size and seen.importance == seen.importance for seen in answer.steps
        )
        else "a step number is out of range"
    )


def _there(answer: Place, size: int) -> str:
    return (
        "" if answer.step == -1 or 1 <= answer.step <= size else f"there is no step {answer.step}"
    )


def _joined(
    run: Trajectory, b: float, blind: Sequence[Array], named: Sequence[Place], cost: Cost
) -> Review:
    size = len(run.steps)
    flat = np.full(size, 1 / size)
    weight = np.mean(blind, axis=0) if blind else flat
    if not blind and not named:
        cost.unreadable += 1
        return Review(np.zeros(size), b)
    reasons = [""] * size
    if run.outcome < b and named:
        votes = Counter(answer.step for answer in named)
        place, most = votes.most_common(1)[0]
        agreed = most / len(named)
        if agreed > _MAJORITY and place > 0:
            share = np.zeros(size)
            share[place - 1] = 1.0
            weight = agreed * share + (1 - agreed) * weight
            chosen = next(answer for answer in named if answer.step == place)
            reasons[place - 1] = " ".join(f"{chosen.reason} {chosen.sooner}".split())[:400]
        else:
            cost.divided += agreed <= _MAJORITY
            weight = flat
    return Review((run.outcome - b) * weight, b, 0.0, tuple(reasons))


def _system(name: str) -> str:
    return resources.files("upshot.credit").joinpath("prompts", name).read_text("utf-8").strip()
