"""Bounds on the influence of one user, or of a crowd that acts as one, by count of rows.

A few hundred poisoned rows suffice to teach a model whatever the size of the rest (Souly et al.,
2025), so a bound on their share would not help. A cluster says the same words; a crowd says them
about one topic.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from typing import TypeAlias

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
_MIN_CROWD = 5
"""Users below which there is no crowd."""
_TOPIC_SHARE, _TOPIC_RATIO = 0.5, 5.0
"""A topic: a word in this share of a crowd's responses, so many times rarer elsewhere."""
_SAMPLE, _SAMPLE_OF_CROWD = 1_000, 50
"""Rows of the lake, and of each crowd, whose words are compared: a share is then off by 0.07."""
WordsOfRows: TypeAlias = Callable[[NDArray[np.int64]], word_hashes.Words]


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


def count_crowds(
    users: Sequence[str], messages: Sequence[str], words_of: WordsOfRows
) -> NDArray[np.int64]:
    """The number of users who wrote each row's words, where they are a crowd; 0 elsewhere.

    The longer the message, the fewer users make a crowd: 24 for four words, 5 for nine or more. A
    crowd also has one topic: half of the responses it reacts to share a word that is five times
    rarer elsewhere. So "that worked, thank you" is no crowd. `messages`: words of each row, by
    `normalise_words`; `words_of`: gives the words of the responses before some rows.

    >>> text = "this wonderful answer changed my whole life for good"
    >>> about = word_hashes.hash_words(["buy zorblax"] * 6 + [f"try {i}" for i in range(60)])
    >>> count_crowds([f"u{i}" for i in range(66)], [text] * 6 + [""] * 60, about.take).tolist()[:8]
    [6, 6, 6, 6, 6, 6, 0, 0]
    """
    users_by_words: dict[str, set[str]] = {}
    rows: dict[str, list[int]] = {}
    for row, (user, words) in enumerate(zip(users, messages, strict=True)):
        if words:
            users_by_words.setdefault(words, set()).add(user)
            rows.setdefault(words, []).append(row)
    size = np.zeros(len(messages), np.int64)
    candidates = [
        words
        for words, names in users_by_words.items()
        if len(names) >= max(_MIN_CROWD, 40 - 4 * (words.count(" ") + 1))
    ]
    if candidates:
        for words, has_topic in zip(
            candidates,
            _have_one_topic([rows[words] for words in candidates], words_of, len(messages)),
            strict=True,
        ):
            if has_topic:
                size[rows[words]] = len(users_by_words[words])
    return size


def _have_one_topic(
    groups: Sequence[Sequence[int]], words_of: WordsOfRows, size: int
) -> list[bool]:
    """For each group of rows: whether half of it shares a word that is rare among all rows.

    Estimated on samples of both.
    """
    samples = [np.arange(0, size, max(1, size // _SAMPLE))]
    samples += [
        np.array(group[:: max(1, len(group) // _SAMPLE_OF_CROWD)], np.int64) for group in groups
    ]
    words = words_of(np.concatenate(samples))
    ends = np.cumsum([len(sample) for sample in samples])
    cuts = np.searchsorted(words.text, ends)
    vocabulary, document_counts = _document_counts(words.hashes[: cuts[0]], words.text[: cuts[0]])
    verdicts: list[bool] = []
    for number, group in enumerate(groups):
        part = slice(cuts[number], cuts[number + 1])
        shared, own = _document_counts(words.hashes[part], words.text[part])
        rows = len(samples[number + 1])
        common = own >= _TOPIC_SHARE * rows
        share = own[common] / rows
        place = word_hashes.find_in_table(shared[common], vocabulary)
        rest = 1 - len(group) / size
        elsewhere = np.where(place >= 0, document_counts[place], 0) / ends[0] - share * (
            1 - rest
        )  # the crowd is in the sample of all, too
        verdicts.append(bool((share * rest > _TOPIC_RATIO * elsewhere).any()))
    return verdicts


def _document_counts(
    hashes: NDArray[np.uint64], text: NDArray[np.int32]
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Sorted hashes, and the number of texts that contain each."""
    order = np.lexsort((text, hashes))
    hashes, text = hashes[order], text[order]
    first = np.append(True, (hashes[1:] != hashes[:-1]) | (text[1:] != text[:-1]))[: len(hashes)]
    return np.unique(hashes[first], return_counts=True)
