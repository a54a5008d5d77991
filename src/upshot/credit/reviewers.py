"""Reviewers: who splits an outcome over steps.

Each reads runs with their outcomes and returns a raw review of each; `credit` conserves it.

An outcome is split relative to what was to be expected, R − b: otherwise failures get no blame.
*Uniform* and *last* are what reinforcement learning does without a reviewer. *First mistake* blames
the first step that contradicts something. *Leave one out* and *Shapley* ask a model of outcomes
what the run would have been worth without a step. *Trained* takes differences of prefix values,
learned from outcomes alone; where people said of some runs which step was to blame, a model of
blame splits what failed runs lost.

Conservation does not make a reviewer honest (METHODS, "Credit": one that is conserved and likes
performers drives success from .95 to .48), so steps that lead back to where the run already was
earn nothing together, whatever a reviewer thinks of the heroic one among them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor

from upshot.credit import blame, value
from upshot.credit.conserve import Credit, settle
from upshot.credit.features import look, says, whole
from upshot.credit.trajectories import Trajectory, read
from upshot.errors import InputError
from upshot.io.files import json_objects
from upshot.stats.sampling import cross_fit

Array = NDArray[np.float64]
_NEAR_FIX = 4
"""Steps within which something broken on purpose is put right."""
_ORDERS = 16
_FOLDS = 5


class Review(NamedTuple):
    """What a reviewer says of one run, before it is conserved."""

    raw: Array
    prior: float
    luck: float | None = None
    """What no step explains; None: nothing, unless bounds ask for it."""
    reasons: tuple[str, ...] = ()


Reviewer = Callable[[Sequence[Trajectory]], Sequence[Review]]


def expected(runs: Sequence[Trajectory]) -> float:
    """b: the mean outcome; of a single run 0."""
    return float(np.mean([run.outcome for run in runs])) if len(runs) > 1 else 0.0


def uniform(runs: Sequence[Trajectory]) -> list[Review]:
    """The same to every step."""
    b = expected(runs)
    return [Review(np.zeros(len(run.steps)), b) for run in runs]


def last(runs: Sequence[Trajectory]) -> list[Review]:
    """Everything to the last step."""
    b = expected(runs)
    return [_all_to(run, len(run.steps) - 1, b) for run in runs]


def first_mistake(runs: Sequence[Trajectory]) -> list[Review]:
    """A bad outcome to the first step that contradicts something or reports an error, a good one to
    all.
    """
    b = expected(runs)
    out: list[Review] = []
    for run in runs:
        seen = look(run)
        wrong = [one.step for one in seen.found] or [
            t for t, step in enumerate(run.steps) if says(step.text, "error")
        ]
        out.append(
            _all_to(run, min(wrong), b)
            if wrong and run.outcome < b
            else Review(np.zeros(len(run.steps)), b)
        )
    return out


def _all_to(run: Trajectory, step: int, b: float) -> Review:
    return Review(np.where(np.arange(len(run.steps)) == step, run.outcome - b, 0.0), b)


def leave_one_out(runs: Sequence[Trajectory]) -> list[Review]:
    """What the run would have lost without the step, by a cross-fitted model of outcomes from the
    bag of steps.
    """
    return _marginal(runs, 1, _dropped)


def shapley(runs: Sequence[Trajectory], seed: int = 0) -> list[Review]:
    """The mean of what a step adds to those before it, over random orders (Shapley, 1953; Castro et
    al., 2009).
    """
    return _marginal(runs, seed, _ordered)


Predict = Callable[[Array], Array]
"""Outcomes of bags of steps."""


def _dropped(predict: Predict, steps: Array, rng: np.random.Generator) -> Array:
    """What the bag of all steps loses without each."""
    everything = np.arange(len(steps))
    without = np.stack([steps[np.delete(everything, t)].sum(axis=0) for t in everything])
    return predict(steps.sum(axis=0, keepdims=True)) - predict(without)


def _ordered(predict: Predict, steps: Array, rng: np.random.Generator) -> Array:
    """What each step adds to those before it, the mean over random orders."""
    out = np.zeros(len(steps))
    for _ in range(_ORDERS):
        order = rng.permutation(len(steps))
        bags = np.concatenate([np.zeros((1, steps.shape[1])), np.cumsum(steps[order], axis=0)])
        out[order] += np.diff(predict(bags)) / _ORDERS
    return out


def _marginal(
    runs: Sequence[Trajectory],
    seed: int,
    adds: Callable[[Predict, Array, np.random.Generator], Array],
) -> list[Review]:
    outcome = value.outcomes(runs, 2 * _FOLDS)
    seen = [look(run) for run in runs]
    known = value.vocabulary(seen)
    steps = [value.steps_of(one, known) for one in seen]
    bags = np.stack([rows.sum(axis=0) for rows in steps])
    fold, _ = cross_fit([run.id for run in runs], _FOLDS, seed)
    b = expected(runs)
    out: list[Review] = [Review(np.zeros(0), b)] * len(runs)
    rng = np.random.default_rng(seed)
    for k in np.unique(fold):
        model = HistGradientBoostingRegressor(max_iter=80, min_samples_leaf=10, random_state=0).fit(
            bags[fold != k], outcome[fold != k]
        )
        for i in np.flatnonzero(fold == k).tolist():
            if len(steps[i]):
                out[i] = Review(adds(model.predict, steps[i], rng), b)
    return out


def trained(runs: Sequence[Trajectory], labelled: Sequence[Trajectory] = ()) -> list[Review]:
    """Differences of prefix values; with labels (of these runs, or of others), failed runs by
    learned blame.

    Where outcomes do not differ, or runs are few, blame alone.

    Raises:
        InputError: there is too little to learn from, of outcomes and of labels.
    """
    known = [run for run in (labelled or runs) if run.label is not None and run.label >= 0]
    blamed = _blamed(runs, known if labelled else ()) if len(known) >= blame.LEAST else None
    b = expected(runs)
    try:
        worth = value.values(runs)
    except InputError:
        if blamed is None:
            raise
        return [
            Review(-shares * abs(run.outcome - b) if run.outcome <= b else np.zeros(len(shares)), b)
            for run, shares in zip(runs, blamed, strict=True)
        ]
    out: list[Review] = []
    for number, (run, v) in enumerate(zip(runs, worth, strict=True)):
        raw, luck = np.diff(v), run.outcome - float(v[-1])
        if blamed is not None and run.outcome < b and len(raw):
            raw, luck = blamed[number] * (run.outcome - float(v[0])), 0.0
        out.append(Review(raw, float(v[0]), luck))
    return out


def _blamed(runs: Sequence[Trajectory], others: Sequence[Trajectory]) -> list[Array]:
    """Each run's shares of blame, by a model that others taught, or without others the runs of
    other folds.
    """
    features = [whole(run) for run in runs]
    if others:
        model = blame.learn(others)
        return [model.shares(x) for x in features]
    fold, _ = cross_fit([run.id for run in runs], _FOLDS, 0)
    out: list[Array] = [np.zeros(0)] * len(runs)
    for k in np.unique(fold):
        of = np.flatnonzero(fold != k)
        model = blame.learn([runs[i] for i in of.tolist()], [features[i] for i in of.tolist()])
        for i in np.flatnonzero(fold == k).tolist():
            out[i] = model.shares(features[i])
    return out


REVIEWERS: Mapping[str, Reviewer] = {
    "trained": trained,
    "uniform": uniform,
    "last": last,
    "first-mistake": first_mistake,
    "leave-one-out": leave_one_out,
    "shapley": shapley,
}


def credit(runs: Sequence[Trajectory], reviewer: Reviewer, name: str) -> list[Credit]:
    """Each run's outcome, split over its steps and conserved to the last bit; detours earn nothing
    together.
    """
    if not runs:
        return []
    reviews = reviewer(runs)
    b = expected(runs)
    scale = max(abs(run.outcome - b) for run in runs)
    out: list[Credit] = []
    for run, review in zip(runs, reviews, strict=True):
        credits, prior, luck = settle(review.raw, run.outcome, review.prior, review.luck, scale)
        flat = without_detours(np.array(credits), detours(run))
        if not np.array_equal(flat, credits):
            credits, prior, luck = settle(
                flat, run.outcome, prior, run.outcome - prior - float(flat.sum()), scale
            )
        out.append(Credit(run.id, run.outcome, credits, name, prior, luck, review.reasons))
    return out


def detours(run: Trajectory) -> list[tuple[int, int]]:
    """(first, one past the last) of stretches that lead back to where the run was, the shortest
    first: the same observation as before, with another between; or something broken on purpose and
    then put right. They may lie within one another.
    """
    state = [" ".join(step.observation.lower().split()) for step in run.steps]
    found: list[tuple[int, int]] = []
    for t, step in enumerate(run.steps):
        end = _back(state, t)
        if end is None and says(step.action, "broke"):
            end = next(
                (
                    s + 1
                    for s in range(t + 1, min(len(run.steps), t + _NEAR_FIX))
                    if says(run.steps[s].action, "fixed")
                ),
                None,
            )
        if end is not None:
            found.append((t, end))
    return sorted(found, key=lambda stretch: (stretch[1] - stretch[0], stretch))


def _back(state: Sequence[str], t: int) -> int | None:
    """One past the first step that brings back the observation from before step t, if that changed
    it.
    """
    before = state[t - 1] if t else ""
    if not before or state[t] == before or not state[t]:
        return None
    return next((s + 1 for s in range(t + 1, len(state)) if state[s] == before), None)


def without_detours(credits: Array, stretches: Sequence[tuple[int, int]]) -> Array:
    """Credits in which no stretch adds up to more than nothing; what it had too much goes to the
    steps of no stretch, if there are any.
    """
    out = credits.copy()
    outside = np.ones(len(out), bool)
    for first, end in stretches:
        outside[first:end] = False
        gained = float(out[first:end].sum())
        if (
            gained > 0
        ):  # taking away from praise alone lets no shorter stretch rise above nothing again
            positive = np.maximum(out[first:end], 0.0)
            out[first:end] -= positive * (gained / positive.sum())
            out[first:end] -= max(0.0, float(out[first:end].sum())) / (end - first)
    spare = float(credits.sum() - out.sum())
    if outside.any():
        out[outside] += spare / outside.sum()
    return out


def labelled(runs: Sequence[Trajectory], path: str | os.PathLike[str]) -> list[Trajectory]:
    """Runs with labels from a file of runs, or these runs with the worst step of credits that a
    reviewer gave them.

    Raises:
        InputError: a row of the file cannot be read; says which.
    """
    rows = list(json_objects(path))
    if not rows or "credits" not in rows[0][1]:
        return [run for run in read(path) if run.label is not None]
    known = {run.id: run for run in runs}
    given = [(place, _credit(place, row)) for place, row in rows]
    worst = [
        (known[one.id], one.credits)
        for _, one in given
        if one.id in known and one.credits and one.outcome < one.prior
    ]
    return [
        msgspec.structs.replace(run, label=min(range(len(c)), key=lambda t: c[t]))
        for run, c in worst
    ]


def _credit(place: str, row: Mapping[str, Any]) -> Credit:
    try:
        return msgspec.convert(row, Credit)
    except msgspec.ValidationError as error:
        raise InputError(f"could not read {place}: {error}") from error
