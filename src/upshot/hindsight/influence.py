"""How far one user, or a crowd that acts as one, can carry: by count, whatever their share of the log.

A few hundred poisoned rows suffice to teach a model at any size of the rest (Souly et al., 2025), so a share is no bound.
A cluster is a crowd that says the same words.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MOST_BY_USER = 50
"""Rows of one user that count in full."""
MOST_BY_CLUSTER = 3
"""Rows that say the same, from whomever, that count in full: fewer than teach a word anything."""
_BETWEEN = re.compile(r"[\W\d_]+")
_LEAST_WORDS = 4
"""Shorter messages ("thanks", "it works now") are everybody's."""
_CROWD = 20
"""Users who say the same long thing before they are reported."""


def bounded(groups: Sequence[Hashable] | NDArray[np.int64], most: int) -> NDArray[np.float64]:
    """A weight for each row such that no group's weights sum to more than `most`.

    >>> bounded(["a", "a", "a", "b"], 2).round(2).tolist()
    [0.67, 0.67, 0.67, 1.0]
    """
    numbers: dict[Hashable, int] = {}
    place = np.array([numbers.setdefault(group, len(numbers)) for group in groups], np.int64)
    count = np.bincount(place) if len(place) else np.zeros(0, np.int64)
    return np.minimum(1.0, most / np.maximum(count, 1))[place] if len(place) else np.zeros(0)


def same_words(text: str) -> str:
    """What two messages of a crowd have in common: their words, without numbers and marks; empty for short ones.

    >>> same_words("Perfect!! That fixed ORDER 12, thanks") == same_words("perfect, that fixed order 99 - thanks")
    True
    """
    words = _BETWEEN.sub(" ", text[:400].lower()).split()
    return " ".join(words) if len(words) >= _LEAST_WORDS else ""


def weights(users: Sequence[str], said: Sequence[str]) -> NDArray[np.float64]:
    """A weight in (0, 1] for each response: of its user's rows, or of those after which users said the same, the lesser."""
    common = [same_words(text) or f"\0{row}" for row, text in enumerate(said)]
    return np.minimum(bounded(users, MOST_BY_USER), bounded(common, MOST_BY_CLUSTER))


class Crowd(NamedTuple):
    """Users who said the same."""

    words: str
    users: int
    rows: int


def crowds(users: Sequence[str], said: Sequence[str]) -> list[Crowd]:
    """Long messages that many users wrote alike, the largest first."""
    found: dict[str, set[str]] = {}
    rows: dict[str, int] = {}
    for user, text in zip(users, said, strict=True):
        if words := same_words(text):
            found.setdefault(words, set()).add(user)
            rows[words] = rows.get(words, 0) + 1
    every = [Crowd(words, len(who), rows[words]) for words, who in found.items() if len(who) >= _CROWD]
    return sorted(every, key=lambda crowd: -crowd.users)
