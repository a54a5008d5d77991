"""Scores to probabilities with a few human labels, how well calibrated they are, and when to
abstain.

Platt's sigmoid where labels are few, isotonic regression where there are enough for its steps;
always cross-fitted by user, so that nobody's label vouches for itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression, minimize

from upshot.errors import InputError
from upshot.stats.intervals import sigmoid
from upshot.stats.sampling import cross_fit

Numbers = NDArray[np.float64]
ISOTONIC_FROM = 800
"""Labels from which steps are fitted; below, a sigmoid has the smaller error (docs/lab.md;
Niculescu-Mizil and Caruana, 2005).
"""
_LEAST = 10
_CLIP = 0.005
_PRIOR = 2.0
"""Labels of each kind that the sigmoid's targets are pulled by, after Platt (1999)."""


class Calibrator(msgspec.Struct, frozen=True):
    """A monotone map from scores to probabilities: points of a curve, straight between them."""

    kind: str
    """platt or isotonic."""
    labels: int
    scores: tuple[float, ...]
    """Increasing."""
    probabilities: tuple[float, ...]
    """Not decreasing."""

    def __call__(self, scores: Sequence[float] | Numbers) -> Numbers:
        """Probabilities, in [0.005, 0.995]."""
        return np.clip(
            np.interp(np.asarray(scores, float), self.scores, self.probabilities), _CLIP, 1 - _CLIP
        )


def fit(
    scores: Sequence[float] | Numbers,
    labels: Sequence[float] | Numbers,
    weights: Numbers | None = None,
) -> Calibrator:
    """Fit on scores in [0, 1] and labels in [0, 1] (1: it helped).

    Raises:
        InputError: too few labels, or all of them alike.

    >>> curve = fit([0.1, 0.2, 0.8, 0.9] * 5, [0, 0, 1, 1] * 5)
    >>> curve.kind, bool(curve([0.9])[0] > 0.8 > 0.2 > curve([0.1])[0])
    ('platt', True)
    """
    x, y = np.asarray(scores, float), np.asarray(labels, float)
    w = np.ones(len(x)) if weights is None else np.asarray(weights, float)
    if len(y) < _LEAST or y.min() == y.max():
        raise InputError(
            f"could not calibrate: {len(y)} labels{' of one kind' if len(y) else ''}; at least"
            f" {_LEAST} of both kinds are needed"
        )
    if len(y) >= ISOTONIC_FROM:
        return _isotonic(x, y, w)
    return _platt(x, y, w)


def _logit(x: Numbers) -> Numbers:
    x = np.clip(x, 1e-4, 1 - 1e-4)
    return np.log(x) - np.log1p(-x)


def _platt(x: Numbers, y: Numbers, w: Numbers) -> Calibrator:
    z = _logit(x)
    good, bad = float(w @ y), float(w @ (1 - y))
    targets = y * (good + _PRIOR / 2) / (good + _PRIOR) + (1 - y) / (bad + _PRIOR)

    def loss(parameters: Numbers) -> tuple[float, Numbers]:
        slope, offset = np.exp(parameters[0]), parameters[1]
        logits = slope * z + offset
        p = sigmoid(logits)
        value = float(w @ (np.logaddexp(0, logits) - targets * logits)) + 0.05 * parameters[0] ** 2
        error = w * (p - targets)
        return value, np.array([float(error @ z) * slope + 0.1 * parameters[0], float(error.sum())])

    found = minimize(loss, np.zeros(2), jac=True, method="BFGS").x
    at = np.linspace(0.0, 1.0, 201)
    p = 1 / (1 + np.exp(-(np.exp(found[0]) * _logit(at) + found[1])))
    return Calibrator("platt", len(y), tuple(at.tolist()), tuple(p.tolist()))


def _isotonic(x: Numbers, y: Numbers, w: Numbers) -> Calibrator:
    at, place = np.unique(x, return_inverse=True)
    mass = np.bincount(place, w)
    mean = np.bincount(place, w * y) / mass
    fitted = isotonic_regression(mean, weights=mass).x
    # One point a step, in its middle, so that the curve rises between steps instead of jumping.
    edges = np.flatnonzero(np.diff(fitted)) + 1
    steps = np.split(np.arange(len(at)), edges)
    middle = [float(np.average(at[s], weights=mass[s])) for s in steps]
    level = [float(fitted[s[0]]) for s in steps]
    return Calibrator("isotonic", len(y), tuple(middle), tuple(level))


def cross_fitted(
    scores: Numbers, labels: Numbers, groups: Sequence[object], folds: int = 5, seed: int = 0
) -> Numbers:
    """Probability of each row by a calibrator that has not seen its group (user or thread)."""
    fold, _ = cross_fit(groups, folds, seed)
    out = np.full(len(scores), float(np.mean(labels)))
    for k in np.unique(fold):
        rest = fold != k
        if rest.sum() >= _LEAST and np.ptp(labels[rest]) > 0:
            out[~rest] = fit(scores[rest], labels[rest])(scores[~rest])
    return out


