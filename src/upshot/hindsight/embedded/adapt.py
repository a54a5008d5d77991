"""Adaptation to an unlabelled corpus: cues label it, and a ridge regression over all words learns.

Cues are few and general; every corpus has its own ways of saying that things went well. So the
judge's own scores of a sample are regressed on the words and word pairs of the next message and of
the response itself. Each half of the users is judged by weights learned from the other half, so
that no words are scored by weights that were fitted to them.

The idea is that of labelling functions and a discriminative model (Ratner et al., 2017, Snorkel);
the gain is in docs/lab.md.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from upshot.hindsight.embedded.features import Array
from upshot.stats import word_hashes

MIN_RESPONSES = 400
"""Responses with a next message below which nothing reliable is learned: no adaptation."""
_MIN_EFFECTIVE = 100.0
"""Sum of the examples' weights below which nothing reliable is learned: where everybody says the
same few sentences there are no words to learn from.
"""
MAX_RESPONSES = 6_000
"""Sample size; more responses change little."""
_MIN_TEXTS = 4
"""Texts that a word must occur in: the weight of a rarer one is noise."""
_RIDGE = 12.0
"""Strength of the penalty, chosen on held-out corpora (docs/lab.md)."""
_STEPS = 8
"""Of conjugate gradients; stopping early regularises too, and more steps change little."""
_CONVERGED = 1e-6
"""Squared norm of the residual below which the iteration stops."""
_SCALE = 0.4
"""Of a term's value, so that the penalty acts on values of about 1."""
_MAX_BYTES = 300
"""Of each text: what users say about an answer stands at the start."""
SLOTS = 1 << 16
"""Number of weights that words and pairs are hashed to; colliding terms share one."""
_SALT = np.uint64(0x51ED270B7F4A7C15)
"""Keeps a response's words apart from those of the next message."""


class Adaptation(NamedTuple):
    """Weights of words: users of half 0 are judged by those learned from half 1, and vice versa."""

    halves: tuple[NDArray[np.float32], NDArray[np.float32]]
    spread: tuple[float, float]
    """Standard deviation of the raw output on the sample, per half."""
    gain: float
    """Logits per standard deviation."""

    def logits(self, terms: Terms, half: NDArray[np.int64]) -> Array:
        """What to add to each response's logit."""
        out = np.zeros(terms.rows, np.float32)
        for which in (0, 1):
            raw = apply_weights(terms, self.halves[1 - which]) / max(self.spread[1 - which], 1e-6)
            members = half == which
            out[members] = np.clip(raw[members], -3, 3) * self.gain
        return out


class Terms(NamedTuple):
    """The words and pairs of examples, hashed to slots."""

    slot: NDArray[np.int32]
    row: NDArray[np.int32]
    rows: int

    def take(self, rows: NDArray[np.int64]) -> Terms:
        """The terms of some of the examples, renumbered in that order."""
        place = np.full(self.rows, -1, np.int32)
        place[rows] = np.arange(len(rows), dtype=np.int32)
        new_row = place[self.row]
        keep = new_row >= 0
        return Terms(self.slot[keep], new_row[keep], len(rows))


def hash_terms(
    words: word_hashes.Words, following: NDArray[np.int64], responses: NDArray[np.int64]
) -> Terms:
    """The words and pairs of each next message (-1: none), and the words of each response.

    `following` and `responses` number the texts of `words`.
    """
    slots: list[NDArray[np.int32]] = []
    rows: list[NDArray[np.int32]] = []
    first = words.truncate(_MAX_BYTES)
    after = first.take(following)
    for parts, salt in (
        ((after, word_hashes.hash_pairs(after)), np.uint64(0)),
        ((first.take(responses),), _SALT),
    ):
        for part in parts:
            slots.append(
                ((part.hashes ^ salt) >> np.uint64(20) & np.uint64(SLOTS - 1)).astype(np.int32)
            )
            rows.append(part.text)
    return Terms(np.concatenate(slots), np.concatenate(rows), len(responses))


