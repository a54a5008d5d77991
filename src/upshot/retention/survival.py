"""How long lines live, with those still alive counted as what they are: censored.

Kaplan-Meier over lines (Kaplan & Meier, 1958): of the lines that reach an age, what share goes on.
A line that is alive when the history ends leaves the count at its age, neither dead nor kept for
ever; counting it as survived praises young code, leaving it out blames it. Files that churn lose
lines whoever wrote them, and assistants are asked for more of some files than of others; so curves
are made by stratum of churn and averaged with the same weights for every group.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

HORIZONS = (7, 30, 90, 180, 365)
"""Days at which survival is said."""
STRATA = 4
"""Of churn, beside the files that were new."""
_RESAMPLES = 200

Array = NDArray[np.float64]


class Lives(NamedTuple):
    """Lines, each with its age when it was last seen."""

    age: NDArray[np.int32]
    """Days."""
    died: NDArray[np.bool_]
    """False: it was alive when the history ended."""
    stratum: NDArray[np.int32]
    commit: NDArray[np.int32]
    """What was written together dies together: commits are resampled for intervals."""

    def only(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Lives:
        """Some of the lines."""
        return Lives(self.age[chosen], self.died[chosen], self.stratum[chosen], self.commit[chosen])


class Share(msgspec.Struct, frozen=True):
    """A share with its interval."""

    value: float
    low: float
    high: float


class Survival(msgspec.Struct, frozen=True):
    """What became of a group of lines."""

    lines: int
    commits: int
    half_life_days: float | None
    """Age at which half are gone; None: not reached."""
    alive: dict[str, Share]
    """Share alive by age in days, 95 % intervals from resampled commits."""


def curve(
    age: NDArray[np.int32],
    died: NDArray[np.bool_],
    weight: Array | None = None,
    days: int | None = None,
) -> Array:
    """S(t) for t = 0 ... days: the share of lines that live longer than t days, (days + 1,) in [0,
    1], never rising.

    >>> curve(np.array([1, 2, 2]), np.array([True, False, True]), days=3).round(3).tolist()
    [1.0, 0.667, 0.333, 0.333]
    """
    days = int(age.max(initial=0)) if days is None else days
    at = np.minimum(age, days + 1)
    dead = np.bincount(at, weights=died if weight is None else died * weight, minlength=days + 2)
    gone = np.bincount(at, weights=weight, minlength=days + 2)
    left = gone[::-1].cumsum()[::-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        going_on = np.where(left > 0, 1 - dead / left, 1.0)
    return np.clip(np.cumprod(going_on[: days + 1], dtype=np.float64), 0.0, 1.0)


def strata(churn: Array, weight: NDArray[np.int64]) -> NDArray[np.int32]:
    """The stratum of each origin: 0 for new files, then quarters of lines by churn."""
    known = ~np.isnan(churn)
    found = np.zeros(len(churn), np.int32)
    if known.any():
        values = np.repeat(churn[known], weight[known])
        edges = (
            np.unique(np.quantile(values, np.arange(1, STRATA) / STRATA))
            if len(values)
            else np.zeros(0)
        )
        found[known] = 1 + np.searchsorted(edges, churn[known], side="right")
    return found


def standard(stratum: NDArray[np.int32]) -> Array:
    """The weights of strata: their share of all lines, (STRATA + 1,)."""
    counts = np.bincount(stratum, minlength=STRATA + 1).astype(np.float64)
    return counts / max(float(counts.sum()), 1.0)


def stratified(lives: Lives, weights: Array, days: int, weight: Array | None = None) -> Array:
    """The curves of strata, averaged with given weights; strata that the group has no line of are
    left out.
    """
    total, share = np.zeros(days + 1), 0.0
    for number, part in enumerate(weights):
        chosen = lives.stratum == number
        if part and chosen.any() and (weight is None or weight[chosen].any()):
            total += part * curve(
                lives.age[chosen],
                lives.died[chosen],
                None if weight is None else weight[chosen],
                days,
            )
            share += part
    return total / share if share else np.full(days + 1, np.nan)


def survival(lives: Lives, weights: Array, seed: int = 0) -> Survival:
    """Half-life and survival at `HORIZONS` that the data reach."""
    days = int(lives.age.max(initial=0))
    reached = [day for day in HORIZONS if day <= days]
    whole = stratified(lives, weights, days)
    below = np.flatnonzero(whole < 0.5)
    draws = (
        np.array([part[reached] for part in _resampled([lives], weights, days, seed)])
        if reached
        else np.zeros((0, 0))
    )
    alive = {str(day): _share(whole[day], draws[:, column]) for column, day in enumerate(reached)}
    return Survival(
        len(lives.age), len(np.unique(lives.commit)), float(below[0]) if len(below) else None, alive
    )


def difference(one: Lives, other: Lives, weights: Array, seed: int = 0) -> dict[str, Share]:
    """Survival of one group less that of another, by age in days, where both reach it."""
    if not len(one.age) or not len(other.age):
        return {}
    days = int(min(one.age.max(), other.age.max()))
    reached = [day for day in HORIZONS if day <= days]
    value = stratified(one, weights, days) - stratified(other, weights, days)
    draws = (
        np.array([part[reached] for part in _resampled([one, other], weights, days, seed)])
        if reached
        else np.zeros((0, 0))
    )
    return {str(day): _share(value[day], draws[:, column]) for column, day in enumerate(reached)}


def _grouped(lives: Lives) -> tuple[Lives, Array]:
    """Lines of one commit with one fate as one row, and how many they are: there are far fewer
    fates than lines.
    """
    order = np.lexsort((lives.died, lives.age, lives.stratum, lives.commit))
    rows = np.stack([column[order].astype(np.int32) for column in lives])
    start = np.flatnonzero(np.concatenate([[True], (rows[:, 1:] != rows[:, :-1]).any(axis=0)]))
    return lives.only(order[start]), np.diff(np.append(start, len(order))).astype(np.float64)


def _resampled(groups: Sequence[Lives], weights: Array, days: int, seed: int) -> list[Array]:
    """The curve (the first group's less the second's, where there are two) on resampled commits."""
    rng = np.random.default_rng(seed)
    numbered = [(*_grouped(lives), np.unique(lives.commit)) for lives in groups]
    draws = list[Array]()
    for _ in range(_RESAMPLES):
        curves = list[Array]()
        for lives, lines, names in numbered:
            times = np.bincount(
                rng.integers(0, len(names), len(names)), minlength=len(names)
            ).astype(np.float64)
            curves.append(
                stratified(
                    lives, weights, days, lines * times[np.searchsorted(names, lives.commit)]
                )
            )
        draws.append(curves[0] - curves[1] if len(curves) > 1 else curves[0])
    return draws


def _share(value: float, draws: Array) -> Share:
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return Share(round(float(value), 4), round(float(low), 4), round(float(high), 4))


class Fate(msgspec.Struct, frozen=True):
    """What is known of one commit's lines at a horizon."""

    retained: float
    """Share of its lines that live so long; for those not that old yet, by the curve of their
    stratum.
    """
    expected: float
    """What the strata of its lines would lead to expect."""
    known: float
    """Share of its lines whose fate at the horizon is known."""


