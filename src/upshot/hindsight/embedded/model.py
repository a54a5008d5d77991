"""The embedded judge's model: a logistic regression over named features, and a lexicon that is one
of them.

P(helped) = sigmoid(bias + Σ weight × (feature - centre) / scale). The weights are a JSON file that
anyone can read; the script that makes them is `bench/train_judge.py`, its model card
`docs/model-cards/embedded-judge.md`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from upshot.hindsight.embedded.features import Array, Features, Lexicon
from upshot.stats import words as tokens

NAME = "embedded/1"


class Weights(msgspec.Struct, frozen=True):
    """What the file holds."""

    bias: float
    features: dict[str, float]
    """Weight of each feature, in logits a unit."""
    lexicon: dict[str, float]
    """Weight of each word or pair of words in a user's message."""
    trained_on: list[str]


class Model(NamedTuple):
    """Weights ready for use."""

    bias: float
    weights: dict[str, float]
    lexicon: Lexicon
    version: str = NAME

    def contributions(self, found: Features) -> Array:
        """weight × value of each feature of each response, shape (responses, features), in logits."""
        return found.values * np.array(
            [self.weights.get(name, 0.0) for name in found.names], np.float32
        )

    def scores(self, found: Features) -> tuple[Array, Array, Array]:
        """(score, foresight, contributions); scores in [0, 1]."""
        parts = self.contributions(found)
        fore = self.bias + parts[:, ~found.hindsight].sum(axis=1)
        return _sigmoid(fore + parts[:, found.hindsight].sum(axis=1)), _sigmoid(fore), parts


def from_weights(weights: Weights) -> Model:
    """A model from what a file holds."""
    return Model(weights.bias, dict(weights.features), lexicon(weights.lexicon))


def lexicon(table: dict[str, float]) -> Lexicon:
    """A lexicon from words and pairs."""
    words = list(table)
    hashes = tokens.hashes_of(words)
    order = np.argsort(hashes)
    return Lexicon(hashes[order], np.array([table[words[i]] for i in order], np.float32))


@cache
def shipped() -> Model:
    """The model that comes with Upshot."""
    content = resources.files("upshot.hindsight.embedded").joinpath("weights.json").read_bytes()
    return from_weights(msgspec.json.decode(content, type=Weights))


def _sigmoid(logit: NDArray[np.float32] | Sequence[float]) -> Array:
    return (1.0 / (1.0 + np.exp(-np.clip(np.asarray(logit, np.float64), -30, 30)))).astype(
        np.float32
    )
