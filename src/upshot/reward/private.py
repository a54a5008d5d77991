"""Embedded reward models that are differentially private by user: noise in the objective (Chaudhuri
et al., 2011; Kifer et al., 2012).

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
them adds 1), so a user is in one part only and pays ε once for each head. Heads share ε and δ. The
minimum is taken to be exact, noise to be real numbers (no defence against floating-point attacks).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from upshot.errors import InputError
from upshot.records import Example, Preference
from upshot.reward.calibration import Calibration, calibrate, soften
from upshot.reward.features import features
from upshot.reward.fit import Posterior
from upshot.reward.model import (
    FLOORS,
    LEVELS,
    Head,
    RewardModel,
    Rows,
    make_batch,
    row_owner,
    users_of,
)
from upshot.stats.intervals import sigmoid
from upshot.stats.sampling import draw

Array = NDArray[np.float64]
LENGTH = 2.0
"""Longest row, in units of the prior's spread: longer ones are cut to it."""
_JACOBIAN = 0.1
"""Share of ε that the Jacobian gets."""
_HELD = 0.2
_CLIP = 5.0
_BINS = 5
_STEPS = 60
_LEAST = 20


class Privacy(msgspec.Struct, frozen=True):
    """What a user's data may change."""

    epsilon: float
    delta: float = 1e-6
    rows_a_user: int = 16
    """More rows of one user are left out."""

    def __post_init__(self) -> None:
        if not (self.epsilon > 0 and 0 < self.delta < 1 and self.rows_a_user >= 1):
            raise InputError(
                f"could not train with epsilon {self.epsilon}, delta {self.delta},"
                f" {self.rows_a_user} rows a user: epsilon > 0, 0 < delta < 1, at least 1 row"
            )


def noise_scale(privacy: Privacy, length: float = LENGTH) -> tuple[float, float]:
    """(σ, Δ): the noise's standard deviation, and what the prior's precision 1 is raised by.

    >>> weak, strong = noise_scale(Privacy(8.0)), noise_scale(Privacy(0.5))
    >>> weak[0] < strong[0] and weak[1] <= strong[1]
    True
    """
    first, second = privacy.epsilon * _JACOBIAN, privacy.epsilon * (1 - _JACOBIAN)
    t = np.sqrt(2 * np.log(2 * privacy.rows_a_user / privacy.delta))
    return float(length * (t + np.sqrt(t * t + 2 * second)) / (2 * second)), float(
        max(0.0, length**2 / 4 / first - 1)
    )


def train(data: Mapping[str, Rows], privacy: Privacy, embed: bool = False) -> RewardModel:
    """Train heads whose weights, calibration and accuracy tell little of any one user; without a
    picture of the domain.

    Rows of several users are left out: nobody could be forgotten alone. Rows that name nobody
    belong to their thread, or prompt.

    Raises:
        InputError: a head has rows of too few users.
    """
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
        if len(set(owners)) < _LEAST:
            raise InputError(
                f"could not train head {name!r} on rows of {len(set(owners))} single users: at"
                f" least {_LEAST} are needed"
            )
        batch = make_batch(rows)
        found = features(batch.prompts, batch.responses, embed)
        names, group = found.names, found.group
        centre, spread = public_scales(names)
        values = np.clip((found.values - centre) / spread, -_CLIP, _CLIP) / np.sqrt(FLOORS[group])
        heads.append(_head(name, rows, owners, values, group, share))
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
    )


@cache
def _scales() -> Mapping[str, tuple[float, float]]:
    return json.loads(resources.files("upshot.reward").joinpath("scales.json").read_text("utf-8"))


def public_scales(names: Sequence[str]) -> tuple[Array, Array]:
    """Centre and spread of features over public corpora (`bench/train_scales.py`)."""
    table = _scales()
    centre, spread = np.array([table[name] for name in names]).T
    return centre, spread


def limit_rows(rows: Rows, most: int) -> list[Preference] | list[Example]:
    """Rows of single users, at most so many of each, chosen without a look at them."""
    count: dict[str, int] = {}
    kept: list[Preference | Example] = []
    for row in rows:
        if len(row.source.users) <= 1:
            name = row_owner(row)
            count[name] = count.get(name, 0) + 1
            if count[name] <= most:
                kept.append(row)
    return kept  # pyright: ignore[reportReturnType]  # one kind only


