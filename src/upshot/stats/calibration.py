# scipy has no type stubs.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
"""Calibrating scores with a few human labels, measuring calibration, and when to abstain.

Platt's sigmoid where labels are few, isotonic regression where there are enough for its steps;
always cross-fitted by user, so that no label is predicted by a curve that it helped to fit.
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
from upshot.stats.sampling import assign_folds

Numbers = NDArray[np.float64]
ISOTONIC_FROM = 800
"""Isotonic regression from this many labels on; with fewer, a sigmoid has the smaller error
(docs/lab.md; Niculescu-Mizil and Caruana, 2005).
"""
_MIN_LABELS = 10
"""With fewer the fitted slope is mostly noise."""
_CLIP = 0.005
"""Calibrated probabilities stay this far from 0 and 1, which no few thousand labels can support."""
_PRIOR = 2.0
"""Pseudo-labels that pull the sigmoid's targets away from 0 and 1, after Platt (1999)."""
_SLOPE_PENALTY = 0.05
"""Weight of the squared log slope in the loss: keeps the slope finite for separable labels."""
_CURVE_POINTS = 201
"""Points at which a sigmoid is stored, 0.005 apart; linear interpolation errs by less than 1e-3."""


class Calibrator(msgspec.Struct, frozen=True):
    """A monotone, piecewise linear map from scores to probabilities."""

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


def fit_calibrator(
    scores: Sequence[float] | Numbers,
    labels: Sequence[float] | Numbers,
    weights: Numbers | None = None,
) -> Calibrator:
    """Fit a curve to scores in [0, 1] and labels in [0, 1] (1: the response helped).

    Raises:
        InputError: too few labels, or all labels are equal.

    >>> curve = fit_calibrator([0.1, 0.2, 0.8, 0.9] * 5, [0, 0, 1, 1] * 5)
    >>> curve.kind, bool(curve([0.9])[0] > 0.8 > 0.2 > curve([0.1])[0])
    ('platt', True)
    """
    x, y = np.asarray(scores, float), np.asarray(labels, float)
    w = np.ones(len(x)) if weights is None else np.asarray(weights, float)
    if len(y) < _MIN_LABELS or y.min() == y.max():
        raise InputError(
            f"could not calibrate: {len(y)} labels{' of one kind' if len(y) else ''}; at least"
            f" {_MIN_LABELS} of both kinds are needed"
        )
    if len(y) >= ISOTONIC_FROM:
        return fit_isotonic(x, y, w)
    return fit_platt(x, y, w)


def _logit(x: Numbers) -> Numbers:
    x = np.clip(x, 1e-4, 1 - 1e-4)
    return np.log(x) - np.log1p(-x)


def fit_platt(x: Numbers, y: Numbers, w: Numbers) -> Calibrator:
    """Platt's sigmoid on the logit of the score, its slope kept positive; `w`: weights."""
    z = _logit(x)
    good, bad = float(w @ y), float(w @ (1 - y))
    targets = y * (good + _PRIOR / 2) / (good + _PRIOR) + (1 - y) / (bad + _PRIOR)

    def loss(parameters: Numbers) -> tuple[float, Numbers]:
        slope, offset = np.exp(parameters[0]), parameters[1]
        logits = slope * z + offset
        p = sigmoid(logits)
        value = float(w @ (np.logaddexp(0, logits) - targets * logits))
        value += _SLOPE_PENALTY * parameters[0] ** 2
        error = w * (p - targets)
        return value, np.array(
            [float(error @ z) * slope + 2 * _SLOPE_PENALTY * parameters[0], float(error.sum())]
        )

    solution = minimize(loss, np.zeros(2), jac=True, method="BFGS").x
    points = np.linspace(0.0, 1.0, _CURVE_POINTS)
    p = 1 / (1 + np.exp(-(np.exp(solution[0]) * _logit(points) + solution[1])))
    return Calibrator("platt", len(y), tuple(points.tolist()), tuple(p.tolist()))


def fit_isotonic(x: Numbers, y: Numbers, w: Numbers) -> Calibrator:
    """Isotonic regression, one point per step; `w`: weights."""
    points, position = np.unique(x, return_inverse=True)
    mass = np.bincount(position, w)
    mean = np.bincount(position, w * y) / mass
    fitted = isotonic_regression(mean, weights=mass).x
    # One point per step, at its middle, so that the curve rises between steps without jumps.
    edges = np.flatnonzero(np.diff(fitted)) + 1
    steps = np.split(np.arange(len(points)), edges)
    middle = [float(np.average(points[s], weights=mass[s])) for s in steps]
    level = [float(fitted[s[0]]) for s in steps]
    return Calibrator("isotonic", len(y), tuple(middle), tuple(level))


def cross_fit_probabilities(
    scores: Numbers, labels: Numbers, groups: Sequence[object], folds: int = 5, seed: int = 0
) -> Numbers:
    """Probability of each row, from a calibrator fitted without its group (user or thread)."""
    fold, _ = assign_folds(groups, folds, seed)
    probabilities = np.full(len(scores), float(np.mean(labels)))
    for k in np.unique(fold):
        rest = fold != k
        if rest.sum() >= _MIN_LABELS and np.ptp(labels[rest]) > 0:
            probabilities[~rest] = fit_calibrator(scores[rest], labels[rest])(scores[~rest])
    return probabilities


