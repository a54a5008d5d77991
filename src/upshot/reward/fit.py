# scipy.linalg has no full types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportMissingTypeStubs=false
"""Logistic regression with a Gaussian prior per group of features and a Laplace posterior.

The priors' widths are learned by the evidence (MacKay, 1992). Bradley-Terry pairs, ratings above a
threshold and pass/fail are all rows of it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular

from upshot.stats.intervals import sigmoid

Array = NDArray[np.float64]
_NEWTON_STEPS = 25
"""At most; Newton's method converges within ten."""
_EVIDENCE_ROUNDS = 8
"""At most, of re-estimating the priors' precisions."""
_FIRST_PRECISION = 30.0
"""Least precision at the start: weights begin near zero."""
_MAX_PRECISION = 1e5
"""A group beyond it has no weight at all."""
_SETTLED = 0.05
"""Relative change of the precisions below which they are taken to be final."""
_FREE_PRECISION = 1e-4
"""Of features without a prior, so that the Hessian can be inverted."""


class Posterior(NamedTuple):
    """A Gaussian over weights."""

    mean: Array
    root: Array
    """Upper triangular R such that (RᵀR)⁻¹ is the covariance, shape (features, features)."""
    precision: Array
    """Of each group's prior."""

    def variance(self, rows: NDArray[np.float32] | Array) -> Array:
        """Variance of `rows @ w` for each row."""
        return (solve_triangular(self.root, rows.T.astype(np.float64), trans=1) ** 2).sum(axis=0)

    def marginal(self, size: int) -> Posterior:
        """The marginal of the first `size` weights.

        The leading block of an upper triangular root conditions on the rest, so it is taken from
        the covariance.
        """
        inverse = solve_triangular(self.root, np.eye(len(self.root)))
        covariance = (inverse @ inverse.T)[:size, :size]
        root = cholesky(np.linalg.inv(covariance))
        return Posterior(self.mean[:size], root, self.precision)


def fit(
    rows: Array,
    group: NDArray[np.int64],
    floors: Array,
    weight: Array | None = None,
    offset: Array | None = None,
    *,
    free: NDArray[np.bool_] | None = None,
    start: Posterior | None = None,
) -> Posterior:
    """Fit P(row is right) = σ(row · w + offset); negate a row for the opposite.

    `floors`: least precision of each group's prior, for features in units of their own spread.
    `free`: features without a prior, such as thresholds. `start`: a fit to begin with, whose priors
    are used.
    """
    size: int = rows.shape[1]
    weight = np.ones(len(rows)) if weight is None else weight
    offset = np.zeros(len(rows)) if offset is None else offset
    free = np.zeros(size, bool) if free is None else free
    precision = np.maximum(floors, _FIRST_PRECISION) if start is None else start.precision
    mean = np.zeros(size) if start is None else start.mean
    for _ in range(_EVIDENCE_ROUNDS if start is None else 0):
        mean, root = _mode(
            rows, np.where(free, _FREE_PRECISION, precision[group]), weight, offset, start=mean
        )
        spread = (solve_triangular(root, np.eye(size)) ** 2).sum(axis=1)
        before = precision.copy()
        for g in range(len(precision)):
            own = (group == g) & ~free
            if own.any():
                learned = own.sum() - precision[g] * spread[own].sum()
                precision[g] = np.clip(
                    max(learned, 1e-3) / (mean[own] @ mean[own] + 1e-12), floors[g], _MAX_PRECISION
                )
        if np.abs(np.log(precision / before)).max() < _SETTLED:
            break
    mean, root = _mode(
        rows, np.where(free, _FREE_PRECISION, precision[group]), weight, offset, start=mean
    )
    return Posterior(mean, root, precision)


def update(
    prior: Posterior,
    rows: Array,
    group: NDArray[np.int64],
    weight: Array,
    offset: Array,
    *,
    keep: float = 1.0,
) -> Posterior:
    """The posterior after more rows.

    `prior`: the posterior before, of which the share `keep` of the evidence counts. With `keep` = 1
    rows that come in parts give the same as all at once, but for Laplace's approximation.
    """
    precision = keep * prior.root.T @ prior.root + (1 - keep) * np.diag(prior.precision[group])
    mean, root = _mode(rows, precision, weight, offset, start=prior.mean, centre=prior.mean)
    return Posterior(mean, root, prior.precision)


def _mode(
    rows: Array,
    prior: Array,
    weight: Array,
    offset: Array,
    *,
    start: Array,
    centre: Array | float = 0.0,
) -> tuple[Array, Array]:
    """The most probable weights by Newton's method with step halving, and the root of the Hessian
    there.

    `prior`: precision, a vector for independent weights or a matrix; `centre`: its mean.
    """
    mean = start
    value = _objective(rows, prior, weight, offset, mean=mean, centre=centre)
    root = np.eye(len(prior))
    for _ in range(_NEWTON_STEPS):
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
        size, tried = 1.0, _objective(rows, prior, weight, offset, mean=mean + step, centre=centre)
        while size > 1e-3 and tried < value:
            size /= 2
            tried = _objective(rows, prior, weight, offset, mean=mean + size * step, centre=centre)
        mean = mean + size * step
        gained, value = tried - value, tried
        if gained < 1e-6 * max(1.0, abs(value)):
            break
    return mean, root


def _pull(prior: Array, away: Array) -> Array:
    return prior * away if prior.ndim == 1 else prior @ away


def _objective(
    rows: Array,
    prior: Array,
    weight: Array,
    offset: Array,
    *,
    mean: Array,
    centre: Array | float,
) -> float:
    right = sigmoid(rows @ mean + offset)
    return float(
        weight @ np.log(np.maximum(right, 1e-12))
        - 0.5 * ((mean - centre) @ _pull(prior, mean - centre))
    )
