"""Responses of two arms, the input of a comparison."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from upshot.stats.intervals import Numbers


class Units(NamedTuple):
    """Responses of two arms, one row each."""

    arm: NDArray[np.int64]
    """0: A, 1: B."""
    verdict: Numbers
    """The judge's score, in [0, 1]."""
    prompt: Numbers
    """What is known before the response, shape (rows, features)."""
    user: NDArray[np.object_]
    audited: NDArray[np.bool_]
    label: Numbers
    """In [0, 1] where audited, anything elsewhere."""
    rate: Numbers
    """Probability with which each row was drawn for the audit; independent of the outcome."""
    propensity: Numbers | None = None
    """Logged P(B | everything before the response); None: it is fitted on `prompt`."""
