"""Agreement between judges, and between judges and people, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypeAlias

import krippendorff
import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
_SAMPLES = 400
Level: TypeAlias = Literal["nominal", "ordinal", "interval"]


class Agreement(NamedTuple):
    """A coefficient with its 95 % bootstrap interval over items."""

    value: float
    low: float
    high: float
    items: int


def alpha(ratings: Numbers, level: Level = "interval", seed: int = 0) -> Agreement:
    """Krippendorff's alpha.

    `ratings`: shape (raters, items), NaN where a rater has not rated. 1 is perfect, 0 is chance.

    >>> round(alpha(np.array([[0.0, 1, 0, 1, 0, 1], [0, 1, 0, 1, 0, 1]]), "nominal").value, 3)
    1.0
    """
    return _interval(lambda columns: _alpha(ratings[:, columns], level), ratings.shape[1], seed)


def _alpha(ratings: Numbers, level: Level) -> float:
    rated = ratings[:, (~np.isnan(ratings)).sum(axis=0) >= 2]
    values = np.unique(rated[~np.isnan(rated)])
    if len(values) < 2:
        return float("nan")
    return float(krippendorff.alpha(reliability_data=rated, level_of_measurement=level))


def kappa(first: Sequence[object], second: Sequence[object], seed: int = 0) -> Agreement:
    """Cohen's kappa of two raters' categories.

    >>> kappa([1, 1, 0, 0] * 5, [1, 1, 0, 0] * 5).value
    1.0
    """
    names, both = np.unique(np.asarray([*first, *second], dtype=str), return_inverse=True)
    a, b = both[: len(first)], both[len(first) :]
    return _interval(lambda rows: _kappa(a[rows], b[rows], len(names)), len(a), seed)


def _kappa(a: NDArray[np.int64], b: NDArray[np.int64], size: int) -> float:
    chance = float(
        (np.bincount(a, minlength=size) / len(a)) @ (np.bincount(b, minlength=size) / len(b))
    )
    return float("nan") if chance >= 1 else (float((a == b).mean()) - chance) / (1 - chance)


def _interval(value: Callable[[NDArray[np.int64]], float], size: int, seed: int) -> Agreement:
    rng = np.random.default_rng(seed)
    drawn = [value(rng.integers(0, size, size)) for _ in range(_SAMPLES)]
    kept = [v for v in drawn if not np.isnan(v)]
    low, high = np.quantile(kept, (0.025, 0.975)) if kept else (float("nan"), float("nan"))
    return Agreement(value(np.arange(size)), float(low), float(high), size)
