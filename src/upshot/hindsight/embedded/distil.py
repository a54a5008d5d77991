"""Distilling a better judge's verdicts on the user's own corpus into the embedded judge.

A ridge regression of the teacher's score on what the embedded judge sees: its own logit, its named
features, and the hashed words of the response and the next message. The penalty, and whether words
help, are chosen by cross-validation over threads; where nothing helps, nothing is learned.
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
from upshot.stats.sampling import assign_folds

Numbers = NDArray[np.float64]
MIN_RESPONSES = 40
"""Responses with a teacher's score below which nothing is learned."""
_STRENGTHS = (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
_FOLDS = 5
"""Of cross-validation, whole threads each."""
_MAX_SLOTS = 4_000
"""Words that are stored, those with the largest weights: about 100 kB."""
_MIN_TEXTS = 3
"""Texts that a word must occur in: the weight of a rarer one is noise."""
_WORD_STRENGTHS = (4.0, 12.0, 40.0)
_MAX_ERROR_RATIO = 0.99
"""Words are used where they lower the error to this share or less."""


class Distilled(msgspec.Struct, frozen=True):
    """What was learned, ready to be stored."""

    names: tuple[str, ...]
    """Features, which follow the judge's own logit and probability."""
    centre: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float
    slots: dict[int, float] = {}
    """Weights of hashed words and word pairs."""

    def scores(self, features: Features, logits: Array) -> Array:
        """P(helped) of each response."""
        x = _feature_columns(features, logits, self.names)
        out = self.bias + ((x - np.array(self.centre)) / np.array(self.scale)) @ np.array(
            self.weights
        )
        if self.slots:
            table = np.zeros(1 << 16, np.float32)
            table[list(self.slots)] = list(self.slots.values())
            out = out + _word_scores(features, table)
        return np.clip(out, 0.02, 0.98).astype(np.float32)

    def version(self) -> str:
        """A short hash of what was learned."""
        return hashlib.blake2b(msgspec.json.encode(self), digest_size=4).hexdigest()


class Lesson(msgspec.Struct, frozen=True):
    """The gain of distillation, cross-validated by thread."""

    responses: int
    threads: int
    error_before: float
    """Mean squared difference from the teacher."""
    error_after: float
    words: bool
    """Whether words helped and are used."""


class TeachingRows(NamedTuple):
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
    """1 / P(the teacher judged it): responses chosen for a reason count once, random ones stand for
    the rest.
    """


def make_teaching_rows(
    features: Features,
    logits: Array,
    rows: NDArray[np.int64],
    score: Numbers,
    group: NDArray[np.object_],
    *,
    weight: Numbers | None = None,
) -> TeachingRows:
    """What the embedded judge sees of the responses in `rows`, with the teacher's scores."""
    columns = _feature_columns(features, logits, features.names)[rows]
    return TeachingRows(
        features.names,
        columns,
        _terms_of(features).take(rows),
        columns[:, 1],
        score,
        group,
        np.ones(len(rows)) if weight is None else weight,
    )


def distil(lessons: Sequence[TeachingRows], seed: int = 0) -> tuple[Distilled | None, Lesson]:
    """Learn from the teacher's scores; None where there are too few, or nothing helps."""
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
    if len(target) < MIN_RESPONSES or threads < _FOLDS:
        return None, Lesson(len(target), threads, error, error, False)
    starts = np.cumsum([0, *(t.words.rows for t in lessons)]).astype(np.int32)
    word = adapt.Terms(
        np.concatenate([t.words.slot for t in lessons]),
        np.concatenate([t.words.row + at for t, at in zip(lessons, starts, strict=False)]),
        len(target),
    )
    fold, _ = assign_folds(groups, _FOLDS, seed)
    strength, after = min(
        ((s, _cross_validate(x, target, weight, fold, s)) for s in _STRENGTHS),
        key=lambda pair: _mse(pair[1], target, weight),
    )
    word_strength, with_words = min(
        ((s, _cross_validate_words(after, word, target, fold, s)) for s in _WORD_STRENGTHS),
        key=lambda pair: _mse(pair[1], target, weight),
    )
    use_words = _mse(with_words, target, weight) < _MAX_ERROR_RATIO * _mse(after, target, weight)
    best = _mse(with_words if use_words else after, target, weight)
    lesson = Lesson(len(target), threads, error, best, use_words)
    if best >= error:
        return None, lesson
    centre, scale, weights, bias = _fit_ridge(x, target, weight, strength)
    slots: dict[int, float] = {}
    if use_words:
        # The residual is cross-validated: on the rows it was fitted to, the regression leaves too
        # little for words to explain.
        table = _fit_word_ridge(word, target - after, np.ones(len(target), bool), word_strength)
        keep = np.argsort(-np.abs(table))[:_MAX_SLOTS]
        slots = {int(slot): float(table[slot]) for slot in keep if table[slot]}
    return Distilled(
        lessons[0].names,
        tuple(centre.tolist()),
        tuple(scale.tolist()),
        tuple(weights.tolist()),
        bias,
        slots,
    ), lesson


def _feature_columns(features: Features, logits: Array, names: Sequence[str]) -> Numbers:
    place = {name: i for i, name in enumerate(features.names)}
    chosen = features.values[:, [place[name] for name in names]]
    probability = 1 / (1 + np.exp(-np.clip(logits, -15, 15)))
    return np.column_stack([np.clip(logits, -6, 6), probability, chosen]).astype(float)


def _terms_of(features: Features) -> adapt.Terms:
    return adapt.hash_terms(features.words, features.later[:, 0], features.answers)


def _word_scores(features: Features, table: NDArray[np.float32]) -> Numbers:
    return adapt.apply_weights(_terms_of(features), table)


def _mse(guess: Numbers, target: Numbers, weight: Numbers) -> float:
    return float(np.average((np.clip(guess, 0, 1) - target) ** 2, weights=weight))


def _fit_ridge(
    x: Numbers, y: Numbers, weight: Numbers, strength: float
) -> tuple[Numbers, Numbers, NDArray[Any], float]:
    """Centre and scale of the columns, weights of the scaled columns, and bias."""
    centre: Numbers = np.average(x, axis=0, weights=weight)
    scale: Numbers = np.maximum(x.std(axis=0), 1e-3)
    z, mean = (x - centre) / scale, float(np.average(y, weights=weight))
    w = weight / weight.mean()
    penalty: Numbers = strength * np.eye(z.shape[1])
    penalty[:2, :2] *= 0.1  # shrinks the judge's own opinion less than new features
    target: Numbers = z.T @ (w * (y - mean))
    gram: Numbers = (z * w[:, None]).T @ z
    weights: NDArray[Any] = np.linalg.solve(gram + penalty, target)
    return centre, scale, weights, mean


def _cross_validate(
    x: Numbers, y: Numbers, weight: Numbers, fold: NDArray[np.int64], strength: float
) -> Numbers:
    predictions = np.zeros(len(y))
    for k in range(_FOLDS):
        rest = fold != k
        centre, scale, weights, bias = _fit_ridge(x[rest], y[rest], weight[rest], strength)
        predictions[~rest] = bias + ((x[~rest] - centre) / scale) @ weights
    return predictions


def _cross_validate_words(
    guess: Numbers, word: adapt.Terms, y: Numbers, fold: NDArray[np.int64], strength: float
) -> Numbers:
    predictions = guess.copy()
    for k in range(_FOLDS):
        rest = fold != k
        table = _fit_word_ridge(word, y - guess, rest, strength)
        predictions[~rest] += adapt.apply_weights(word, table)[~rest]
    return predictions


def _fit_word_ridge(
    word: adapt.Terms, residual: Numbers, teaches: NDArray[np.bool_], strength: float
) -> NDArray[np.float32]:
    return adapt.fit_ridge(
        word, residual.astype(np.float32), teaches, strength=strength, min_texts=_MIN_TEXTS
    )
