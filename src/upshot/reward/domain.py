"""Whether an input is of the kind that a reward model was trained on, at a stated false-alarm rate.

Unfamiliarity adds up how improbable the words, and the pairs of words, of context, request and
response are among the training texts, and how far the form of request and response lies from theirs
(Mahalanobis); each in units of its spread over held-out dialogues. The threshold is a quantile of
held-out dialogues too, so that a new one of the same kind is flagged at that rate. Form alone
detects less (a narrow domain lies inside a wide one), and so do words alone (`docs/lab.md`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from upshot.reward.features import request_form
from upshot.stats import word_hashes

Array = NDArray[np.float64]
_PLACES = 1 << 15
"""Hash buckets of a vocabulary: 128 kB in memory each."""
_MAX_BYTES = 4_000
"""Of a text that are read."""
_CONTEXT = 1_000
"""Characters at the end of a prompt that count as its context."""
_PSEUDOCOUNT = 0.2
"""Added to every count, so that new words are improbable and not impossible."""
_FORMS = 2.0
"""Weight of a form's distance; a vocabulary's is 1."""
_CLIP = 5.0
"""Form is cut off at so many spreads."""
_MIN_SHRINKAGE = 0.1
"""Of a correlation matrix toward the identity."""
_MIN_SPREAD = 1e-3
"""Least spread that is divided by."""


class Vocabulary(NamedTuple):
    """Counts of hashed words or pairs in one kind of text."""

    counts: NDArray[np.float32]
    usual: float
    """Mean log probability in held-out texts."""
    spread: float


class Shape(NamedTuple):
    """A Gaussian over the form of one kind of text."""

    centre: Array
    scale: Array
    precision: Array
    usual: float
    """Mean distance of held-out texts."""
    spread: float


class Domain(NamedTuple):
    """What training inputs look like."""

    vocabularies: tuple[Vocabulary, ...]
    shapes: tuple[Shape, ...]
    threshold: float
    """Unfamiliarity above it is out of the domain."""
    false_alarms: float
    """Share of inputs of the same kind that lie above it."""


class _Input(NamedTuple):
    words: list[word_hashes.Words]
    forms: list[Array]

    def take(self, rows: NDArray[np.int64]) -> _Input:
        return _Input(
            [words.take(rows) for words in self.words], [form[rows] for form in self.forms]
        )


def learn(
    prompts: Sequence[Sequence[str]],
    responses: Sequence[str],
    surface: NDArray[np.float32],
    false_alarms: float = 0.05,
) -> Domain:
    """Learn what the inputs look like.

    `prompts`: the texts of each prompt's messages; `surface`: the responses'
    `features.surface_features`.
    """
    inputs = _make_input(prompts, responses, surface)
    half = np.array(
        [
            hashlib.blake2b((texts[0] if texts else "").encode("utf-8", "replace")).digest()[0] & 1
            for texts in prompts
        ]
    )
    parts = [np.flatnonzero(half == side) for side in (0, 1)]
    if min(map(len, parts)) == 0:
        parts = (
            [np.arange(0, len(half), 2), np.arange(1, len(half), 2)]
            if len(half) > 1
            else [np.arange(1)] * 2
        )
    crossed = [
        (inputs.take(parts[0]), inputs.take(parts[1])),
        (inputs.take(parts[1]), inputs.take(parts[0])),
    ]
    vocabularies = tuple(
        _vocabulary(words, [(a.words[k], b.words[k]) for a, b in crossed])
        for k, words in enumerate(inputs.words)
    )
    shapes = tuple(
        _shape(form, [(a.forms[k], b.forms[k]) for a, b in crossed])
        for k, form in enumerate(inputs.forms)
    )
    distances = [
        _score(
            [v._replace(counts=_counts(training.words[k])) for k, v in enumerate(vocabularies)],
            [Shape(*_gaussian(training.forms[k]), s.usual, s.spread) for k, s in enumerate(shapes)],
            other,
        )
        for training, other in crossed
    ]
    return Domain(
        vocabularies,
        shapes,
        float(np.quantile(np.concatenate(distances), 1 - false_alarms)),
        false_alarms,
    )


def extend_domain(
    domain: Domain,
    prompts: Sequence[Sequence[str]],
    responses: Sequence[str],
    surface: NDArray[np.float32],
) -> Domain:
    """The domain with the words of more inputs; forms, spreads and threshold stay."""
    inputs = _make_input(prompts, responses, surface)
    vocabularies = tuple(
        v._replace(counts=v.counts + _counts(words))
        for v, words in zip(domain.vocabularies, inputs.words, strict=True)
    )
    return domain._replace(vocabularies=vocabularies)


def unfamiliarity(
    domain: Domain,
    prompts: Sequence[Sequence[str]],
    responses: Sequence[str],
    surface: NDArray[np.float32],
) -> Array:
    """How unusual each input is; above `domain.threshold` it is out of the domain."""
    return _score(domain.vocabularies, domain.shapes, _make_input(prompts, responses, surface))


def _make_input(
    prompts: Sequence[Sequence[str]], responses: Sequence[str], surface: NDArray[np.float32]
) -> _Input:
    context = ["\n".join(texts)[-_CONTEXT:] for texts in prompts]
    request = [texts[-1] if texts else "" for texts in prompts]
    hashed = [word_hashes.hash_words(texts, _MAX_BYTES) for texts in (context, request, responses)]
    words = [
        part
        for words in hashed
        for part in (word_hashes.drop_stop_words(words), word_hashes.hash_pairs(words))
    ]
    return _Input(words, [surface.astype(np.float64), request_form(request).astype(np.float64)])


def _place(words: word_hashes.Words) -> NDArray[np.int64]:
    return ((words.hashes >> np.uint64(11)) % np.uint64(_PLACES)).astype(np.int64)


def _counts(words: word_hashes.Words) -> NDArray[np.float32]:
    return np.bincount(_place(words), minlength=_PLACES).astype(np.float32)


def _sums(counts: NDArray[np.float32], words: word_hashes.Words) -> tuple[Array, Array]:
    """Sum of the log probabilities of each text's words, and their number."""
    logs = np.log(
        (counts[_place(words)] + _PSEUDOCOUNT) / (float(counts.sum()) + _PSEUDOCOUNT * _PLACES)
    )
    sums, size = (
        np.bincount(words.text, logs, minlength=words.texts),
        np.bincount(words.text, minlength=words.texts),
    )
    return sums.astype(np.float64), size.astype(np.float64)


