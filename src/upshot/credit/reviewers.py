# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false
# scikit-learn
"""Reviewers: how an outcome is split over steps.

A reviewer reads runs with their outcomes and returns a raw review of each; `split_outcomes`
conserves it.

An outcome is split relative to the expectation, R − b: otherwise failures would get no blame.
*Uniform* and *last* are what reinforcement learning does without a reviewer. *First mistake* blames
the first step that contradicts something. *Leave one out* and *Shapley* ask a model of outcomes
for the value of the run without a step. *Trained* takes differences of prefix values, learned from
outcomes alone; where some runs are labelled with the step to blame, a blame model splits the loss
of failed runs.

Conservation does not make a reviewer honest (`bench/credit_learning.py`: a conserved reviewer that
favours performing drives success from .95 to .48), so steps that lead back to where the run already
was earn nothing in total, however heroic a reviewer finds one of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor

from upshot.credit import blame, value
from upshot.credit.checks import GENERAL_CHECKS, Check
from upshot.credit.conserve import Credit, conserve_credits
from upshot.credit.features import (
    count_signs,
    extract_hindsight_features,
    extract_prefix_features,
)
from upshot.credit.trajectories import Trajectory, read_trajectories
from upshot.errors import InputError
from upshot.io.files import read_objects
from upshot.stats.sampling import assign_folds

Array = NDArray[np.float64]
_MAX_STEPS_TO_FIX = 4
"""A break counts as staged only if it is fixed within fewer steps than this."""
_ORDERS = 16
"""Random orders per run; the error of a mean falls with its root."""
_FOLDS = 5
"""Of the cross-fitting, the usual number."""


class Review(NamedTuple):
    """One run's raw credits, before conservation."""

    raw: Array
    prior: float
    residual: float | None = None
    """The part that no step explains; None: nothing, unless bounds require it."""
    reasons: tuple[str, ...] = ()


Reviewer = Callable[[Sequence[Trajectory]], Sequence[Review]]


def baseline_outcome(runs: Sequence[Trajectory]) -> float:
    """The mean outcome, b; 0 for a single run."""
    return float(np.mean([run.outcome for run in runs])) if len(runs) > 1 else 0.0


def review_uniformly(runs: Sequence[Trajectory]) -> list[Review]:
    """Give the same to every step."""
    b = baseline_outcome(runs)
    return [Review(np.zeros(len(run.steps)), b) for run in runs]


def review_last_step(runs: Sequence[Trajectory]) -> list[Review]:
    """Give everything to the last step."""
    b = baseline_outcome(runs)
    return [_credit_one_step(run, len(run.steps) - 1, b) for run in runs]


def review_first_mistake(
    runs: Sequence[Trajectory], checks: Sequence[Check] = GENERAL_CHECKS
) -> list[Review]:
    """Give a bad outcome to the first step with a finding or an error, a good one to all steps."""
    b = baseline_outcome(runs)
    out: list[Review] = []
    for run in runs:
        findings = extract_prefix_features(run, checks).findings
        wrong = [finding.step for finding in findings] or [
            t for t, step in enumerate(run.steps) if count_signs(step.text, "error")
        ]
        out.append(
            _credit_one_step(run, min(wrong), b)
            if wrong and run.outcome < b
            else Review(np.zeros(len(run.steps)), b)
        )
    return out


def _credit_one_step(run: Trajectory, step: int, b: float) -> Review:
    return Review(np.where(np.arange(len(run.steps)) == step, run.outcome - b, 0.0), b)


def review_by_leave_one_out(
    runs: Sequence[Trajectory], checks: Sequence[Check] = GENERAL_CHECKS
) -> list[Review]:
    """Predict what the run would lose without each step, with a cross-fitted bag-of-steps model."""
    return _review_marginals(runs, 1, _losses_without_each, checks)


def review_by_shapley(
    runs: Sequence[Trajectory], checks: Sequence[Check] = GENERAL_CHECKS
) -> list[Review]:
    """Average what each step adds to those before it, over random orders.

    Shapley, 1953; Castro et al., 2009.
    """
    return _review_marginals(runs, 0, _mean_gains, checks)


Predict = Callable[[Array], Array]
"""From bags of steps to outcomes."""


def _losses_without_each(predict: Predict, steps: Array, rng: np.random.Generator) -> Array:
    """What the bag of all steps loses without each of them."""
    everything = np.arange(len(steps))
    without = np.stack([steps[np.delete(everything, t)].sum(axis=0) for t in everything])
    return predict(steps.sum(axis=0, keepdims=True)) - predict(without)


