# scipy.linalg has no full types.
# pyright: reportUnknownVariableType=false, reportMissingTypeStubs=false
"""Embedded reward models that are differentially private by user.

Noise is added to the objective (Chaudhuri et al., 2011; Kifer et al., 2012).

What is minimised is Σ_u ℓ_u(w) + ½(1 + Δ)‖w‖² + b·w with b ~ N(0, σ²I), once, to convergence. A
user's loss ℓ_u is the mean of their rows' logistic losses, each row of length at most L and all
weights of a user adding up to at most 1. Then, for a user who is added or removed, with ε = ε₁ +
ε₂:

- the Jacobian of w ↦ b changes by a factor of at most det(I + A⁻¹E) ≤ exp(tr E / (1 + Δ)) ≤
  exp(ε₁), since E, the user's
  Hessian, has trace at most L²/4 (for any number of rows; no rank-one assumption) and A ⪰ (1 + Δ)I;
- the density of b changes by exp((2⟨b, g⟩ + ‖g‖²)/2σ²), g the user's gradient: a combination of
  their m rows with weights that
  add up to at most 1, so |⟨b, g⟩| ≤ max_j |⟨b, x_j⟩| ≤ σLt but for probability δ, with t = √(2
  ln(2m/δ)) (union bound); that is at most exp(ε₂) where σ = L (t + √(t² + 2ε₂)) / (2ε₂).

Everything else that is kept is public (scales of features, widths of priors), or comes from other
users than the weights do (calibration and accuracy: Laplace noise on a histogram to which each of
them adds 1), so a user is in one part only and pays ε once per head. Heads share ε and δ. The
minimum is taken to be exact, noise to be real numbers (no defence against floating-point attacks).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import TypeVar, cast

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from upshot.errors import InputError
from upshot.records import Example, Preference
from upshot.records.verdicts import EVEN
from upshot.reward.batches import (
    Rows,
    as_examples,
    as_pairs,
    drop_equal_pairs,
    make_batch,
    row_owner,
    users_of,
)
from upshot.reward.calibration import Calibration, calibrate, soften
from upshot.reward.features import features
from upshot.reward.fit import Posterior
from upshot.reward.model import FLOORS, LEVELS, Head, RewardModel
from upshot.stats.intervals import sigmoid
from upshot.stats.sampling import draw

Array = NDArray[np.float64]
Row = TypeVar("Row", Preference, Example)
LENGTH = 2.0
"""Longest row, in units of the prior's spread; longer rows are scaled down to it."""
_JACOBIAN = 0.1
"""Share of ε that the Jacobian gets."""
_HELD_OUT = 0.2
"""Share of users for calibration and accuracy."""
_CLIP = 5.0
"""Features are cut off at so many spreads, as in `model`."""
_BINS = 5
"""Of the calibration's histogram: each has noise of its own."""
_NEWTON_STEPS = 60
"""At most; steps are bounded, so more are needed than without noise."""
_MIN_USERS = 20
"""Of a head: with fewer nothing but noise is left."""


class Privacy(msgspec.Struct, frozen=True):
    """How much a user's data may change."""

    epsilon: float
    delta: float = 1e-6
    rows_a_user: int = 16
    """Further rows of a user are left out."""

    def __post_init__(self) -> None:
        if not (self.epsilon > 0 and 0 < self.delta < 1 and self.rows_a_user >= 1):
            raise InputError(
                f"could not train with epsilon {self.epsilon}, delta {self.delta},"
                f" {self.rows_a_user} rows a user: epsilon > 0, 0 < delta < 1, at least 1 row"
            )


def noise_scale(privacy: Privacy, length: float = LENGTH) -> tuple[float, float]:
    """(σ, Δ): the noise's standard deviation, and the rise of the prior's precision above 1.

    >>> weak, strong = noise_scale(Privacy(8.0)), noise_scale(Privacy(0.5))
    >>> weak[0] < strong[0] and weak[1] <= strong[1]
    True
    """
    first, second = privacy.epsilon * _JACOBIAN, privacy.epsilon * (1 - _JACOBIAN)
    t = np.sqrt(2 * np.log(2 * privacy.rows_a_user / privacy.delta))
    return float(length * (t + np.sqrt(t * t + 2 * second)) / (2 * second)), float(
        max(0.0, length**2 / 4 / first - 1)
    )


