# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# scipy
"""Which step of a failed run is to blame: a softmax over its steps, learned from labelled runs.

P(step t is to blame) = exp(w · x_t) / Σ_s exp(w · x_s), where x are the hindsight features of
`features.py`. Training maximises the log probability of the labelled step plus that of its agent
(summed over all steps of that agent); the variance of the Gaussian prior is chosen by
cross-validation over runs. Positions are features too, so with little other evidence the model
falls back on the most common position.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

from upshot.credit.features import HINDSIGHT_COLUMNS, extract_hindsight_features
from upshot.credit.trajectories import Trajectory
from upshot.errors import InputError

Array = NDArray[np.float64]
_PRIOR_VARIANCES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Candidates; the smallest within a standard error of the best is used, since runs of another kind
may come.
"""
_CHECKED_COLUMNS = ("findings", "first_finding", "tainted", "any_finding_elsewhere")
_CHECKED_FACTOR = 30.0
"""Wider prior for checked columns: findings may weigh more than a step's form or position."""
_FOLDS = 5
"""Of the cross-validation, the usual number."""
MIN_LABELLED_RUNS = 10
"""Two per fold; with fewer, the choice of the variance is noise."""


class BlameModel(NamedTuple):
    """Weights of features in units of their spread."""

    weight: Array
    """Shape (HINDSIGHT_COLUMNS,)."""
    spread: Array
    """Standard deviations of the features, shape (HINDSIGHT_COLUMNS,)."""

    def predict(self, features: Array) -> Array:
        """P(step is to blame) for each step; sums to 1 unless there are no steps."""
        score = (features / self.spread) @ self.weight
        p = np.exp(score - score.max(initial=-np.inf))
        return p / p.sum()


def blame_by_agent(run: Trajectory, shares: Array) -> dict[str, float]:
    """Each agent's share of the blame, summing to 1.

    Sums square roots, so that several suspect steps count more than one.

    >>> from upshot.credit.trajectories import Step
    >>> run = Trajectory("r", "", (Step("a", agent="x"), Step("b", agent="y")), 0.0)
    >>> blame_by_agent(run, np.array([0.64, 0.04]))
    {'x': 0.8, 'y': 0.2}
    """
    out: dict[str, float] = {}
    for step, share in zip(run.steps, np.sqrt(shares).tolist(), strict=True):
        out[step.agent] = out.get(step.agent, 0.0) + share
    total = sum(out.values())
    return {agent: share / total for agent, share in out.items()}


def learn(runs: Sequence[Trajectory], features: Sequence[Array] | None = None) -> BlameModel:
    """Learn from runs that have a `label`.

    `features`: the hindsight features of each run; None: computed with the general checks.

    Raises:
        InputError: fewer than ten runs have one.
    """
    chosen = [
        i for i, run in enumerate(runs) if run.label is not None and 0 <= run.label < len(run.steps)
    ]
    if len(chosen) < MIN_LABELLED_RUNS:
        raise InputError(
            f"could not learn which step to blame from {len(chosen)} labelled runs: at least"
            f" {MIN_LABELLED_RUNS} are needed"
        )
    rows = [
        features[i] if features is not None else extract_hindsight_features(runs[i]) for i in chosen
    ]
    labels = [int(runs[i].label or 0) for i in chosen]
    same_agent = [
        np.array([step.agent == runs[i].steps[t].agent for step in runs[i].steps], np.float64)
        for i, t in zip(chosen, labels, strict=True)
    ]
    spread = np.concatenate(rows).std(axis=0) + 1e-3
    examples = [
        _LabelledRun(x / spread, t, same)
        for x, t, same in zip(rows, labels, same_agent, strict=True)
    ]
    fold = np.arange(len(rows)) % _FOLDS
    log_likelihood = np.zeros((len(_PRIOR_VARIANCES), len(rows)))
    for w, variance in enumerate(_PRIOR_VARIANCES):
        for k in range(_FOLDS):
            weight = _fit(
                [example for example, f in zip(examples, fold, strict=True) if f != k], variance
            )
            for i in np.flatnonzero(fold == k):
                log_p = log_softmax(examples[i].rows @ weight)
                log_likelihood[w, i] = log_p[examples[i].label]
    best = int(log_likelihood.mean(axis=1).argmax())
    loss = log_likelihood[best] - log_likelihood
    standard_error = loss.std(axis=1) / np.sqrt(len(rows))
    smallest = int((loss.mean(axis=1) <= standard_error).argmax())
    return BlameModel(_fit(examples, _PRIOR_VARIANCES[smallest]), spread)


class _LabelledRun(NamedTuple):
    rows: Array
    label: int
    same: Array
    """1 for the steps of the agent to blame."""


def _fit(examples: Sequence[_LabelledRun], variance: float) -> Array:
    sizes = [len(example.rows) for example in examples]
    rows, same, run = (
        np.concatenate([example.rows for example in examples]),
        np.concatenate([example.same for example in examples]),
        np.repeat(np.arange(len(examples)), sizes),
    )
    start = np.concatenate([[0], np.cumsum(sizes)])[:-1]
    hit = start + np.array([example.label for example in examples])
    prior = variance * np.where(np.isin(HINDSIGHT_COLUMNS, _CHECKED_COLUMNS), _CHECKED_FACTOR, 1.0)

    def loss(weight: Array) -> tuple[float, Array]:
        score = rows @ weight
        score = score - np.maximum.reduceat(score, start)[run]
        weights = np.exp(score)
        total, agent = np.add.reduceat(weights, start), np.add.reduceat(weights * same, start)
        value = (
            -(score[hit] - np.log(total)).sum()
            - (np.log(agent) - np.log(total)).sum()
            + 0.5 * (weight * weight / prior).sum()
        )
        slope = (
            rows.T @ (2 * weights / total[run] - weights * same / agent[run])
            - rows[hit].sum(axis=0)
            + weight / prior
        )
        return float(value), slope

    start_point = np.zeros(len(HINDSIGHT_COLUMNS))
    return minimize(loss, start_point, jac=True, method="L-BFGS-B").x
