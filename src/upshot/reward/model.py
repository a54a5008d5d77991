"""The embedded reward model: Bradley-Terry and ordinal heads over features that need no GPU.

A head predicts what raters choose from everything it sees; the *reward* leaves out `form` (length,
layout, marks), the taste that a policy would learn to please first. Rewards are in logits, 0 for
the mean training response. With its Laplace posterior a head knows its own uncertainty; `domain`
knows what it was never shown. Calibration is cross-fitted by thread, user or prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from upshot.errors import InputError
from upshot.records import Example, Preference, Turn
from upshot.reward.calibration import Calibration, calibrate, soften
from upshot.reward.domain import Domain, learn, unfamiliarity
from upshot.reward.features import GROUPS, Features, features, looks
from upshot.reward.fit import Posterior, fit
from upshot.stats.sampling import assign_folds

Array = NDArray[np.float64]
FLOORS = np.array([10.0, 10.0, 30.0, 10_000.0, 2_000.0])
"""Least precision of the prior of each of `GROUPS`, for features in units of their spread: evidence
overrates wide groups where the same responses come up in many pairs.
"""
LEVELS = (0.2, 0.4, 0.6, 0.8)
"""Thresholds of an ordinal head: P(score > level) (Cao et al., 2020)."""
_CLIP = 5.0
_FOLDS = 5
_LEAST = 20
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
    """Cross-fitted share of pairs put right (or of scores on the right side of one half), by slice;
    `all` is one.
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
    """Pseudonyms whose data it holds: what erasure must name."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Of each head in the reward; heads that are not named count 1."""
    epsilon: float | None = None
    """What differential privacy costs a user, all heads together, where it was asked for."""
    delta: float = 0.0

    @property
    def embed(self) -> bool:
        """Whether it reads MiniLM embeddings."""
        return bool((self.group == GROUPS.index("embedding")).any())

    def with_weights(self, weights: Mapping[str, float]) -> RewardModel:
        """The same heads, combined otherwise.

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
        """How much a head counts."""
        return float(self.weights.get(head.name, 1.0))

    def scaled(self, values: NDArray[np.float32]) -> Array:
        """Features as the heads read them."""
        return _scaled(values, self.centre, self.spread)

    def content(self, values: Array) -> Array:
        """Features without those of taste."""
        return values * (self.group != GROUPS.index(TASTE))

    def score(
        self, prompts: Sequence[Sequence[Turn]], completions: Sequence[Sequence[Turn]]
    ) -> list[Score]:
        """Score responses."""
        return score(
            self, [texts(prompt) for prompt in prompts], [said(turns) for turns in completions]
        )


Rows: TypeAlias = Sequence[Preference] | Sequence[Example]


class Score(msgspec.Struct, frozen=True, gc=False):
    """What a reward model says of one response."""

    reward: float
    """In logits, taste left out; 0 is the mean training response."""
    uncertainty: float | None
    """Standard deviation of the reward, from the posterior or an ensemble; None: a single
    transformer does not know.
    """
    probability: float
    """Calibrated P(better than the mean training response), uncertainty included."""
    in_domain: bool | None
    """None: a private model keeps no picture of what it was trained on."""
    unfamiliarity: float | None
    parts: dict[str, float]
    """Of the reward, by group of features; `form` is what raters' taste would add."""
    heads: dict[str, float]


class Batch(NamedTuple):
    """Prompts and responses as texts."""

    prompts: list[list[str]]
    responses: list[str]


def texts(prompt: Iterable[Turn]) -> list[str]:
    """The texts of a prompt's messages."""
    return [turn.content for turn in prompt]


def said(turns: Iterable[Turn]) -> str:
    """What the assistant says in a completion."""
    return "\n".join(turn.content for turn in turns if turn.role == "assistant")


def train(data: Mapping[str, Rows], embed: bool = False, false_alarms: float = 0.05) -> RewardModel:
    """Train one head for each named set of preferences or of scored examples.

    Raises:
        InputError: a set is empty or has too few rows.
    """
    for name, rows in data.items():
        if len(rows) < _LEAST:
            raise InputError(
                f"could not train head {name!r} on {len(rows)} rows: at least {_LEAST} are needed"
            )
    batches = {name: batch_of(rows) for name, rows in data.items()}
    whole = Batch(
        [p for b in batches.values() for p in b.prompts],
        [r for b in batches.values() for r in b.responses],
    )
    found = features(whole.prompts, whole.responses, embed)
    centre, spread = (
        found.values.mean(axis=0).astype(np.float64),
        found.values.std(axis=0).astype(np.float64) + 1e-3,
    )
    heads: list[Head] = []
    start = 0
    for name, rows in data.items():
        size = len(batches[name].responses)
        values = _scaled(found.values[start : start + size], centre, spread)
        start += size
        heads.append(
            _pairs(name, rows, values, found.group)
            if isinstance(rows[0], Preference)
            else _scores(name, rows, values, found.group)
        )  # type: ignore[arg-type]
    return RewardModel(
        found.names,
        found.group,
        centre,
        spread,
        tuple(heads),
        learn(whole.prompts, whole.responses, looks(found), false_alarms),
        users_of(data),
    )


