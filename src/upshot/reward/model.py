"""The embedded reward model: Bradley-Terry and ordinal heads over features that need no GPU.

A head predicts what raters choose from all features; the *reward* leaves out `form` (length,
layout, marks), the taste that a policy would learn to please first. Rewards are in logits, 0 for
the mean training response. A head's uncertainty is that of its Laplace posterior; `domain` flags
inputs unlike the training rows. Calibration is cross-fitted by thread, user or prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from upshot.errors import InputError
from upshot.records import Example, Preference, Turn
from upshot.records.verdicts import EVEN
from upshot.reward.batches import (
    Batch,
    Rows,
    answer_text,
    as_examples,
    as_pairs,
    drop_equal_pairs,
    make_batch,
    prompt_texts,
    row_owner,
    users_of,
)
from upshot.reward.calibration import Calibration, calibrate, soften
from upshot.reward.domain import Domain, learn, unfamiliarity
from upshot.reward.features import GROUPS, Features, features, surface_features
from upshot.reward.fit import Posterior, fit
from upshot.reward.ratings import take_out_rater_effects
from upshot.stats.sampling import assign_folds

Array = NDArray[np.float64]
FLOORS = np.array([10.0, 10.0, 30.0, 10_000.0, 2_000.0])
"""Least precision of the prior of each of `GROUPS`, for features in units of their spread.

Evidence overrates wide groups where the same responses come up in many pairs.
"""
LEVELS = (0.2, 0.4, 0.6, 0.8)
"""Thresholds of an ordinal head: P(score > level) (Cao et al., 2020)."""
_CLIP = 5.0
"""Features are cut off at so many spreads, so that one odd text does not rule a fit."""
_FOLDS = 5
"""Of cross-fitting."""
MIN_ROWS = 20
"""Of a head: with fewer, calibration on five folds says nothing."""
_MIN_SPREAD = 1e-3
"""Added to a feature's spread before it is divided by."""
TASTE = "form"
"""The group that a reward leaves out."""


@dataclass(frozen=True)
class Head:
    """One objective."""

    name: str
    kind: Literal["pairs", "scores"]
    posterior: Posterior
    cuts: Array
    """An ordinal head's thresholds, in logits; empty for pairs."""
    calibration: Calibration
    rows: int
    accuracy: Mapping[str, float]
    """Cross-fitted share of pairs ordered right, or of scores on the right side of one half.

    By slice, one of which is `all`.
    """


@dataclass(frozen=True)
class RewardModel:
    """Heads over one set of features. Made by `train`, kept by `files`."""

    names: tuple[str, ...]
    group: NDArray[np.int64]
    centre: Array
    spread: Array
    heads: tuple[Head, ...]
    domain: Domain | None
    users: tuple[str, ...]
    """Pseudonyms of those whose data it holds, for erasure."""
    weights: Mapping[str, float] = field(default_factory=dict[str, float])
    """Of each head in the reward; heads without an entry count 1."""
    epsilon: float | None = None
    """Of differential privacy, by user and for all heads together; None: not private."""
    delta: float = 0.0
    left_out: int = 0
    """Pairs left out because their chosen response equals the rejected one."""
    raters: bool = False
    """Whether rater effects were taken out of the scored examples."""

    @property
    def embed(self) -> bool:
        """Whether it reads MiniLM embeddings."""
        return bool((self.group == GROUPS.index("embedding")).any())

    def with_weights(self, weights: Mapping[str, float]) -> RewardModel:
        """The same heads, combined by other weights.

        Raises:
            InputError: no head has such a name.
        """
        if unknown := sorted(set(weights) - {head.name for head in self.heads}):
            raise InputError(
                f"could not weigh heads {unknown}: the model has"
                f" {[head.name for head in self.heads]}"
            )
        return replace(self, weights=dict(weights))

    def weight(self, head: Head) -> float:
        """How much a head counts in the reward."""
        return float(self.weights.get(head.name, 1.0))

    def scaled(self, values: NDArray[np.float32]) -> Array:
        """Features as the heads read them."""
        return _scale(values, self.centre, self.spread)

    def content(self, values: Array) -> Array:
        """Features without those of taste."""
        return values * (self.group != GROUPS.index(TASTE))

    def score(
        self, prompts: Sequence[Sequence[Turn]], completions: Sequence[Sequence[Turn]]
    ) -> list[Score]:
        """Score responses."""
        batch = Batch([prompt_texts(p) for p in prompts], [answer_text(c) for c in completions])
        return score(self, batch.prompts, batch.responses)


class Score(msgspec.Struct, frozen=True, gc=False):
    """A reward model's score of one response."""

    reward: float
    """In logits, taste left out; 0 is the mean training response."""
    uncertainty: float | None
    """Standard deviation of the reward, by the posterior or an ensemble; None: one transformer."""
    probability: float
    """Calibrated P(better than the mean training response), uncertainty included."""
    in_domain: bool | None
    """None: a private model keeps nothing to tell it by."""
    unfamiliarity: float | None
    parts: dict[str, float]
    """Of the reward, by group of features; `form` is what raters' taste would add to it."""
    heads: dict[str, float]


