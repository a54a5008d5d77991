"""What a step has worked through: the files of its inputs, so that it works on what is new.

A lake's files are written once. A step that has finished leaves a mark for each file that it read;
the next run takes the users of files without one. Marks are written after the rows they speak of,
so a killed run at worst looks at some users again, and writes nothing twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeAlias

import pyarrow as pa

from upshot.lake.tables import Lake, Merged
from upshot.records import SCHEMAS, CleanTable

_BYTES = 8
"""Of a mark: two of a million files share one in 40 million cases."""
Files: TypeAlias = Mapping[str, tuple[str, ...]]
"""Paths by table."""


class Progress:
    """The files of a step's inputs, and which of them it has read."""

    def __init__(self, lake: Lake, step: str, inputs: Sequence[str]) -> None:
        self._lake, self._step = lake, step
        self._files = {table: lake.files(table) for table in inputs}
        self._read = {table: set[bytes]() for table in inputs}
        for row in lake.read("progress", 0).to_pylist() if lake.exists("progress") else []:
            if row["step"] == step and row["table"] in self._read:
                self._read[row["table"]] = _split_marks(row["files"])
        self._changed = False

    def news(self, bucket: int) -> Files | None:
        """The files of a bucket that were not read; empty: all were; None: none was."""
        new: dict[str, tuple[str, ...]] = {}
        is_known = False
        for table, buckets in self._files.items():
            paths = buckets.get(bucket, ())
            fresh = tuple(path for path in paths if _mark(path) not in self._read[table])
            is_known |= len(fresh) < len(paths)
            if fresh:
                new[table] = fresh
        return new if is_known or not new else None

    def finish(self, bucket: int) -> None:
        """The files of a bucket have been read."""
        for table, buckets in self._files.items():
            self._read[table].update(map(_mark, buckets.get(bucket, ())))
        self._changed = True

    def save(self) -> None:
        """Write what has been read; marks of files that are gone are dropped."""
        if not self._changed:
            return
        at = datetime.now(UTC)
        rows = [
            {
                "bucket": 0,
                "step": self._step,
                "table": table,
                "files": b"".join(sorted(self._read[table] & set(_marks(buckets.values())))),
                "as_of": at,
            }
            for table, buckets in self._files.items()
        ]
        self._lake.append(
            "progress",
            CleanTable(pa.Table.from_pylist(rows, schema=SCHEMAS["progress"])),
            (f"progress/{self._step}/{at.isoformat()}", 1),
        )
        self._changed = False


def carry_marks(lake: Lake, table: str, merged: Merged) -> None:
    """After files were merged: a bucket of which a step had read every file has been read still."""
    if not merged.after or not lake.exists("progress"):
        return
    present = set(_marks(lake.files(table).values()))
    rows = [row for row in lake.read("progress", 0).to_pylist() if row["table"] == table]
    at = datetime.now(UTC)
    for row in rows:
        marks = _split_marks(row["files"])
        for bucket, paths in merged.before.items():
            if marks.issuperset(map(_mark, paths)):
                marks.update(map(_mark, merged.after[bucket]))
        row["files"] = b"".join(sorted(marks & present))
        row["as_of"] = at
    if rows:
        lake.append(
            "progress",
            CleanTable(pa.Table.from_pylist(rows, schema=SCHEMAS["progress"])),
            (f"progress/carried/{table}/{at.isoformat()}", 1),
        )


def _split_marks(marks: bytes) -> set[bytes]:
    return {marks[at : at + _BYTES] for at in range(0, len(marks), _BYTES)}


def _mark(path: str) -> bytes:
    return hashlib.blake2b(path.encode(), digest_size=_BYTES).digest()


def _marks(paths: Iterable[Sequence[str]]) -> Iterable[bytes]:
    return (_mark(path) for some in paths for path in some)
