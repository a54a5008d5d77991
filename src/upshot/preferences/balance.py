"""Which rows may train and which test, and what is lopsided in them."""

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


class Balance(msgspec.Struct, frozen=True):
    """What a set of pairs looks like."""

    pairs: int
    by_kind: dict[str, int]
    users: int
    longer_chosen: float
    """Share of pairs in which the longer answer was chosen; .5 teaches nothing about length."""
    later_chosen: float
    """Share in which the answer further down its conversation was chosen; 0 where positions are
    unknown.
    """
    near_duplicates: float
    """Share of pairs whose prompt and chosen answer, numbers aside, stand elsewhere in the set."""


def owners(row: Preference | Example) -> tuple[str, ...]:
    """Whose a row is: its users, or its thread where nobody is named, or else its prompt."""
    return row.source.users or (row.source.thread or _key(row.prompt),)


def side(users: Sequence[str], thread: str, test_share: float) -> str:
    """`train` or `test` by user (by thread where no user is named); empty where users fall on both
    sides.

    >>> side(["ana"], "", 0.0), side(["ana"], "", 1.0)
    ('train', 'test')
    """
    sides = {
        "test" if draw(f"split/{name}") < test_share else "train" for name in users or [thread]
    }
    return sides.pop() if len(sides) == 1 else ""


def split(rows: Iterable[Row], test_share: float) -> Iterator[Row]:
    """Mark each row with its side; rows with users on both sides are left out."""
    for row in rows:
        if where := side(owners(row), "", test_share):
            yield msgspec.structs.replace(
                row, source=msgspec.structs.replace(row.source, split=where)
            )


def _key(turns: Iterable[Turn]) -> str:
    text = "\n".join(turn.content for turn in turns).lower()
    return " ".join("".join(letter if letter.isalpha() else " " for letter in text).split())


def distinct(rows: Iterable[Preference]) -> Iterator[Preference]:
    """The first of each near-duplicate: same prompt and chosen answer but for numbers, case and
    marks.
    """
    known: set[bytes] = set()
    for row in rows:
        key = hashlib.blake2b(
            f"{_key(row.prompt)}\0{_key(row.chosen)}".encode(), digest_size=12
        ).digest()
        if key not in known:
            known.add(key)
            yield row


def even_length(rows: Sequence[Preference]) -> list[Preference]:
    """As many pairs in which the longer was chosen as the shorter, at every difference of length,
    by leaving out.
    """
    gap = np.array(
        [np.log1p(_length(row.chosen)) - np.log1p(_length(row.rejected)) for row in rows]
    )
    return _even(rows, gap, (0.1, 0.3, 0.7, 1.5))


def even_position(rows: Sequence[Preference]) -> list[Preference]:
    """As many pairs in which the later answer of a conversation was chosen as the earlier, by
    leaving out; pairs without places are kept.

    What failed and then worked is always later, so of `thread` pairs alone none is left.
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
    return _even(rows, gap, (3.0, 8.0))


def _even(
    rows: Sequence[Preference], gap: NDArray[np.float64], edges: Sequence[float]
) -> list[Preference]:
    """As many rows on either side of 0 at every size of the gap.

    What is kept of the commoner side is drawn by a hash, so that a second run keeps the same.
    """
    size = np.digitize(np.abs(gap), edges)
    kept = np.abs(gap) < 1e-9
    for level in np.unique(size):
        more, less = (np.flatnonzero((size == level) & (side_ * gap > 1e-9)) for side_ in (1, -1))
        most = min(len(more), len(less))
        for part in (more, less):
            order = sorted(
                part.tolist(),
                key=lambda i: draw(
                    f"even/{rows[i].source.chosen}/{rows[i].source.rejected}/{_key(rows[i].chosen)[:200]}"
                ),
            )
            kept[order[:most]] = True
    return [row for row, keep in zip(rows, kept, strict=True) if keep]


def _length(turns: Iterable[Turn]) -> int:
    return sum(len(turn.content) for turn in turns)


def report(rows: Sequence[Preference]) -> Balance:
    """Describe a set of pairs."""
    longer = [_length(row.chosen) > _length(row.rejected) for row in rows]
    placed = [
        (a.index, b.index)
        for row in rows
        if (a := row.source.chosen) and (b := row.source.rejected) and a.index != b.index
    ]
    unique = sum(1 for _ in distinct(rows))
    return Balance(
        len(rows),
        dict(Counter(row.source.kind for row in rows)),
        len({user for row in rows for user in row.source.users}),
        round(float(np.mean(longer)), 4) if longer else 0.0,
        round(float(np.mean([a > b for a, b in placed])), 4) if placed else 0.0,
        round(1 - unique / len(rows), 4) if rows else 0.0,
    )
