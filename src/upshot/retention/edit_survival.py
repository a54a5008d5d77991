"""How much of an edit's text survives, and whether it was reverted, as editors measure it.

Survival by lines counts a line as gone if one character of it changed; four-grams count what is
left of it. For an attributed edit (one commit's change of one file) and the file at a later
release:

- four-gram survival: of the four-grams (of bytes) that the edit added, the share that the later
  file has;
- not reverted: 1 - (s(later, before) - s(after, before)) / (1 - s(after, before)), clipped to
  [0, 1], where s is the share of four-grams that two texts have in common; 0 if the file is again
  as it was before the edit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from upshot.retention.authorship import Attribution
from upshot.retention.git import Git
from upshot.retention.line_history import File, LineHistory, Tree

_MAX_BYTES = 1_000_000
"""Larger files are skipped: they are data or generated, and slow to compare."""
_CHUNK = 500
"""Edits whose texts are in memory at once."""


class FourGrams(NamedTuple):
    """The four-grams of a text."""

    name: NDArray[np.uint32]
    """In ascending order."""
    times: NDArray[np.int64]


class Edit(msgspec.Struct, frozen=True):
    """The survival of one commit's change of one file, at one release."""

    commit: str
    path: str
    release: str
    four_gram: float
    not_reverted: float


def count_four_grams(text: bytes) -> FourGrams:
    """Count the overlapping four-grams of a text.

    >>> count_four_grams(b"abcabcab").times.tolist()
    [2, 2, 1]
    """
    raw = np.frombuffer(text, np.uint8).astype(np.uint32)
    if len(raw) < 4:
        return FourGrams(np.zeros(0, np.uint32), np.zeros(0, np.int64))
    name, times = np.unique(
        (raw[:-3] | raw[1:-2] << 8 | raw[2:-1] << 16 | raw[3:] << 24).astype(np.uint32),
        return_counts=True,
    )
    return FourGrams(name, times)


def four_gram_survival(before: bytes, after: bytes, later: bytes) -> float:
    """Of the four-grams that an edit added, the share that a later text has; NaN: it added none.

    >>> four_gram_survival(b"", b"hello", b"say hello"), four_gram_survival(b"", b"hello", b"help")
    (1.0, 0.0)
    """
    added = _subtract(count_four_grams(after), count_four_grams(before))
    return (
        float(_count_common(added, count_four_grams(later)) / added.times.sum())
        if added.times.sum()
        else float("nan")
    )


def not_reverted_share(before: bytes, after: bytes, later: bytes) -> float:
    """1 if the later text has nothing of the old one back, 0 if it equals the old one.

    >>> not_reverted_share(b"one two", b"one three", b"one two")
    0.0
    >>> not_reverted_share(b"one two", b"one three", b"one three")
    1.0
    """
    same = _similarity(count_four_grams(after), count_four_grams(before))
    back = _similarity(count_four_grams(later), count_four_grams(before))
    return 1.0 if same == 1 else float(np.clip(1 - (back - same) / (1 - same), 0, 1))


def measure_edits(
    git: Git, history: LineHistory, attributions: Mapping[int, Attribution]
) -> Iterator[Edit]:
    """Measure every attributed edit but merges, at the first release that has it and at HEAD."""
    head = next(snapshot for snapshot in reversed(history.snapshots) if snapshot.name == "HEAD")
    origins = [
        origin
        for origin in history.origins
        if origin.commit in attributions
        and len(history.commits[origin.commit].parents) < 2
        and attributions[origin.commit].covers(origin.path, origin.numbers)
    ]
    first_release = _first_releases(history)
    trees = {
        snapshot.name: history.trees[history.commits[snapshot.commit].hash]
        for snapshot in reversed(history.snapshots)
    }
    for start in range(0, len(origins), _CHUNK):
        rows = list[tuple[str, str, str, Sequence[str]]]()
        for origin in origins[start : start + _CHUNK]:
            commit = history.commits[origin.commit]
            before = f"{commit.parents[0]}:{origin.path}" if commit.parents else ""
            names = dict.fromkeys(
                name for name in (first_release.get(origin.commit), head.name) if name
            )
            for name in names:
                later = _find_blob(trees[name], origin.path, origin.base, origin.size)
                versions = (before, f"{commit.hash}:{origin.path}", later)
                rows.append((commit.hash, origin.path, name, versions))
        yield from _measure_rows(git, rows)


def _measure_rows(git: Git, rows: Sequence[tuple[str, str, str, Sequence[str]]]) -> Iterator[Edit]:
    names = sorted({name for *_, versions in rows for name in versions if name})
    content = git.blobs([name for name in names if "\n" not in name])
    for commit, path, release, versions in rows:
        before, after, later = (content.get(name, b"") for name in versions)
        share = (
            four_gram_survival(before, after, later)
            if max(len(before), len(after), len(later)) <= _MAX_BYTES
            else float("nan")
        )
        if not math.isnan(share):
            yield Edit(
                commit,
                path,
                release,
                round(share, 4),
                round(not_reverted_share(before, after, later), 4),
            )


def _first_releases(history: LineHistory) -> dict[int, str]:
    """The first release that has each commit."""
    first: dict[int, str] = {}
    for snapshot in sorted(
        history.snapshots, key=lambda snapshot: history.commits[snapshot.commit].time
    ):
        stack = [snapshot.commit]
        while stack:
            number = stack.pop()
            if number not in first:
                first[number] = snapshot.name
                stack += [history.index[parent] for parent in history.commits[number].parents]
    return first


def _find_blob(tree: Tree, path: str, base: int, count: int) -> str:
    """The file of a release that has an edit's lines: of the same path, or with most of them."""
    if path in tree:
        return tree[path].blob
    candidates = [(_count_lines(file, base, count), file.blob) for file in tree.values()]
    line_count, blob = max(candidates, default=(0, ""))
    return blob if line_count else ""


def _count_lines(file: File, base: int, count: int) -> int:
    return int(np.count_nonzero((file.lines >= base) & (file.lines < base + count)))


def _subtract(minuend: FourGrams, subtrahend: FourGrams) -> FourGrams:
    remaining = minuend.times - _lookup_counts(subtrahend, minuend.name)
    return FourGrams(minuend.name[remaining > 0], remaining[remaining > 0])


def _lookup_counts(grams: FourGrams, names: NDArray[np.uint32]) -> NDArray[np.int64]:
    if not len(grams.name):
        return np.zeros(len(names), np.int64)
    place = np.minimum(np.searchsorted(grams.name, names), len(grams.name) - 1)
    return np.where(grams.name[place] == names, grams.times[place], 0)


def _count_common(first: FourGrams, second: FourGrams) -> int:
    return int(np.minimum(first.times, _lookup_counts(second, first.name)).sum())


def _similarity(first: FourGrams, second: FourGrams) -> float:
    size = max(int(first.times.sum()), int(second.times.sum()))
    return _count_common(first, second) / size if size else 1.0
