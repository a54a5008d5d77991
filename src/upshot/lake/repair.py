"""Repair of a local lake: every damaged table is made anew from what of it is whole, and takes its
place by a rename.

A conversation that has lost messages is taken out, so that the next ingest of its log brings it
back. Steps forget what they have read, look at everything again, and write what is missing.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from upshot.errors import InputError, LakeError
from upshot.io.arrow import pc
from upshot.lake.check import (
    Damage,
    LakeCheck,
    check_lake,
    count_messages,
    examine_file,
    name_shortness,
    read_checksums,
    read_log,
)
from upshot.lake.checksums import seal_files
from upshot.lake.erased import read_erased, without_erased
from upshot.lake.tables import Lake
from upshot.records import SCHEMAS, CleanTable

_FOLDER = ".repair"
"""Holds what is being made, inside the lake, where an erasure would look too."""
_WHOLE = ".whole"
"""Ends the name of a table that is made, and not in its place yet."""
_FORGOTTEN = ("progress", "checksums")
"""Tables that are made anew, empty."""
_MADE_AGAIN = ("threads", "verdicts", "models")
"""Tables that the next link and judge bring back."""
_BACK = "the next ingest of its log brings it back"
_BY_DIGEST = ("conversations", "messages", "events")


def repair_lake(lake: Lake) -> LakeCheck:
    """Restore from what is whole; returns the damage, with what is gone. Killed at any point, the
    same call goes on.

    Raises:
        InputError: the lake is in an object store.
        LakeError: neither the number of buckets nor the key's fingerprint can be read any more.
    """
    if not lake.is_local:
        raise InputError(
            f"could not repair {lake.root}: this works on a local folder; copy the lake to one"
        )
    with lake.exclusive():
        return _repair(lake)


def _repair(lake: Lake) -> LakeCheck:
    room = Path(lake.root) / _FOLDER
    _finish_renames(lake, room)
    check = check_lake(lake)
    if not check.damages:
        return check
    tables = {damage.table for damage in check.damages} | set(_FORGOTTEN)
    if tables & set(_BY_DIGEST):
        tables.update(_BY_DIGEST)  # their transactions would say that nothing is missing
    sources = {table: _find_sources(lake, table) for table in sorted(tables - set(_FORGOTTEN))}
    lost = {place: loss for source in sources.values() for place, loss in source.lost.items()}
    damages = [_with_loss(damage, lost.get(damage.place, "")) for damage in check.damages]
    buckets, fingerprint = _find_description(lake)
    draft = Lake(room / "draft", buckets)
    draft.create(fingerprint)
    marks = _read_marks(lake, sources)
    for bucket in range(buckets):
        rows = {
            table: without_erased(table, _read_bucket(lake, table, source.paths, bucket), marks)
            for table, source in sources.items()
        }
        for name, problem in _take_out_short(rows).items() if "messages" in rows else ():
            damages = [damage for damage in damages if damage.place != name]
            damages.append(Damage("messages", name, problem, _BACK))
        for table, content in rows.items():
            if content.num_rows:
                draft.append(table, CleanTable(content), (f"repair/{table}/{bucket}", 1))
    for table in sorted(tables):
        (room / "draft" / table).rename(room / f"{table}{_WHOLE}")
    lake.forget_opened()
    for table in sorted(tables):
        _put_in_place(lake, room, table)
    shutil.rmtree(room, ignore_errors=True)
    lake.create()
    seal_files(lake)
    return msgspec.structs.replace(check, damages=damages, is_repaired=True)


def _with_loss(damage: Damage, loss: str) -> Damage:
    return msgspec.structs.replace(damage, lost=loss) if loss else damage


class _Sources(NamedTuple):
    paths: list[str]
    """Whole files of a table whose rows count."""
    lost: dict[str, str]
    """What is gone, by file."""


def _find_sources(lake: Lake, table: str) -> _Sources:
    """The files that the log names, and where it has lost entries, those that it named when they
    were sealed, or may have named.
    """
    checksums, versions, _ = read_checksums(lake)
    content = read_log(lake, table)
    paths = list(content.live)
    if content.damages or versions.get(table, -1) > content.version:
        paths += [path for name, path in checksums if name == table]
    if content.damages:
        paths += _find_unsealed(lake, table, {*paths, *content.removed})
    whole: list[str] = []
    lost: dict[str, str] = {}
    for path in dict.fromkeys(paths):
        if path not in content.removed:
            problem, _ = examine_file(lake, table, path, checksums.get((table, path)))
            if not problem:
                whole.append(path)
            elif path in content.live:
                lost[f"{table}/{path}"] = _name_loss(table)
    return _Sources(whole, lost)


def _read_marks(lake: Lake, sources: Mapping[str, _Sources]) -> frozenset[str]:
    """Marks of the erased, as far as they can be read."""
    if "erased" not in sources:
        return read_erased(lake)
    rows = _read_bucket(lake, "erased", sources["erased"].paths, 0)
    newest = {row["mark"]: row for row in sorted(rows.to_pylist(), key=lambda row: row["as_of"])}
    return frozenset(mark for mark, row in newest.items() if not row["allowed"])


def _read_bucket(lake: Lake, table: str, paths: Iterable[str], bucket: int) -> pa.Table:
    root = Path(lake.uri(table))
    parts = [
        _read_rows(root / path, table) for path in paths if path.startswith(f"bucket={bucket}/")
    ]
    return pa.concat_tables([SCHEMAS[table].empty_table(), *parts])


def _find_unsealed(lake: Lake, table: str, named: set[str]) -> list[str]:
    """Whole files that the log does not name: an entry that is torn or missing may have. Rows that
    were not committed may be among them; reading leaves out what nothing refers to.
    """
    root = Path(lake.uri(table))
    paths = sorted(str(path.relative_to(root)) for path in root.glob("bucket=*/*.parquet"))
    return [
        path for path in paths if path not in named and not examine_file(lake, table, path, None)[0]
    ]


def _read_rows(path: Path, table: str) -> pa.Table:
    """The rows of one file, whose bucket is in its path."""
    schema: Any = SCHEMAS[table]
    rows = cast(Any, pq).ParquetFile(path).read()
    bucket = int(path.parent.name.removeprefix("bucket="))
    columns: list[Any] = [
        pa.array([bucket] * rows.num_rows, pa.int32())
        if name == "bucket"
        else rows[name].cast(schema.field(name).type)
        if name in rows.schema.names
        else pa.nulls(rows.num_rows, schema.field(name).type)
        for name in schema.names
    ]
    return pa.table(columns, schema=schema)


def _name_loss(table: str) -> str:
    if table in _MADE_AGAIN:
        return "its rows; the next run makes them again"
    if table in _BY_DIGEST:
        return "its rows; the next ingest of their logs and events brings them back"
    if table == "erased":
        return "who was erased, in part: erase again whoever asked for it"
    return "its rows"


def _take_out_short(rows: dict[str, pa.Table]) -> dict[str, str]:
    """Take conversations that lack messages out of the tables of a bucket; returns them by id, and
    why.
    """
    counts = count_messages(rows["messages"])
    short: dict[str, str] = {}
    digests: list[str] = []
    for row in rows["conversations"].select(["id", "digest", "messages"]).to_pylist():
        if counts[row["digest"]] != row["messages"]:
            short[row["id"]] = name_shortness(counts[row["digest"]], row["messages"])
            digests.append(row["digest"])
    values = pa.array(digests, pa.string())
    for table in _BY_DIGEST if digests else ():
        rows[table] = rows[table].filter(
            pc.invert(pc.is_in(rows[table]["digest"], value_set=values))
        )
    return short


def _find_description(lake: Lake) -> tuple[int, str]:
    """The number of buckets and the fingerprint of the key, which every table was made with."""
    for table in SCHEMAS:
        try:
            parts = (DeltaTable(lake.uri(table)).metadata().description or "").split()
        except (DeltaError, OSError, ValueError):
            continue  # another one may know
        if parts:
            return int(parts[0]), parts[1] if len(parts) > 1 else ""
    raise LakeError(
        f"could not repair {lake.root}: no table says how many buckets it has; restore one from a"
        " copy, or ingest the logs into a new lake"
    )


def _put_in_place(lake: Lake, room: Path, table: str) -> None:
    place, old = Path(lake.root) / table, room / f"{table}.old"
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    (room / f"{table}{_WHOLE}").rename(place)
    shutil.rmtree(old, ignore_errors=True)


def _finish_renames(lake: Lake, room: Path) -> None:
    """What a repair that was killed has left."""
    for old in room.glob("*.old") if room.is_dir() else ():
        table = old.stem
        if not (Path(lake.root) / table).exists():
            _put_in_place(lake, room, table)
    shutil.rmtree(room, ignore_errors=True)
