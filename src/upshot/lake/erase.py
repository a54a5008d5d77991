"""Erasure of a user's rows from every table and file version, proven by a scan of all bytes.

A Delta `DELETE` writes its predicate, the user's id, into the log. So rows are erased by rewriting
their *bucket* without them; then older files are vacuumed, a checkpoint is written, and the log
before it is deleted.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import msgspec
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import re2

from upshot.errors import ErasureError
from upshot.io.arrow import pc
from upshot.lake.tables import Lake
from upshot.records import SCHEMAS, CleanTable

_MIN_TRACE = 24
"""Shorter texts ("thanks") are written by many users and prove nothing."""
_MIN_ID = 8
"""Shorter ids such as `c0` occur in any file by chance."""
_MAX_TRACE = 200
"""Characters of a text that are searched for, cut at the end of a word."""
_MAX_TRACES = 2_000
"""Per column, which bounds the time of the scan."""
_IDS, _TEXTS = ("id", "thread", "digest"), ("text", "detail", "metadata")
"""Columns that traces are taken from."""


class ErasureProof(msgspec.Struct, frozen=True):
    """What was erased, and the extent of the scan that proves it."""

    rows: dict[str, int]
    """Rows removed, by table."""
    files_deleted: int
    files_scanned: int
    bytes_scanned: int
    models: list[str]
    """Models that learned from the user; deleted, to be trained again without them."""
    traces: int
    """Distinct ids and texts of the user that were searched for."""
    retrain: list[str] = []
    """Folders of models outside the lake that learned from the user; unchanged, to be retrained."""


def erase_rows(lake: Lake, users: Sequence[str], bucket: int) -> ErasureProof:
    """Erase users (by pseudonym) of one bucket from every table, then scan all remaining bytes.

    Raises:
        ErasureError: the scan found data of theirs.
    """
    wanted = pa.array(list(users), pa.string())
    traces: set[bytes] = {user.encode() for user in users}
    others: set[bytes] = set()
    rows: dict[str, int] = {}
    for table in [name for name in SCHEMAS if "user" in SCHEMAS[name].names]:
        everything = lake.read_all_versions(table, bucket)
        theirs = pc.is_in(everything["user"], value_set=wanted)
        theirs_rows = everything.filter(theirs)
        rows[table] = theirs_rows.num_rows
        if theirs_rows.num_rows:
            traces.update(_collect_traces(theirs_rows))
            remaining = everything.filter(pc.invert(theirs))
            others.update(_collect_traces(remaining))
            lake.replace(table, bucket, CleanTable(remaining), _make_transaction(table, bucket))
    models = _forget_models(lake, set(users))
    deleted = _delete_old_files(lake)
    files, size = _scan_files(lake, users, traces - others)
    return ErasureProof(rows, deleted, files, size, models, len(traces - others))


def _forget_models(lake: Lake, users: set[str]) -> list[str]:
    """Delete every model that learned from one of the users; returns their names."""
    rows = lake.read("models", 0).to_pylist()
    gone = [not users.isdisjoint(row["users"]) for row in rows]
    if any(gone):
        remaining = pa.Table.from_pylist(
            [row for row, theirs in zip(rows, gone, strict=True) if not theirs],
            schema=SCHEMAS["models"],
        )
        lake.replace("models", 0, CleanTable(remaining), _make_transaction("models", 0))
    return sorted({row["name"] for row, theirs in zip(rows, gone, strict=True) if theirs})


def _make_transaction(table: str, bucket: int) -> tuple[str, int]:
    return (
        (
            f"erase/{table}/{bucket}/"
            + hashlib.blake2b(str(time.time_ns()).encode(), digest_size=8).hexdigest()
        ),
        1,
    )


def _delete_old_files(lake: Lake) -> int:
    """Vacuum every table and drop its old log; returns the number of files deleted."""
    deleted = len(lake.vacuum(timedelta(0)))
    for table in SCHEMAS:
        lake.tidy_log(table)
    return deleted


def _collect_traces(rows: pa.Table) -> Iterator[bytes]:
    """A bounded number of ids and long texts."""
    for name in _IDS:
        if name in rows.schema.names:
            for value in pc.unique(rows[name]).to_pylist()[:_MAX_TRACES]:
                if value and len(str(value)) >= _MIN_ID:
                    yield str(value).encode()
    for name in _TEXTS:
        if name in rows.schema.names:
            for value in pc.unique(rows[name]).to_pylist()[:_MAX_TRACES]:
                if value and len(value) >= _MIN_TRACE:
                    yield (
                        value
                        if len(value) <= _MAX_TRACE
                        else value[:_MAX_TRACE].rpartition(" ")[0] or value[:_MAX_TRACE]
                    ).encode()


def _scan_files(lake: Lake, users: Sequence[str], traces: set[bytes]) -> tuple[int, int]:
    """Read every file of the lake, as bytes and decoded; raise if it has data of the users.

    A row belongs to the user that it names, so identical texts of others are not searched for.
    Files and rows that name no user are searched for every trace, except those that rows of other
    users contain too.
    """
    filesystem, base = _open_filesystem(lake)
    files = size = 0
    names, pattern = (
        _compile_traces({user.encode() for user in users}),
        _compile_traces(traces, whole=True),
    )
    for info in filesystem.get_file_info(pyarrow.fs.FileSelector(base, recursive=True)):
        if info.type != pyarrow.fs.FileType.File:
            continue
        with filesystem.open_input_file(info.path) as handle:
            content: bytes = handle.read()
        files += 1
        size += len(content)
        is_held = bool(names.search(content))
        if info.path.endswith(".parquet"):
            table: pa.Table = cast(Any, pq).read_table(io.BytesIO(content))
            owned = "user" in table.column_names
            is_held = is_held or any(
                (names if owned else pattern).search(cell) for cell in _decode_cells(table)
            )
        else:
            is_held = is_held or any(
                not _is_held_by_others(lake, trace)
                for trace in {bytes(match.group(1)) for match in pattern.finditer(content)}
            )
        if is_held:
            raise ErasureError(
                f"could not prove the erasure: {info.path} still holds data of the erased user; "
                "another process may be writing: stop it and run `upshot erase` again"
            )
    return files, size


def _is_held_by_others(lake: Lake, trace: bytes) -> bool:
    """Whether a remaining row contains a trace word for word."""
    text = trace.decode("utf-8", "replace")
    for table in [name for name in SCHEMAS if "user" in SCHEMAS[name].names and lake.exists(name)]:
        for bucket in range(lake.buckets):
            rows = lake.read_all_versions(table, bucket)
            for name in (*_IDS, *_TEXTS):
                if (
                    name in rows.schema.names
                    and pc.any(pc.match_substring(rows[name], text)).as_py()
                ):
                    return True
    return False


def _compile_traces(
    traces: set[bytes], whole: bool = False
) -> Any:  # RE2's compiled type has no public name
    """A pattern of all traces; `whole`: not as part of a longer word."""
    options = re2.Options()
    options.max_mem = 1 << 30
    words = (
        b"|".join(re2.escape(trace) for trace in sorted(traces, reverse=True)) or b"[^\\x00-\\xff]"
    )
    return re2.compile(
        rb"(?:^|[^\w-])(" + words + rb")(?:[^\w-]|$)" if whole else b"(" + words + b")", options
    )


def _decode_cells(table: pa.Table) -> Iterator[bytes]:
    for column in table.columns:
        for value in column.to_pylist():
            if value is not None:
                yield str(value).encode()


def _open_filesystem(lake: Lake) -> tuple[pyarrow.fs.FileSystem, str]:
    if lake.is_local:
        return pyarrow.fs.LocalFileSystem(), str(Path(lake.root))
    return pyarrow.fs.FileSystem.from_uri(lake.root)
