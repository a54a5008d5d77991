"""Credit: the outcome of each run split over its steps."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from functools import partial

import msgspec

from upshot.api.opening import Progress, endpoint_of, open_lake, quiet
from upshot.config import Settings, load
from upshot.credit import (
    REVIEWERS,
    Credit,
    llm_reviewer,
    make_reviewers,
    read_labels,
    read_trajectories,
    review_with_trained_models,
    split_outcomes,
    training_signals,
)
from upshot.credit.checks import GENERAL_CHECKS, Check
from upshot.credit.llm_reviewer import Cost
from upshot.credit.thread_trajectories import read_thread_runs
from upshot.credit.trajectories import Trajectory
from upshot.errors import InputError
from upshot.llm import Budget, keep_replies


class CreditReport(msgspec.Struct, frozen=True):
    """Credits of runs, and what they took."""

    credits: list[Credit]
    cost: Cost | None
    """Of a language model."""
    seconds: float
    sample_ratio: float
    """Samples that uniform credit would need to tell kinds of action apart equally well, divided by
    those of this credit; NaN where kinds are too rare.
    """
    kinds: int


def credit(
    runs: str | os.PathLike[str] | None = None,
    reviewer: str = "trained",
    *,
    lake: str | os.PathLike[str] | None = None,
    labelled: str | os.PathLike[str] | None = None,
    checks: Sequence[Check] = GENERAL_CHECKS,
    settings: Settings | None = None,
    progress: Progress = quiet,
    replies: str | os.PathLike[str] | None = None,
) -> CreditReport:
    """Split the outcome of every run over its steps; the sum is the outcome, exactly.

    Runs come from a file, or are the threads of a `lake` whose outcome is known: responses are
    steps, and the outcome is what the world reported of the thread, or its verdicts.

    `reviewer`: trained, llm (two requests per run, to the endpoint of the settings), uniform, last,
    first-mistake, leave-one-out, shapley. `labelled`: other runs, in which a `label` says which
    step was to blame, or credits of a language model's review of these runs, for the trained one.
    `checks`: what steps are checked for without an answer key (`upshot.credit.checks`).
    `replies`: a file in which a language model's replies are kept without a lake, so that a run
    that is cut short can go on.

    Raises:
        InputError: there is no such reviewer, too little to learn from, or neither a file nor a
            lake.
    """
    started = time.monotonic()
    reviewers = make_reviewers(checks)
    if reviewer not in (*reviewers, "llm"):
        raise InputError(
            f"could not review with {reviewer!r}: there are {', '.join((*reviewers, 'llm'))}"
        )
    settings = settings or load()
    store = None if lake is None else open_lake(lake, settings)
    if (runs is None) == (store is None):
        raise InputError(
            "could not split outcomes: name a file of runs, or a lake with --lake, and not both"
        )
    thread_runs = [] if store is None else list(read_thread_runs(store))
    trajectories = (
        [thread.run for thread in thread_runs] if runs is None else list(read_trajectories(runs))
    )
    cost: Cost | None = None
    if reviewer == "llm":
        endpoint = endpoint_of(settings)
        budget = Budget(endpoint, settings.llm.budget_tokens, settings.llm.budget_usd)
        with keep_replies(replies, store) as cache:
            reviews, cost = llm_reviewer.review(
                trajectories,
                endpoint,
                budget,
                cache,
                votes=settings.llm.votes,
                temperature=settings.llm.temperature,
                progress=lambda done, total: progress("review", done, total),
            )
        split = split_outcomes(trajectories, lambda _: reviews, "llm")
    elif labelled is not None:
        others = read_labels(trajectories, labelled)
        review = partial(review_with_trained_models, labelled=others, checks=checks)
        split = split_outcomes(trajectories, review, "trained")
    else:
        split = split_outcomes(trajectories, reviewers[reviewer], reviewer)
    if thread_runs:
        split = [
            msgspec.structs.replace(row, responses=tuple(thread_run.responses))
            for row, thread_run in zip(split, thread_runs, strict=True)
        ]
    ratio, kinds = _compare_to_uniform(trajectories, split)
    return CreditReport(split, cost, time.monotonic() - started, ratio, kinds)


def _compare_to_uniform(
    trajectories: Sequence[Trajectory], split: Sequence[Credit]
) -> tuple[float, int]:
    if not trajectories:
        return float("nan"), 0
    uniform = split_outcomes(trajectories, REVIEWERS["uniform"], "uniform")
    gain = training_signals.compare_efficiency(trajectories, split, uniform)
    return gain.ratio, gain.classes
