"""Who rated: leniency, scale and taste of each rater, told apart from the merit of what they rated.

s_ui = b_u + a_u (q_i + (γ + g_u) · z_i) + ε with ε ~ N(0, σ_u²): q is the merit of response i with
its style z at the reference, b_u leniency, a_u scale, γ the taste all raters share, g_u a rater's
own, σ_u how far to trust a rater. Priors tie the raters together; iterated conditional modes with
the spreads re-estimated. A rater who follows a plan instead of the responses agrees with nobody
outside it: his σ_u grows and his a_u shrinks, so he is heard less.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import svds
from scipy.stats import norm

Array = NDArray[np.float64]
_ROUNDS = 60
_DEGREES = 10.0
"""Prior strength of a rater's noise, in ratings."""
_SAME_PLAN, _OWN_PLAN = 0.7, 0.35
"""A crowd's members predict so much of each other's variance, and everybody else so little: people
who agree on what is good are predicted by all, people with a taste of their own are noisy.
"""
_LEAST_SHARED = 6
_FACTORS = 5
_GROWTH = 6
_LEAST_CROWD = 5
_MOST_STEPS = 11


class Raters(NamedTuple):
    """What ratings say of responses and of raters."""

    merit: Array
    """Of each response, mean 0 and variance near 1, style at its reference."""
    merit_sd: Array
    leniency: Array
    """b_u, in units of the ratings."""
    scale: Array
    """a_u; 1 is usual."""
    taste: Array
    """γ + g_u, shape (raters, styles), in units of merit."""
    noise: Array
    """σ_u, in units of the ratings."""
    careless: float
    """Share of the ratings that have nothing to do with what was rated."""
    coordinated: NDArray[np.bool_]
    """Raters who follow one plan; they were not heard."""


class _State(NamedTuple):
    merit: Array
    precision: NDArray[Any]
    leniency: Array
    scale: Array
    taste: Array
    noise: Array
    careless: float


def separate(
    rater: NDArray[np.int64], item: NDArray[np.int64], rating: Array, style: Array | None = None
) -> Raters:
    """Fit the model to ratings.

    `rater`, `item`: numbers from 0; `style`: shape (items, styles), any units.

    >>> who, what = np.repeat([0, 1, 2], 4), np.tile([0, 1, 2, 3], 3)
    >>> given = np.array([1.0, 2, 3, 4, 2, 3, 4, 5, 1, 1.5, 2, 2.5])
    >>> np.argsort(separate(who, what, given).merit).tolist()
    [0, 1, 2, 3]
    """
    raters, items = int(rater.max()) + 1, int(item.max()) + 1
    z = np.zeros((items, 0)) if style is None else _standard(style)
    spread = max(float(rating.std()), 1e-6)
    s = (rating - rating.mean()) / spread
    heard = np.where(_followers(rater, item, s, raters, items), 0.0, 1.0)
    state = _fit(rater, item, s, z, raters, items, heard)
    usual = float(np.median(state.scale[heard > 0])) or 1.0
    return Raters(
        state.merit,
        1.0 / np.sqrt(state.precision),
        rating.mean() + spread * state.leniency,
        state.scale / usual,
        state.taste,
        spread * state.noise,
        state.careless,
        heard == 0,
    )