def fates(lives: Lives, curves: Sequence[Array], horizon: int) -> dict[int, Fate]:
    """The fate of each commit at a horizon in days; `curves` are S(t) by stratum.

    A line that died before the horizon counts 0, one that is older 1, one that is alive at age t
    S(horizon) / S(t): its mean is the Kaplan-Meier estimate, so young commits are neither praised
    nor blamed for being young.
    """
    value = np.where(lives.age >= horizon, 1.0, 0.0)
    expected = np.zeros(len(value))
    for number, line in enumerate(curves):
        chosen = lives.stratum == number
        end = line[min(horizon, len(line) - 1)] if len(line) else 1.0
        expected[chosen] = end
        young = chosen & ~lives.died & (lives.age < horizon)
        now = line[np.minimum(lives.age[young], len(line) - 1)]
        value[young] = np.divide(end, now, out=np.zeros_like(now), where=now > 0)
    known = lives.died | (lives.age >= horizon)
    names, place = np.unique(lives.commit, return_inverse=True)
    count = np.bincount(place)
    sums = [
        np.bincount(place, weights=column) / count
        for column in (value, expected, known.astype(float))
    ]
    return {
        int(name): Fate(*(round(float(column[row]), 4) for column in sums))
        for row, name in enumerate(names)
    }