class Bin(NamedTuple):
    """One point of a reliability plot."""

    predicted: float
    observed: float
    low: float
    """95 % interval of what was observed (Wilson)."""
    high: float
    size: int


def reliability(probabilities: Numbers, labels: Numbers, bins: int = 10) -> list[Bin]:
    """Bins of equal size in the order of the probabilities.

    >>> [(round(b.predicted, 2), b.observed) for b in reliability(np.array([0.1, 0.9]), np.array([0.0, 1.0]), 2)]
    [(0.1, 0.0), (0.9, 1.0)]
    """
    order = np.argsort(probabilities, kind="stable")
    found: list[Bin] = []
    for rows in np.array_split(order, min(bins, len(order))):
        if len(rows):
            observed = float(labels[rows].mean())
            found.append(
                Bin(
                    float(probabilities[rows].mean()),
                    observed,
                    *_wilson(observed, len(rows)),
                    len(rows),
                )
            )
    return found


def _wilson(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    reach = (
        z
        / (1 + z * z / count)
        * float(np.sqrt(share * (1 - share) / count + z * z / (4 * count * count)))
    )
    return max(0.0, middle - reach), min(1.0, middle + reach)


def ece(probabilities: Numbers, labels: Numbers, bins: int = 10) -> float:
    """Expected calibration error: mean of |predicted - observed| over bins of equal size, in [0,
    1].

    >>> ece(np.array([0.0, 1.0]), np.array([0.0, 1.0]), 2)
    0.0
    """
    found = reliability(probabilities, labels, bins)
    return sum(b.size * abs(b.predicted - b.observed) for b in found) / sum(b.size for b in found)


class Abstention(msgspec.Struct, frozen=True):
    """When to say "helped", "did not help" or nothing: split conformal prediction, for each class
    by itself.
    """

    error: float
    """Chosen share of cases, of each class, in which the truth may be left out."""
    helped: float
    """"Helped" is possible from this probability up."""
    harmed: float
    """"Did not help" is possible up to this probability."""

    def sets(self, probabilities: Numbers) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Whether "helped" and "did not help" are possible; both or neither means to abstain."""
        return probabilities >= self.helped, probabilities <= self.harmed


def abstention(probabilities: Numbers, labels: Numbers, error: float = 0.1) -> Abstention:
    """Thresholds such that the truth is among what is said with probability at least 1 - `error`
    (Vovk; Mondrian by class), whatever the score is worth, for cases drawn as these labels were.

    `probabilities` must not come from a calibrator that was fitted on these labels.
    """
    good, bad = np.sort(probabilities[labels > 0.5]), np.sort(probabilities[labels <= 0.5])
    return Abstention(error, _quantile(good, error), 1.0 - _quantile(np.sort(1.0 - bad), error))


def _quantile(ordered: Numbers, error: float) -> float:
    """The value that a further one falls below with probability at most `error`."""
    place = int(np.floor(error * (len(ordered) + 1))) - 1
    return float(ordered[place]) if place >= 0 else 0.0


def leniency(residuals: Numbers, users: Sequence[object]) -> tuple[dict[str, float], float]:
    """How far each user's reactions lie above what their responses deserve: (effect by user,
    standard deviation).

    `residuals`: score minus its expectation from everything but the user. Effects are posterior
    means of normal random effects, method of moments (Searle, Casella and McCulloch): a user with
    few rows is hardly moved from 0.

    >>> effects, spread = leniency(np.array([0.2, 0.2, 0.2, 0.2, -0.2, -0.2, -0.2, -0.2]), list("aaaabbbb"))
    >>> effects["a"] > 0.1 > -0.1 > effects["b"], spread > 0.1
    (True, True)
    """
    names, place = np.unique(np.asarray(users, dtype=str), return_inverse=True)
    count = np.bincount(place).astype(float)
    mean = np.bincount(place, residuals - residuals.mean()) / count
    within = float(
        (((residuals - residuals.mean()) - mean[place]) ** 2).sum()
        / max(1, len(residuals) - len(names))
    )
    typical = (len(residuals) - (count**2).sum() / len(residuals)) / max(1, len(names) - 1)
    between = float((count * mean**2).sum() / max(1, len(names) - 1))
    variance = max(0.0, (between - within) / max(typical, 1e-9))
    shrunk = variance / (variance + within / count) * mean if variance else np.zeros(len(names))
    return dict(zip(names.tolist(), shrunk.tolist(), strict=True)), float(np.sqrt(variance))
