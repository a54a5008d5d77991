"""How long lines live, with those still alive treated as censored.

Kaplan-Meier over lines (Kaplan & Meier, 1958): of the lines that reach an age, the share that
survives it. A line that is alive when the history ends leaves the risk set at its age, neither dead
nor immortal; counting it as survived would favour young code, dropping it would penalise it. Files
with high churn lose lines whoever wrote them, and assistants work more on some files than on
others; so curves are computed by stratum of churn and averaged with the same weights for every
group.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

HORIZONS = (7, 30, 90, 180, 365)
"""Ages in days at which survival is reported."""
STRATA = 4
"""Quarters of churn, beside the stratum of new files."""
_RESAMPLES = 200
"""Bootstrap draws, enough for 95 % intervals."""

Array = NDArray[np.float64]


class Lives(NamedTuple):
    """Lifetimes of lines, one row per line."""

    age: NDArray[np.int32]
    """Days at death, or when the history ended."""
    died: NDArray[np.bool_]
    """False: the line was alive when the history ended."""
    stratum: NDArray[np.int32]
    commit: NDArray[np.int32]
    """Lines of a commit die together, so intervals resample commits."""

    def select(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Lives:
        """The selected lines."""
        return Lives(self.age[chosen], self.died[chosen], self.stratum[chosen], self.commit[chosen])


class Share(msgspec.Struct, frozen=True):
    """A share with its interval."""

    value: float
    low: float
    high: float


class Survival(msgspec.Struct, frozen=True):
    """The survival of a group of lines."""

    lines: int
    commits: int
    half_life_days: float | None
    """Age at which half of the lines are gone; None: not reached."""
    alive: dict[str, Share]
    """Share alive, by age in days, with 95 % intervals from resampled commits."""


def survival_curve(
    age: NDArray[np.int32],
    died: NDArray[np.bool_],
    weight: Array | None = None,
    days: int | None = None,
) -> Array:
    """S(t) for t = 0 ... days: the share of lines that live longer than t days.

    Shape (days + 1,), in [0, 1], never rising.

    >>> survival_curve(np.array([1, 2, 2]), np.array([True, False, True]), days=3).round(3).tolist()
    [1.0, 0.667, 0.333, 0.333]
    """
    days = int(age.max(initial=0)) if days is None else days
    ages = np.minimum(age, days + 1)
    deaths = np.bincount(
        ages, weights=died if weight is None else died * weight, minlength=days + 2
    )
    departures = np.bincount(ages, weights=weight, minlength=days + 2)
    at_risk = departures[::-1].cumsum()[::-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        surviving = np.where(at_risk > 0, 1 - deaths / at_risk, 1.0)
    return np.clip(np.cumprod(surviving[: days + 1], dtype=np.float64), 0.0, 1.0)


def assign_strata(churn: Array, weight: NDArray[np.int64]) -> NDArray[np.int32]:
    """The stratum of each origin: 0 for new files, then quarters of lines by churn."""
    has_churn = ~np.isnan(churn)
    strata = np.zeros(len(churn), np.int32)
    if has_churn.any():
        values = np.repeat(churn[has_churn], weight[has_churn])
        edges = (
            np.unique(np.quantile(values, np.arange(1, STRATA) / STRATA))
            if len(values)
            else np.zeros(0)
        )
        strata[has_churn] = 1 + np.searchsorted(edges, churn[has_churn], side="right")
    return strata


def stratum_shares(stratum: NDArray[np.int32]) -> Array:
    """The share of all lines in each stratum, shape (STRATA + 1,)."""
    counts = np.bincount(stratum, minlength=STRATA + 1).astype(np.float64)
    return counts / max(float(counts.sum()), 1.0)


def stratified_curve(lives: Lives, weights: Array, days: int, weight: Array | None = None) -> Array:
    """The average of the strata's curves by `weights`, without strata that have no lines."""
    total, covered = np.zeros(days + 1), 0.0
    for number, share_of_stratum in enumerate(weights):
        selected = lives.stratum == number
        if share_of_stratum and selected.any() and (weight is None or weight[selected].any()):
            total += share_of_stratum * survival_curve(
                lives.age[selected],
                lives.died[selected],
                None if weight is None else weight[selected],
                days,
            )
            covered += share_of_stratum
    return total / covered if covered else np.full(days + 1, np.nan)


