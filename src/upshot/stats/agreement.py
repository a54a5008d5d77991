# scikit-learn has no type stubs.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
"""Agreement between judges, and between judges and people, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score

Numbers = NDArray[np.float64]
_RESAMPLES = 400
"""Of the bootstrap: the ends of a 95 % interval then scatter by about a tenth of its width
(Efron and Tibshirani, 1993, section 13.3, advise several hundred or more).
"""
_MAX_GROUPS = 10_000
"""Neighbouring items are drawn together where there are more: the interval hardly changes, and its
time stays bounded.
"""


class Agreement(NamedTuple):
    """A coefficient with its 95 % bootstrap interval over items."""

    value: float
    low: float
    high: float
    items: int


def krippendorff_alpha(ratings: Numbers, seed: int = 0) -> Agreement:
    """Krippendorff's alpha with squared differences (interval scale); 1 is perfect, 0 is chance.

    `ratings`: shape (raters, items), NaN where a rater has not rated. Of ratings that are 0 or 1 it
    is the nominal alpha too. The time is linear in the number of ratings: the sum of
    (a - b)² over all ordered pairs of m values is 2 (m Σv² - (Σv)²), and a unit's share in the
    observed disagreement is that over (m - 1) (Krippendorff, Content Analysis, 2004, ch. 11).

    Two raters, items (0, 0), (1, 1), (0, 1): the units' pairs differ by 0, 0 and 2, of 6 values
    0.333 on average; all 30 ordered pairs of three 0 and three 1 by 18 / 30 = 0.6 on average.

    >>> round(krippendorff_alpha(np.array([[0.0, 1, 0], [0, 1, 1]])).value, 3)  # 1 - 0.333 / 0.6
    0.444
    """
    rated = ~np.isnan(ratings)
    values = np.where(rated, ratings, 0.0)
    # A common shift changes no difference; without it squares of large values would cancel.
    values = np.where(rated, values - values.sum() / max(1, int(rated.sum())), 0.0)
    size, total, squares = rated.sum(axis=0), values.sum(axis=0), (values**2).sum(axis=0)
    disagreement = 2 * (size * squares - total**2) / np.maximum(size - 1, 1)
    group = _groups(ratings.shape[1])
    columns = [
        np.bincount(group, column * (size >= 2)) for column in (size, total, squares, disagreement)
    ]
    return _bootstrap(_alpha, np.array(columns, float), ratings.shape[1], seed)


def _alpha(sums: Numbers) -> float:
    """Alpha from the number of values, their sum, the sum of their squares and the disagreement."""
    size, total, squares, disagreement = sums.tolist()
    expected = 2 * (size * squares - total**2)
    if size < 2 or expected <= 1e-12 * size * squares:
        return float("nan")
    return 1.0 - (size - 1) * disagreement / expected


def cohen_kappa(first: Sequence[object], second: Sequence[object], seed: int = 0) -> Agreement:
    """Cohen's kappa of two raters' categories.

    >>> cohen_kappa([1, 1, 0, 0] * 5, [1, 1, 0, 0] * 5).value
    1.0
    """
    names, codes = np.unique(np.asarray([*first, *second], dtype=str), return_inverse=True)
    pairs, cell = np.unique(
        codes[: len(first)] * len(names) + codes[len(first) :], return_inverse=True
    )
    rows: NDArray[np.int64] = pairs // len(names)
    columns: NDArray[np.int64] = pairs % len(names)

    def value(counts: Numbers) -> float:
        present = np.flatnonzero(counts)
        if len(present) == 1 and rows[present[0]] == columns[present[0]]:
            return float("nan")  # a single category: there is no agreement beyond chance
        return float(cohen_kappa_score(rows, columns, sample_weight=counts))

    group = _groups(len(first))
    counts = np.zeros((len(pairs), int(group.max(initial=-1)) + 1))
    np.add.at(counts, (cell, group), 1.0)
    return _bootstrap(value, counts, len(first), seed)


def _groups(items: int) -> NDArray[np.int64]:
    """The group that each item is drawn with: its own, unless there are very many items."""
    return np.arange(items) * min(items, _MAX_GROUPS) // max(1, items)


def _bootstrap(
    value: Callable[[Numbers], float], columns: Numbers, items: int, seed: int
) -> Agreement:
    """`value` takes the sums of the columns, each of one entry per group."""
    rng = np.random.default_rng(seed)
    groups = columns.shape[1]
    resampled = np.array(
        [
            value(columns @ np.bincount(rng.integers(0, groups, groups), minlength=groups))
            for _ in range(_RESAMPLES)
        ]
    )
    defined = resampled[~np.isnan(resampled)]
    low, high = np.quantile(defined, (0.025, 0.975)) if len(defined) else (np.nan, np.nan)
    return Agreement(value(columns.sum(axis=1)), float(low), float(high), items)