class Bin(NamedTuple):
    """One point of a reliability plot."""

    predicted: float
    observed: float
    low: float
    """Lower end of the 95 % Wilson interval of `observed`."""
    high: float
    size: int


def reliability_bins(probabilities: Numbers, labels: Numbers, bins: int = 10) -> list[Bin]:
    """Bins of equal size, ordered by probability.

    >>> points = reliability_bins(np.array([0.1, 0.9]), np.array([0.0, 1.0]), 2)
    >>> [(round(b.predicted, 2), b.observed) for b in points]
    [(0.1, 0.0), (0.9, 1.0)]
    """
    order = np.argsort(probabilities, kind="stable")
    points: list[Bin] = []
    for rows in np.array_split(order, min(bins, len(order))):
        if len(rows):
            observed = float(labels[rows].mean())
            points.append(
                Bin(
                    float(probabilities[rows].mean()),
                    observed,
                    *_wilson_interval(observed, len(rows)),
                    len(rows),
                )
            )
    return points


def _wilson_interval(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half_width = (
        z
        / (1 + z * z / count)
        * float(np.sqrt(share * (1 - share) / count + z * z / (4 * count * count)))
    )
    return max(0.0, middle - half_width), min(1.0, middle + half_width)


def ece(probabilities: Numbers, labels: Numbers, bins: int = 10) -> float:
    """Expected calibration error, in [0, 1]: mean |predicted - observed| over bins of equal size.

    >>> ece(np.array([0.0, 1.0]), np.array([0.0, 1.0]), 2)
    0.0
    """
    points = reliability_bins(probabilities, labels, bins)
    return sum(b.size * abs(b.predicted - b.observed) for b in points) / sum(b.size for b in points)


class Abstention(msgspec.Struct, frozen=True):
    """When to say "helped", "did not help" or nothing, by split conformal prediction per class."""

    error: float
    """Share of cases of each class in which the truth may be excluded; chosen by the user."""
    helped: float
    """"Helped" stays possible at this probability or above."""
    harmed: float
    """"Did not help" stays possible up to this probability."""

    def sets(self, probabilities: Numbers) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Whether "helped" and "did not help" are possible; both or neither: abstain."""
        return probabilities >= self.helped, probabilities <= self.harmed


def fit_abstention(probabilities: Numbers, labels: Numbers, error: float = 0.1) -> Abstention:
    """Thresholds whose prediction sets contain the truth with probability 1 - `error` or more.

    Mondrian (per-class) conformal prediction (Vovk): holds however good the score is, for cases
    sampled like these labels. `probabilities` must not come from a calibrator that was fitted to
    these labels.

    >>> chosen = fit_abstention(np.linspace(0, 1, 40), np.repeat([0.0, 1.0], 20), 0.1)
    >>> [side.tolist() for side in chosen.sets(np.array([0.1, 0.9]))]
    [[False, True], [True, False]]
    """
    good, bad = np.sort(probabilities[labels > 0.5]), np.sort(probabilities[labels <= 0.5])
    return Abstention(
        error,
        _conformal_quantile(good, error),
        1.0 - _conformal_quantile(np.sort(1.0 - bad), error),
    )


def _conformal_quantile(ordered: Numbers, error: float) -> float:
    """The threshold that a new value falls below with probability at most `error`."""
    place = int(np.floor(error * (len(ordered) + 1))) - 1
    return float(ordered[place]) if place >= 0 else 0.0


def estimate_leniency(
    residuals: Numbers, users: Sequence[object]
) -> tuple[dict[str, float], float]:
    """How much more positive each user reacts than their responses deserve.

    Returns (effect by user, standard deviation of the effects). `residuals`: score minus its
    expectation from everything but the user. Effects are posterior means of normal random effects,
    by the method of moments (Searle, Casella and McCulloch, 1992): the effect of a user with few
    rows stays near 0.

    >>> effects, spread = estimate_leniency(np.repeat([0.2, -0.2], 4), list("aaaabbbb"))
    >>> effects["a"] > 0.1 > -0.1 > effects["b"], spread > 0.1
    (True, True)
    """
    names, user = np.unique(np.asarray(users, dtype=str), return_inverse=True)
    count = np.bincount(user).astype(float)
    mean = np.bincount(user, residuals - residuals.mean()) / count
    within = float(
        (((residuals - residuals.mean()) - mean[user]) ** 2).sum()
        / max(1, len(residuals) - len(names))
    )
    typical = (len(residuals) - (count**2).sum() / len(residuals)) / max(1, len(names) - 1)
    between = float((count * mean**2).sum() / max(1, len(names) - 1))
    variance = max(0.0, (between - within) / max(typical, 1e-9))
    shrunk = variance / (variance + within / count) * mean if variance else np.zeros(len(names))
    return dict(zip(names.tolist(), shrunk.tolist(), strict=True)), float(np.sqrt(variance))
