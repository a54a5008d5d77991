"""How common words are among everybody's sessions: a word that everybody uses links nothing.

A background ships with Upshot (`background.json`, made by `bench/train_background.py`). A lake that
is large enough learns its own beside it; a word counts as rare where it is rare in both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from upshot.engine import Fit, Learned, Models, Options, Tables
from upshot.threads.sessions import Terms, extract_terms, read_sessions

NAME = "background"
"""Among the lake's models."""
MIN_SESSIONS = 50
"""Sessions below which the frequency of words says nothing."""
_MIN_USERS = 5
"""Users of a word: what fewer use is theirs, not everybody's, and is not stored."""
_RARE_SHARE = 1 / 50
"""Share of the sessions up to which a word counts in full."""
_COMMON_SHARE = math.exp(-1)
"""Share of the sessions from which a word does not count at all."""


class Background(NamedTuple):
    """How much each word counts, by its hash."""

    share: Mapping[int, float]
    """Between 0 (everybody uses it) and 1 (at most one session in fifty); words left out: 1."""

    @staticmethod
    def from_terms(terms: Sequence[Terms]) -> Background:
        """Count in how many sessions each word occurs."""
        words = np.array([word for session in terms for word in session.words], np.uint64)
        hashes, counts = np.unique(words, return_counts=True)
        return Background(
            {
                int(word): weight
                for word, weight in zip(
                    hashes.tolist(), _weigh(counts / max(1, len(terms))), strict=True
                )
                if weight < 1.0
            }
        )

    def joined(self, other: Background) -> Background:
        """Rare is what is rare in both."""
        both = dict(self.share)
        for word, weight in other.share.items():
            both[word] = min(weight, both.get(word, 1.0))
        return Background(both)


def _weigh(shares: Iterable[float] | NDArray[np.float64]) -> list[float]:
    """Weights of words that occur in these shares of all sessions."""
    rare, common = math.log(1 / _RARE_SHARE), math.log(1 / _COMMON_SHARE)
    weights: list[float] = []
    for share in shares:
        idf = -math.log(max(float(share), 1e-9))
        weights.append(min(1.0, max(0.0, (idf - common) / (rare - common))) ** 4)
    return weights


class StoredBackground(msgspec.Struct, frozen=True):
    """A background as a file or a model of a lake holds it."""

    sessions: int
    words: dict[str, float]
    """Share of the sessions that use a word, by its hash in hexadecimal; words of at most one
    session in fifty are left out.
    """
    rows: int = 0
    """Of the table `conversations`, when it was learned."""

    def open(self) -> Background:
        """For use."""
        weights = _weigh(self.words.values())
        return Background(
            {int(word, 16): weight for word, weight in zip(self.words, weights, strict=True)}
        )


@cache
def load_shipped_background() -> Background:
    """The background that comes with Upshot."""
    content = resources.files("upshot.threads").joinpath("background.json").read_bytes()
    return msgspec.json.decode(content, type=StoredBackground).open()


def background_of(models: Models) -> Background:
    """What comes with Upshot, with what the lake has learned beside it."""
    shipped = load_shipped_background()
    if NAME not in models:
        return shipped
    return shipped.joined(msgspec.json.decode(models[NAME], type=StoredBackground).open())


class _Summary(msgspec.Struct):
    sessions: int
    words: bytes
    """Hashes, of eight bytes."""
    in_sessions: bytes
    by_users: bytes


def make_background_fit() -> Fit:
    """The words of everybody's sessions."""
    return Fit(NAME, "1", ("messages", "conversations"), summarise_words, merge_words)


def summarise_words(tables: Tables, options: Options, models: Models) -> bytes:
    """How many sessions and users of a bucket use each word."""
    users = read_sessions(tables)
    sessions = [(user, s.text) for user, some in users.items() for s in some]
    words: list[int] = []
    owners: list[int] = []
    numbers = {user: number for number, user in enumerate(users)}
    for (user, _), terms in zip(
        sessions, extract_terms([text for _, text in sessions]), strict=True
    ):
        words += terms.words
        owners += [numbers[user]] * len(terms.words)
    hashes = np.array(words, np.uint64)
    unique, counts = np.unique(hashes, return_counts=True)
    pairs = np.unique(np.column_stack([hashes, np.array(owners, np.uint64)]), axis=0)
    by_users = np.unique(pairs[:, 0], return_counts=True)[1] if len(pairs) else counts
    return msgspec.msgpack.encode(
        _Summary(
            len(sessions),
            unique.tobytes(),
            counts.astype(np.int64).tobytes(),
            by_users.astype(np.int64).tobytes(),
        )
    )


def merge_words(summaries: Sequence[bytes], options: Options) -> Learned:
    """The words that many sessions of many users share; empty where there are too few sessions.

    Nobody's own words are in it, so that it names no users.
    """
    parts = [msgspec.msgpack.decode(summary, type=_Summary) for summary in summaries]
    total = sum(part.sessions for part in parts)
    words = np.concatenate([np.frombuffer(part.words, np.uint64) for part in parts])
    unique, place = np.unique(words, return_inverse=True)
    sessions, users = (
        np.bincount(
            place,
            np.concatenate([np.frombuffer(getattr(part, name), np.int64) for part in parts]),
            minlength=len(unique),
        )
        for name in ("in_sessions", "by_users")
    )
    chosen = (sessions > _RARE_SHARE * total) & (users >= _MIN_USERS)
    table = {
        f"{int(word):x}": round(int(count) / total, 6)
        for word, count in zip(unique[chosen].tolist(), sessions[chosen].tolist(), strict=True)
    }
    words_used = table if total >= MIN_SESSIONS else {}
    stored = StoredBackground(total, words_used, int(options.get("rows", 0)))
    return Learned(msgspec.json.encode(stored).decode(), ())
