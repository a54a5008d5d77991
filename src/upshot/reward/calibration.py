"""From logits to calibrated probabilities: a temperature and a share of flipped labels.

Both are learned on rows that the fit was not trained on.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from upshot.stats.calibration import ece, reliability_bins
from upshot.stats.intervals import sigmoid

Array = NDArray[np.float64]
_SLOPES = np.geomspace(0.1, 4.0, 60)
"""Candidates, 6 % apart."""
_NOISES = np.linspace(0.0, 0.45, 46)
"""Candidates; at .5 labels say nothing."""


class Calibration(NamedTuple):
    """P = (1 − noise) σ(slope · logit) + noise (1 − σ(slope · logit))."""

    slope: float
    noise: float
    """Estimated share of labels that say the opposite of what their raters would on average."""
    error: float
    """Expected calibration error of the rows it was learned on, ten bins of equal size."""
    bins: tuple[tuple[float, float, int], ...]
    """Of each bin: mean probability, share that was right, rows."""

    def apply(self, logits: Array) -> Array:
        """Probabilities, in [noise, 1 − noise]."""
        right = sigmoid(self.slope * logits)
        return (1 - self.noise) * right + self.noise * (1 - right)


def soften(logits: Array, variance: Array) -> Array:
    """Logits with their Gaussian uncertainty integrated out (MacKay's approximation).

    >>> soften(np.array([2.0, 2.0]), np.array([0.0, 8.0])).round(2).tolist()
    [2.0, 0.98]
    """
    return logits / np.sqrt(1.0 + np.pi * variance / 8.0)


def calibrate(logits: Array, weight: Array) -> Calibration:
    """Maximum likelihood over a grid.

    `logits`: cross-fitted, positive where the model sides with the label.

    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=4000); y = np.where(rng.random(4000) < 1 / (1 + np.exp(-2 * z)), 1, -1)
    >>> 1.7 < calibrate(y * z, np.ones(4000)).slope < 2.3
    True
    """
    probability = sigmoid(_SLOPES[:, None] * logits[None])
    best, chosen = -np.inf, (1.0, 0.0)
    for noise in _NOISES:
        likelihood = (
            np.log(np.maximum((1 - noise) * probability + noise * (1 - probability), 1e-12))
            @ weight
        )
        at = int(likelihood.argmax())
        if likelihood[at] > best + 1.0:  # another parameter must pay for itself
            best, chosen = float(likelihood[at]), (float(_SLOPES[at]), float(noise))
    draft = Calibration(*chosen, 0.0, ())
    probability, right = draft.apply(np.abs(logits)), (logits > 0).astype(np.float64)
    bins = tuple((b.predicted, b.observed, b.size) for b in reliability_bins(probability, right))
    return draft._replace(error=ece(probability, right), bins=bins)