def _fit(
    rater: NDArray[np.int64],
    item: NDArray[np.int64],
    s: Array,
    z: Array,
    raters: int,
    items: int,
    heard: Array,
) -> _State:
    leniency = _means(rater, s, raters, 1.0)
    merit = _means(item, (s - leniency[rater]) * heard[rater], items, 1.0)
    merit /= max(merit.std(), 1e-6)
    scale, noise, own = np.full(raters, 0.5), np.full(raters, 0.7), np.zeros((raters, z.shape[1]))
    shared, wide = np.zeros(z.shape[1]), np.full(z.shape[1], 0.2)
    level, slope = (0.0, 1.0), (0.5, 0.1)
    precision, meant, careless = np.ones(items), np.ones(len(s)), 0.1
    breadth = max(float(s.max() - s.min()), 1e-6)
    given, ends = s, _ends(s)
    for _ in range(_ROUNDS):
        s = _beyond(
            given,
            ends,
            leniency[rater]
            + scale[rater] * (merit[item] + ((shared + own)[rater] * z[item]).sum(axis=1)),
            noise[rater],
        )
        trust = meant * heard[rater] / noise[rater] ** 2
        liked = ((shared + own)[rater] * z[item]).sum(axis=1)
        line = _lines(
            rater, merit[item] + liked, s, meant / noise[rater] ** 2, raters, level, slope
        )
        leniency, scale = line.b, line.a
        level = float(leniency.mean()), float(leniency.var() + line.b_var.mean())
        slope = max(float(scale.mean()), 0.05), float(scale.var() + line.a_var.mean())
        shared, own, wide, own_var = _tastes(
            rater,
            item,
            s - leniency[rater] - scale[rater] * merit[item],
            z,
            scale,
            shared,
            own,
            wide,
            trust,
        )
        liked = ((shared + own)[rater] * z[item]).sum(axis=1)
        pull = scale[rater]
        precision = np.bincount(item, trust * pull**2, minlength=items) + 1.0
        merit = (
            np.bincount(item, trust * pull * (s - leniency[rater] - pull * liked), minlength=items)
            / precision
        )
        size = max(float(np.sqrt(np.mean(merit**2 + 1.0 / precision))), 1e-6)
        merit, precision, scale, shared, own = (
            (merit - merit.mean()) / size,
            precision * size**2,
            scale * size,
            shared / size,
            own / size,
        )
        slope, wide = (slope[0] * size, slope[1] * size**2), wide / size**2
        # the noise of each rater, shrunk to everybody's, and which ratings have nothing to do with
        # the response
        error = (
            s
            - leniency[rater]
            - scale[rater] * (merit[item] + ((shared + own)[rater] * z[item]).sum(axis=1))
        )
        square = (
            error**2
            + scale[rater] ** 2
            * (1 / precision[item] + (own_var[rater] * z[item] ** 2).sum(axis=1))
            + line.b_var[rater]
            + line.a_var[rater] * merit[item] ** 2
        )
        density = (
            (1 - careless) * np.exp(-0.5 * square / noise[rater] ** 2) / (noise[rater] * 2.5066)
        )
        meant = density / (density + careless / breadth)
        careless = float(np.clip(1 - meant.mean(), 0.005, 0.5))
        common = float((meant * square).sum() / meant.sum())
        count = np.bincount(rater, meant, minlength=raters)
        noise = np.sqrt(
            (np.bincount(rater, meant * square, minlength=raters) + _DEGREES * common)
            / (count + _DEGREES)
        )
        noise = np.maximum(noise, 0.2 * np.sqrt(common) + 1e-3)
    return _State(merit, precision, leniency, scale, shared + own, noise, careless)


def _tastes(
    rater: NDArray[np.int64],
    item: NDArray[np.int64],
    left: Array,
    z: Array,
    scale: Array,
    shared: Array,
    own: Array,
    wide: Array,
    trust: Array,
) -> tuple[Array, Array, Array, Array]:
    """What all raters like in a style, what each one does, how far they differ, and how sure that
    is; a style at a time.
    """
    shared, own, wide, unsure = shared.copy(), own.copy(), wide.copy(), np.zeros_like(own)
    for k in range(z.shape[1]):
        others = np.delete(np.arange(z.shape[1]), k)
        rest = left - scale[rater] * ((shared + own)[rater][:, others] * z[item][:, others]).sum(
            axis=1
        )
        pull = scale[rater] * z[item, k]
        shared[k] = (trust * pull * (rest - pull * own[rater, k])).sum() / (
            (trust * pull**2).sum() + 1.0
        )
        up = np.bincount(rater, trust * pull * (rest - pull * shared[k]), minlength=len(scale))
        known = np.bincount(rater, trust * pull**2, minlength=len(scale)) + 1 / max(wide[k], 1e-3)
        own[:, k], unsure[:, k] = up / known, 1 / known
        wide[k] = float(np.mean(own[:, k] ** 2 + unsure[:, k]))
    return shared, own, wide, unsure


def _followers(
    rater: NDArray[np.int64], item: NDArray[np.int64], s: Array, raters: int, items: int
) -> NDArray[np.bool_]:
    """Raters of a crowd that agrees within itself and with nobody else, grown from the leading
    factors of all ratings.

    Before any model is fitted: a crowd bends the model until it looks right.
    """
    found = np.zeros(raters, bool)
    if raters < 10 or items < 10:
        return found
    count = np.maximum(np.bincount(rater, minlength=raters), 1)
    left = s - (np.bincount(rater, s, minlength=raters) / count)[rater]
    left /= np.maximum(np.sqrt(np.bincount(rater, left**2, minlength=raters) / count), 1e-3)[rater]
    table = csr_matrix((left, (item, rater)), shape=(items, raters))
    loads: Any = svds(table, min(_FACTORS, raters - 1, items - 1), rng=0)[2]
    for load in loads:
        for side in (load, -load):
            crowd = side > 0.5 * side.max()
            for _ in range(_GROWTH):
                crowd = _crowd(rater, item, left, crowd, items)
            if crowd.sum() >= _LEAST_CROWD and crowd.mean() < 0.5:
                found |= crowd
    return found


