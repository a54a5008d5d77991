"""What each user likes, from their own history: a random effect beside what all raters share.

A user's weights are everybody's plus their own deviation, d_u ~ N(0, s Λ⁻¹) with Λ the prior's
precisions; s is chosen by how well one half of each history predicts the other, and is 0 where
people do not differ. Deviations are the mode of a small logistic problem in the user's rows (in the
dual, so that the number of features costs nothing). The reward of a response for a user is the
common reward, without raters' common taste for form, plus the deviation, own taste included.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from upshot.errors import InputError
from upshot.records import Example, Preference, Turn
from upshot.reward.model import (
    Head,
    RewardModel,
    Rows,
    answer_text,
    clip_difference,
    find_head,
    make_batch,
    prompt_texts,
    row_owner,
    scale_inputs,
)
from upshot.stats.intervals import sigmoid

Array = NDArray[np.float64]
_SPREADS = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_LEAST_GAIN = 2.0
"""Nats that differences between people must gain over all histories together before they are
believed.
"""
_STEPS = 30


class People(NamedTuple):
    """Users, and how each differs from all."""

    names: tuple[str, ...]
    shift: Array
    """Shape (users, features), logits for one spread of a feature."""
    spread: float
    """s: 0 where people do not differ, or too little is known to tell."""
    gained: float
    """Log likelihood a row of the second half of a history gained by the first, in nats."""


def learn(model: RewardModel, rows: Rows, head: str = "") -> People:
    """Learn users' deviations from the head's weights (the first head's, if none is named).

    Rows of nobody, or of several, are left out.

    Raises:
        InputError: no row names a single user.
    """
    chosen = find_head(model, head)
    kept: list[Preference | Example] = [row for row in rows if len(row.source.users) == 1]
    if not kept:
        raise InputError(
            "could not learn what users like: no row names a single user; rows need source.users,"
            " user or rater"
        )
    x, f, weight = _design(model, chosen, kept)  # pyright: ignore[reportArgumentType]  # one kind only
    _, user = np.unique([row_owner(row) for row in kept], return_inverse=True)
    names = tuple(sorted({row_owner(row) for row in kept}))
    prior = 1.0 / chosen.posterior.precision[model.group]
    histories = [np.flatnonzero(user == u) for u in range(len(names))]
    gains = np.zeros(len(_SPREADS))
    for of in histories:
        if len(of) > 1:
            halves = of[::2], of[1::2]
            for learned, held in (halves, halves[::-1]):
                kernel, cross = (
                    (x[learned] * prior) @ x[learned].T,
                    (x[held] * prior) @ x[learned].T,
                )
                for i, s in enumerate(_SPREADS):
                    moved = f[held] + s * (cross @ _mode(s * kernel, f[learned], weight[learned]))
                    gains[i] += weight[held] @ (np.log(sigmoid(moved)) - np.log(sigmoid(f[held])))
    best = int(gains.argmax())
    spread = _SPREADS[best] if gains[best] > _LEAST_GAIN else 0.0
    shift = np.zeros((len(names), x.shape[1]))
    for u, of in enumerate(histories if spread else ()):
        kernel = (x[of] * prior) @ x[of].T
        shift[u] = spread * prior * (x[of].T @ _mode(spread * kernel, f[of], weight[of]))
    return People(names, shift, spread, float(gains[best] / len(kept)) if spread else 0.0)


def rewards(
    model: RewardModel,
    people: People,
    prompts: Sequence[Sequence[Turn]],
    completions: Sequence[Sequence[Turn]],
    head: str = "",
) -> Array:
    """Rewards for each user, shape (users, responses)."""
    chosen = find_head(model, head)
    values = scale_inputs(
        model, [prompt_texts(p) for p in prompts], [answer_text(c) for c in completions]
    )
    return (model.content(values) @ chosen.posterior.mean)[None] + people.shift @ values.T


def _design(model: RewardModel, head: Head, rows: Rows) -> tuple[Array, Array, Array]:
    """Signed rows, what the head says of each, and weights."""
    batch = make_batch(rows)
    values = scale_inputs(model, batch.prompts, batch.responses)
    weight = np.array([row.weight for row in rows])
    if isinstance(rows[0], Preference):
        x = clip_difference(values[: len(rows)] - values[len(rows) :])
        return (
            x,
            x @ head.posterior.mean
            - np.array([row.margin for row in rows if isinstance(row, Preference)]),
            weight,
        )
    sign = np.array([1.0 if row.score > 0.5 else -1.0 for row in rows if isinstance(row, Example)])
    cut = float(np.median(head.cuts)) if len(head.cuts) else 0.0
    return sign[:, None] * values, sign * (values @ head.posterior.mean - cut), weight


def _mode(kernel: Array, offset: Array, weight: Array) -> Array:
    """α of g = K α, the most probable latent deviations of rows that are all right (Rasmussen and
    Williams, algorithm 3.1).
    """
    g = np.zeros(len(offset))
    alpha = np.zeros(len(offset))
    for _ in range(_STEPS):
        right = sigmoid(offset + g)
        curve, slope = weight * right * (1 - right), weight * (1 - right)
        root = np.sqrt(curve)
        b = curve * g + slope
        alpha = b - root * np.linalg.solve(
            np.eye(len(g)) + root[:, None] * kernel * root, root * (kernel @ b)
        )
        before, g = g, kernel @ alpha
        if np.abs(g - before).max() < 1e-6:
            break
    return alpha