def estimate_survival(lives: Lives, weights: Array, seed: int = 0) -> Survival:
    """Estimate the half-life and the survival at those `HORIZONS` that the data reach."""
    days = int(lives.age.max(initial=0))
    horizons = [day for day in HORIZONS if day <= days]
    curve = stratified_curve(lives, weights, days)
    below_half = np.flatnonzero(curve < 0.5)
    draws = (
        np.array([part[horizons] for part in _resample_curves([lives], weights, days, seed)])
        if horizons
        else np.zeros((0, 0))
    )
    alive = {
        str(day): _with_interval(curve[day], draws[:, column])
        for column, day in enumerate(horizons)
    }
    return Survival(
        len(lives.age),
        len(np.unique(lives.commit)),
        float(below_half[0]) if len(below_half) else None,
        alive,
    )


def compare_survival(
    first: Lives, second: Lives, weights: Array, seed: int = 0
) -> dict[str, Share]:
    """The first group's survival minus the second's, by age in days, where both reach it."""
    if not len(first.age) or not len(second.age):
        return {}
    days = int(min(first.age.max(), second.age.max()))
    horizons = [day for day in HORIZONS if day <= days]
    gap = stratified_curve(first, weights, days) - stratified_curve(second, weights, days)
    draws = (
        np.array(
            [part[horizons] for part in _resample_curves([first, second], weights, days, seed)]
        )
        if horizons
        else np.zeros((0, 0))
    )
    return {
        str(day): _with_interval(gap[day], draws[:, column]) for column, day in enumerate(horizons)
    }


def _merge_equal_lines(lives: Lives) -> tuple[Lives, Array]:
    """Merge equal lines of a commit into one row, and count them: far fewer rows than lines."""
    order = np.lexsort((lives.died, lives.age, lives.stratum, lives.commit))
    rows = np.stack([column[order].astype(np.int32) for column in lives])
    start = np.flatnonzero(np.concatenate([[True], (rows[:, 1:] != rows[:, :-1]).any(axis=0)]))
    return lives.select(order[start]), np.diff(np.append(start, len(order))).astype(np.float64)


def _resample_curves(groups: Sequence[Lives], weights: Array, days: int, seed: int) -> list[Array]:
    """Curves (with two groups, their differences) on resampled commits."""
    rng = np.random.default_rng(seed)
    merged = [(*_merge_equal_lines(lives), np.unique(lives.commit)) for lives in groups]
    draws = list[Array]()
    for _ in range(_RESAMPLES):
        curves = list[Array]()
        for lives, lines, commits in merged:
            multiplicity = np.bincount(
                rng.integers(0, len(commits), len(commits)), minlength=len(commits)
            ).astype(np.float64)
            curves.append(
                stratified_curve(
                    lives,
                    weights,
                    days,
                    lines * multiplicity[np.searchsorted(commits, lives.commit)],
                )
            )
        draws.append(curves[0] - curves[1] if len(curves) > 1 else curves[0])
    return draws


def _with_interval(value: float, draws: Array) -> Share:
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return Share(round(float(value), 4), round(float(low), 4), round(float(high), 4))


class CommitOutcome(msgspec.Struct, frozen=True):
    """The retention of one commit's lines at a horizon."""

    retained: float
    """Share of its lines that live that long; estimated by their stratum's curve where younger."""
    expected: float
    """The share expected from the strata of its lines."""
    known: float
    """Share of its lines that died before the horizon or reached it."""


def estimate_outcomes(
    lives: Lives, curves: Sequence[Array], horizon: int
) -> dict[int, CommitOutcome]:
    """Estimate each commit's retention at a horizon in days; `curves` are S(t) by stratum.

    A line that died before the horizon counts 0, an older one 1, and one alive at age t counts
    S(horizon) / S(t). The mean is the Kaplan-Meier estimate, so young commits are neither favoured
    nor penalised.
    """
    value = np.where(lives.age >= horizon, 1.0, 0.0)
    expected = np.zeros(len(value))
    for number, curve in enumerate(curves):
        chosen = lives.stratum == number
        at_horizon = curve[min(horizon, len(curve) - 1)] if len(curve) else 1.0
        expected[chosen] = at_horizon
        young = chosen & ~lives.died & (lives.age < horizon)
        current = curve[np.minimum(lives.age[young], len(curve) - 1)]
        value[young] = np.divide(at_horizon, current, out=np.zeros_like(current), where=current > 0)
    is_known = lives.died | (lives.age >= horizon)
    commits, commit_index = np.unique(lives.commit, return_inverse=True)
    count = np.bincount(commit_index)
    sums = [
        np.bincount(commit_index, weights=column) / count
        for column in (value, expected, is_known.astype(float))
    ]
    return {
        int(name): CommitOutcome(*(round(float(column[row]), 4) for column in sums))
        for row, name in enumerate(commits)
    }