def users_of(data: Mapping[str, Rows]) -> tuple[str, ...]:
    """Everybody whose rows these are."""
    return tuple(
        sorted({user for rows in data.values() for row in rows for user in row.source.users})
    )


def batch_of(rows: Rows) -> Batch:
    """The responses of pairs are all chosen ones, then all rejected ones."""
    prompts = [texts(row.prompt) for row in rows]
    if isinstance(rows[0], Preference):
        pairs: Sequence[Preference] = rows  # type: ignore[assignment]
        return Batch(
            prompts * 2, [said(row.chosen) for row in pairs] + [said(row.rejected) for row in pairs]
        )
    examples: Sequence[Example] = rows  # type: ignore[assignment]
    return Batch(prompts, [said(row.completion) for row in examples])


def inputs(model: RewardModel, prompts: Sequence[Sequence[str]], responses: Sequence[str]) -> Array:
    """Features as the heads read them."""
    return model.scaled(features(prompts, responses, model.embed).values)


def scaled(difference: Array) -> Array:
    """The difference of two responses' features as heads read it."""
    return np.clip(difference, -_CLIP, _CLIP)


def head_of(model: RewardModel, name: str) -> Head:
    """The head of a name, the first without one.

    Raises:
        InputError: there is none of that name.
    """
    found = next(
        (head for head in model.heads if head.name == name), None if name else model.heads[0]
    )
    if found is None:
        raise InputError(
            f"could not find head {name!r}: the model has {[head.name for head in model.heads]}"
        )
    return found


def _scaled(values: NDArray[np.float32], centre: Array, spread: Array) -> Array:
    return np.clip((values - centre) / spread, -_CLIP, _CLIP)


def _pairs(name: str, rows: Sequence[Preference], values: Array, group: NDArray[np.int64]) -> Head:
    """Bradley-Terry: P(chosen over rejected) = σ(r(chosen) − r(rejected) − margin), each pair with
    its weight.
    """
    difference = scaled(values[: len(rows)] - values[len(rows) :])
    weight, offset = np.array([row.weight for row in rows]), -np.array([row.margin for row in rows])
    posterior = fit(difference, group, FLOORS, weight, offset)
    logits, variance = np.zeros(len(rows)), np.zeros(len(rows))
    for train_, test in folds([owner(row) for row in rows]):
        part = fit(
            difference[train_], group, FLOORS, weight[train_], offset[train_], known=posterior
        )
        logits[test], variance[test] = difference[test] @ part.mean, part.variance(difference[test])
    right = (logits > 0) + 0.5 * (logits == 0)
    longer = np.array([len(said(row.chosen)) > len(said(row.rejected)) for row in rows])
    slices = {
        "all": np.ones(len(rows), bool),
        "the longer was chosen": longer,
        "the shorter was chosen": ~longer,
    }
    kinds = [row.source.kind for row in rows]
    slices |= {kind: np.array([other == kind for other in kinds]) for kind in dict.fromkeys(kinds)}
    accuracy = {key: float(right[of].mean()) for key, of in slices.items() if of.any()}
    return Head(
        name,
        "pairs",
        posterior,
        np.zeros(0),
        calibrate(soften(logits, variance), weight),
        len(rows),
        accuracy,
    )


def _scores(name: str, rows: Sequence[Example], values: Array, group: NDArray[np.int64]) -> Head:
    """Ordinal: P(score > level) = σ(r − cut), every level a row; how lenient a user is, is taken
    out first.
    """
    score, weight = lenient_free(rows), np.array([row.weight for row in rows])

    def expand(of: NDArray[np.int64]) -> tuple[Array, Array]:
        return expanded(values[of], score[of], weight[of])

    free = np.arange(values.shape[1] + len(LEVELS)) >= values.shape[1]
    wide = np.concatenate([group, np.zeros(len(LEVELS), np.int64)])
    every, weights = expand(np.arange(len(rows)))
    posterior = fit(every, wide, FLOORS, weights, free=free)
    logits, variance = np.zeros(len(rows)), np.zeros(len(rows))
    for train_, test in folds([owner(row) for row in rows]):
        part_rows, part_weights = expand(train_)
        part = fit(part_rows, wide, FLOORS, part_weights, free=free, known=posterior)
        cut = float(np.median(part.mean[values.shape[1] :]))
        logits[test], variance[test] = (
            values[test] @ part.mean[: values.shape[1]] - cut,
            part.variance(
                np.concatenate([values[test], np.zeros((len(test), len(LEVELS)))], axis=1)
            ),
        )
    good = score > 0.5
    right = (logits > 0) == good
    accuracy = {
        "all": float(right.mean()),
        "good": float(right[good].mean()) if good.any() else float("nan"),
        "bad": float(right[~good].mean()) if (~good).any() else float("nan"),
    }
    signed = np.where(good, 1.0, -1.0) * soften(logits, variance)
    cuts, posterior = posterior.mean[values.shape[1] :], _without(posterior, values.shape[1])
    return Head(name, "scores", posterior, cuts, calibrate(signed, weight), len(rows), accuracy)


