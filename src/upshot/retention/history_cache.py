"""A line history on disk, so that the next release costs only its own commits."""

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
"""Of the file's format; a file of another one is refused."""
_MAX_BYTES = 1 << 34
"""Of a decompressed file: more than the history of the largest repositories takes."""


class _StoredHistory(msgspec.Struct):
    """The file's content. Arrays are bytes of 32-bit integers, as differences."""

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


def save_history(history: LineHistory, path: str | os.PathLike[str]) -> None:
    """Write a history to a file, atomically."""
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
                        _pack(file.lines),
                        None if file.carried is file.lines else _pack(file.carried),
                    )
                )
            trees[name][_escape(place)] = files[id(file)]
    stored = _StoredHistory(
        _VERSION,
        [
            msgspec.structs.replace(
                commit,
                author=_escape(commit.author),
                email=_escape(commit.email),
                committer=_escape(commit.committer),
                message=_escape(commit.message),
            )
            for commit in history.commits
        ],
        [
            (
                origin.commit,
                _escape(origin.path),
                origin.base,
                origin.places,
                None if np.isnan(origin.churn) else origin.churn,
            )
            for origin in history.origins
        ],
        [(removal.commit, _pack(removal.lines), removal.added) for removal in history.removals],
        [
            (
                snapshot.name,
                snapshot.commit,
                _pack(snapshot.blamed.lines),
                _pack(snapshot.blamed.change),
                _pack(snapshot.carried.lines),
                _pack(snapshot.carried.change),
            )
            for snapshot in history.snapshots
        ],
        rows,
        trees,
        history.total,
        {_escape(path): list(rows) for path, rows in history.touched.items()},
        history.joined,
    )
    draft = Path(f"{os.fspath(path)}.part")
    draft.write_bytes(zstandard.ZstdCompressor(level=3).compress(msgspec.msgpack.encode(stored)))
    draft.replace(path)


def load_history(path: str | os.PathLike[str], git: Git) -> LineHistory:
    """Read a saved history.

    Raises:
        InputError: the file is damaged or something else, or of another version or repository.
    """
    try:
        stored = msgspec.msgpack.decode(
            zstandard.ZstdDecompressor().decompress(
                Path(path).read_bytes(), max_output_size=_MAX_BYTES
            ),
            type=_StoredHistory,
        )
    except (OSError, zstandard.ZstdError, msgspec.MsgspecError) as error:
        raise InputError(
            f"could not read the kept history {path}: {error}; delete it, and the whole history is"
            " read again"
        ) from error
    if stored.version != _VERSION:
        raise InputError(
            f"the kept history {path} is of version {stored.version}, this Upshot writes"
            f" {_VERSION}; delete it, and the whole history is read again"
        )
    if stored.commits and not git.sizes([stored.commits[0].hash]):
        raise InputError(
            f"the kept history {path} is of another repository: {git.repo} has no commit"
            f" {stored.commits[0].hash}; name another file"
        )
    history = LineHistory()
    history.commits = [
        msgspec.structs.replace(
            commit,
            author=_unescape(commit.author),
            email=_unescape(commit.email),
            committer=_unescape(commit.committer),
            message=_unescape(commit.message),
        )
        for commit in stored.commits
    ]
    history.index = {commit.hash: number for number, commit in enumerate(history.commits)}
    history.origins = [
        Origin(commit, _unescape(path_), base, places, float("nan") if churn is None else churn)
        for commit, path_, base, places, churn in stored.origins
    ]
    history.removals = [
        Removal(commit, _unpack(lines), added) for commit, lines, added in stored.removals
    ]
    history.snapshots = [
        Snapshot(name, commit, Counts(_unpack(a), _unpack(b)), Counts(_unpack(c), _unpack(d)))
        for name, commit, a, b, c, d in stored.snapshots
    ]
    files = [_make_file(*row) for row in stored.files]
    history.trees = {
        name: {_unescape(place): files[number] for place, number in tree.items()}
        for name, tree in stored.trees.items()
    }
    history.total, history.joined = stored.total, stored.joined
    history.touched = {_unescape(path_): rows for path_, rows in stored.touched.items()}
    return history


def _make_file(blob: str, mode: str, lines: bytes, carried: bytes | None) -> File:
    own = _unpack(lines)
    return File(blob, mode, own, own if carried is None else _unpack(carried))


def _pack(lines: Any) -> bytes:
    """Pack as differences, which compress well: line numbers are mostly consecutive."""
    return np.diff(lines, prepend=np.int32(0)).astype("<i4").tobytes()


def _unpack(data: bytes) -> Lines:
    return np.cumsum(np.frombuffer(data, "<i4"), dtype=np.int32)


def _escape(text: str) -> str:
    """Escape paths and names that are not UTF-8."""
    return text.encode(errors="surrogateescape").decode("latin-1")


def _unescape(text: str) -> str:
    return text.encode("latin-1").decode(errors="surrogateescape")