def _mean_gains(predict: Predict, steps: Array, rng: np.random.Generator) -> Array:
    """What each step adds to those before it, averaged over random orders."""
    out = np.zeros(len(steps))
    for _ in range(_ORDERS):
        order = rng.permutation(len(steps))
        bags = np.concatenate([np.zeros((1, steps.shape[1])), np.cumsum(steps[order], axis=0)])
        out[order] += np.diff(predict(bags)) / _ORDERS
    return out


def _review_marginals(
    runs: Sequence[Trajectory],
    seed: int,
    contributions: Callable[[Predict, Array, np.random.Generator], Array],
    checks: Sequence[Check],
) -> list[Review]:
    outcome = value.collect_outcomes(runs, 2 * _FOLDS)
    prefixes = [extract_prefix_features(run, checks) for run in runs]
    vocabulary = value.build_vocabulary(prefixes)
    steps = [value.encode_steps(prefix, vocabulary) for prefix in prefixes]
    bags = np.stack([rows.sum(axis=0) for rows in steps])
    fold, _ = assign_folds([run.id for run in runs], _FOLDS, seed)
    b = baseline_outcome(runs)
    out: list[Review] = [Review(np.zeros(0), b)] * len(runs)
    rng = np.random.default_rng(seed)
    for k in np.unique(fold):
        model = HistGradientBoostingRegressor(max_iter=80, min_samples_leaf=10, random_state=0).fit(
            bags[fold != k], outcome[fold != k]
        )
        for i in np.flatnonzero(fold == k).tolist():
            if len(steps[i]):
                out[i] = Review(contributions(model.predict, steps[i], rng), b)
    return out


def review_with_trained_models(
    runs: Sequence[Trajectory],
    labelled: Sequence[Trajectory] = (),
    checks: Sequence[Check] = GENERAL_CHECKS,
) -> list[Review]:
    """Split outcomes by differences of prefix values, and the loss of failed runs by learned blame.

    Blame needs labels, of these runs or of `labelled` ones. It is used alone where outcomes do not
    differ or runs are few.

    Raises:
        InputError: too few outcomes and too few labels to learn from.
    """
    count = sum(run.label is not None and run.label >= 0 for run in labelled or runs)
    enough = count >= blame.MIN_LABELLED_RUNS
    shares_by_run = _blame_shares(runs, labelled, checks) if enough else None
    b = baseline_outcome(runs)
    try:
        values = value.cross_fit_values(runs, checks=checks)
    except InputError:
        if shares_by_run is None:
            raise
        return [
            Review(-shares * abs(run.outcome - b) if run.outcome <= b else np.zeros(len(shares)), b)
            for run, shares in zip(runs, shares_by_run, strict=True)
        ]
    out: list[Review] = []
    for number, (run, v) in enumerate(zip(runs, values, strict=True)):
        raw, residual = np.diff(v), run.outcome - float(v[-1])
        if shares_by_run is not None and run.outcome < b and len(raw):
            raw, residual = shares_by_run[number] * (run.outcome - float(v[0])), 0.0
        out.append(Review(raw, float(v[0]), residual))
    return out


def _blame_shares(
    runs: Sequence[Trajectory], labelled: Sequence[Trajectory], checks: Sequence[Check]
) -> list[Array]:
    """Each run's shares of blame, from a model of the labelled runs, or else of other folds."""
    features = [extract_hindsight_features(run, checks) for run in runs]
    if labelled:
        examples = [run for run in labelled if run.label is not None and run.label >= 0]
        model = blame.learn(examples, [extract_hindsight_features(run, checks) for run in examples])
        return [model.predict(x) for x in features]
    fold, _ = assign_folds([run.id for run in runs], _FOLDS, 0)
    out: list[Array] = [np.zeros(0)] * len(runs)
    for k in np.unique(fold):
        training: list[int] = np.flatnonzero(fold != k).tolist()
        model = blame.learn([runs[i] for i in training], [features[i] for i in training])
        for i in np.flatnonzero(fold == k).tolist():
            out[i] = model.predict(features[i])
    return out


def make_reviewers(checks: Sequence[Check] = GENERAL_CHECKS) -> Mapping[str, Reviewer]:
    """All reviewers but the language model, by name; those that look for mistakes run `checks`.

    >>> list(make_reviewers())
    ['trained', 'uniform', 'last', 'first-mistake', 'leave-one-out', 'shapley']
    """
    return {
        "trained": partial(review_with_trained_models, checks=checks),
        "uniform": review_uniformly,
        "last": review_last_step,
        "first-mistake": partial(review_first_mistake, checks=checks),
        "leave-one-out": partial(review_by_leave_one_out, checks=checks),
        "shapley": partial(review_by_shapley, checks=checks),
    }


