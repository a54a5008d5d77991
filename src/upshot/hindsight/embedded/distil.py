"""Teaching the embedded judge what a better judge says of the user's own corpus.

A ridge regression of the teacher's score on what the embedded judge sees: its own logit, its named
features, and the words of the response and of the next message, hashed. How strongly it is held
back, and whether words help, is chosen by cross-validation over threads; where nothing helps,
nothing is learned.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from upshot.hindsight.embedded import adapt
from upshot.hindsight.embedded.features import Array, Features
from upshot.stats.sampling import cross_fit

Numbers = NDArray[np.float64]
LEAST = 40
"""Fewer taught responses than this teach nothing."""
_STRENGTHS = (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
_FOLDS = 5
_MOST_SLOTS = 4_000
_LEAST_TEXTS = 3
_WORD_STRENGTHS = (4.0, 12.0, 40.0)
_WORTH_WORDS = 0.99
"""Words are kept where they cut the error by a hundredth or more."""


class Distilled(msgspec.Struct, frozen=True):
    """What was learned, ready to be stored."""

    names: tuple[str, ...]
    """Features, after the judge's own logit."""
    centre: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float
    slots: dict[int, float] = {}
    """Weights of hashed words and pairs."""

    def scores(self, found: Features, logits: Array) -> Array:
        """P(helped) of each response."""
        x = _columns(found, logits, self.names)
        out = self.bias + ((x - np.array(self.centre)) / np.array(self.scale)) @ np.array(
            self.weights
        )
        if self.slots:
            table = np.zeros(1 << 16, np.float32)
            table[list(self.slots)] = list(self.slots.values())
            out = out + _words(found, table)
        return np.clip(out, 0.02, 0.98).astype(np.float32)

    def version(self) -> str:
        """A short name for what was learned."""
        return hashlib.blake2b(msgspec.json.encode(self), digest_size=4).hexdigest()


class Lesson(msgspec.Struct, frozen=True):
    """What distillation gained, cross-validated by thread."""

    responses: int
    threads: int
    error_before: float
    """Mean squared difference from the teacher."""
    error_after: float
    words: bool
    """Whether words were of use."""


class Taught(NamedTuple):
    """Responses that the teacher judged, one row each."""

    names: tuple[str, ...]
    columns: Numbers
    """Shape (rows, 2 + features)."""
    words: adapt.Terms
    plain: Numbers
    """The embedded judge's own score."""
    score: Numbers
    """The teacher's, in [0, 1]."""
    group: NDArray[np.object_]
    """Thread (or user) of each."""
    weight: Numbers
    """1 / P(it was taught): responses chosen for a reason count once, those drawn at random stand
    for the rest.
    """


def taught(
    found: Features,
    logits: Array,
    rows: NDArray[np.int64],
    score: Numbers,
    group: NDArray[np.object_],
    weight: Numbers | None = None,
) -> Taught:
    """What the embedded judge sees of the responses in `rows`, beside the teacher's scores."""
    columns = _columns(found, logits, found.names)[rows]
    return Taught(
        found.names,
        columns,
        _terms(found).of(rows),
        columns[:, 1],
        score,
        group,
        np.ones(len(rows)) if weight is None else weight,
    )