def _head(
    name: str,
    rows: Rows,
    owners: Sequence[str],
    values: Array,
    group: NDArray[np.int64],
    privacy: Privacy,
) -> Head:
    held = np.array([draw(f"private/{who}") < _HELD for who in owners])
    weight, size, scale = (
        bound_weights([row.weight for row in rows], owners),
        values.shape[1],
        np.sqrt(FLOORS[group]),
    )
    usual = 1.0 / FLOORS[group]
    if isinstance(rows[0], Preference):
        kind, sign = "pairs", np.ones(len(rows))
        merits = values[: len(rows)] - values[len(rows) :]
        offset = -np.array([row.margin for row in rows if isinstance(row, Preference)])
        mean, precision = minimize_privately(
            merits[~held], weight[~held], offset[~held], 2 * usual, privacy
        )
    else:
        kind, score = "scores", np.array([row.score for row in rows if isinstance(row, Example)])
        merits, sign = values, np.where(score > 0.5, 1.0, -1.0)
        levels = len(LEVELS)
        above = np.where(score[:, None] > LEVELS, 1.0, -1.0)
        cut = np.broadcast_to(-np.eye(levels), (len(rows), levels, levels))
        data = above[:, :, None] * np.concatenate(
            [np.repeat(values[:, None], levels, axis=1), cut], axis=2
        )
        taught, counts = (
            data[~held].reshape(-1, size + levels),
            np.repeat(weight[~held] / levels, levels),
        )
        shared = msgspec.structs.replace(privacy, rows_a_user=privacy.rows_a_user * levels)
        mean, precision = minimize_privately(
            taught,
            counts,
            np.zeros(len(taught)),
            np.concatenate([usual, np.full(levels, 1 / levels)]),
            shared,
        )
    cuts = mean[size:]
    posterior = Posterior(mean[:size] / scale, np.diag(np.sqrt(precision[:size]) * scale), FLOORS)
    merits = merits[held] * scale
    logits = merits @ posterior.mean - (np.median(cuts) if len(cuts) else 0.0)
    calibration, accuracy = measure_privately(
        sign[held] * soften(logits, posterior.variance(merits)), weight[held], privacy.epsilon
    )
    return Head(name, kind, posterior, cuts, calibration, round_count(len(rows)), {"all": accuracy})


def bound_weights(weights: Sequence[float], owners: Sequence[str]) -> Array:
    """Rows' weights; a user's add up to 1 at most."""
    _, who = np.unique(owners, return_inverse=True)
    weight = np.clip(weights, 0.0, 1.0)
    return weight / np.maximum(1.0, np.bincount(who, weight))[who]


def minimize_privately(
    rows: Array,
    weight: Array,
    offset: Array,
    usual: Array,
    privacy: Privacy,
    rng: np.random.Generator | None = None,
) -> tuple[Array, Array]:
    """The private minimum, and a precision of each weight.

    The precision is made of what is public: `usual` (mean squares of the features), the rounded
    number of rows, the noise.
    `rows`: shape (rows, features), P(row is right) = σ(row · w + offset). `rng`: for tests; noise
    is secret otherwise.
    """
    rng = rng or np.random.default_rng(secrets.randbits(256))
    sigma, raised = noise_scale(privacy)
    rows = rows * np.minimum(
        1.0, LENGTH / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    )
    pull, prior = rng.normal(0.0, sigma, rows.shape[1]), 1.0 + raised
    mean = np.zeros(rows.shape[1])
    for _ in range(_STEPS):
        right = sigmoid(rows @ mean + offset)
        slope = rows.T @ (weight * (1 - right)) - prior * mean - pull
        if np.linalg.norm(slope) < 1e-9 * max(1.0, float(np.linalg.norm(pull))):
            break
        curve = (rows * (weight * right * (1 - right))[:, None]).T @ rows
        step = cho_solve(cho_factor(curve + prior * np.eye(len(mean))), slope)
        mean = mean + step / max(
            1.0, float(np.abs(rows @ step).max(initial=0.0)) / 4.0
        )  # a bounded step keeps Newton in its valley
    steep = prior + round_count(len(rows)) / 4 * usual * min(1.0, LENGTH**2 / float(usual.sum()))
    return mean, steep**2 / (steep + sigma**2)


def measure_privately(
    logits: Array, weight: Array, epsilon: float, rng: np.random.Generator | None = None
) -> tuple[Calibration, float]:
    """Calibration and accuracy from a noisy histogram of predicted probability and whether it was
    right; a user adds 1 at most.
    """
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
    found = calibrate(np.concatenate([-middle, middle]), counts)
    total = max(float(counts.sum()), 1e-9)
    error = float(np.abs(found.apply(middle) * (wrong + right) - right).sum() / total)
    bins = tuple(
        (float(p), float(r / (w + r)), round(w + r))
        for p, w, r in zip(found.apply(middle), wrong, right, strict=True)
        if w + r >= 1
    )
    return found._replace(error=error, bins=bins), float(right.sum() / total)


def round_count(count: int) -> int:
    """To two digits: a number of users that may be told."""
    unit = 10 ** max(0, len(str(count)) - 2)
    return round(count / unit) * unit
