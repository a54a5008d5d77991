# scipy.sparse has no full types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportMissingTypeStubs=false
"""Leniency, scale and taste of raters, separated from the merit of what they rated.

s_ui = b_u + a_u (q_i + (γ + g_u) · z_i) + ε with ε ~ N(0, σ_u²): q is the merit of response i with
its style z at the reference, b_u leniency, a_u scale, γ the taste that all raters share, g_u a
rater's own, σ_u how far a rater is to be trusted. Priors tie the raters together; iterated
conditional modes, the spreads re-estimated each time. A rater who follows a plan instead of the
responses agrees with nobody outside it: their σ_u grows and their a_u shrinks, so they count less.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import svds
from scipy.stats import norm

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]
_ROUNDS = 60
"""Sweeps; rank correlations on `bench/annotators.py` move by less than .01 from 20 to 120."""
_NOISE_RATINGS = 10.0
"""Prior strength of a rater's noise, in ratings."""
_SAME_PLAN, _OWN_PLAN = 0.7, 0.35
"""A crowd's members predict this much of each other's variance, and everybody else this little.

People who agree on what is good are predicted by all; people with a taste of their own are noisy.
"""
_MIN_SHARED = 6
"""Responses that a rater must share with others before their agreement says anything."""
_MAX_FACTORS = 5
"""Leading factors of the ratings in which crowds are looked for."""
_GROWTH_STEPS = 6
"""Times that a crowd is regrown from those it predicts; on the same bench 2 to 12 do alike."""
_MIN_CROWD = 5
"""Raters of a crowd: fewer agree by chance."""
_MAX_STEPS = 11
"""Steps of a rating scale, 0 to 10, up to which its ends are taken to cut off what lies beyond."""
_PRIOR_LENIENCY, _PRIOR_SCALE = (0.0, 1.0), (0.5, 0.1)
"""Mean and variance over raters at the start, in units of the ratings' spread."""
_PRIOR_TASTE = 0.2
"""Variance of tastes at the start."""
_FIRST_NOISE, _FIRST_CARELESS = 0.7, 0.1
"""A rater's noise, and the share of careless ratings, at the start."""
_MIN_NOISE = 0.2
"""Least noise of a rater, in units of everybody's: nobody is right by definition."""
_CARELESS_RANGE = (0.005, 0.5)
"""Shares of careless ratings that are believed."""
_MIN_VARIANCE = 1e-3
"""Least variance of a prior, so that it can be divided by."""
_MIN_SCALE = 0.25
"""Least scale that a rating is divided by: what a rater hardly tells apart is not blown up."""
_TINY = 1e-6
"""Least spread that is divided by."""


class Raters(NamedTuple):
    """What ratings say of responses and of raters."""

    merit: Array
    """Of each response, mean 0 and variance near 1, style at its reference."""
    merit_sd: Array
    leniency: Array
    """b_u, in units of the ratings."""
    scale: Array
    """a_u; 1 is usual."""
    unit: float
    """Units of the ratings per unit of merit, for a rater of usual scale."""
    taste: Array
    """γ + g_u, shape (raters, styles), in units of merit."""
    noise: Array
    """σ_u, in units of the ratings."""
    careless: float
    """Share of the ratings that have nothing to do with what was rated."""
    coordinated: NDArray[np.bool_]
    """Raters who follow one plan; their ratings do not count."""


class _Ratings(NamedTuple):
    rater: Numbers
    item: Numbers
    value: Array
    """Standardised; after `_extend_ends`, with those at an end of the scale moved beyond it."""
    style: Array
    """Standardised, shape (items, styles)."""
    counts: Array
    """By rater: 0 where their ratings do not count."""
    raters: int
    items: int


class _State(NamedTuple):
    merit: Array
    precision: NDArray[Any]
    leniency: Array
    scale: Array
    shared: Array
    """Taste that all raters share, by style."""
    own: Array
    """Each rater's own taste, shape (raters, styles)."""
    noise: Array
    sincere: Array
    """Of each rating, the probability that it has to do with what was rated."""
    careless: float
    level: tuple[float, float]
    """Mean and variance of leniency over raters."""
    slope: tuple[float, float]
    """Mean and variance of scale over raters."""
    taste_variance: Array
    own_variance: Array
    """Posterior, of `own`."""
    leniency_variance: Array
    scale_variance: Array

    def taste_term(self, data: _Ratings) -> Array:
        """What taste adds to merit, by rating."""
        return ((self.shared + self.own)[data.rater] * data.style[data.item]).sum(axis=1)

    def expected(self, data: _Ratings) -> Array:
        """The ratings that the model expects."""
        merit = self.merit[data.item] + self.taste_term(data)
        return self.leniency[data.rater] + self.scale[data.rater] * merit