def train(
    data: Mapping[str, Rows], privacy: Privacy, embed: bool = False, *, left_out: int = 0
) -> RewardModel:
    """Train heads whose weights, calibration and accuracy reveal little of any one user.

    No domain is kept. Rows of several users are left out, since nobody could be forgotten alone;
    rows that name nobody belong to their thread, or prompt. Pairs of equal responses are left out.

    Raises:
        InputError: a head has rows of too few users.
    """
    data, equal = drop_equal_pairs(data)
    share = msgspec.structs.replace(
        privacy, epsilon=privacy.epsilon / len(data), delta=privacy.delta / len(data)
    )
    own = {name: limit_rows(rows, share.rows_a_user) for name, rows in data.items()}
    heads: list[Head] = []
    names: tuple[str, ...] = ()
    group = np.zeros(0, np.int64)
    centre = spread = np.zeros(0)
    for name, rows in own.items():
        owners = [row_owner(row) for row in rows]
        if len(set(owners)) < _MIN_USERS:
            raise InputError(
                f"could not train head {name!r} on rows of {len(set(owners))} single users: at"
                f" least {_MIN_USERS} are needed"
            )
        batch = make_batch(rows)
        table = features(batch.prompts, batch.responses, embed)
        names, group = table.names, table.group
        centre, spread = public_scales(names)
        values = np.clip((table.values - centre) / spread, -_CLIP, _CLIP) / np.sqrt(FLOORS[group])
        heads.append(_fit_head(name, rows, owners, values, group=group, privacy=share))
    return RewardModel(
        names,
        group,
        centre,
        spread,
        tuple(heads),
        None,
        users_of(own),
        epsilon=privacy.epsilon,
        delta=privacy.delta,
        left_out=left_out + equal,
    )


@cache
def _scales() -> Mapping[str, tuple[float, float]]:
    return json.loads(resources.files("upshot.reward").joinpath("scales.json").read_text("utf-8"))


def public_scales(names: Sequence[str]) -> tuple[Array, Array]:
    """Centre and spread of features over public corpora (`bench/train_scales.py`)."""
    table = _scales()
    centre, spread = np.array([table[name] for name in names]).T
    return centre, spread


def limit_rows(rows: Rows, maximum: int) -> Rows:
    """Rows of single users, the first `maximum` of each, chosen without a look at their content."""
    pairs = as_pairs(rows) if rows else None
    if pairs is not None:
        return _limit(pairs, maximum)
    return _limit(as_examples(rows), maximum)


def _limit(rows: Sequence[Row], maximum: int) -> list[Row]:
    count: dict[str, int] = {}
    out: list[Row] = []
    for row in rows:
        if len(row.source.users) <= 1:
            name = row_owner(row)
            count[name] = count.get(name, 0) + 1
            if count[name] <= maximum:
                out.append(row)
    return out


def _fit_head(
    name: str,
    rows: Rows,
    owners: Sequence[str],
    values: Array,
    *,
    group: NDArray[np.int64],
    privacy: Privacy,
) -> Head:
    is_held_out = np.array([draw(f"private/{owner}") < _HELD_OUT for owner in owners])
    weight = bound_weights([row.weight for row in rows], owners)
    size, scale, usual = values.shape[1], np.sqrt(FLOORS[group]), 1.0 / FLOORS[group]
    if (pairs := as_pairs(rows)) is not None:
        kind, sign = "pairs", np.ones(len(rows))
        merits = values[: len(rows)] - values[len(rows) :]
        offset = -np.array([row.margin for row in pairs])
        mean, precision = minimize_privately(
            merits[~is_held_out], weight[~is_held_out], offset[~is_held_out], 2 * usual, privacy
        )
    else:
        kind, score = "scores", np.array([row.score for row in as_examples(rows)])
        merits, sign = values, np.where(score > EVEN, 1.0, -1.0)
        x, weights = _expand_levels(values[~is_held_out], score[~is_held_out], weight[~is_held_out])
        levels = len(LEVELS)
        mean, precision = minimize_privately(
            x,
            weights,
            np.zeros(len(x)),
            np.concatenate([usual, np.full(levels, 1 / levels)]),
            msgspec.structs.replace(privacy, rows_a_user=privacy.rows_a_user * levels),
        )
    cuts = mean[size:]
    posterior = Posterior(mean[:size] / scale, np.diag(np.sqrt(precision[:size]) * scale), FLOORS)
    merits = merits[is_held_out] * scale
    logits = merits @ posterior.mean - (np.median(cuts) if len(cuts) else 0.0)
    calibration, accuracy = measure_privately(
        sign[is_held_out] * soften(logits, posterior.variance(merits)),
        weight[is_held_out],
        privacy.epsilon,
    )
    return Head(name, kind, posterior, cuts, calibration, round_count(len(rows)), {"all": accuracy})


