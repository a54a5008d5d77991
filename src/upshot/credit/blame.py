"""Which step of a failed run is to blame, learned from runs in which people said so: a softmax over
the run's steps.

P(step t is the one) = exp(w · x_t) / Σ_s exp(w · x_s), with x the features of `features.whole`.
What is maximised is the log probability of the step and that of its agent, all of whose steps
count; the width of the prior is chosen by cross-validation over runs. Places are features too, so
that with little else to go by it falls back on the commonest place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from upshot.credit.features import WHOLE, whole
from upshot.credit.trajectories import Trajectory
from upshot.errors import InputError

Array = NDArray[np.float64]
_WIDTHS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Of the prior; the narrowest is taken that is within a standard error of the best, since runs of
another kind may come.
"""
_CHECKED = ("findings", "first_finding", "tainted", "any_finding_elsewhere")
_WIDER = 30.0
"""What can be checked may weigh more than how a step looks or where it stands."""
_FOLDS = 5
LEAST = 10
"""Labelled runs to learn from."""


class Blame(NamedTuple):
    """Weights by feature, for features in units of their spread."""

    weight: Array
    spread: Array

    def shares(self, features: Array) -> Array:
        """P(each step is to blame); adds up to 1, where there are steps."""
        score = (features / self.spread) @ self.weight
        p = np.exp(score - score.max(initial=-np.inf))
        return p / p.sum()


def agents(run: Trajectory, shares: Array) -> dict[str, float]:
    """How much each agent is to blame; several suspect steps count more than one, so square roots
    are added up.
    """
    out: dict[str, float] = {}
    for step, share in zip(run.steps, np.sqrt(shares).tolist(), strict=True):
        out[step.agent] = out.get(step.agent, 0.0) + share
    total = sum(out.values())
    return {agent: share / total for agent, share in out.items()}


def learn(runs: Sequence[Trajectory], features: Sequence[Array] | None = None) -> Blame:
    """Learn from runs that have a `label`.

    Raises:
        InputError: fewer than ten of them do.
    """
    chosen = [
        i for i, run in enumerate(runs) if run.label is not None and 0 <= run.label < len(run.steps)
    ]
    if len(chosen) < LEAST:
        raise InputError(
            f"could not learn whom to blame from {len(chosen)} labelled runs: at least {LEAST} are"
            " needed"
        )
    found = [features[i] if features is not None else whole(runs[i]) for i in chosen]
    label = [int(runs[i].label or 0) for i in chosen]
    agents = [
        np.array([step.agent == runs[i].steps[t].agent for step in runs[i].steps], np.float64)
        for i, t in zip(chosen, label, strict=True)
    ]
    spread = np.concatenate(found).std(axis=0) + 1e-3
    known = [_Known(x / spread, t, same) for x, t, same in zip(found, label, agents, strict=True)]
    fold = np.arange(len(found)) % _FOLDS
    held = np.zeros((len(_WIDTHS), len(found)))
    for w, width in enumerate(_WIDTHS):
        for k in range(_FOLDS):
            weight = _fit([one for one, f in zip(known, fold, strict=True) if f != k], width)
            for i in np.flatnonzero(fold == k):
                held[w, i] = _logs(known[i].rows @ weight)[known[i].label]
    best = int(held.mean(axis=1).argmax())
    lost = held[best] - held
    error = lost.std(axis=1) / np.sqrt(len(found))
    return Blame(_fit(known, _WIDTHS[int((lost.mean(axis=1) <= error).argmax())]), spread)


class _Known(NamedTuple):
    rows: Array
    label: int
    same: Array
    """1 for the steps of the agent to blame."""


def _logs(score: Array) -> Array:
    top = score.max()
    return score - top - np.log(np.exp(score - top).sum())


def _fit(known: Sequence[_Known], width: float) -> Array:
    sizes = [len(one.rows) for one in known]
    rows, same, run = (
        np.concatenate([one.rows for one in known]),
        np.concatenate([one.same for one in known]),
        np.repeat(np.arange(len(known)), sizes),
    )
    start = np.concatenate([[0], np.cumsum(sizes)])[:-1]
    hit = start + np.array([one.label for one in known])
    prior = width * np.where(np.isin(WHOLE, _CHECKED), _WIDER, 1.0)

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

    return minimize(loss, np.zeros(len(WHOLE)), jac=True, method="L-BFGS-B").x
