"""Is an input of the kind that a reward model was trained on?

A score with a stated false-alarm rate.

Unfamiliarity adds up how improbable the words, and the pairs of words, of context, request and
response are among the training texts, and how far the form of request and response lies from theirs
(Mahalanobis); each in units of how it varies over dialogues that were held out. The threshold is a
quantile of held-out dialogues too, so that a new one of the same kind is flagged at that rate. Form
alone finds less (a narrow domain lies inside a wide one), words alone too (`docs/lab.md`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from upshot.reward.features import request_form
from upshot.stats import word_hashes

Array = NDArray[np.float64]
_PLACES = 1 << 15
_BYTES = 4_000
_CONTEXT = 1_000
_SMALL = 0.2
"""Added to every count."""
_FORMS = 2.0
"""Weight of a form's distance; a vocabulary's is 1."""
_CLIP = 5.0
_LEAST_SHRINK = 0.1


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

    def of(self, rows: NDArray[np.int64]) -> _Input:
        return _Input(
            [words.take(rows) for words in self.words], [form[rows] for form in self.forms]
        )


def learn(
    prompts: Sequence[Sequence[str]],
    responses: Sequence[str],
    looks: NDArray[np.float32],
    false_alarms: float = 0.05,
) -> Domain:
    """Learn what is usual.

    `prompts`: the texts of each prompt's messages; `looks`: `features.surface_features` of the responses.
    """
    seen = _input(prompts, responses, looks)
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
    crossed = [(seen.of(parts[0]), seen.of(parts[1])), (seen.of(parts[1]), seen.of(parts[0]))]
    vocabularies = tuple(
        _vocabulary(words, [(a.words[k], b.words[k]) for a, b in crossed])
        for k, words in enumerate(seen.words)
    )
    shapes = tuple(
        _shape(form, [(a.forms[k], b.forms[k]) for a, b in crossed])
        for k, form in enumerate(seen.forms)
    )
    held = [
        _score(
            [v._replace(counts=_counts(known.words[k])) for k, v in enumerate(vocabularies)],
            [Shape(*_gaussian(known.forms[k]), s.usual, s.spread) for k, s in enumerate(shapes)],
            other,
        )
        for known, other in crossed
    ]
    return Domain(
        vocabularies,
        shapes,
        float(np.quantile(np.concatenate(held), 1 - false_alarms)),
        false_alarms,
    )


def extend_domain(
    domain: Domain,
    prompts: Sequence[Sequence[str]],
    responses: Sequence[str],
    looks: NDArray[np.float32],
) -> Domain:
    """The same with the words of more inputs; forms, spreads and threshold stay as they are."""
    seen = _input(prompts, responses, looks)
    vocabularies = tuple(
        v._replace(counts=v.counts + _counts(words))
        for v, words in zip(domain.vocabularies, seen.words, strict=True)
    )
    return domain._replace(vocabularies=vocabularies)


def unfamiliarity(
    domain: Domain,
    prompts: Sequence[Sequence[str]],
    responses: Sequence[str],
    looks: NDArray[np.float32],
) -> Array:
    """How unusual each input is; above `domain.threshold` it is out of the domain."""
    return _score(domain.vocabularies, domain.shapes, _input(prompts, responses, looks))


def _input(
    prompts: Sequence[Sequence[str]], responses: Sequence[str], looks: NDArray[np.float32]
) -> _Input:
    context = ["\n".join(texts)[-_CONTEXT:] for texts in prompts]
    request = [texts[-1] if texts else "" for texts in prompts]
    found = [word_hashes.hash_words(texts, _BYTES) for texts in (context, request, responses)]
    words = [
        part
        for words in found
        for part in (word_hashes.drop_stop_words(words), word_hashes.hash_pairs(words))
    ]
    return _Input(words, [looks.astype(np.float64), request_form(request).astype(np.float64)])


def _place(words: word_hashes.Words) -> NDArray[np.int64]:
    return ((words.hashes >> np.uint64(11)) % np.uint64(_PLACES)).astype(np.int64)


def _counts(words: word_hashes.Words) -> NDArray[np.float32]:
    return np.bincount(_place(words), minlength=_PLACES).astype(np.float32)


def _sums(counts: NDArray[np.float32], words: word_hashes.Words) -> tuple[Array, Array]:
    """Sum of the log probabilities of each text's words, and how many they are."""
    logs = np.log((counts[_place(words)] + _SMALL) / (float(counts.sum()) + _SMALL * _PLACES))
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
        for part in zip(*(_sums(_counts(known), other) for known, other in crossed), strict=True)
    )
    usual = float(sums.sum() / max(sizes.sum(), 1))
    errors = (sums - usual * sizes) / np.sqrt(np.maximum(sizes, 1))
    return Vocabulary(_counts(words), usual, max(float(errors.std()), 1e-3))


def _shape(form: Array, crossed: Sequence[tuple[Array, Array]]) -> Shape:
    distances = np.concatenate([_distance(other, *_gaussian(known)) for known, other in crossed])
    return Shape(*_gaussian(form), float(distances.mean()), max(float(distances.std()), 1e-3))


def _gaussian(form: Array) -> tuple[Array, Array, Array]:
    """Centre, scale and inverse correlation, shrunk to the identity by how few rows there are."""
    centre, scale = form.mean(axis=0), np.maximum(form.std(axis=0), 1e-3)
    z = np.clip((form - centre) / scale, -_CLIP, _CLIP)
    shrink = max(_LEAST_SHRINK, min(1.0, form.shape[1] / len(form)))
    return (
        centre,
        scale,
        np.linalg.inv((1 - shrink) * (z.T @ z) / len(z) + shrink * np.eye(form.shape[1])),
    )


def _distance(form: Array, centre: Array, scale: Array, precision: Array) -> Array:
    z = np.clip((form - centre) / scale, -_CLIP, _CLIP)
    return np.sqrt(((z @ precision) * z).sum(axis=1) / form.shape[1])


def _score(vocabularies: Sequence[Vocabulary], shapes: Sequence[Shape], seen: _Input) -> Array:
    total = np.zeros(len(seen.forms[0]))
    for words, known in zip(seen.words, vocabularies, strict=True):
        sums, size = _sums(known.counts, words)
        total -= (sums - known.usual * size) / np.sqrt(np.maximum(size, 1)) / known.spread
    for form, shape in zip(seen.forms, shapes, strict=True):
        total += (
            _FORMS
            * (_distance(form, shape.centre, shape.scale, shape.precision) - shape.usual)
            / shape.spread
        )
    return total