def train(
    data: Mapping[str, Rows],
    embed: bool = False,
    false_alarms: float = 0.05,
    *,
    rater_effects: bool = False,
    left_out: int = 0,
) -> RewardModel:
    """Train one head for each named set of preferences or of scored examples.

    Pairs whose chosen response equals the rejected one are left out; `left_out`: how many were so
    before. `rater_effects`: leniency, scale and taste of raters are taken out of scored examples
    first (`ratings`).

    Raises:
        InputError: a set is empty or has too few rows; with `rater_effects`, rows name no raters.
    """
    users = users_of(data)
    if rater_effects:
        data = take_out_rater_effects(data)
    data, equal = drop_equal_pairs(data)
    for name, rows in data.items():
        if len(rows) < MIN_ROWS:
            raise InputError(
                f"could not train head {name!r} on {len(rows)} rows: at least {MIN_ROWS} are needed"
            )
    batches = {name: make_batch(rows) for name, rows in data.items()}
    whole = Batch(
        [p for b in batches.values() for p in b.prompts],
        [r for b in batches.values() for r in b.responses],
    )
    table = features(whole.prompts, whole.responses, embed)
    centre = table.values.mean(axis=0).astype(np.float64)
    spread = table.values.std(axis=0).astype(np.float64) + _MIN_SPREAD
    heads: list[Head] = []
    start = 0
    for name, rows in data.items():
        size = len(batches[name].responses)
        values = _scale(table.values[start : start + size], centre, spread)
        start += size
        pairs = as_pairs(rows)
        heads.append(
            _fit_scores(name, as_examples(rows), values, table.group)
            if pairs is None
            else _fit_pairs(name, pairs, values, table.group)
        )
    return RewardModel(
        table.names,
        table.group,
        centre,
        spread,
        tuple(heads),
        learn(whole.prompts, whole.responses, surface_features(table), false_alarms),
        users,
        left_out=left_out + equal,
        raters=rater_effects,
    )


def scale_inputs(
    model: RewardModel, prompts: Sequence[Sequence[str]], responses: Sequence[str]
) -> Array:
    """Features as the heads read them."""
    return model.scaled(features(prompts, responses, model.embed).values)


def clip_difference(difference: Array) -> Array:
    """The difference of two responses' features, as heads read it."""
    return np.clip(difference, -_CLIP, _CLIP)


def find_head(model: RewardModel, name: str) -> Head:
    """The head of a name, or the first where none is named.

    Raises:
        InputError: there is none of that name.
    """
    match = next(
        (head for head in model.heads if head.name == name), None if name else model.heads[0]
    )
    if match is None:
        raise InputError(
            f"could not find head {name!r}: the model has {[head.name for head in model.heads]}"
        )
    return match


def _scale(values: NDArray[np.float32], centre: Array, spread: Array) -> Array:
    return np.clip((values - centre) / spread, -_CLIP, _CLIP)


def _fit_pairs(
    name: str, rows: Sequence[Preference], values: Array, group: NDArray[np.int64]
) -> Head:
    """Bradley-Terry with weights: P(chosen over rejected) = σ(r(chosen) − r(rejected) − margin)."""
    difference = clip_difference(values[: len(rows)] - values[len(rows) :])
    weight, offset = np.array([row.weight for row in rows]), -np.array([row.margin for row in rows])
    posterior = fit(difference, group, FLOORS, weight, offset)
    logits, variance = np.zeros(len(rows)), np.zeros(len(rows))
    for learned, test in split_folds([row_owner(row) for row in rows]):
        part = fit(
            difference[learned], group, FLOORS, weight[learned], offset[learned], start=posterior
        )
        logits[test], variance[test] = difference[test] @ part.mean, part.variance(difference[test])
    right = (logits > 0) + 0.5 * (logits == 0)
    longer = np.array(
        [len(answer_text(row.chosen)) > len(answer_text(row.rejected)) for row in rows]
    )
    slices = {
        "all": np.ones(len(rows), bool),
        "the longer was chosen": longer,
        "the shorter was chosen": ~longer,
    }
    kinds = [row.source.kind for row in rows]
    slices |= {kind: np.array([other == kind for other in kinds]) for kind in dict.fromkeys(kinds)}
    accuracy = {key: float(right[part].mean()) for key, part in slices.items() if part.any()}
    return Head(
        name,
        "pairs",
        posterior,
        np.zeros(0),
        calibrate(soften(logits, variance), weight),
        len(rows),
        accuracy,
    )


