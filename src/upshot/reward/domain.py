"""Is an input of the kind that a reward model was trained on? A score with a stated false-alarm rate.

Unfamiliarity: how improbable the words, and the pairs of words, of context, request and response are among the training
texts; six sums, each in units of its own spread and of the root of the text's length, added up. The threshold is a quantile over
texts whose prompts were held out, so that a new text of the same kind is flagged at that rate. Distances between features
(Mahalanobis) were tried and are worse: a narrow domain lies inside a wide one (`docs/lab.md`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from upshot import tokens

Array = NDArray[np.float64]
_PLACES = 1 << 15
_BYTES = 4_000
_CONTEXT = 1_000
_SMALL = 0.2
"""Added to every count."""


class Vocabulary(NamedTuple):
    """Counts of hashed words or pairs in one kind of text."""

    counts: NDArray[np.float32]
    usual: float
    """Mean log probability."""
    spread: float


class Domain(NamedTuple):
    """What training inputs look like."""

    vocabularies: tuple[Vocabulary, ...]
    threshold: float
    """Unfamiliarity above it is out of the domain."""
    false_alarms: float
    """Share of inputs of the same kind that lie above it."""


def learn(prompts: Sequence[Sequence[str]], responses: Sequence[str], false_alarms: float = 0.05) -> Domain:
    """Learn what is usual. `prompts`: the texts of each prompt's messages.

    >>> usual = learn([["sort a list"], ["reverse a list"], ["join two lists"]] * 9, ["use sorted", "use reversed", "use +"] * 9)
    >>> a, b = unfamiliarity(usual, [["sort a list"], ["my dog is ill"]], ["use sorted", "call the vet"])
    >>> bool(a < b)
    True
    """
    half = np.array([hashlib.blake2b("\n".join(texts).encode("utf-8", "replace")).digest()[0] & 1 for texts in prompts])
    held: list[Array] = []
    for part in (0, 1):
        known, other = np.flatnonzero(half == part).tolist(), np.flatnonzero(half != part).tolist()
        if known and other:
            learned = _vocabularies([prompts[i] for i in known], [responses[i] for i in known])
            held.append(_score(learned, [prompts[i] for i in other], [responses[i] for i in other]))
    vocabularies = _vocabularies(prompts, responses)
    scores = np.concatenate(held) if held else _score(vocabularies, prompts, responses)
    return Domain(vocabularies, float(np.quantile(scores, 1 - false_alarms)), false_alarms)


def unfamiliarity(domain: Domain, prompts: Sequence[Sequence[str]], responses: Sequence[str]) -> Array:
    """How unusual each input is; above `domain.threshold` it is out of the domain."""
    return _score(domain.vocabularies, prompts, responses)


def _words(prompts: Sequence[Sequence[str]], responses: Sequence[str]) -> list[tokens.Words]:
    context = ["\n".join(texts)[-_CONTEXT:] for texts in prompts]
    request = [texts[-1] if texts else "" for texts in prompts]
    found = [tokens.words(texts, _BYTES) for texts in (context, request, responses)]
    return [part for words in found for part in (tokens.content(words), tokens.pairs(words))]


def _place(words: tokens.Words) -> NDArray[np.int64]:
    return ((words.hashes >> np.uint64(11)) % np.uint64(_PLACES)).astype(np.int64)


def _vocabularies(prompts: Sequence[Sequence[str]], responses: Sequence[str]) -> tuple[Vocabulary, ...]:
    out: list[Vocabulary] = []
    for words in _words(prompts, responses):
        place = _place(words)
        count = np.bincount(place, minlength=_PLACES).astype(np.float32)
        _, inverse, own = np.unique(words.text.astype(np.int64) * _PLACES + place, return_inverse=True, return_counts=True)
        logs = _logs(count[place] - own[inverse], float(count.sum()))  # a text is not familiar because it is there itself
        size = np.bincount(words.text, minlength=words.texts)
        usual = float(logs.mean()) if len(logs) else 0.0
        errors = (np.bincount(words.text, logs, minlength=words.texts) - usual * size) / np.sqrt(np.maximum(size, 1))
        out.append(Vocabulary(count, usual, max(float(errors.std()), 1e-3)))
    return tuple(out)


def _logs(count: Array | NDArray[np.float32], total: float) -> Array:
    return np.log((count + _SMALL) / (total + _SMALL * _PLACES))


def _score(vocabularies: Sequence[Vocabulary], prompts: Sequence[Sequence[str]], responses: Sequence[str]) -> Array:
    total = np.zeros(len(responses))
    for words, known in zip(_words(prompts, responses), vocabularies, strict=True):
        logs = _logs(known.counts[_place(words)], float(known.counts.sum()))
        size = np.bincount(words.text, minlength=words.texts)
        sums = np.bincount(words.text, logs, minlength=words.texts)
        total -= (sums - known.usual * size) / np.sqrt(np.maximum(size, 1)) / known.spread
    return total