def separate(rater: Numbers, item: Numbers, rating: Array, style: Array | None = None) -> Raters:
    """Fit the model to ratings.

    `rater`, `item`: numbers from 0; `style`: shape (items, styles), any units.

    >>> rater, item = np.repeat([0, 1, 2], 4), np.tile([0, 1, 2, 3], 3)
    >>> rating = np.array([1.0, 2, 3, 4, 2, 3, 4, 5, 1, 1.5, 2, 2.5])
    >>> np.argsort(separate(rater, item, rating).merit).tolist()
    [0, 1, 2, 3]
    """
    raters, items = int(rater.max()) + 1, int(item.max()) + 1
    z = np.zeros((items, 0)) if style is None else _standardize(style)
    spread = max(float(rating.std()), _TINY)
    value = (rating - rating.mean()) / spread
    coordinated = _find_crowds(rater, item, value, raters, items)
    counts = np.where(coordinated, 0.0, 1.0)
    state = _fit(_Ratings(rater, item, value, z, counts, raters, items))
    usual = float(np.median(state.scale[~coordinated])) or 1.0
    return Raters(
        state.merit,
        1.0 / np.sqrt(state.precision),
        rating.mean() + spread * state.leniency,
        state.scale / usual,
        spread * usual,
        state.shared + state.own,
        spread * state.noise,
        state.careless,
        coordinated,
    )


def correct(raters: Raters, rater: Numbers, item: Numbers, rating: Array, style: Array) -> Array:
    """Each rating as a rater of usual leniency and scale, without a taste, would have given it.

    The arguments are those that `separate` was given. In units of the ratings; not clipped.
    """
    usual = float(raters.leniency[~raters.coordinated].mean())
    scale = np.maximum(raters.scale, _MIN_SCALE)[rater]
    taste = (raters.taste[rater] * _standardize(style)[item]).sum(axis=1)
    return usual + (rating - raters.leniency[rater]) / scale - raters.unit * taste


def _fit(data: _Ratings) -> _State:
    state = _start(data)
    ends = _find_ends(data.value)
    breadth = max(float(data.value.max() - data.value.min()), _TINY)
    value = data.value
    for _ in range(_ROUNDS):
        noise = state.noise[data.rater]
        data = data._replace(value=_extend_ends(value, ends, state.expected(data), noise))
        trust = state.sincere * data.counts[data.rater] / noise**2
        state = _fit_lines(data, state)
        state = _fit_tastes(data, state, trust)
        state = _fit_merit(data, state, trust)
        state = _fit_noise(data, state, breadth)
    return state


def _start(data: _Ratings) -> _State:
    raters, styles = data.raters, data.style.shape[1]
    leniency = _group_means(data.rater, data.value, raters, 1.0)
    centred = (data.value - leniency[data.rater]) * data.counts[data.rater]
    merit = _group_means(data.item, centred, data.items, 1.0)
    return _State(
        merit / max(merit.std(), _TINY),
        np.ones(data.items),
        leniency,
        np.full(raters, _PRIOR_SCALE[0]),
        np.zeros(styles),
        np.zeros((raters, styles)),
        np.full(raters, _FIRST_NOISE),
        np.ones(len(data.value)),
        _FIRST_CARELESS,
        _PRIOR_LENIENCY,
        _PRIOR_SCALE,
        np.full(styles, _PRIOR_TASTE),
        np.zeros((raters, styles)),
        np.zeros(raters),
        np.zeros(raters),
    )