def apply_weights(terms: Terms, weights: NDArray[np.float32]) -> NDArray[Any]:
    """The sum of the weights of each example's terms, divided by the root of their number."""
    norm = np.sqrt(np.maximum(np.bincount(terms.row, minlength=terms.rows), 1))
    return np.bincount(terms.row, weights[terms.slot], minlength=terms.rows) / norm


def learn(
    terms: Terms, logits: Array, half: NDArray[np.int64], weight: NDArray[np.float64] | None = None
) -> Adaptation | None:
    """Learn from a sample; None where it is too small or its scores do not differ.

    `logits`: the judge's own; `half`: 0 or 1 by user; `weight`: how much each example counts.
    """
    if terms.rows < MIN_RESPONSES or np.std(logits) < 1e-3:
        return None
    weight = np.ones(terms.rows) if weight is None else weight
    if weight.sum() < _MIN_EFFECTIVE:
        return None
    halves: list[NDArray[np.float32]] = []
    spread: list[float] = []
    for which in (0, 1):
        weights = fit_ridge(terms, logits, half == which, weight=weight)
        halves.append(weights)
        others = half != which
        spread.append(
            _standard_deviation(apply_weights(terms, weights)[others], weight[others])
            if others.any()
            else 1.0
        )
    return Adaptation(
        (halves[0], halves[1]), (spread[0], spread[1]), _standard_deviation(logits, weight)
    )


def _standard_deviation(values: NDArray[Any], weight: NDArray[np.float64]) -> float:
    return float(
        np.sqrt(np.average((values - np.average(values, weights=weight)) ** 2, weights=weight))
    )


def fit_ridge(
    terms: Terms,
    target: Array,
    teaches: NDArray[np.bool_],
    *,
    strength: float = _RIDGE,
    min_texts: int = _MIN_TEXTS,
    weight: NDArray[np.float64] | None = None,
) -> NDArray[np.float32]:
    """Ridge regression by conjugate gradients on the rows that teach; returns a weight per slot.

    Written out here, since SciPy's solver would add a quarter of a second to every start of the
    judge.
    """
    keep = teaches[terms.row]
    column, rows = terms.slot[keep], terms.row[keep]
    scale = np.ones(terms.rows) if weight is None else np.sqrt(weight)
    counts = np.bincount(column, scale[rows] ** 2, minlength=SLOTS)
    often = counts >= min_texts
    used = often[column]
    rows, column = rows[used], column[used]
    if not len(rows):
        return np.zeros(SLOTS, np.float32)
    idf = (
        np.where(often, np.log(np.maximum(teaches.sum() / np.maximum(counts, 1), 1.0)) + 1.0, 0.0)
        * _SCALE
    )
    norm = np.sqrt(np.maximum(np.bincount(terms.row, minlength=terms.rows), 1))
    value = idf[column] / norm[rows] * scale[rows]
    mean = np.average(target[teaches], weights=scale[teaches] ** 2)
    centred = np.where(teaches, (target - mean) * scale, 0.0)

    def forward(weights: NDArray[np.float64]) -> NDArray[Any]:
        return np.bincount(rows, value * weights[column], minlength=terms.rows)

    def backward(residual: NDArray[np.float64]) -> NDArray[Any]:
        return np.bincount(column, value * residual[rows], minlength=SLOTS)

    weights = np.zeros(SLOTS)
    residual = backward(centred)
    direction, power = residual.copy(), float(residual @ residual)
    for _ in range(_STEPS):
        if power < _CONVERGED:
            break
        step = backward(forward(direction)) + strength * direction
        length = power / float(direction @ step)
        weights += length * direction
        residual -= length * step
        new_power = float(residual @ residual)
        direction = residual + (new_power / power) * direction
        power = new_power
    return (weights * idf).astype(np.float32)
