"""The embedded judge's model: a logistic regression over named features, one of them a lexicon.

P(helped) = sigmoid(bias + Σ weight × feature). The weights are a readable JSON file, made by
`bench/train_judge.py`; the model card is `docs/model-cards/embedded-judge.md`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from upshot.hindsight.embedded.features import CODE, Array, Features, Lexicon
from upshot.records.signals import SIGNALS
from upshot.stats import word_hashes

NAME = "embedded/2"
_ADOPTION_WEIGHT = np.float32(0.5)
"""Of foreseen adoption in foresight: code that fits a request is likelier to help. Chosen on
RealHumanEval, where .4 to .6 rank copied responses alike.
"""


class Weights(msgspec.Struct, frozen=True):
    """Contents of the file of weights."""

    bias: float
    features: dict[str, float]
    """Weight of each feature, in logits per unit."""
    lexicon: dict[str, float]
    """Weight of each word or word pair in a user's message."""
    trained_on: list[str]


class Adoption(msgspec.Struct, frozen=True):
    """Contents of the file of weights for whether code is taken over."""

    bias: float
    features: dict[str, float]
    """Weight of each feature, in logits per unit."""
    trained_on: list[str]
    mean: float = 0.0
    """Of the logits that it was trained on."""


class Model(NamedTuple):
    """Weights ready for use."""

    bias: float
    weights: dict[str, float]
    lexicon: Lexicon
    version: str = NAME
    adoption: Adoption = Adoption(0.0, {}, [])

    def foresee_adoption(self, features: Features) -> Array:
        """P(taken over) in logits, before anything follows; nan where there is no code to take."""
        code = [features.names.index(name) for name in CODE]
        weights = np.array([self.adoption.features.get(name, 0.0) for name in CODE], np.float32)
        logits = features.values[:, code] @ weights + np.float32(self.adoption.bias)
        has_code = features.values[:, code[0]] > 0
        return np.where(has_code, logits, np.float32(np.nan)).astype(np.float32)

    def contributions(self, features: Features) -> Array:
        """weight × value of each feature, shape (responses, features), in logits."""
        return features.values * np.array(
            [self.weights.get(name, 0.0) for name in features.names], np.float32
        )

    def scores(self, features: Features) -> tuple[Array, Array, Array]:
        """(score, foresight, contributions); scores in [0, 1]."""
        parts = self.contributions(features)
        before, after = (
            np.ascontiguousarray(parts[:, which])
            for which in (~features.hindsight, features.hindsight)
        )  # so that a row's sum does not depend on the number of rows
        taken = np.nan_to_num(self.foresee_adoption(features) - self.adoption.mean)
        foresight = self.bias + before.sum(axis=1) + _ADOPTION_WEIGHT * taken
        return (
            _sigmoid(foresight + after.sum(axis=1)),
            _sigmoid(foresight),
            parts,
        )


def make_model(weights: Weights) -> Model:
    """A model from the contents of a file; signals without a weight there get their prior."""
    priors = {f"event_{name}": kind.prior for name, kind in SIGNALS.items() if kind.prior}
    return Model(weights.bias, priors | weights.features, make_lexicon(weights.lexicon))


def make_lexicon(table: dict[str, float]) -> Lexicon:
    """A lexicon from words and word pairs."""
    words = list(table)
    hashes = word_hashes.hash_vocabulary(words)
    order = np.argsort(hashes)
    return Lexicon(hashes[order], np.array([table[words[i]] for i in order], np.float32))


@cache
def load_shipped_model() -> Model:
    """The model that comes with Upshot."""
    folder = resources.files("upshot.hindsight.embedded")
    content = folder.joinpath("weights.json").read_bytes()
    adoption = folder.joinpath("adoption.json").read_bytes()
    return make_model(msgspec.json.decode(content, type=Weights))._replace(
        adoption=msgspec.json.decode(adoption, type=Adoption)
    )


def _sigmoid(logit: NDArray[np.float32] | Sequence[float]) -> Array:
    return (1.0 / (1.0 + np.exp(-np.clip(np.asarray(logit, np.float64), -30, 30)))).astype(
        np.float32
    )