def _crowd(
    rater: NDArray[np.int64],
    item: NDArray[np.int64],
    left: Array,
    crowd: NDArray[np.bool_],
    items: int,
) -> NDArray[np.bool_]:
    """Raters whom the others of a crowd predict, and those outside it do not."""
    member = crowd[rater]
    inside, outside = (
        _predicted(rater, item, left, member, items),
        _predicted(rater, item, left, ~member, items),
    )
    return (inside > _SAME_PLAN) & (outside < _OWN_PLAN)


def _predicted(
    rater: NDArray[np.int64],
    item: NDArray[np.int64],
    left: Array,
    by: NDArray[np.bool_],
    items: int,
) -> Array:
    """Share of each rater's variance that the mean of the others among `by` predicts; -1 where they
    share too little.
    """
    total, count = (
        np.bincount(item, left * by, minlength=items),
        np.bincount(item, by, minlength=items),
    )
    among = count[item] - by
    usable = among > 0
    mean = (total[item] - left * by) / np.maximum(among, 1)
    raters = int(rater.max()) + 1
    size = np.bincount(rater, usable * left**2, minlength=raters)
    missed = np.bincount(rater, usable * (left - mean) ** 2, minlength=raters)
    return np.where(
        np.bincount(rater, usable, minlength=raters) >= _LEAST_SHARED,
        1 - missed / np.maximum(size, 1e-9),
        -1.0,
    )


def _ends(s: Array) -> tuple[float, float] | None:
    """Where a scale of few steps ends, half a step inside; None for ratings without steps."""
    steps = np.unique(s)
    if not 2 < len(steps) <= _MOST_STEPS:
        return None
    half = float(np.diff(steps).min()) / 2
    return float(steps[0]) + half, float(steps[-1]) - half


def _beyond(s: Array, ends: tuple[float, float] | None, expected: Array, noise: Array) -> Array:
    """Ratings at an end of the scale stand for all that lies beyond it: their mean given the rest
    (Tobin, 1958).
    """
    if ends is None:
        return s
    out = s.copy()
    for sign, end in ((-1.0, ends[0]), (1.0, ends[1])):
        at = sign * s > sign * end
        distance = sign * (end - expected[at]) / noise[at]
        out[at] = expected[at] + sign * noise[at] * np.exp(
            norm.logpdf(distance) - norm.logsf(distance)
        )
    return out


def _standard(values: Array) -> Array:
    values = values.reshape(len(values), -1).astype(np.float64)
    return (values - values.mean(axis=0)) / np.maximum(values.std(axis=0), 1e-9)


def _means(group: NDArray[np.int64], values: Array, size: int, prior: float) -> Array:
    return np.bincount(group, values, minlength=size) / (np.bincount(group, minlength=size) + prior)


class _Lines(NamedTuple):
    b: Array
    a: Array
    b_var: Array
    a_var: Array


def _lines(
    group: NDArray[np.int64],
    x: Array,
    y: Array,
    trust: Array,
    size: int,
    level: tuple[float, float],
    slope: tuple[float, float],
) -> _Lines:
    """For each group the line y = b + a x, shrunk to the common one; `level` and `slope`: mean and
    variance of b and a.
    """
    level_var, slope_var = max(level[1], 1e-3), max(slope[1], 1e-3)
    s0 = np.bincount(group, trust, minlength=size) + 1 / level_var
    s1 = np.bincount(group, trust * x, minlength=size)
    s2 = np.bincount(group, trust * x * x, minlength=size) + 1 / slope_var
    t0 = np.bincount(group, trust * y, minlength=size) + level[0] / level_var
    t1 = np.bincount(group, trust * x * y, minlength=size) + slope[0] / slope_var
    determinant = s0 * s2 - s1 * s1
    return _Lines(
        (s2 * t0 - s1 * t1) / determinant,
        (s0 * t1 - s1 * t0) / determinant,
        s2 / determinant,
        s0 / determinant,
    )
