"""Adaptation to an unlabelled corpus: the cues label it, a small regression over all words learns from those labels.

Cues are few and general; a corpus has its own ways of saying that things went well. So the judge's own scores of a
sample are regressed (ridge) on the words and pairs of words of the next message and of the response itself. The two
halves of the users teach each other, so that nobody's words are judged by weights that learned from them.

The idea is that of labelling functions and a discriminative model (Ratner et al., 2017, Snorkel); what it gained is in
docs/lab.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from upshot import tokens
from upshot.hindsight.features import Array, Lexicon

LEAST = 400
"""Fewer responses with a next message than this teach nothing reliable: no adaptation."""
MOST = 30_000
"""Responses sampled; more change little."""
_LEAST_TEXTS = 4
_RIDGE = 3.0
_STEPS = 60
_READ = 600
_SALT = np.uint64(0x51ED270B7F4A7C15)
"""Keeps the words of a response apart from those of the message after it."""


class Adaptation(NamedTuple):
    """Weights of words, two halves: users of half 0 are judged by what half 1 taught and the other way round."""

    halves: tuple[Lexicon, Lexicon]
    spread: tuple[float, float]
    """Standard deviation of the raw output on the sample, for each half."""
    gain: float
    """Logits for one standard deviation."""

    def logits(self, following: Sequence[str], responses: Sequence[str], half: NDArray[np.int64]) -> Array:
        """What to add to each response's logit; 0 where no message follows."""
        found = _terms(following, responses)
        out = np.zeros(len(responses), np.float32)
        for which in (0, 1):
            lexicon = self.halves[1 - which]
            raw = _apply(found, lexicon) / max(self.spread[1 - which], 1e-6)
            mine = half == which
            out[mine] = np.clip(raw[mine], -3, 3) * self.gain
        out[np.array([not text for text in following], bool)] = 0.0
        return out


class _Terms(NamedTuple):
    hashes: NDArray[np.uint64]
    row: NDArray[np.int64]
    rows: int


def _terms(following: Sequence[str], responses: Sequence[str]) -> _Terms:
    """The different words and pairs of each example."""
    hashes: list[NDArray[np.uint64]] = []
    rows: list[NDArray[np.int64]] = []
    for texts, salt in ((following, np.uint64(0)), (responses, _SALT)):
        words = tokens.words(texts, _READ)
        for part in (words, tokens.pairs(words)):
            hashes.append(part.hashes ^ salt)
            rows.append(part.text)
    every, row = np.concatenate(hashes), np.concatenate(rows)
    order = np.lexsort((every, row))
    every, row = every[order], row[order]
    first = np.ones(len(every), bool)
    first[1:] = (every[1:] != every[:-1]) | (row[1:] != row[:-1])
    return _Terms(every[first], row[first], len(responses))


def _apply(found: _Terms, lexicon: Lexicon) -> NDArray[np.float64]:
    if not len(lexicon.hashes):
        return np.zeros(found.rows)
    at = np.minimum(np.searchsorted(lexicon.hashes, found.hashes), len(lexicon.hashes) - 1)
    weight = np.where(lexicon.hashes[at] == found.hashes, lexicon.weights[at], 0.0)
    norm = np.sqrt(np.maximum(np.bincount(found.row, minlength=found.rows), 1))
    return np.bincount(found.row, weight, minlength=found.rows) / norm


def learn(
    following: Sequence[str], responses: Sequence[str], logits: Array, half: NDArray[np.int64], gain: float = 0.8
) -> Adaptation | None:
    """Learn from a sample: the text after each response, the response, the judge's logit and the user's half.

    Returns None where the sample is too small or says nothing.
    """
    if len(responses) < LEAST or np.std(logits) < 1e-3:
        return None
    found = _terms(following, responses)
    lexicons: list[Lexicon] = []
    spread: list[float] = []
    for which in (0, 1):
        lexicon = _ridge(found, logits, half == which)
        lexicons.append(lexicon)
        spread.append(float(np.std(_apply(found, lexicon)[half != which])) if (half != which).any() else 1.0)
    return Adaptation((lexicons[0], lexicons[1]), (spread[0], spread[1]), gain)


def _ridge(found: _Terms, target: Array, teaches: NDArray[np.bool_]) -> Lexicon:
    """Ridge regression by conjugate gradients on the terms of the rows that teach."""
    keep = teaches[found.row]
    hashes, rows = found.hashes[keep], found.row[keep]
    vocabulary, column, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    often = counts >= _LEAST_TEXTS
    if not often.any():
        return Lexicon(np.zeros(0, np.uint64), np.zeros(0, np.float32))
    number = np.cumsum(often) - 1
    used = often[column]
    rows, column = rows[used], number[column[used]]
    size = int(often.sum())
    idf = np.log(teaches.sum() / counts[often]) + 1.0
    norm = np.sqrt(np.maximum(np.bincount(found.row, minlength=found.rows), 1))
    value = (idf[column] / norm[rows]) * 0.4
    centred = np.where(teaches, target - target[teaches].mean(), 0.0)

    def forward(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(rows, value * weights[column], minlength=found.rows)

    def backward(residual: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(column, value * residual[rows], minlength=size)

    weights = np.zeros(size)
    residual = backward(centred)
    direction, power = residual.copy(), float(residual @ residual)
    for _ in range(_STEPS):
        if power < 1e-9:
            break
        step = backward(forward(direction)) + _RIDGE * direction
        length = power / float(direction @ step)
        weights += length * direction
        residual -= length * step
        fresh = float(residual @ residual)
        direction = residual + (fresh / power) * direction
        power = fresh
    return Lexicon(vocabulary[often], (weights * idf * 0.4).astype(np.float32))