def _fit_lines(data: _Ratings, state: _State) -> _State:
    """Leniency and scale: for each rater the line y = b + a x, shrunk to the common one."""
    x, y, group = state.merit[data.item] + state.taste_term(data), data.value, data.rater
    trust = state.sincere / state.noise[group] ** 2
    level, slope = state.level, state.slope
    level_var, slope_var = max(level[1], _MIN_VARIANCE), max(slope[1], _MIN_VARIANCE)
    size = data.raters
    s0 = np.bincount(group, trust, minlength=size) + 1 / level_var
    s1 = np.bincount(group, trust * x, minlength=size)
    s2 = np.bincount(group, trust * x * x, minlength=size) + 1 / slope_var
    t0 = np.bincount(group, trust * y, minlength=size) + level[0] / level_var
    t1 = np.bincount(group, trust * x * y, minlength=size) + slope[0] / slope_var
    determinant = s0 * s2 - s1 * s1
    b, a = (s2 * t0 - s1 * t1) / determinant, (s0 * t1 - s1 * t0) / determinant
    b_variance, a_variance = s2 / determinant, s0 / determinant
    return state._replace(
        leniency=b,
        scale=a,
        level=(float(b.mean()), float(b.var() + b_variance.mean())),
        slope=(max(float(a.mean()), 0.05), float(a.var() + a_variance.mean())),
        leniency_variance=b_variance,
        scale_variance=a_variance,
    )


def _fit_tastes(data: _Ratings, state: _State, trust: Array) -> _State:
    """What all raters like in a style, what each one does, and how far they differ."""
    rater, scale, z = data.rater, state.scale, data.style[data.item]
    residual = data.value - state.leniency[rater] - scale[rater] * state.merit[data.item]
    shared, own, spread = state.shared.copy(), state.own.copy(), state.taste_variance.copy()
    variance = np.zeros_like(own)
    for k in range(z.shape[1]):
        others = np.delete(np.arange(z.shape[1]), k)
        rest = residual - scale[rater] * ((shared + own)[rater][:, others] * z[:, others]).sum(
            axis=1
        )
        pull = scale[rater] * z[:, k]
        shared[k] = (trust * pull * (rest - pull * own[rater, k])).sum() / (
            (trust * pull**2).sum() + 1.0
        )
        up = np.bincount(rater, trust * pull * (rest - pull * shared[k]), minlength=len(scale))
        precision = np.bincount(rater, trust * pull**2, minlength=len(scale)) + 1 / max(
            spread[k], _MIN_VARIANCE
        )
        own[:, k], variance[:, k] = up / precision, 1 / precision
        spread[k] = float(np.mean(own[:, k] ** 2 + variance[:, k]))
    return state._replace(shared=shared, own=own, taste_variance=spread, own_variance=variance)


def _fit_merit(data: _Ratings, state: _State, trust: Array) -> _State:
    """Merit of each response, brought to mean 0 and variance 1."""
    pull = state.scale[data.rater]
    residual = data.value - state.leniency[data.rater] - pull * state.taste_term(data)
    precision = np.bincount(data.item, trust * pull**2, minlength=data.items) + 1.0
    merit = np.bincount(data.item, trust * pull * residual, minlength=data.items) / precision
    size = max(float(np.sqrt(np.mean(merit**2 + 1.0 / precision))), _TINY)
    return state._replace(
        merit=(merit - merit.mean()) / size,
        precision=precision * size**2,
        scale=state.scale * size,
        shared=state.shared / size,
        own=state.own / size,
        slope=(state.slope[0] * size, state.slope[1] * size**2),
        taste_variance=state.taste_variance / size**2,
    )


def _fit_noise(data: _Ratings, state: _State, breadth: float) -> _State:
    """Noise of each rater, shrunk to everybody's, and which ratings are careless."""
    rater, z = data.rater, data.style[data.item]
    uncertainty = 1 / state.precision[data.item] + (state.own_variance[rater] * z**2).sum(axis=1)
    square = (
        (data.value - state.expected(data)) ** 2
        + state.scale[rater] ** 2 * uncertainty
        + state.leniency_variance[rater]
        + state.scale_variance[rater] * state.merit[data.item] ** 2
    )
    noise = state.noise[rater]
    gaussian = np.exp(-0.5 * square / noise**2) / (noise * np.sqrt(2 * np.pi))
    density = (1 - state.careless) * gaussian
    sincere = density / (density + state.careless / breadth)
    common = float((sincere * square).sum() / sincere.sum())
    count = np.bincount(rater, sincere, minlength=data.raters)
    total = np.bincount(rater, sincere * square, minlength=data.raters)
    noise = np.sqrt((total + _NOISE_RATINGS * common) / (count + _NOISE_RATINGS))
    return state._replace(
        noise=np.maximum(noise, _MIN_NOISE * np.sqrt(common) + _MIN_VARIANCE),
        sincere=sincere,
        careless=float(np.clip(1 - sincere.mean(), *_CARELESS_RANGE)),
    )