def _fit_scores(
    name: str, rows: Sequence[Example], values: Array, group: NDArray[np.int64]
) -> Head:
    """Ordinal: P(score > level) = σ(r − cut), a row per level, users' leniency taken out first."""
    score, weight = remove_leniency(rows), np.array([row.weight for row in rows])
    size: int = values.shape[1]
    free = np.arange(size + len(LEVELS)) >= size
    wide = np.concatenate([group, np.zeros(len(LEVELS), np.int64)])
    x, weights = expand_scores(values, score, weight)
    posterior = fit(x, wide, FLOORS, weights, free=free)
    logits, variance = np.zeros(len(rows)), np.zeros(len(rows))
    for learned, test in split_folds([row_owner(row) for row in rows]):
        x, weights = expand_scores(values[learned], score[learned], weight[learned])
        part = fit(x, wide, FLOORS, weights, free=free, start=posterior)
        logits[test] = values[test] @ part.mean[:size] - float(np.median(part.mean[size:]))
        padded = np.concatenate([values[test], np.zeros((len(test), len(LEVELS)))], axis=1)
        variance[test] = part.variance(padded)
    good = score > EVEN
    right = (logits > 0) == good
    accuracy = {
        "all": float(right.mean()),
        "good": float(right[good].mean()) if good.any() else float("nan"),
        "bad": float(right[~good].mean()) if (~good).any() else float("nan"),
    }
    signed = np.where(good, 1.0, -1.0) * soften(logits, variance)
    cuts, posterior = posterior.mean[size:], posterior.marginal(size)
    return Head(name, "scores", posterior, cuts, calibrate(signed, weight), len(rows), accuracy)


def expand_scores(values: Array, score: Array, weight: Array) -> tuple[Array, Array]:
    """Scored responses as rows of a logistic regression and their weights.

    One row for each of `LEVELS`; the last columns are the cuts.
    """
    sign = np.concatenate([np.where(score > level, 1.0, -1.0) for level in LEVELS])
    cut = np.zeros((len(values) * len(LEVELS), len(LEVELS)))
    cut[np.arange(len(cut)), np.repeat(np.arange(len(LEVELS)), len(values))] = -1.0
    return sign[:, None] * np.concatenate(
        [np.tile(values, (len(LEVELS), 1)), cut], axis=1
    ), np.tile(weight, len(LEVELS)) / len(LEVELS)


def remove_leniency(rows: Sequence[Example], strength: float = 5.0) -> Array:
    """Scores in [0, 1] without each user's leniency, which is shrunk by `strength` scores."""
    score = np.array([row.score for row in rows])
    names = [
        row.source.users[0] if row.source.users else f"\0{number}"
        for number, row in enumerate(rows)
    ]
    _, user = np.unique(names, return_inverse=True)
    count = np.bincount(user)
    lenient = np.bincount(user, score - score.mean()) / (count + strength)
    return np.clip(score - np.where(count > 1, lenient, 0.0)[user], 0.0, 1.0)


def split_folds(
    names: Sequence[str], count: int = _FOLDS, seed: int = 0
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Train and test rows of a cross-fit; rows of one name stay together."""
    fold, _ = assign_folds(names, count, seed)
    return [
        (np.flatnonzero(fold != k), np.flatnonzero(fold == k))
        for k in range(count)
        if (fold == k).any() and (fold != k).any()
    ]


def score(
    model: RewardModel,
    prompts: Sequence[Sequence[str]],
    responses: Sequence[str],
    table: Features | None = None,
) -> list[Score]:
    """Score responses.

    `prompts`: for each the texts of its messages; `table`: their features, where they are at hand
    (with embeddings if the model reads them).
    """
    table = table or features(prompts, responses, model.embed)
    values = model.scaled(table.values)
    content = model.content(values)
    rewards = {head.name: content @ head.posterior.mean for head in model.heads}
    weights = np.array([model.weight(head) for head in model.heads])
    variances = np.stack([head.posterior.variance(content) for head in model.heads])
    total = weights @ np.stack([rewards[head.name] for head in model.heads])
    variance = weights**2 @ variances
    mean = weights @ np.stack([head.posterior.mean for head in model.heads])
    parts = {
        name: values[:, columns] @ mean[columns]
        for g, name in enumerate(GROUPS)
        if (columns := model.group == g).any()
    }
    better = np.mean(
        [
            head.calibration.apply(soften(rewards[head.name], own))
            for head, own in zip(model.heads, variances, strict=True)
        ],
        axis=0,
    )
    distance = (
        None
        if model.domain is None
        else unfamiliarity(model.domain, prompts, responses, surface_features(table))
    )
    return [
        Score(
            float(total[i]),
            float(np.sqrt(variance[i])),
            float(better[i]),
            is_inside(model.domain, distance, i),
            None if distance is None else float(distance[i]),
            {name: float(part[i]) for name, part in parts.items()},
            {name: float(value[i]) for name, value in rewards.items()},
        )
        for i in range(len(responses))
    ]


def is_inside(domain: Domain | None, distance: Array | None, row: int) -> bool | None:
    """Whether a response is inside the domain; None where no domain was kept."""
    return None if domain is None or distance is None else bool(distance[row] <= domain.threshold)


def prefers(
    model: RewardModel,
    prompts: Sequence[Sequence[str]],
    first: Sequence[str],
    second: Sequence[str],
    head: str = "",
) -> Array:
    """Calibrated P(raters choose the first over the second), their taste for form included.

    The posterior is integrated over.
    """
    chosen = find_head(model, head)
    difference = clip_difference(
        scale_inputs(model, prompts, first) - scale_inputs(model, prompts, second)
    )
    return chosen.calibration.apply(
        soften(difference @ chosen.posterior.mean, chosen.posterior.variance(difference))
    )
