"""Train and test sides of rows, near-duplicates, and balance by length and position."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from upshot.records import Example, Preference, Turn
from upshot.stats.sampling import draw

Row = TypeVar("Row", Preference, Example)
_LENGTH_BINS = (0.1, 0.3, 0.7, 1.5)
"""Differences of log length, up to a factor of 4.5, between which pairs are balanced."""
_POSITION_BINS = (3.0, 8.0)
"""Distances in messages between which pairs are balanced: the next answer, soon, and later."""


class Balance(msgspec.Struct, frozen=True):
    """Statistics of a set of pairs that hint at shortcuts."""

    pairs: int
    by_kind: dict[str, int]
    users: int
    longer_chosen: float
    """Share of pairs in which the longer answer was chosen; .5 teaches nothing about length."""
    later_chosen: float
    """Share of pairs in which the later answer of a conversation was chosen; 0 without places."""
    near_duplicates: float
    """Share of pairs whose prompt and chosen answer, numbers aside, occur earlier in the set."""


def owners(row: Preference | Example) -> tuple[str, ...]:
    """The owners of a row: its users, else its thread, else its prompt."""
    return row.source.users or (row.source.thread or _normalize(row.prompt),)


def assign_side(users: Sequence[str], thread: str, test_share: float) -> str:
    """`train` or `test` by user (without users, by thread); empty if users fall on both sides.

    >>> assign_side(["ana"], "", 0.0), assign_side(["ana"], "", 1.0)
    ('train', 'test')
    """
    sides = {
        "test" if draw(f"split/{name}") < test_share else "train" for name in users or [thread]
    }
    return sides.pop() if len(sides) == 1 else ""


def split(rows: Iterable[Row], test_share: float) -> Iterator[Row]:
    """Mark each row with its side; drop rows with users on both sides."""
    for row in rows:
        if side := assign_side(owners(row), "", test_share):
            yield msgspec.structs.replace(
                row, source=msgspec.structs.replace(row.source, split=side)
            )


def _normalize(turns: Iterable[Turn]) -> str:
    text = "\n".join(turn.content for turn in turns).lower()
    return " ".join("".join(letter if letter.isalpha() else " " for letter in text).split())


def drop_duplicates(rows: Iterable[Preference]) -> Iterator[Preference]:
    """Keep the first of near-duplicates: the same prompt and chosen answer, but for numbers, case
    and punctuation.
    """
    keys: set[bytes] = set()
    for row in rows:
        key = hashlib.blake2b(
            f"{_normalize(row.prompt)}\0{_normalize(row.chosen)}".encode(), digest_size=12
        ).digest()
        if key not in keys:
            keys.add(key)
            yield row


def balance_length(rows: Sequence[Preference]) -> list[Preference]:
    """Drop pairs until the longer answer is chosen as often as the shorter, at every difference."""
    gap = np.array(
        [np.log1p(_length(row.chosen)) - np.log1p(_length(row.rejected)) for row in rows]
    )
    return _balance(rows, gap, _LENGTH_BINS)


def balance_position(rows: Sequence[Preference]) -> list[Preference]:
    """Drop pairs until the later answer of a conversation is chosen as often as the earlier.

    Pairs without places are kept. Of `thread` pairs alone none is left, since what worked in the
    end is always later.
    """
    gap = np.array(
        [
            (
                float(a.index - b.index)
                if (a := row.source.chosen) and (b := row.source.rejected)
                else 0.0
            )
            for row in rows
        ]
    )
    return _balance(rows, gap, _POSITION_BINS)


def _balance(
    rows: Sequence[Preference], gap: NDArray[np.float64], edges: Sequence[float]
) -> list[Preference]:
    """Keep as many rows with a positive as with a negative gap, in every bin of its size.

    Rows of the more frequent side are drawn by hash, so that every run keeps the same.
    """
    size = np.digitize(np.abs(gap), edges)
    is_kept = np.abs(gap) < 1e-9
    for level in np.unique(size):
        positive, negative = (
            np.flatnonzero((size == level) & (sign * gap > 1e-9)) for sign in (1, -1)
        )
        count = min(len(positive), len(negative))
        for part in (positive, negative):
            order = sorted(
                part.tolist(),
                key=lambda i: draw(
                    f"even/{rows[i].source.chosen}/{rows[i].source.rejected}/{_normalize(rows[i].chosen)[:200]}"
                ),
            )
            is_kept[order[:count]] = True
    return [row for row, keep in zip(rows, is_kept, strict=True) if keep]


def _length(turns: Iterable[Turn]) -> int:
    return sum(len(turn.content) for turn in turns)


def measure_balance(rows: Sequence[Preference]) -> Balance:
    """Measure the balance of a set of pairs."""
    longer = [_length(row.chosen) > _length(row.rejected) for row in rows]
    placed = [
        (a.index, b.index)
        for row in rows
        if (a := row.source.chosen) and (b := row.source.rejected) and a.index != b.index
    ]
    unique = sum(1 for _ in drop_duplicates(rows))
    return Balance(
        len(rows),
        dict(Counter(row.source.kind for row in rows)),
        len({user for row in rows for user in row.source.users}),
        round(float(np.mean(longer)), 4) if longer else 0.0,
        round(float(np.mean([a > b for a, b in placed])), 4) if placed else 0.0,
        round(1 - unique / len(rows), 4) if rows else 0.0,
    )
