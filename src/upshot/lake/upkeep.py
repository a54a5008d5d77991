"""What a lake holds and takes, and its upkeep: compaction, and another number of buckets."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pyarrow as pa

from upshot.errors import InputError
from upshot.lake.checksums import drop_stale_checksums, seal_files
from upshot.lake.models import model_version
from upshot.lake.progress import carry_marks
from upshot.lake.tables import Lake, bucket_of
from upshot.records import SCHEMAS, CleanTable

_UNFINISHED = ".rebucket"
"""Ends the name of a folder in which a lake is made anew."""
_BEFORE = ".before"
"""Ends the name of the old lake for the moment in which they change places."""
_MANY_FILES = 8
"""Small files of a bucket from which they are merged; opening one costs about a millisecond."""
_SMALL_BYTES = 32 << 20
"""Size that merged files are given; larger ones are left alone."""
_LEFT_BEHIND = ("progress", "checksums")
"""Tables that speak of files."""
Report = Callable[[int, int], None]


class TableStats(msgspec.Struct, frozen=True):
    """One table."""

    rows: int
    """That count."""
    stored: int
    """Superseded ones included; `upshot lake compact` drops those."""
    files: int
    mb: float
    commits: int


class ModelStats(msgspec.Struct, frozen=True):
    """A model that the lake learned."""

    name: str
    version: str
    learned_at: str
    users: int
    """Whose own words it holds."""


class LakeStats(msgspec.Struct, frozen=True):
    """What a lake holds and takes."""

    lake: str
    buckets: int
    tables: dict[str, TableStats]
    models: list[ModelStats]


def measure_lake(lake: Lake) -> LakeStats:
    """Count rows, files and commits of every table."""
    tables: dict[str, TableStats] = {}
    for name in SCHEMAS:
        if not lake.exists(name):
            continue
        files, size = lake.count_files(name)
        tables[name] = TableStats(
            sum(lake.read(name, bucket, ["bucket"]).num_rows for bucket in range(lake.buckets)),
            lake.count_rows(name),
            files,
            round(size / 1e6, 3),
            lake.version(name) + 1,
        )
    rows = lake.read("models", 0).to_pylist() if "models" in tables else []
    models = [
        ModelStats(
            row["name"],
            model_version(row["content"]),
            row["at"].isoformat(timespec="seconds"),
            len(row["users"]),
        )
        for row in sorted(rows, key=lambda row: row["at"])
    ]
    return LakeStats(lake.root, lake.buckets, tables, models)


class Compaction(msgspec.Struct, frozen=True):
    """What a compaction did."""

    buckets: int
    """Rewritten, over all tables."""
    rows_dropped: int
    files_deleted: int
    mb_freed: float


def compact_lake(lake: Lake, progress: Report | None = None) -> Compaction:
    """Merge the files of each bucket without superseded rows, drop files that no version of the
    last week uses, and shorten the logs.
    """
    tables = [name for name in SCHEMAS if lake.exists(name)]
    before = {name: (lake.count_rows(name), lake.count_files(name)[1]) for name in tables}
    rewritten = 0
    for done, name in enumerate(tables, 1):
        merged = lake.merge_files(name)
        carry_marks(lake, name, merged)
        rewritten += merged.buckets
        if progress:
            progress(done, len(tables))
    drop_stale_checksums(lake)
    seal_files(lake)
    deleted = lake.vacuum()
    for name in tables:
        lake.tidy_log(name)
    after = {name: (lake.count_rows(name), lake.count_files(name)[1]) for name in tables}
    dropped = sum(before[name][0] - after[name][0] for name in tables)
    freed = sum(before[name][1] - after[name][1] for name in tables)
    return Compaction(rewritten, dropped, len(deleted), round(freed / 1e6, 3))


def tend_lake(lake: Lake, many_files: int = _MANY_FILES) -> None:
    """Merge the small files of buckets that have come to so many, and seal what is new.

    What is read of a bucket thus stays in proportion to what it holds. The time for it is when
    every step has read them: to a step that has not, a merged file is new.
    """
    for name in filter(lake.exists, SCHEMAS):
        carry_marks(lake, name, lake.merge_small_files(name, many_files, _SMALL_BYTES))
    seal_files(lake)


def rebucket_lake(lake: Lake, buckets: int, progress: Report | None = None) -> int:
    """Give a local lake another number of buckets; returns the rows that were moved.

    The new lake is made beside the old one and takes its place when it is whole; killed at any
    point, the same call goes on.

    Raises:
        InputError: the lake is in an object store, or has that number already.
    """
    if not lake.is_local:
        raise InputError(
            f"could not rebucket {lake.root}: this works on a local folder; copy the lake to one"
        )
    root = Path(lake.root)
    unfinished, before = (
        root.with_name(root.name + _UNFINISHED),
        root.with_name(root.name + _BEFORE),
    )
    if lake.buckets == buckets:
        raise InputError(f"could not rebucket {lake.root}: it has {buckets} buckets already")
    target = Lake(unfinished, buckets)
    if target.exists() and target.buckets != buckets:
        shutil.rmtree(unfinished)
        target = Lake(unfinished, buckets)
    target.create(lake.key_fingerprint)
    moved = 0
    names = [name for name in SCHEMAS if name not in _LEFT_BEHIND and lake.exists(name)]
    for done, name in enumerate(names, 1):
        for bucket in range(lake.buckets):
            versions = f"{lake.version(name)}/{bucket}"
            rows = lake.read(name, bucket)
            for part in _spread(rows, buckets):
                target.append(name, part, (f"rebucket/{name}/{versions}", 1))
            moved += rows.num_rows
        target.compact(name)
        if progress:
            progress(done, len(names))
    for path in root.iterdir():
        if path.is_file():
            shutil.copy2(path, unfinished / path.name)
    root.rename(before)
    unfinished.rename(root)
    shutil.rmtree(before)
    return moved


def _spread(rows: CleanTable, buckets: int) -> Iterator[CleanTable]:
    """The rows with the bucket of their user."""
    if not rows.num_rows:
        return
    if "user" not in rows.schema.names:
        yield rows
        return
    users = [str(user) for user in rows["user"].to_pylist()]
    places = {user: bucket_of(user, buckets) if user else 0 for user in set(users)}
    column = pa.array([places[user] for user in users], pa.int32())
    at = rows.schema.get_field_index("bucket")
    yield CleanTable(rows.set_column(at, "bucket", column))
