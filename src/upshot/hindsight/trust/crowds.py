"""How far one user, or a crowd that acts as one, can carry: by count, whatever their share of the
log.

A few hundred poisoned rows suffice to teach a model at any size of the rest (Souly et al., 2025),
so a share is no bound. A cluster says the same words; a crowd says them of one thing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from upshot.stats import words as tokens

MOST_BY_USER = 50
"""Rows of one user that count in full."""
MOST_BY_CLUSTER = 3
"""Rows that say the same, from whomever, that count in full: fewer than teach a word anything."""
_WORD = re.compile(r"[^\W\d_]+")
_LEAST_WORDS = 4
"""Shorter messages ("thanks", "it works now") are everybody's."""
_CROWD = 5
"""Fewer users are never a crowd."""
_ONE_THING, _RARER = 0.5, 5.0
_SAMPLE, _SAMPLE_OF_CROWD = 1_000, 50
About: TypeAlias = Callable[[NDArray[np.int64]], tokens.Words]


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
    """What two messages of a crowd have in common: their words, without numbers and marks; empty
    for short ones.

    >>> same_words("Perfect!! That fixed ORDER 12, thanks") == same_words("perfect, that fixed order 99 - thanks")
    True
    """
    words = _WORD.findall(text[:400].lower())
    return " ".join(words) if len(words) >= _LEAST_WORDS else ""


def weights(users: Sequence[str], said: Sequence[str]) -> NDArray[np.float64]:
    """A weight in (0, 1] for each row: of its user's rows, or of those whose `same_words` are
    `said`, the lesser.
    """
    common = [words or row for row, words in enumerate(said)]
    return np.minimum(bounded(users, MOST_BY_USER), bounded(common, MOST_BY_CLUSTER))


def crowds(users: Sequence[str], said: Sequence[str], about: About) -> NDArray[np.int64]:
    """How many users wrote what is `said` (`same_words`) in each row, where they are a crowd; 0
    elsewhere.

    The longer the words, the fewer users who share them are a crowd: 24 for four words, 5 from nine
    words up. And they speak of one thing: half of what they answer shares a word that is five times
    rarer elsewhere; "that worked, thank you" is everybody's.
    `about`: gives the words of the responses before some rows.

    >>> text = "this wonderful answer changed my whole life for good"
    >>> about = tokens.words(["buy zorblax"] * 6 + [f"try {i}" for i in range(60)])
    >>> crowds([f"u{i}" for i in range(66)], [text] * 6 + [""] * 60, about.of).tolist()[:8]
    [6, 6, 6, 6, 6, 6, 0, 0]
    """
    who: dict[str, set[str]] = {}
    rows: dict[str, list[int]] = {}
    for row, (user, words) in enumerate(zip(users, said, strict=True)):
        if words:
            who.setdefault(words, set()).add(user)
            rows.setdefault(words, []).append(row)
    size = np.zeros(len(said), np.int64)
    many = [
        words
        for words, found in who.items()
        if len(found) >= max(_CROWD, 40 - 4 * (words.count(" ") + 1))
    ]
    if many:
        for words, one_thing in zip(
            many, _about_one_thing([rows[words] for words in many], about, len(said)), strict=True
        ):
            if one_thing:
                size[rows[words]] = len(who[words])
    return size


def _about_one_thing(groups: Sequence[Sequence[int]], about: About, size: int) -> list[bool]:
    """For each group of rows: does half of it share a word that is rare among all rows?

    Samples of both tell.
    """
    samples = [np.arange(0, size, max(1, size // _SAMPLE))]
    samples += [
        np.array(group[:: max(1, len(group) // _SAMPLE_OF_CROWD)], np.int64) for group in groups
    ]
    words = about(np.concatenate(samples))
    ends = np.cumsum([len(sample) for sample in samples])
    cuts = np.searchsorted(words.text, ends)
    vocabulary, usual = _in_how_many(words.hashes[: cuts[0]], words.text[: cuts[0]])
    out: list[bool] = []
    for number, group in enumerate(groups):
        part = slice(cuts[number], cuts[number + 1])
        shared, own = _in_how_many(words.hashes[part], words.text[part])
        rows = len(samples[number + 1])
        common = own >= _ONE_THING * rows
        share = own[common] / rows
        at = tokens.find(shared[common], vocabulary)
        rest = 1 - len(group) / size
        elsewhere = np.where(at >= 0, usual[at], 0) / ends[0] - share * (
            1 - rest
        )  # the crowd is in the sample of all, too
        out.append(bool((share * rest > _RARER * elsewhere).any()))
    return out


def _in_how_many(
    hashes: NDArray[np.uint64], text: NDArray[np.int32]
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Sorted hashes, and in how many texts each is."""
    order = np.lexsort((text, hashes))
    hashes, text = hashes[order], text[order]
    first = np.append(True, (hashes[1:] != hashes[:-1]) | (text[1:] != text[:-1]))[: len(hashes)]
    return np.unique(hashes[first], return_counts=True)
