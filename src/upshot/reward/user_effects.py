"""What each user likes, from their own history: a random effect on top of the common reward.

A user's weights are everybody's plus their own deviation, d_u ~ N(0, s Λ⁻¹), where Λ holds the
prior's precisions; s is chosen by how well one half of each history predicts the other, and is 0
where users do not differ. Deviations are the mode of a small logistic problem in the user's rows,
in the dual, so that the number of features costs nothing. The reward of a response for a user is
the common reward, without raters' common taste for form, plus the deviation, own taste included.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from upshot.errors import InputError
from upshot.records import Turn
from upshot.records.verdicts import EVEN
from upshot.reward.batches import (
    Rows,
    answer_text,
    as_examples,
    as_pairs,
    make_batch,
    prompt_texts,
    row_owner,
)
from upshot.reward.model import Head, RewardModel, clip_difference, find_head, scale_inputs
from upshot.stats.intervals import sigmoid

Array = NDArray[np.float64]
_SPREADS = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Values of s that are tried: none, then half-decades around the common prior."""
_MIN_GAIN = 2.0
"""Nats, over all histories, from which differences between users are believed (p ≈ .05)."""
_NEWTON_STEPS = 30
"""At most; it converges within ten."""


class UserEffects(NamedTuple):
    """Users, and how each differs from everybody."""

    names: tuple[str, ...]
    shift: Array
    """Shape (users, features), in logits per spread of a feature."""
    spread: float
    """s: 0 where users do not differ, or there is too little data to tell."""
    gained: float
    """Nats per row by which one half of a history improves the prediction of the other."""


def learn(model: RewardModel, rows: Rows, head: str = "") -> UserEffects:
    """Learn users' deviations from the weights of a head, the first unless one is named.

    Rows that name nobody, or several users, are left out.

    Raises:
        InputError: no row names a single user.
    """
    chosen = find_head(model, head)
    pairs = as_pairs(rows) if rows else None
    own: Rows = (
        [row for row in as_examples(rows) if len(row.source.users) == 1]
        if pairs is None
        else [row for row in pairs if len(row.source.users) == 1]
    )
    if not own:
        raise InputError(
            "could not learn what users like: no row names a single user; rows need source.users,"
            " user or rater"
        )
    x, logits, weight = _make_design(model, chosen, own)
    owners = [row_owner(row) for row in own]
    names, user = np.unique(owners, return_inverse=True)
    prior = 1.0 / chosen.posterior.precision[model.group]
    histories = [np.flatnonzero(user == u) for u in range(len(names))]
    gains = sum(
        (_halves_gain(x[part], logits[part], weight[part], prior) for part in histories),
        np.zeros(len(_SPREADS)),
    )
    best = int(gains.argmax())
    spread = _SPREADS[best] if gains[best] > _MIN_GAIN else 0.0
    shift = np.zeros((len(names), x.shape[1]))
    for u, rows_of_user in enumerate(histories if spread else ()):
        part = x[rows_of_user]
        alpha = _find_mode(
            spread * ((part * prior) @ part.T), logits[rows_of_user], weight[rows_of_user]
        )
        shift[u] = spread * prior * (part.T @ alpha)
    gained = float(gains[best] / len(own)) if spread else 0.0
    return UserEffects(tuple(map(str, names)), shift, spread, gained)


def _halves_gain(x: Array, logits: Array, weight: Array, prior: Array) -> Array:
    """Log likelihood that the halves of a history gain by each other, for each of `_SPREADS`."""
    gains = np.zeros(len(_SPREADS))
    if len(x) < 2:
        return gains
    halves = slice(0, None, 2), slice(1, None, 2)
    for first, second in (halves, halves[::-1]):
        kernel, cross = (x[first] * prior) @ x[first].T, (x[second] * prior) @ x[first].T
        before = np.log(sigmoid(logits[second]))
        for i, s in enumerate(_SPREADS):
            shift = s * (cross @ _find_mode(s * kernel, logits[first], weight[first]))
            gains[i] += weight[second] @ (np.log(sigmoid(logits[second] + shift)) - before)
    return gains


def rewards(
    model: RewardModel,
    effects: UserEffects,
    prompts: Sequence[Sequence[Turn]],
    completions: Sequence[Sequence[Turn]],
    head: str = "",
) -> Array:
    """Rewards for each user, shape (users, responses)."""
    chosen = find_head(model, head)
    values = scale_inputs(
        model, [prompt_texts(p) for p in prompts], [answer_text(c) for c in completions]
    )
    return (model.content(values) @ chosen.posterior.mean)[None] + effects.shift @ values.T


def _make_design(model: RewardModel, head: Head, rows: Rows) -> tuple[Array, Array, Array]:
    """Signed rows, their logits by the head, and their weights."""
    batch = make_batch(rows)
    values = scale_inputs(model, batch.prompts, batch.responses)
    weight = np.array([row.weight for row in rows])
    if (pairs := as_pairs(rows)) is not None:
        x = clip_difference(values[: len(rows)] - values[len(rows) :])
        return x, x @ head.posterior.mean - np.array([row.margin for row in pairs]), weight
    sign = np.array([1.0 if row.score > EVEN else -1.0 for row in as_examples(rows)])
    cut = float(np.median(head.cuts)) if len(head.cuts) else 0.0
    return sign[:, None] * values, sign * (values @ head.posterior.mean - cut), weight


def _find_mode(kernel: Array, offset: Array, weight: Array) -> Array:
    """α of g = K α, the most probable latent deviations of rows that are all right.

    Rasmussen and Williams, algorithm 3.1.
    """
    g = np.zeros(len(offset))
    alpha = np.zeros(len(offset))
    for _ in range(_NEWTON_STEPS):
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
