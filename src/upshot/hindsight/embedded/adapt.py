"""Adaptation to an unlabelled corpus: the cues label it, a small regression over all words learns
from those labels.

Cues are few and general; a corpus has its own ways of saying that things went well. So the judge's
own scores of a sample are regressed (ridge) on the words and pairs of words of the next message and
of the response itself. The two halves of the users teach each other, so that nobody's words are
judged by weights that learned from them.

The idea is that of labelling functions and a discriminative model (Ratner et al., 2017, Snorkel);
what it gained is in docs/lab.md.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from upshot.hindsight.embedded.features import Array
from upshot.stats import words as tokens

LEAST = 400
"""Fewer responses with a next message than this teach nothing reliable: no adaptation."""
MOST = 6_000
"""Responses sampled; more change little."""
_LEAST_TEXTS = 4
_RIDGE = 12.0
_STEPS = 8
_CONVERGED = 1e-6
_SCALE = 0.4
_READ = 300
_SLOTS = 1 << 16
"""Words and pairs are hashed to so many weights; two that meet share one."""
_SALT = np.uint64(0x51ED270B7F4A7C15)
"""Keeps the words of a response apart from those of the message after it."""


class Adaptation(NamedTuple):
    """Weights of words, two halves: users of half 0 are judged by what half 1 taught and the other
    way round.
    """

    halves: tuple[NDArray[np.float32], NDArray[np.float32]]
    spread: tuple[float, float]
    """Standard deviation of the raw output on the sample, for each half."""
    gain: float
    """Logits for one standard deviation."""

    def logits(self, found: Terms, half: NDArray[np.int64]) -> Array:
        """What to add to each response's logit."""
        out = np.zeros(found.rows, np.float32)
        for which in (0, 1):
            raw = apply(found, self.halves[1 - which]) / max(self.spread[1 - which], 1e-6)
            mine = half == which
            out[mine] = np.clip(raw[mine], -3, 3) * self.gain
        return out


class Terms(NamedTuple):
    """The words and pairs of examples, hashed to slots."""

    slot: NDArray[np.int32]
    row: NDArray[np.int32]
    rows: int

    def of(self, rows: NDArray[np.int64]) -> Terms:
        """The terms of some of the examples, numbered anew in that order."""
        place = np.full(self.rows, -1, np.int32)
        place[rows] = np.arange(len(rows), dtype=np.int32)
        mine = place[self.row]
        keep = mine >= 0
        return Terms(self.slot[keep], mine[keep], len(rows))


def terms(words: tokens.Words, following: NDArray[np.int64], responses: NDArray[np.int64]) -> Terms:
    """Each example's words: of the message after a response (-1: none), with pairs, and of the
    response, as texts of `words`.
    """
    slots: list[NDArray[np.int32]] = []
    rows: list[NDArray[np.int32]] = []
    first = words.upto(_READ)
    after = first.of(following)
    for parts, salt in (
        ((after, tokens.pairs(after)), np.uint64(0)),
        ((first.of(responses),), _SALT),
    ):
        for part in parts:
            slots.append(
                ((part.hashes ^ salt) >> np.uint64(20) & np.uint64(_SLOTS - 1)).astype(np.int32)
            )
            rows.append(part.text)
    return Terms(np.concatenate(slots), np.concatenate(rows), len(responses))


def apply(found: Terms, weights: NDArray[np.float32]) -> NDArray[Any]:
    """Sum of the weights of each example's terms, over the root of their number."""
    norm = np.sqrt(np.maximum(np.bincount(found.row, minlength=found.rows), 1))
    return np.bincount(found.row, weights[found.slot], minlength=found.rows) / norm


def learn(
    found: Terms, logits: Array, half: NDArray[np.int64], weight: NDArray[np.float64] | None = None
) -> Adaptation | None:
    """Learn from a sample: the terms of each example, the judge's logit, the user's half, and how
    much each counts.

    Returns None where the sample is too small or says nothing.
    """
    if found.rows < LEAST or np.std(logits) < 1e-3:
        return None
    weight = np.ones(found.rows) if weight is None else weight
    halves: list[NDArray[np.float32]] = []
    spread: list[float] = []
    for which in (0, 1):
        weights = ridge(found, logits, half == which, weight=weight)
        halves.append(weights)
        others = half != which
        spread.append(
            _deviation(apply(found, weights)[others], weight[others]) if others.any() else 1.0
        )
    return Adaptation((halves[0], halves[1]), (spread[0], spread[1]), _deviation(logits, weight))


def _deviation(values: NDArray[Any], weight: NDArray[np.float64]) -> float:
    return float(
        np.sqrt(np.average((values - np.average(values, weights=weight)) ** 2, weights=weight))
    )


def ridge(
    found: Terms,
    target: Array,
    teaches: NDArray[np.bool_],
    strength: float = _RIDGE,
    least_texts: int = _LEAST_TEXTS,
    weight: NDArray[np.float64] | None = None,
) -> NDArray[np.float32]:
    """Ridge regression by conjugate gradients on the terms of the rows that teach; a weight for
    each slot.
    """
    keep = teaches[found.row]
    column, rows = found.slot[keep], found.row[keep]
    scale = np.ones(found.rows) if weight is None else np.sqrt(weight)
    counts = np.bincount(column, scale[rows] ** 2, minlength=_SLOTS)
    often = counts >= least_texts
    used = often[column]
    rows, column = rows[used], column[used]
    if not len(rows):
        return np.zeros(_SLOTS, np.float32)
    idf = (
        np.where(often, np.log(np.maximum(teaches.sum() / np.maximum(counts, 1), 1.0)) + 1.0, 0.0)
        * _SCALE
    )
    norm = np.sqrt(np.maximum(np.bincount(found.row, minlength=found.rows), 1))
    value = idf[column] / norm[rows] * scale[rows]
    mean = np.average(target[teaches], weights=scale[teaches] ** 2)
    centred = np.where(teaches, (target - mean) * scale, 0.0)

    def forward(weights: NDArray[np.float64]) -> NDArray[Any]:
        return np.bincount(rows, value * weights[column], minlength=found.rows)

    def backward(residual: NDArray[np.float64]) -> NDArray[Any]:
        return np.bincount(column, value * residual[rows], minlength=_SLOTS)

    weights = np.zeros(_SLOTS)
    residual = backward(centred)
    direction, power = residual.copy(), float(residual @ residual)
    for _ in range(_STEPS):
        if power < _CONVERGED:
            break
        step = backward(forward(direction)) + strength * direction
        length = power / float(direction @ step)
        weights += length * direction
        residual -= length * step
        fresh = float(residual @ residual)
        direction = residual + (fresh / power) * direction
        power = fresh
    return (weights * idf).astype(np.float32)
