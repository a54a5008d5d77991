"""What estimates are made of: random draws, cross-fits and intervals over threads or users, for
rows of one hang together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


class Units(NamedTuple):
    """Responses of two arms, one row each."""

    arm: NDArray[np.int64]
    """0: A, 1: B."""
    verdict: Numbers
    """The judge's score, in [0, 1]."""
    prompt: Numbers
    """What is known before the answer, shape (rows, features)."""
    user: NDArray[np.object_]
    audited: NDArray[np.bool_]
    label: Numbers
    """In [0, 1] where audited, anything elsewhere."""
    rate: Numbers
    """Probability with which each row was drawn for the audit; independent of what came of it."""
    propensity: Numbers | None = None
    """P(B | everything before the answer) as logged; None: it is fitted on `prompt`."""


def draw(name: str) -> float:
    """Uniform in [0, 1), the same for one name always."""
    return (
        int.from_bytes(
            hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=7).digest(), "big"
        )
        / 2**56
    )


def cross_fit(
    groups: Sequence[object] | NDArray[np.object_], folds: int = 5, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each row the fold of its group (thread, user), and the group's number: no group is in two
    folds.

    >>> fold, group = cross_fit(["a", "b", "a"], 2)
    >>> bool(fold[0] == fold[2] != fold[1]), group.tolist()
    (True, [0, 1, 0])
    """
    names, group = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    return (np.random.default_rng(seed).permutation(len(names)) % folds)[group], group


def sigmoid(logits: Numbers) -> Numbers:
    """1 / (1 + exp(-logits)), without overflow."""
    return 1.0 / (1.0 + np.exp(-np.clip(logits, -30, 30)))


def ratio_interval(
    totals: Numbers, sizes: Numbers, level: float = 0.95
) -> tuple[float, float, float]:
    """Mean of rows in clusters of different size, with a t interval: (mean, low, high).

    `totals` and `sizes`: sum and number of rows of each cluster, drawn at random. The variance is
    that of the ratio Σ totals / Σ sizes by the jackknife, which errs on the wide side where
    clusters are few and uneven.

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


def t_quantile(probability: float, freedom: int) -> float:
    """Quantile of Student's t.

    >>> round(t_quantile(0.975, 10), 3)
    2.228
    """
    from scipy.special import stdtrit  # a quarter of a second to load, and only intervals need it

    return float(stdtrit(freedom, probability))
