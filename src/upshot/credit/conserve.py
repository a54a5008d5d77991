"""Conservation: credits that sum to the outcome, always and exactly.

A run's outcome is split into *prior* (the expectation before its first step), one credit per step,
and *luck* (the residual that no step explains). Any review is made finite, bounded and projected
onto the sum: min ‖c − c⁰‖² subject to Σc = total and l ≤ c ≤ u. Without bounds this adds the same
amount to every step, with bounds a multiplier found by bisection. What the bounds keep from the
steps goes to luck. The last rounding error is absorbed where it changes a number least, so
`math.fsum` of all parts equals the outcome to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from upshot.errors import InputError

Array = NDArray[np.float64]
_BOUND = 2.0
"""Largest credit of a step, in units of the scale of the outcomes: room for one step that loses
everything and one that wins it back.
"""
_MAX_MAGNITUDE = 1e150
"""Larger numbers count as not finite: their squares would overflow."""
_BISECTIONS = 200
"""More than enough to converge: each halves the interval, and doubles run out of digits before."""


class Credit(msgspec.Struct, frozen=True):
    """An outcome split over steps: math.fsum((prior, *credits, luck)) == outcome."""

    id: str
    outcome: float
    credits: tuple[float, ...]
    reviewer: str
    prior: float = 0.0
    luck: float = 0.0
    reasons: tuple[str, ...] = ()
    """One per step, where the reviewer gives any."""
    responses: tuple[tuple[str, int], ...] = ()
    """(conversation, index) of each step, where the run is a thread of a lake."""


class ConservedParts(NamedTuple):
    """The parts of an outcome: math.fsum((prior, *credits, residual)) == outcome."""

    credits: tuple[float, ...]
    prior: float
    residual: float
    """What no step explains, `luck` in a `Credit`."""


def project(
    raw: Array, total: float, low: float = -math.inf, high: float = math.inf
) -> tuple[Array, float]:
    """The nearest credits in [low, high] that sum to the total, and the remainder out of bounds.

    >>> project(np.array([1.0, 0.0]), 3.0)
    (array([2., 1.]), 0.0)
    >>> project(np.array([9.0, 0.0]), 3.0, -1.0, 1.0)
    (array([1., 1.]), 1.0)
    """
    raw = np.asarray(raw, np.float64)
    if not len(raw):
        return raw, total
    if not math.isfinite(low) and not math.isfinite(high):
        return raw + (total - raw.sum()) / len(raw), 0.0
    target = float(np.clip(total, low * len(raw), high * len(raw)))
    below, above = low - float(raw.max()), high - float(raw.min())
    for _ in range(_BISECTIONS):
        middle = (below + above) / 2
        if np.clip(raw + middle, low, high).sum() < target:
            below = middle
        else:
            above = middle
    projected = np.clip(raw + above, low, high)
    free = (projected > low) & (projected < high)
    if free.any():
        projected[free] += (target - projected.sum()) / free.sum()
    return projected, total - target


def conserve_credits(
    raw: Sequence[float] | Array,
    outcome: float,
    prior: float = 0.0,
    residual: float | None = None,
    scale: float = 1.0,
) -> ConservedParts:
    """Turn a raw review into bounded credits whose sum is exact.

    `raw`: any floats; values that are not finite, or beyond 1e150, count as 0. `residual`: the
    part not shared among steps; None: nothing, unless the bounds require it. `scale`: the largest
    distance of an outcome from its expectation; credits are bounded by twice that.

    Raises:
        InputError: the outcome is not finite, or beyond 1e150.
    """
    if not abs(outcome) <= _MAX_MAGNITUDE:
        raise InputError(
            f"could not split the outcome {outcome}: it is not finite, or beyond {_MAX_MAGNITUDE:g}"
        )
    prior, set_aside = _finite_or_zero(prior), _finite_or_zero(residual or 0.0)
    bound = _BOUND * max(abs(_finite_or_zero(scale)), abs(outcome - prior))
    values = np.asarray(raw, np.float64)
    review = np.where(np.abs(values) <= _MAX_MAGNITUDE, values, 0.0)
    review = np.clip(review, -bound, bound)
    shared, remainder = project(review, outcome - prior - set_aside, -bound, bound)
    return absorb_rounding(shared.tolist(), outcome, prior, set_aside + remainder)


def _finite_or_zero(value: float) -> float:
    return value if abs(value) <= _MAX_MAGNITUDE else 0.0


def absorb_rounding(
    credits: Sequence[float], outcome: float, prior: float, residual: float
) -> ConservedParts:
    """Put the rounding error into the residual, or if that is too coarse, into the part nearest 0.

    >>> credits, prior, residual = absorb_rounding([0.1] * 3, 0.3, 0.0, 0.0)
    >>> math.fsum((*credits, prior, residual)) == 0.3
    True
    """
    parts = [float(c) for c in credits] + [prior, residual]
    for attempt in range(8):
        if math.fsum(parts) == outcome:
            break
        missing = float(Fraction(outcome) - sum(map(Fraction, parts), Fraction(0)))
        place = (
            len(parts) - 1
            if attempt == 0
            else min(
                range(len(parts) - 2, len(parts)) if attempt < 4 else range(len(parts)),
                key=lambda i: abs(parts[i]),
            )
        )
        parts[place] += missing
    else:  # the parts dwarf the outcome: no split over steps is meaningful
        parts = [0.0] * len(credits) + [0.0, outcome]
    return ConservedParts(tuple(parts[:-2]), parts[-2], parts[-1])
