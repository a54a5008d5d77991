"""Checksums of a local lake's files, by which `upshot lake check` knows a byte that has changed.

Parquet as delta-rs writes it has none, and of bytes changed at random a seventh gives other rows
instead of an error (`docs/lab.md`). An object store has checksums of its own.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from upshot.errors import LakeError
from upshot.lake.tables import Lake
from upshot.records import SCHEMAS, CleanTable

TABLE = "checksums"
_BYTES = 16
"""Of a checksum."""


def checksum_of(path: Path) -> bytes:
    """Of a file's bytes."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=_BYTES))
    return digest.digest()


def seal_files(lake: Lake) -> int:
    """Keep a checksum of each file that has none, and the version of its table; returns how many
    files. Those of object stores are left to the store.
    """
    if not lake.is_local or not lake.exists(TABLE):
        return 0
    have = {(row["table"], row["path"]) for row in lake.read(TABLE, 0).to_pylist()}
    at, rows = datetime.now(UTC), list[dict[str, object]]()
    for table in filter(lake.exists, SCHEMAS):
        version = lake.version(table)
        for path in (path for paths in lake.files(table).values() for path in paths):
            file = Path(lake.uri(table)) / path
            if table != TABLE and (table, path) not in have and file.exists():
                row = {"bucket": 0, "table": table, "path": path, "version": version, "as_of": at}
                rows.append({**row, "checksum": checksum_of(file)})
    if rows:
        content = CleanTable(pa.Table.from_pylist(rows, schema=SCHEMAS[TABLE]))
        lake.append(TABLE, content, (f"checksums/{at.isoformat()}", 1))
    return len(rows)


def drop_stale_checksums(lake: Lake) -> None:
    """Drop those of files that are gone."""
    if not lake.exists(TABLE):
        return
    read_files = lake.files(TABLE).get(0, ())
    rows = lake.read(TABLE, 0).to_pylist()
    present = {
        (table, path)
        for table in filter(lake.exists, SCHEMAS)
        for paths in lake.files(table).values()
        for path in paths
    }
    others = [row for row in rows if (row["table"], row["path"]) in present]
    if len(others) < len(rows):
        content = CleanTable(pa.Table.from_pylist(others, schema=SCHEMAS[TABLE]))
        name = f"checksums/dropped/{datetime.now(UTC).isoformat()}"
        lake.replace(TABLE, 0, content, (name, 1), read_files=read_files)


def sealed_versions(lake: Lake) -> dict[str, int]:
    """The version that each table had reached when its files were last sealed."""
    versions: dict[str, int] = {}
    if lake.is_local and lake.exists(TABLE):
        for row in lake.read(TABLE, 0, ["table", "version", "path", "as_of"]).to_pylist():
            versions[row["table"]] = max(row["version"], versions.get(row["table"], 0))
    return versions


def require_whole_logs(lake: Lake) -> None:
    """Raise where a table is in an earlier version than it had reached: its log has lost entries.

    Raises:
        LakeError: one is.
    """
    for table, version in sealed_versions(lake).items():
        if not lake.exists(table) or lake.version(table) < version:
            raise LakeError(
                f"could not go on with {lake.root}: the log of its table {table} has lost its last"
                f" entries (it had {version + 1}); `upshot lake check --repair` restores what is"
                " whole"
            )