def expanded(values: Array, score: Array, weight: Array) -> tuple[Array, Array]:
    """Scored responses as rows of a logistic regression, one for each of `LEVELS`; the last columns
    are the cuts.
    """
    sign = np.concatenate([np.where(score > level, 1.0, -1.0) for level in LEVELS])
    cut = np.zeros((len(values) * len(LEVELS), len(LEVELS)))
    cut[np.arange(len(cut)), np.repeat(np.arange(len(LEVELS)), len(values))] = -1.0
    return sign[:, None] * np.concatenate(
        [np.tile(values, (len(LEVELS), 1)), cut], axis=1
    ), np.tile(weight, len(LEVELS)) / len(LEVELS)


def _without(posterior: Posterior, size: int) -> Posterior:
    """The marginal of the first `size` weights: with the root in upper triangular form its leading
    block conditions on the rest, so it is taken from the covariance.
    """
    from scipy.linalg import cholesky, solve_triangular

    inverse = solve_triangular(posterior.root, np.eye(len(posterior.root)))
    covariance = (inverse @ inverse.T)[:size, :size]
    return Posterior(
        posterior.mean[:size], cholesky(np.linalg.inv(covariance)), posterior.precision
    )


def lenient_free(rows: Sequence[Example], strength: float = 5.0) -> Array:
    """Scores with each user's leniency, shrunk to everybody's by how few they are, taken out; in
    [0, 1].
    """
    score = np.array([row.score for row in rows])
    names = [
        row.source.users[0] if row.source.users else f"\0{number}"
        for number, row in enumerate(rows)
    ]
    _, user = np.unique(names, return_inverse=True)
    count = np.bincount(user)
    lenient = np.bincount(user, score - score.mean()) / (count + strength)
    return np.clip(score - np.where(count > 1, lenient, 0.0)[user], 0.0, 1.0)


def owner(row: Preference | Example) -> str:
    """What must be on one side of a split."""
    return (
        row.source.users[0]
        if row.source.users
        else row.source.thread or "\n".join(texts(row.prompt))
    )


def folds(
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
    found: Features | None = None,
) -> list[Score]:
    """Score responses.

    `prompts`: for each the texts of its messages; `found`: their features, where they are known
    already.
    """
    if not responses:
        return []
    found = found or features(prompts, responses, model.embed)
    values = model.scaled(found.values)
    content = model.content(values)
    rewards = {head.name: content @ head.posterior.mean for head in model.heads}
    total = np.sum([model.weight(head) * rewards[head.name] for head in model.heads], axis=0)
    variances = [head.posterior.variance(content) for head in model.heads]
    variance = np.sum(
        [model.weight(head) ** 2 * own for head, own in zip(model.heads, variances, strict=True)],
        axis=0,
    )
    parts = {
        name: np.sum(
            [
                model.weight(head) * (values[:, of] @ head.posterior.mean[of])
                for head in model.heads
            ],
            axis=0,
        )
        for g, name in enumerate(GROUPS)
        if (of := model.group == g).any()
    }
    better = np.mean(
        [
            head.calibration.apply(soften(rewards[head.name], own))
            for head, own in zip(model.heads, variances, strict=True)
        ],
        axis=0,
    )
    strange = (
        None
        if model.domain is None
        else unfamiliarity(model.domain, prompts, responses, looks(found))
    )
    return [
        Score(
            float(total[i]),
            float(np.sqrt(variance[i])),
            float(better[i]),
            inside(model.domain, strange, i),
            None if strange is None else float(strange[i]),
            {name: float(part[i]) for name, part in parts.items()},
            {name: float(value[i]) for name, value in rewards.items()},
        )
        for i in range(len(responses))
    ]


def inside(domain: Domain | None, strange: Array | None, row: int) -> bool | None:
    """Is a response inside the domain? None where no domain was kept."""
    return None if domain is None or strange is None else bool(strange[row] <= domain.threshold)


def prefers(
    model: RewardModel,
    prompts: Sequence[Sequence[str]],
    first: Sequence[str],
    second: Sequence[str],
    head: str = "",
) -> Array:
    """Calibrated P(raters choose the first over the second), their taste for form included; the
    posterior is integrated over.
    """
    chosen = head_of(model, head)
    difference = scaled(inputs(model, prompts, first) - inputs(model, prompts, second))
    return chosen.calibration.apply(
        soften(difference @ chosen.posterior.mean, chosen.posterior.variance(difference))
    )