REVIEWERS = make_reviewers()
"""The reviewers with the general checks."""


def split_outcomes(runs: Sequence[Trajectory], reviewer: Reviewer, name: str) -> list[Credit]:
    """Split each run's outcome over its steps, exactly; detours earn nothing in total.

    `name`: of the reviewer, for the records.

    >>> from upshot.credit.trajectories import Step
    >>> run = Trajectory("r", "", (Step("a"), Step("b")), 1.0)
    >>> split_outcomes([run], review_uniformly, "uniform")[0].credits
    (0.5, 0.5)
    """
    if not runs:
        return []
    reviews = reviewer(runs)
    b = baseline_outcome(runs)
    scale = max(abs(run.outcome - b) for run in runs)
    out: list[Credit] = []
    for run, review in zip(runs, reviews, strict=True):
        parts = conserve_credits(review.raw, run.outcome, review.prior, review.residual, scale)
        flat = remove_detour_gains(np.array(parts.credits), find_detours(run))
        if not np.array_equal(flat, parts.credits):
            residual = run.outcome - parts.prior - float(flat.sum())
            parts = conserve_credits(flat, run.outcome, parts.prior, residual, scale)
        out.append(Credit(run.id, run.outcome, parts.credits, name, *parts[1:], review.reasons))
    return out


def find_detours(run: Trajectory) -> list[tuple[int, int]]:
    """Find stretches that lead back to where the run was, as (first step, end), shortest first.

    Either an observation returns after a different one, or something is broken on purpose and then
    fixed. Stretches may be nested.
    """
    state = [" ".join(step.observation.lower().split()) for step in run.steps]
    stretches: list[tuple[int, int]] = []
    for t, step in enumerate(run.steps):
        end = _end_of_return(state, t)
        if end is None and count_signs(step.action, "broke"):
            end = next(
                (
                    s + 1
                    for s in range(t + 1, min(len(run.steps), t + _MAX_STEPS_TO_FIX))
                    if count_signs(run.steps[s].action, "fixed")
                ),
                None,
            )
        if end is not None:
            stretches.append((t, end))
    return sorted(stretches, key=lambda stretch: (stretch[1] - stretch[0], stretch))


def _end_of_return(state: Sequence[str], t: int) -> int | None:
    """The end of the stretch from step t that restores the observation before it, if any."""
    before = state[t - 1] if t else ""
    if not before or state[t] == before or not state[t]:
        return None
    return next((s + 1 for s in range(t + 1, len(state)) if state[s] == before), None)


def remove_detour_gains(credits: Array, stretches: Sequence[tuple[int, int]]) -> Array:
    """Credits without positive sums over stretches; the surplus goes to the steps outside them.

    >>> remove_detour_gains(np.array([0.0, -1.0, 2.0]), [(1, 3)])
    array([ 1., -1.,  1.])
    """
    out = credits.copy()
    outside = np.ones(len(out), bool)
    for first, end in stretches:
        outside[first:end] = False
        gained = float(out[first:end].sum())
        if gained > 0:  # reducing only positive credits cannot lift a shorter stretch above 0
            positive = np.maximum(out[first:end], 0.0)
            out[first:end] -= positive * (gained / positive.sum())
            out[first:end] -= max(0.0, float(out[first:end].sum())) / (end - first)
    spare = float(credits.sum() - out.sum())
    if outside.any():
        out[outside] += spare / outside.sum()
    return out


def read_labels(runs: Sequence[Trajectory], path: str | os.PathLike[str]) -> list[Trajectory]:
    """Read labelled runs, or label these runs with the worst step of the credits in a file.

    Raises:
        InputError: a row of the file cannot be read; the message names it.
    """
    rows = list(read_objects(path))
    if not rows or "credits" not in rows[0][1]:
        return [run for run in read_trajectories(path) if run.label is not None]
    run_of = {run.id: run for run in runs}
    credits = [(place, _parse_credit(place, row)) for place, row in rows]
    worst = [
        (run_of[credit.id], credit.credits)
        for _, credit in credits
        if credit.id in run_of and credit.credits and credit.outcome < credit.prior
    ]
    return [
        msgspec.structs.replace(run, label=min(range(len(c)), key=lambda t: c[t]))
        for run, c in worst
    ]


def _parse_credit(place: str, row: Mapping[str, Any]) -> Credit:
    try:
        return msgspec.convert(row, Credit)
    except msgspec.ValidationError as error:
        raise InputError(f"could not read {place}: {error}") from error
