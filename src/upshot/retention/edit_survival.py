"""How much of an edit's text is still there, and whether it was taken back: what editors' telemetry
counts.

Survival by lines counts a line that changed in one character as gone; four-grams count what is left
of it. Of an attributed edit (one commit's change of one file) and the file at a later release:

- four-gram survival: the share of the four-grams (of bytes) that the edit brought, beyond those the
  file had, that are
  in the later file;
- not reverted: 1 - (s(later, before) - s(after, before)) / (1 - s(after, before)), between 0 and 1,
  where s is the
  share of four-grams that two texts have in common: 0 where the file is as it was before the edit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from upshot.retention.attribution import Attribution
from upshot.retention.git import Git
from upshot.retention.line_history import File, LineHistory, Tree

_LARGEST = 1_000_000
"""Bytes of a file that is still looked at."""
_CHUNK = 500
"""Edits whose texts are read at once."""


class Grams(NamedTuple):
    """The four-grams of a text."""

    name: NDArray[np.uint32]
    """In ascending order."""
    times: NDArray[np.int64]


class Edit(msgspec.Struct, frozen=True):
    """What became of one commit's change of one file, at one release."""

    commit: str
    path: str
    release: str
    four_gram: float
    not_reverted: float


def grams(text: bytes) -> Grams:
    """The four-grams of a text, overlapping.

    >>> grams(b"abcabcab").times.tolist()
    [2, 2, 1]
    """
    raw = np.frombuffer(text, np.uint8).astype(np.uint32)
    if len(raw) < 4:
        return Grams(np.zeros(0, np.uint32), np.zeros(0, np.int64))
    name, times = np.unique(
        (raw[:-3] | raw[1:-2] << 8 | raw[2:-1] << 16 | raw[3:] << 24).astype(np.uint32),
        return_counts=True,
    )
    return Grams(name, times)


def four_gram(before: bytes, after: bytes, later: bytes) -> float:
    """Share of the four-grams that an edit brought which a later text has, in [0, 1]; NaN: it
    brought none.

    >>> four_gram(b"", b"hello", b"say hello"), four_gram(b"", b"hello", b"help")
    (1.0, 0.0)
    """
    brought = _less(grams(after), grams(before))
    return (
        float(_common(brought, grams(later)) / brought.times.sum())
        if brought.times.sum()
        else float("nan")
    )


def not_reverted(before: bytes, after: bytes, later: bytes) -> float:
    """1: the text has not gone back to what it was before the edit; 0: it has.

    >>> not_reverted(b"one two", b"one three", b"one two"), not_reverted(b"one two", b"one three", b"one three")
    (0.0, 1.0)
    """
    same = _similarity(grams(after), grams(before))
    back = _similarity(grams(later), grams(before))
    return 1.0 if same == 1 else float(np.clip(1 - (back - same) / (1 - same), 0, 1))


def edits(git: Git, history: LineHistory, said: Mapping[int, Attribution]) -> Iterator[Edit]:
    """Every attributed edit at the first release that has it and at HEAD. Merges are left out."""
    head = next(snapshot for snapshot in reversed(history.snapshots) if snapshot.name == "HEAD")
    wanted = [
        origin
        for origin in history.origins
        if origin.commit in said and len(history.commits[origin.commit].parents) < 2
    ]
    first = _first(history)
    for start in range(0, len(wanted), _CHUNK):
        rows = list[tuple[str, str, str, Sequence[str]]]()
        for origin in wanted[start : start + _CHUNK]:
            commit = history.commits[origin.commit]
            before = f"{commit.parents[0]}:{origin.path}" if commit.parents else ""
            names = dict.fromkeys(name for name in (first.get(origin.commit), head.name) if name)
            for name in names:
                tree = history.trees[
                    history.commits[
                        next(
                            snapshot.commit
                            for snapshot in history.snapshots
                            if snapshot.name == name
                        )
                    ].hash
                ]
                rows.append(
                    (
                        commit.hash,
                        origin.path,
                        name,
                        (
                            before,
                            f"{commit.hash}:{origin.path}",
                            _blob(tree, origin.path, origin.base, origin.size),
                        ),
                    )
                )
        yield from _measured(git, rows)


def _measured(git: Git, rows: Sequence[tuple[str, str, str, Sequence[str]]]) -> Iterator[Edit]:
    names = sorted({name for *_, three in rows for name in three if name})
    content = git.blobs([name for name in names if "\n" not in name])
    for commit, path, release, three in rows:
        before, after, later = (content.get(name, b"") for name in three)
        share = (
            four_gram(before, after, later)
            if max(len(before), len(after), len(later)) <= _LARGEST
            else float("nan")
        )
        if share == share:
            yield Edit(
                commit, path, release, round(share, 4), round(not_reverted(before, after, later), 4)
            )


def _first(history: LineHistory) -> dict[int, str]:
    """The first release that has each commit."""
    first: dict[int, str] = {}
    for snapshot in sorted(
        history.snapshots, key=lambda snapshot: history.commits[snapshot.commit].time
    ):
        todo = [snapshot.commit]
        while todo:
            number = todo.pop()
            if number not in first:
                first[number] = snapshot.name
                todo += [history.index[parent] for parent in history.commits[number].parents]
    return first


def _blob(tree: Tree, path: str, base: int, count: int) -> str:
    """The file of a release that an edit's lines are in: the one of the same name, or the one that
    has most of them.
    """
    if path in tree:
        return tree[path].blob
    held = [(_held(file, base, count), file.blob) for file in tree.values()]
    most, blob = max(held, default=(0, ""))
    return blob if most else ""


def _held(file: File, base: int, count: int) -> int:
    return int(np.count_nonzero((file.lines >= base) & (file.lines < base + count)))


def _less(one: Grams, other: Grams) -> Grams:
    left = one.times - _counts(other, one.name)
    return Grams(one.name[left > 0], left[left > 0])


def _counts(grams: Grams, names: NDArray[np.uint32]) -> NDArray[np.int64]:
    if not len(grams.name):
        return np.zeros(len(names), np.int64)
    place = np.minimum(np.searchsorted(grams.name, names), len(grams.name) - 1)
    return np.where(grams.name[place] == names, grams.times[place], 0)


def _common(one: Grams, other: Grams) -> int:
    return int(np.minimum(one.times, _counts(other, one.name)).sum())


def _similarity(one: Grams, other: Grams) -> float:
    most = max(int(one.times.sum()), int(other.times.sum()))
    return _common(one, other) / most if most else 1.0
