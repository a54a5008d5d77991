"""Measures that several benchmarks share."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike
from scipy.stats import spearmanr


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Spearman's rank correlation."""
    result: Any = spearmanr(first, second)
    return float(result.statistic)