def distil(lessons: Sequence[Taught], seed: int = 0) -> tuple[Distilled | None, Lesson]:
    """Learn from the teacher's scores. None where there are too few or nothing helps."""
    lessons = [t for t in lessons if len(t.score)]
    if not lessons:
        return None, Lesson(0, 0, 0.0, 0.0, False)
    target, before, weight, x = (
        np.concatenate([getattr(t, name) for t in lessons])
        for name in ("score", "plain", "weight", "columns")
    )
    groups = np.concatenate([t.group for t in lessons]).astype(str)
    threads = len(np.unique(groups))
    error = _mse(before, target, weight)
    if len(target) < LEAST or threads < _FOLDS:
        return None, Lesson(len(target), threads, error, error, False)
    starts = np.cumsum([0, *(t.words.rows for t in lessons)]).astype(np.int32)
    word = adapt.Terms(
        np.concatenate([t.words.slot for t in lessons]),
        np.concatenate([t.words.row + at for t, at in zip(lessons, starts, strict=False)]),
        len(target),
    )
    fold, _ = cross_fit(groups, _FOLDS, seed)
    strength, after = min(
        ((s, _validated(x, target, weight, fold, s)) for s in _STRENGTHS),
        key=lambda pair: _mse(pair[1], target, weight),
    )
    word_strength, with_words = min(
        ((s, _with_words(after, word, target, fold, s)) for s in _WORD_STRENGTHS),
        key=lambda pair: _mse(pair[1], target, weight),
    )
    use_words = _mse(with_words, target, weight) < _WORTH_WORDS * _mse(after, target, weight)
    best = _mse(with_words if use_words else after, target, weight)
    lesson = Lesson(len(target), threads, error, best, use_words)
    if best >= error:
        return None, lesson
    centre, scale, weights, bias = _ridge(x, target, weight, strength)
    slots: dict[int, float] = {}
    if use_words:
        # Words explain what features left when validated: on its own lesson the regression leaves
        # too little.
        table = _word_ridge(word, target - after, np.ones(len(target), bool), word_strength)
        keep = np.argsort(-np.abs(table))[:_MOST_SLOTS]
        slots = {int(slot): float(table[slot]) for slot in keep if table[slot]}
    return Distilled(
        lessons[0].names,
        tuple(centre.tolist()),
        tuple(scale.tolist()),
        tuple(weights.tolist()),
        bias,
        slots,
    ), lesson


def _columns(found: Features, logits: Array, names: Sequence[str]) -> Numbers:
    place = {name: i for i, name in enumerate(found.names)}
    mine = found.values[:, [place[name] for name in names]]
    probability = 1 / (1 + np.exp(-np.clip(logits, -15, 15)))
    return np.column_stack([np.clip(logits, -6, 6), probability, mine]).astype(float)


def _terms(found: Features) -> adapt.Terms:
    return adapt.terms(found.words, found.later[:, 0], found.responses)


def _words(found: Features, table: NDArray[np.float32]) -> Numbers:
    return adapt.apply(_terms(found), table)


def _mse(guess: Numbers, target: Numbers, weight: Numbers) -> float:
    return float(np.average((np.clip(guess, 0, 1) - target) ** 2, weights=weight))


def _ridge(
    x: Numbers, y: Numbers, weight: Numbers, strength: float
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], float]:
    centre, scale = np.average(x, axis=0, weights=weight), np.maximum(x.std(axis=0), 1e-3)
    z, mean = (x - centre) / scale, float(np.average(y, weights=weight))
    w = weight / weight.mean()
    penalty = strength * np.eye(z.shape[1])
    penalty[:2, :2] *= 0.1  # the judge's own opinion is trusted more than a new weight
    return (
        centre,
        scale,
        np.linalg.solve((z * w[:, None]).T @ z + penalty, z.T @ (w * (y - mean))),
        mean,
    )


def _validated(
    x: Numbers, y: Numbers, weight: Numbers, fold: NDArray[np.int64], strength: float
) -> Numbers:
    out = np.zeros(len(y))
    for k in range(_FOLDS):
        rest = fold != k
        centre, scale, weights, bias = _ridge(x[rest], y[rest], weight[rest], strength)
        out[~rest] = bias + ((x[~rest] - centre) / scale) @ weights
    return out


def _with_words(
    guess: Numbers, word: adapt.Terms, y: Numbers, fold: NDArray[np.int64], strength: float
) -> Numbers:
    out = guess.copy()
    for k in range(_FOLDS):
        rest = fold != k
        table = _word_ridge(word, y - guess, rest, strength)
        out[~rest] += adapt.apply(word, table)[~rest]
    return out


def _word_ridge(
    word: adapt.Terms, residual: Numbers, teaches: NDArray[np.bool_], strength: float
) -> NDArray[np.float32]:
    return adapt.ridge(word, residual.astype(np.float32), teaches, strength, _LEAST_TEXTS)
