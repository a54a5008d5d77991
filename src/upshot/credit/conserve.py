"""Conservation: credits that add up to the outcome, always and exactly.

A run's outcome is split into *prior* (what was to be expected before its first step), one credit a
step, and *luck* (what no step explains). Any review, however wild, is made finite, bounded, and
projected to the sum: min ‖c − c⁰‖² subject to Σc = total and l ≤ c ≤ u, which without bounds adds
the same to every step, and with them a multiplier that bisection finds. What the bounds do not let
the steps carry is luck. The last rounding error is put where it changes the number least, so that
`math.fsum` of all parts is the outcome to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import msgspec
import numpy as np
from numpy.typing import NDArray

from upshot.errors import InputError

Array = NDArray[np.float64]
BOUND = 2.0
"""A step carries at most so many times the scale of the outcomes, either way."""
_LARGEST = 1e150
"""What is farther from 0 is no number to reckon with."""
_ROUNDS = 200


class Credit(msgspec.Struct, frozen=True):
    """An outcome split over steps: math.fsum((prior, *credits, luck)) == outcome."""

    id: str
    outcome: float
    credits: tuple[float, ...]
    reviewer: str
    prior: float = 0.0
    luck: float = 0.0
    reasons: tuple[str, ...] = ()
    """One a step, where the reviewer gives any."""
    responses: tuple[tuple[str, int], ...] = ()
    """(conversation, index) of each step, where the run is a thread of a lake."""


def project(
    raw: Array, total: float, low: float = -math.inf, high: float = math.inf
) -> tuple[Array, float]:
    """The nearest credits in [low, high] that add up to the total, and what they could not carry.

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
    reachable = float(np.clip(total, low * len(raw), high * len(raw)))
    below, above = low - float(raw.max()), high - float(raw.min())
    for _ in range(_ROUNDS):
        middle = (below + above) / 2
        if np.clip(raw + middle, low, high).sum() < reachable:
            below = middle
        else:
            above = middle
    found = np.clip(raw + above, low, high)
    free = (found > low) & (found < high)
    if free.any():
        found[free] += (reachable - found.sum()) / free.sum()
    return found, total - reachable


def settle(
    raw: Sequence[float] | Array,
    outcome: float,
    prior: float = 0.0,
    luck: float | None = None,
    scale: float = 1.0,
) -> tuple[tuple[float, ...], float, float]:
    """(credits, prior, luck) of a review: bounded, conserved, exact.

    `raw`: any floats; what is not finite, or beyond 1e150, is 0. `luck`: what is not to be shared
    out; None: nothing, unless the bounds ask for it. `scale`: how far outcomes are from what is
    expected, at most; credits are bounded by twice that.

    Raises:
        InputError: the outcome is not finite, or beyond 1e150.
    """
    if not abs(outcome) <= _LARGEST:
        raise InputError(
            f"could not split the outcome {outcome}: it is not finite, or beyond {_LARGEST:g}"
        )
    prior, aside, scale = _sane(prior), _sane(luck or 0.0), _sane(scale)
    bound = BOUND * max(abs(scale), abs(outcome - prior))
    given = np.where(np.abs(found := np.asarray(raw, np.float64)) <= _LARGEST, found, 0.0)
    given = np.clip(given, -bound, bound)
    shared, rest = project(given, outcome - prior - aside, -bound, bound)
    return exact(shared.tolist(), outcome, prior, aside + rest)


def _sane(value: float) -> float:
    return value if abs(value) <= _LARGEST else 0.0


def exact(
    credits: Sequence[float], outcome: float, prior: float, luck: float
) -> tuple[tuple[float, ...], float, float]:
    """The same parts, with the rounding error put into luck, or where luck is too coarse for it,
    into the part nearest to 0.

    >>> credits, prior, luck = exact([0.1] * 3, 0.3, 0.0, 0.0)
    >>> math.fsum((*credits, prior, luck)) == 0.3
    True
    """
    parts = [float(c) for c in credits] + [prior, luck]
    for attempt in range(8):
        if math.fsum(parts) == outcome:
            break
        missing = float(Fraction(outcome) - sum(map(Fraction, parts), Fraction(0)))
        at = (
            len(parts) - 1
            if attempt == 0
            else min(
                range(len(parts) - 2, len(parts)) if attempt < 4 else range(len(parts)),
                key=lambda i: abs(parts[i]),
            )
        )
        parts[at] += missing
    else:  # parts that dwarf the outcome: nothing is left to say about steps
        parts = [0.0] * len(credits) + [0.0, outcome]
    return tuple(parts[:-2]), parts[-2], parts[-1]