def _expand_levels(values: Array, score: Array, weight: Array) -> tuple[Array, Array]:
    """Scored responses as a row per level, the levels of one response together, and weights."""
    levels = len(LEVELS)
    above = np.where(score[:, None] > LEVELS, 1.0, -1.0)
    cut = np.broadcast_to(-np.eye(levels), (len(values), levels, levels))
    repeated = np.repeat(values[:, None], levels, axis=1)
    x = above[:, :, None] * np.concatenate([repeated, cut], axis=2)
    return x.reshape(-1, values.shape[1] + levels), np.repeat(weight / levels, levels)


def bound_weights(weights: Sequence[float], owners: Sequence[str]) -> Array:
    """Rows' weights, scaled so that each user's add up to at most 1."""
    _, user = np.unique(owners, return_inverse=True)
    weight = np.clip(weights, 0.0, 1.0)
    return weight / np.maximum(1.0, np.bincount(user, weight))[user]


def minimize_privately(
    rows: Array,
    weight: Array,
    offset: Array,
    usual: Array,
    privacy: Privacy,
    *,
    rng: np.random.Generator | None = None,
) -> tuple[Array, Array]:
    """The private minimum, and a precision of each weight.

    `rows`: shape (rows, features), P(row is right) = σ(row · w + offset). The precision is made of
    public numbers: `usual` (mean squares of the features), the rounded number of rows, the noise.
    `rng`: for tests; the noise is secret otherwise.
    """
    rng = rng or np.random.default_rng(secrets.randbits(256))
    sigma, raised = noise_scale(privacy)
    rows = rows * np.minimum(
        1.0, LENGTH / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    )
    size: int = rows.shape[1]
    pull, prior = rng.normal(0.0, sigma, size), 1.0 + raised
    mean = np.zeros(size)
    for _ in range(_NEWTON_STEPS):
        right = sigmoid(rows @ mean + offset)
        slope = rows.T @ (weight * (1 - right)) - prior * mean - pull
        if np.linalg.norm(slope) < 1e-9 * max(1.0, float(np.linalg.norm(pull))):
            break
        curve = (rows * (weight * right * (1 - right))[:, None]).T @ rows
        step = cast("Array", cho_solve(cho_factor(curve + prior * np.eye(len(mean))), slope))
        mean = mean + step / max(
            1.0, float(np.abs(rows @ step).max(initial=0.0)) / 4.0
        )  # a bounded step keeps Newton in its valley
    steep = prior + round_count(len(rows)) / 4 * usual * min(1.0, LENGTH**2 / float(usual.sum()))
    return mean, steep**2 / (steep + sigma**2)


def measure_privately(
    logits: Array, weight: Array, epsilon: float, rng: np.random.Generator | None = None
) -> tuple[Calibration, float]:
    """Calibration and accuracy from a noisy histogram to which a user adds at most 1."""
    rng = rng or np.random.default_rng(secrets.randbits(256))
    sure = sigmoid(np.abs(logits))
    place = np.minimum(((sure - 0.5) * 2 * _BINS).astype(np.int64), _BINS - 1) + _BINS * (
        logits > 0
    )
    counts = np.maximum(
        np.bincount(place, weight, 2 * _BINS) + rng.laplace(0.0, 1.0 / epsilon, 2 * _BINS), 0.0
    )
    middle = np.log(
        (0.5 + (np.arange(_BINS) + 0.5) / (2 * _BINS))
        / (0.5 - (np.arange(_BINS) + 0.5) / (2 * _BINS))
    )
    wrong, right = counts[:_BINS], counts[_BINS:]
    calibration = calibrate(np.concatenate([-middle, middle]), counts)
    total = max(float(counts.sum()), 1e-9)
    error = float(np.abs(calibration.apply(middle) * (wrong + right) - right).sum() / total)
    bins = tuple(
        (float(p), float(r / (w + r)), round(w + r))
        for p, w, r in zip(calibration.apply(middle), wrong, right, strict=True)
        if w + r >= 1
    )
    return calibration._replace(error=error, bins=bins), float(right.sum() / total)


def round_count(count: int) -> int:
    """A number rounded to two digits, which may be published.

    >>> round_count(1234)
    1200
    """
    unit = 10 ** max(0, len(str(count)) - 2)
    return round(count / unit) * unit