def _find_crowds(
    rater: Numbers, item: Numbers, value: Array, raters: int, items: int
) -> NDArray[np.bool_]:
    """Raters of a crowd that agrees within itself and with nobody else.

    Crowds are grown from the leading factors of all ratings, before any model is fitted: a crowd
    bends the model until it looks right.
    """
    members = np.zeros(raters, bool)
    if raters < 2 * _MIN_CROWD or items < 2 * _MIN_CROWD:
        return members
    count = np.maximum(np.bincount(rater, minlength=raters), 1)
    centred = value - (np.bincount(rater, value, minlength=raters) / count)[rater]
    spread = np.sqrt(np.bincount(rater, centred**2, minlength=raters) / count)
    centred /= np.maximum(spread, 1e-3)[rater]
    table = csr_matrix((centred, (item, rater)), shape=(items, raters))
    loads: Any = svds(table, min(_MAX_FACTORS, raters - 1, items - 1), rng=0)[2]
    for load in loads:
        for side in (load, -load):
            crowd: NDArray[np.bool_] = side > 0.5 * side.max()
            for _ in range(_GROWTH_STEPS):
                crowd = _regrow_crowd(rater, item, centred, crowd, items)
            if crowd.sum() >= _MIN_CROWD and crowd.mean() < 0.5:
                members |= crowd
    return members


def _regrow_crowd(
    rater: Numbers, item: Numbers, centred: Array, crowd: NDArray[np.bool_], items: int
) -> NDArray[np.bool_]:
    """Raters whom the others of a crowd predict, and those outside it do not."""
    member = crowd[rater]
    inside = _predicted_share(rater, item, centred, member, items)
    outside = _predicted_share(rater, item, centred, ~member, items)
    return (inside > _SAME_PLAN) & (outside < _OWN_PLAN)


def _predicted_share(
    rater: Numbers, item: Numbers, centred: Array, by: NDArray[np.bool_], items: int
) -> Array:
    """Share of each rater's variance that the mean of the others among `by` predicts.

    -1 where they share too few responses.
    """
    total = np.bincount(item, centred * by, minlength=items)
    count = np.bincount(item, by, minlength=items)
    among = count[item] - by
    usable = among > 0
    mean = (total[item] - centred * by) / np.maximum(among, 1)
    raters = int(rater.max()) + 1
    size = np.bincount(rater, usable * centred**2, minlength=raters)
    missed = np.bincount(rater, usable * (centred - mean) ** 2, minlength=raters)
    shares_enough = np.bincount(rater, usable, minlength=raters) >= _MIN_SHARED
    return np.where(shares_enough, 1 - missed / np.maximum(size, 1e-9), -1.0)


def _find_ends(value: Array) -> tuple[float, float] | None:
    """Where a scale of few steps ends, half a step inside; None for ratings without steps."""
    steps = np.unique(value)
    if not 2 < len(steps) <= _MAX_STEPS:
        return None
    half = float(np.diff(steps).min()) / 2
    return float(steps[0]) + half, float(steps[-1]) - half


def _extend_ends(
    value: Array, ends: tuple[float, float] | None, expected: Array, noise: Array
) -> Array:
    """Ratings at an end of the scale stand for all beyond it: their mean there (Tobin, 1958)."""
    if ends is None:
        return value
    out = value.copy()
    for sign, end in ((-1.0, ends[0]), (1.0, ends[1])):
        at = sign * value > sign * end
        distance = sign * (end - expected[at]) / noise[at]
        tail = np.exp(norm.logpdf(distance) - norm.logsf(distance))
        out[at] = expected[at] + sign * noise[at] * tail
    return out


def _standardize(values: Array) -> Array:
    values = values.reshape(len(values), -1).astype(np.float64)
    return (values - values.mean(axis=0)) / np.maximum(values.std(axis=0), 1e-9)


def _group_means(group: Numbers, values: Array, size: int, prior: float) -> Array:
    counts = np.bincount(group, minlength=size) + prior
    return np.bincount(group, values, minlength=size) / counts
