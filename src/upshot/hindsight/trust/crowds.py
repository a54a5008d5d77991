"""Bounds on the influence of one user, or of a crowd that acts as one, by count of rows.

A few hundred poisoned rows suffice to teach a model whatever the size of the rest (Souly et al.,
2025), so a bound on their share would not help. A cluster says the same words; a crowd says them
about one topic.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from upshot.stats import word_hashes

MAX_BY_USER = 50
"""Rows of one user that count in full, in total."""
MAX_BY_CLUSTER = 3
"""Rows of the same words, from any users, that count in full: too few to teach a word a weight."""
_WORD = re.compile(r"[^\W\d_]+")
_MIN_WORDS = 4
"""Shorter messages ("thanks", "it works now") are common to all users."""
SINGLE_MINDED = 0.75
"""Share of a user's reactions in the same words from which the user is there to say them: people
who use a product react in other ways as well.
"""
_MIN_CROWD = 5
"""Users below which there is no crowd."""
_TOPIC_SHARE, _TOPIC_RATIO = 0.5, 5.0
"""A topic: a word in this share of a crowd's responses, so many times rarer elsewhere."""
SAMPLE, SAMPLE_OF_CROWD = 1_000, 50
"""Rows of the lake, and of each crowd, whose words are compared: a share is then off by 0.07."""


def bound_weights(
    groups: Sequence[Hashable] | NDArray[np.int64], limit: int
) -> NDArray[np.float64]:
    """A weight for each row such that no group's weights sum to more than `limit`.

    >>> bound_weights(["a", "a", "a", "b"], 2).round(2).tolist()
    [0.67, 0.67, 0.67, 1.0]
    """
    numbers: dict[Hashable, int] = {}
    group_number = np.array([numbers.setdefault(group, len(numbers)) for group in groups], np.int64)
    count = np.bincount(group_number) if len(group_number) else np.zeros(0, np.int64)
    return (
        np.minimum(1.0, limit / np.maximum(count, 1))[group_number]
        if len(group_number)
        else np.zeros(0)
    )


def normalise_words(text: str) -> str:
    """The words of a message without numbers and punctuation; empty for short messages.

    >>> normalise_words("Perfect!! That fixed ORDER 12, thanks")
    'perfect that fixed order thanks'
    """
    words = _WORD.findall(text[:400].lower())
    return " ".join(words) if len(words) >= _MIN_WORDS else ""


def weigh_rows(users: Sequence[str], words: Sequence[str]) -> NDArray[np.float64]:
    """A weight in (0, 1] per row, such that neither a user nor a cluster exceeds its bound.

    `words`: of each row, by `normalise_words`.
    """
    common = [text or row for row, text in enumerate(words)]
    return np.minimum(bound_weights(users, MAX_BY_USER), bound_weights(common, MAX_BY_CLUSTER))


def min_crowd(words: int) -> int:
    """Users who must have written the same words for a crowd: the longer the message, the fewer.

    >>> min_crowd(4), min_crowd(20)
    (24, 5)
    """
    return max(_MIN_CROWD, 40 - 4 * words)


def have_one_topic(
    group: Sequence[NDArray[np.uint64]],
    group_size: int,
    everywhere: Sequence[NDArray[np.uint64]],
    size: int,
) -> bool:
    """Whether half of a group's responses share a word that is five times rarer elsewhere.

    So "that worked, thank you" is no crowd. Both are samples, of the distinct words of each
    response: of the `group_size` responses that the same words followed, and of all `size`.
    """
    shared, own = _document_counts(group)
    vocabulary, document_counts = _document_counts(everywhere)
    common = own >= _TOPIC_SHARE * len(group)
    share = own[common] / max(1, len(group))
    place = word_hashes.find_in_table(shared[common], vocabulary)
    rest = 1 - group_size / max(1, size)
    elsewhere = np.where(place >= 0, document_counts[place] if len(vocabulary) else 0, 0)
    elsewhere = elsewhere / max(1, len(everywhere)) - share * (
        1 - rest
    )  # the crowd is in the sample of all, too
    return bool((share * rest > _TOPIC_RATIO * elsewhere).any())


def _document_counts(
    texts: Sequence[NDArray[np.uint64]],
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Sorted hashes, and the number of texts that contain each; a text holds each word once."""
    hashes = np.concatenate([np.zeros(0, np.uint64), *texts])
    return np.unique(hashes, return_counts=True)
