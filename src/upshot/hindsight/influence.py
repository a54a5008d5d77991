"""How far one user, or a crowd that acts as one, can carry: by count, whatever their share of the log.

A few hundred poisoned rows suffice to teach a model at any size of the rest (Souly et al., 2025), so a share is no bound.
A cluster is a crowd that says the same words.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

MOST_BY_USER = 50
"""Rows of one user that count in full."""
MOST_BY_CLUSTER = 3
"""Rows that say the same, from whomever, that count in full: fewer than teach a word anything."""
_WORD = re.compile(r"[^\W\d_]+")
_LEAST_WORDS = 4
"""Shorter messages ("thanks", "it works now") are everybody's."""
_CROWD = 5
"""Fewer users are never a crowd."""


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
    words = _WORD.findall(text[:400].lower())
    return " ".join(words) if len(words) >= _LEAST_WORDS else ""


def weights(users: Sequence[str], said: Sequence[str]) -> NDArray[np.float64]:
    """A weight in (0, 1] for each row: of its user's rows, or of those whose `same_words` are `said`, the lesser."""
    common = [words or row for row, words in enumerate(said)]
    return np.minimum(bounded(users, MOST_BY_USER), bounded(common, MOST_BY_CLUSTER))


def crowds(users: Sequence[str], said: Sequence[str]) -> NDArray[np.int64]:
    """How many users wrote what is `said` (`same_words`) in each row, where they are a crowd; 0 elsewhere.

    The longer the words, the fewer users who share them are a crowd: 24 for four words, 5 from nine words up.

    >>> text = "this wonderful answer changed my whole life for good"
    >>> crowds([f"u{i}" for i in range(6)] + ["ana"], [text] * 6 + [""]).tolist()
    [6, 6, 6, 6, 6, 6, 0]
    """
    who: dict[str, set[str]] = {}
    for user, words in zip(users, said, strict=True):
        if words:
            who.setdefault(words, set()).add(user)
    size = {words: len(found) for words, found in who.items() if len(found) >= max(_CROWD, 40 - 4 * (words.count(" ") + 1))}
    return np.array([size.get(words, 0) for words in said], np.int64)
