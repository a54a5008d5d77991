"""Logistic regression with a Gaussian prior for each group of features, its width learned by the
evidence, and a Laplace posterior (MacKay, 1992). Bradley-Terry pairs, ratings above a threshold and
pass/fail are all rows of it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular

from upshot.stats.intervals import sigmoid

Array = NDArray[np.float64]
_STEPS = 25
_ROUNDS = 8
_FREE = 1e-4


class Posterior(NamedTuple):
    """A Gaussian over weights."""

    mean: Array
    root: Array
    """Upper triangular R with (RᵀR)⁻¹ the covariance, shape (features, features)."""
    precision: Array
    """Of each group's prior."""

    def variance(self, rows: NDArray[np.float32] | Array) -> Array:
        """Variance of `rows @ w` for each row."""
        return (solve_triangular(self.root, rows.T.astype(np.float64), trans=1) ** 2).sum(axis=0)


def fit(
    rows: Array,
    group: NDArray[np.int64],
    floors: Array,
    weight: Array | None = None,
    offset: Array | None = None,
    free: NDArray[np.bool_] | None = None,
    known: Posterior | None = None,
) -> Posterior:
    """Fit P(row is right) = σ(row · w + offset); negate a row for the opposite.

    `floors`: least precision of each group's prior, for features in units of their own spread.
    `free`: features without a prior, such as thresholds. `known`: a fit to start from, whose priors
    are kept.
    """
    size = rows.shape[1]
    weight = np.ones(len(rows)) if weight is None else weight
    offset = np.zeros(len(rows)) if offset is None else offset
    free = np.zeros(size, bool) if free is None else free
    precision = np.maximum(floors, 30.0) if known is None else known.precision
    mean = np.zeros(size) if known is None else known.mean
    for _ in range(_ROUNDS if known is None else 0):
        mean, root = _mode(rows, np.where(free, _FREE, precision[group]), weight, offset, mean)
        spread = (solve_triangular(root, np.eye(size)) ** 2).sum(axis=1)
        before = precision.copy()
        for g in range(len(precision)):
            of = (group == g) & ~free
            if of.any():
                learned = of.sum() - precision[g] * spread[of].sum()
                precision[g] = np.clip(
                    max(learned, 1e-3) / (mean[of] @ mean[of] + 1e-12), floors[g], 1e5
                )
        if np.abs(np.log(precision / before)).max() < 0.05:
            break
    mean, root = _mode(rows, np.where(free, _FREE, precision[group]), weight, offset, mean)
    return Posterior(mean, root, precision)


def update(
    known: Posterior,
    rows: Array,
    group: NDArray[np.int64],
    weight: Array,
    offset: Array,
    keep: float = 1.0,
) -> Posterior:
    """The posterior after more rows; `known` is its prior, of which the share `keep` of the
    evidence counts (1: all of it).

    With `keep` = 1 and rows that came in parts, it is the fit on all of them, but for Laplace's
    approximation.
    """
    precision = keep * known.root.T @ known.root + (1 - keep) * np.diag(known.precision[group])
    mean, root = _mode(rows, precision, weight, offset, known.mean, known.mean)
    return Posterior(mean, root, known.precision)


def _mode(
    rows: Array,
    prior: Array,
    weight: Array,
    offset: Array,
    start: Array,
    centre: Array | float = 0.0,
) -> tuple[Array, Array]:
    """The most probable weights by Newton's method with step halving, and the root of the Hessian
    there.

    `prior`: precision, a vector for independent weights or a matrix; `centre`: its mean.
    """
    mean = start
    value = _objective(rows, prior, weight, offset, mean, centre)
    root = np.eye(len(prior))
    for _ in range(_STEPS):
        right = sigmoid(rows @ mean + offset)
        curve = weight * right * (1 - right)
        hessian = (rows * curve[:, None]).T @ rows
        if prior.ndim == 1:
            hessian[np.diag_indices_from(hessian)] += prior
        else:
            hessian += prior
        root = cholesky(hessian)
        step = cho_solve(
            (root, False), rows.T @ (weight * (1 - right)) - _pull(prior, mean - centre)
        )
        size, tried = 1.0, _objective(rows, prior, weight, offset, mean + step, centre)
        while size > 1e-3 and tried < value:
            size /= 2
            tried = _objective(rows, prior, weight, offset, mean + size * step, centre)
        mean = mean + size * step
        gained, value = tried - value, tried
        if gained < 1e-6 * max(1.0, abs(value)):
            break
    return mean, root


def _pull(prior: Array, away: Array) -> Array:
    return prior * away if prior.ndim == 1 else prior @ away


def _objective(
    rows: Array, prior: Array, weight: Array, offset: Array, mean: Array, centre: Array | float
) -> float:
    right = sigmoid(rows @ mean + offset)
    return float(
        weight @ np.log(np.maximum(right, 1e-12))
        - 0.5 * ((mean - centre) @ _pull(prior, mean - centre))
    )
