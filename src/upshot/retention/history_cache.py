"""A history on disk, so that the next release costs only its own commits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import zstandard

from upshot.errors import InputError
from upshot.retention.git import Git
from upshot.retention.line_history import (
    Counts,
    File,
    LineHistory,
    Lines,
    Origin,
    Removal,
    Snapshot,
)
from upshot.retention.patches import Commit

_VERSION = 1


class _Kept(msgspec.Struct):
    """What is written. Arrays are bytes of 32-bit integers."""

    version: int
    commits: list[Commit]
    origins: list[tuple[int, str, int, tuple[tuple[int, int], ...], float | None]]
    removals: list[tuple[int, bytes, int]]
    snapshots: list[tuple[str, int, bytes, bytes, bytes, bytes]]
    files: list[tuple[str, str, bytes, bytes | None]]
    trees: dict[str, dict[str, int]]
    total: int
    touched: dict[str, list[tuple[int, int]]]
    joined: list[tuple[int, int]]


def save(history: LineHistory, path: str | os.PathLike[str]) -> None:
    """Write a history, whole or not at all."""
    files: dict[int, int] = {}
    rows = list[tuple[str, str, bytes, bytes | None]]()
    trees: dict[str, dict[str, int]] = {}
    for name, tree in history.trees.items():
        trees[name] = {}
        for place, file in tree.items():
            if id(file) not in files:
                files[id(file)] = len(rows)
                rows.append(
                    (
                        file.blob,
                        file.mode,
                        _packed(file.lines),
                        None if file.carried is file.lines else _packed(file.carried),
                    )
                )
            trees[name][_text(place)] = files[id(file)]
    kept = _Kept(
        _VERSION,
        [
            msgspec.structs.replace(
                commit,
                author=_text(commit.author),
                email=_text(commit.email),
                committer=_text(commit.committer),
                message=_text(commit.message),
            )
            for commit in history.commits
        ],
        [
            (
                origin.commit,
                _text(origin.path),
                origin.base,
                origin.places,
                None if np.isnan(origin.churn) else origin.churn,
            )
            for origin in history.origins
        ],
        [(removal.commit, _packed(removal.lines), removal.added) for removal in history.removals],
        [
            (
                snapshot.name,
                snapshot.commit,
                _packed(snapshot.blamed.lines),
                _packed(snapshot.blamed.change),
                _packed(snapshot.carried.lines),
                _packed(snapshot.carried.change),
            )
            for snapshot in history.snapshots
        ],
        rows,
        trees,
        history.total,
        {_text(path): list(rows) for path, rows in history.touched.items()},
        history.joined,
    )
    draft = Path(f"{os.fspath(path)}.part")
    draft.write_bytes(zstandard.ZstdCompressor(level=3).compress(msgspec.msgpack.encode(kept)))
    draft.replace(path)


def load(path: str | os.PathLike[str], git: Git) -> LineHistory:
    """A history that was saved.

    Raises:
        InputError: the file is something else, damaged, of another version or another repository.
    """
    try:
        kept = msgspec.msgpack.decode(
            zstandard.ZstdDecompressor().decompress(
                Path(path).read_bytes(), max_output_size=1 << 34
            ),
            type=_Kept,
        )
    except (OSError, zstandard.ZstdError, msgspec.MsgspecError) as error:
        raise InputError(
            f"could not read the kept history {path}: {error}; delete it, and the whole history is"
            " read again"
        ) from error
    if kept.version != _VERSION:
        raise InputError(
            f"the kept history {path} is of version {kept.version}, this Upshot writes {_VERSION};"
            " delete it, and the whole history is read again"
        )
    if kept.commits and not git.sizes([kept.commits[0].hash]):
        raise InputError(
            f"the kept history {path} is of another repository: {git.repo} has no commit"
            f" {kept.commits[0].hash}; name another file"
        )
    history = LineHistory()
    history.commits = [
        msgspec.structs.replace(
            commit,
            author=_raw(commit.author),
            email=_raw(commit.email),
            committer=_raw(commit.committer),
            message=_raw(commit.message),
        )
        for commit in kept.commits
    ]
    history.index = {commit.hash: number for number, commit in enumerate(history.commits)}
    history.origins = [
        Origin(commit, _raw(path_), base, places, float("nan") if churn is None else churn)
        for commit, path_, base, places, churn in kept.origins
    ]
    history.removals = [
        Removal(commit, _unpacked(lines), added) for commit, lines, added in kept.removals
    ]
    history.snapshots = [
        Snapshot(
            name, commit, Counts(_unpacked(a), _unpacked(b)), Counts(_unpacked(c), _unpacked(d))
        )
        for name, commit, a, b, c, d in kept.snapshots
    ]
    files = [_file(*row) for row in kept.files]
    history.trees = {
        name: {_raw(place): files[number] for place, number in tree.items()}
        for name, tree in kept.trees.items()
    }
    history.total, history.joined = kept.total, kept.joined
    history.touched = {_raw(path_): rows for path_, rows in kept.touched.items()}
    return history


def _file(blob: str, mode: str, lines: bytes, carried: bytes | None) -> File:
    own = _unpacked(lines)
    return File(blob, mode, own, own if carried is None else _unpacked(carried))


def _packed(lines: Any) -> bytes:
    """Differences, which compress well: lines mostly follow each other."""
    return np.diff(lines, prepend=np.int32(0)).astype("<i4").tobytes()


def _unpacked(data: bytes) -> Lines:
    return np.cumsum(np.frombuffer(data, "<i4"), dtype=np.int32)


def _text(text: str) -> str:
    """Paths and names that are no UTF-8 are kept as escapes."""
    return text.encode(errors="surrogateescape").decode("latin-1")


def _raw(text: str) -> str:
    return text.encode("latin-1").decode(errors="surrogateescape")
