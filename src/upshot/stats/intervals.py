# scipy has no type stubs.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
"""Confidence intervals for clustered rows, the quantiles they need, and the logistic function."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


def sigmoid(logits: Numbers) -> Numbers:
    """1 / (1 + exp(-logits)), without overflow.

    >>> sigmoid(np.array([0.0, -1e9])).round(3).tolist()
    [0.5, 0.0]
    """
    return 1.0 / (1.0 + np.exp(-np.clip(logits, -30, 30)))


def ratio_interval(
    totals: Numbers, sizes: Numbers, level: float = 0.95
) -> tuple[float, float, float]:
    """Mean of rows in clusters of different sizes, with a t interval: (mean, low, high).

    `totals` and `sizes`: sum and number of rows of each cluster, clusters being a random sample.
    The variance of the ratio Σ totals / Σ sizes comes from the jackknife, which errs on the wide
    side where clusters are few and uneven.

    >>> mean, low, high = ratio_interval(np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 2.0]))
    >>> mean, low < 1.0 < high
    (1.0, True)
    """
    count = len(totals)
    mean = float(totals.sum() / sizes.sum())
    if count < 2:
        return mean, -np.inf, np.inf
    without = (totals.sum() - totals) / np.maximum(sizes.sum() - sizes, 1e-12)
    error = float(np.sqrt((count - 1) / count * ((without - without.mean()) ** 2).sum()))
    reach = t_quantile(0.5 + level / 2, count - 1) * error
    return mean, mean - reach, mean + reach


def t_quantile(probability: float, degrees_of_freedom: int) -> float:
    """Quantile of Student's t.

    >>> round(t_quantile(0.975, 10), 3)
    2.228
    """
    from scipy.special import stdtrit  # loads for a quarter of a second, and only intervals need it

    return float(stdtrit(degrees_of_freedom, probability))