def _vocabulary(
    words: word_hashes.Words, crossed: Sequence[tuple[word_hashes.Words, word_hashes.Words]]
) -> Vocabulary:
    sums, sizes = (
        np.concatenate(part)
        for part in zip(
            *(_sums(_counts(training), other) for training, other in crossed), strict=True
        )
    )
    usual = float(sums.sum() / max(sizes.sum(), 1))
    errors = (sums - usual * sizes) / np.sqrt(np.maximum(sizes, 1))
    return Vocabulary(_counts(words), usual, max(float(errors.std()), _MIN_SPREAD))


def _shape(form: Array, crossed: Sequence[tuple[Array, Array]]) -> Shape:
    distances = np.concatenate(
        [_distance(other, *_gaussian(training)) for training, other in crossed]
    )
    return Shape(
        *_gaussian(form), float(distances.mean()), max(float(distances.std()), _MIN_SPREAD)
    )


def _gaussian(form: Array) -> tuple[Array, Array, Array]:
    """Centre, scale and inverse correlation, shrunk to the identity by how few rows there are."""
    centre, scale = form.mean(axis=0), np.maximum(form.std(axis=0), _MIN_SPREAD)
    z = np.clip((form - centre) / scale, -_CLIP, _CLIP)
    shrink = max(_MIN_SHRINKAGE, min(1.0, form.shape[1] / len(form)))
    correlation = (1 - shrink) * (z.T @ z) / len(z) + shrink * np.eye(form.shape[1])
    return centre, scale, cast("Array", np.linalg.inv(correlation))


def _distance(form: Array, centre: Array, scale: Array, precision: Array) -> Array:
    z = np.clip((form - centre) / scale, -_CLIP, _CLIP)
    return np.sqrt(((z @ precision) * z).sum(axis=1) / form.shape[1])


def _score(vocabularies: Sequence[Vocabulary], shapes: Sequence[Shape], inputs: _Input) -> Array:
    total = np.zeros(len(inputs.forms[0]))
    for words, vocabulary in zip(inputs.words, vocabularies, strict=True):
        sums, size = _sums(vocabulary.counts, words)
        total -= (sums - vocabulary.usual * size) / np.sqrt(np.maximum(size, 1)) / vocabulary.spread
    for form, shape in zip(inputs.forms, shapes, strict=True):
        total += (
            _FORMS
            * (_distance(form, shape.centre, shape.scale, shape.precision) - shape.usual)
            / shape.spread
        )
    return total
