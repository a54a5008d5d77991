"""Erasure of a user's rows from every table and file version, proven by a scan of all bytes.

A Delta `DELETE` writes its predicate, the user's id, into the log. So rows are erased by rewriting
their *bucket* without them; then older files are vacuumed, a checkpoint is written, and the log
before it is deleted.

The user is put on the list of the erased first (`lake.erased`), which every writer heeds, and
`conversations` is rewritten last. So whatever of theirs others are about to write stays out, and an
erasure that was killed at any of its steps is finished by the same call.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq

from upshot.errors import ErasureError
from upshot.io.arrow import pc
from upshot.lake.erased import mark_of, read_erased, without_words, write_mark
from upshot.lake.exports import find_exports
from upshot.lake.locks import LOCK_FILES
from upshot.lake.tables import Lake
from upshot.lake.traces import MIN_ID, Traces, cut_text, unfold
from upshot.records import SCHEMAS

_IDS, _TEXTS = ("id", "thread", "digest", "identity", "key"), ("text", "detail", "metadata")
"""Columns that traces are taken from."""
_ORDER = (
    *(
        name
        for name, schema in SCHEMAS.items()
        if {"user", "users"}.intersection(schema.names) and name != "conversations"
    ),
    "conversations",
)
"""Tables in the order in which they are rewritten: what makes the other rows count is last."""
_REPORT = "report.html"
"""Quotes texts of users; made anew by `upshot report`."""
_BATCH_ROWS = 4096
"""Of a Parquet file that are decoded at a time."""
Spells = Callable[[str], bool]
"""Whether a name stands for the user: the pseudonym, or the name in the logs."""


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
    """Distinct ids and pieces of texts of the user that were searched for."""
    retrain: list[str] = []
    """Folders of models outside the lake that learned from the user; unchanged, to be retrained."""
    exports: list[str] = []
    """Files outside the lake that hold rows of the user, and addresses to which their verdicts were
    pushed; unchanged, to be deleted or made anew there.
    """
    is_allowed_again: bool = False
    """The user was only taken off the list of the erased."""


def count_rows_of(lake: Lake, user: str) -> dict[str, int]:
    """How many rows each table has of a user (by pseudonym), superseded ones included; tables
    without any are left out.
    """
    counts: dict[str, int] = {}
    for table in filter(lake.exists, _ORDER):
        for column in ("user", "users", "name"):
            if column in SCHEMAS[table].names and (column != "name" or table == "messages"):
                values: Any = lake.read_all_versions(table, None, [column])[column]
                values = pc.list_flatten(values) if column == "users" else values
                count = pc.sum(pc.equal(values, user)).as_py() or 0
                if count:
                    counts[table] = counts.get(table, 0) + count
    return counts


def has_traces_of(lake: Lake, user: str, spells: Spells) -> bool:
    """Whether a user (by pseudonym) has been erased before, or any byte of the lake names them."""
    return mark_of(user) in read_erased(lake) or bool(
        count_rows_of(lake, user) or _Scan(lake, user, spells, Traces((), ())).run()
    )


def erase_user(lake: Lake, user: str, spells: Spells) -> ErasureProof:
    """Erase a user (by pseudonym) from every table, then scan all remaining bytes. Others who read
    or write a local lake are waited for, and wait.

    Raises:
        ErasureError: the scan found data of theirs.
    """
    mark = mark_of(user)
    lake.create()  # the tables that an earlier version did not have
    if mark not in read_erased(lake):
        write_mark(lake, user, allowed=False)
    with lake.exclusive():
        speech = _find_speech(lake, user)
        owners = {owner for one in speech.values() for owner in one.owners}
        exports = sorted({path for one in (user, *owners) for path in find_exports(lake, one)})
        exports += _find_endpoints(lake, user)
        models = _find_models(lake, user)
        traces = _collect_traces(lake, user)
        rows: dict[str, int] = {}
        if lake.is_local:
            (Path(lake.root) / _REPORT).unlink(missing_ok=True)
        for bucket, words in speech.items():
            _erase_words(lake, bucket, words)
        for table in _ORDER:
            dropped = sum(lake.drop_users(table, {mark}).values())
            if "user" in SCHEMAS[table].names:
                rows[table] = dropped
        deleted = len(lake.vacuum(timedelta(0)))
        for table in SCHEMAS:
            lake.tidy_log(table)
        scan = _Scan(lake, user, spells, traces)
        if places := scan.run():
            raise ErasureError(
                f"could not prove the erasure: {places[0]} still holds data of the erased user, or"
                " cannot be read; if no other process is writing it, delete it, and run `upshot"
                " erase` again"
            )
    return ErasureProof(rows, deleted, scan.files, scan.bytes, models, len(traces), exports=exports)


class _Speech(NamedTuple):
    """What a user wrote in conversations that are others'."""

    owners: set[str]
    places: set[tuple[Any, Any]]
    """Conversation and index of each message."""


def _find_speech(lake: Lake, user: str) -> dict[int, _Speech]:
    """By bucket."""
    speech: dict[int, _Speech] = {}
    for bucket in range(lake.buckets):
        rows = lake.read_all_versions("messages", bucket, ["user", "id", "index", "name"])
        theirs = rows.filter(
            pc.and_(pc.equal(rows["name"], user), pc.not_equal(rows["user"], user))
        )
        if theirs.num_rows:
            places = zip(theirs["id"].to_pylist(), theirs["index"].to_pylist(), strict=True)
            owners = {str(owner) for owner in theirs["user"].to_pylist()}
            speech[bucket] = _Speech(owners, set(places))
    return speech


def _erase_words(lake: Lake, bucket: int, speech: _Speech) -> None:
    """Take a user's words out of what was made of others' conversations: quotes, why sessions were
    linked, and replies of a language model, which are asked for again. Before the messages
    themselves, by which they are known.
    """
    owners = pa.array(sorted(speech.owners), pa.string())

    def without_replies(rows: pa.Table) -> pa.Table:
        is_theirs = pc.is_in(rows["user"], value_set=owners)
        return rows.filter(pc.invert(is_theirs)) if pc.any(is_theirs).as_py() else rows

    def without_reasons(rows: pa.Table) -> pa.Table:
        is_theirs = pc.is_in(rows["user"], value_set=owners)
        if not pc.any(
            pc.and_(is_theirs, pc.greater(pc.list_value_length(rows["reasons"]), 0))
        ).as_py():
            return rows
        hits: list[bool] = is_theirs.to_pylist()
        values: list[Any] = rows["reasons"].to_pylist()
        changed: list[Any] = [[] if hit else some for hit, some in zip(hits, values, strict=True)]
        place, kind = rows.schema.get_field_index("reasons"), rows["reasons"].type
        return rows.set_column(place, "reasons", cast(Any, pa).array(changed, kind))

    lake.rewrite("verdicts", bucket, lambda rows: without_words(rows, speech.places))
    lake.rewrite("threads", bucket, without_reasons)
    lake.rewrite("replies", bucket, without_replies)


def _find_endpoints(lake: Lake, user: str) -> list[str]:
    """Addresses of other systems that have taken scores of a user's responses."""
    rows = lake.read_all_versions("outbox", None, ["endpoint"], users=[user])
    return sorted({str(endpoint) for endpoint in rows["endpoint"].to_pylist()})


def _find_models(lake: Lake, user: str) -> list[str]:
    return sorted(
        {row["name"] for row in lake.read("models", 0).to_pylist() if user in row["users"]}
    )


def _collect_traces(lake: Lake, user: str) -> Traces:
    """Ids and texts of a user in all Parquet files of the lake: also in those that no version uses,
    which an erasure that was killed has left.
    """
    ids: set[bytes] = set()
    pieces: set[bytes] = set()
    for path, content in _read_files(lake):
        file = _open_parquet(content) if path.endswith(".parquet") else None
        columns = [] if file is None else [n for n in ("user", "name") if n in file.schema.names]
        if file is None or "user" not in columns:
            continue
        people = file.read(columns=columns)
        if not any(pc.any(pc.equal(people[name], user)).as_py() for name in columns):
            continue
        rows: pa.Table = file.read()
        for name in columns:
            theirs = rows.filter(pc.equal(rows[name], user))
            # in a conversation of another's the text alone is the user's
            ids.update(_read_ids(theirs) if name == "user" else ())
            pieces.update(_read_pieces(theirs))
    return Traces(ids, pieces)


def _read_ids(rows: pa.Table) -> Iterator[bytes]:
    for name in _IDS:
        for value in _distinct(rows, name):
            if len(content := value.encode()) >= MIN_ID:
                yield content


def _read_pieces(rows: pa.Table) -> Iterator[bytes]:
    for name in _TEXTS:
        for value in _distinct(rows, name):
            for layer in unfold(value.encode()):  # metadata is JSON: what it says, and how
                yield from cut_text(layer.decode("utf-8", "replace"))


def _distinct(rows: pa.Table, name: str) -> list[str]:
    if name not in rows.schema.names or not _is_text(rows[name].type):
        return []
    values: list[Any] = pc.unique(rows[name]).to_pylist()
    return [str(value) for value in values if value]


class _Scan:
    """A search of every file of the lake, as bytes and decoded.

    A row belongs to the user whom its `user` column names, so identical texts of others are not
    searched for. Files and rows that name no user are searched for every trace, but one that is in
    rows of others too proves nothing.
    """

    def __init__(self, lake: Lake, user: str, spells: Spells, traces: Traces) -> None:
        self._lake, self._spells, self._traces = lake, spells, traces
        self._names = Traces((), [user.encode()])
        self._places: list[str] = []
        self._suspects: dict[bytes, str] = {}
        """Traces in what names no user, and the file."""
        self.files = self.bytes = 0

    def run(self) -> list[str]:
        """The files that hold data of the user or cannot be read."""
        for path, content in _read_files(self._lake):
            self.files += 1
            self.bytes += len(content)
            if path.endswith(".parquet"):
                self._search_parquet(path, content)
            else:
                self._search_unowned(path, content)
        if self._suspects:
            for trace in self._find_in_rows_of_others():
                self._suspects.pop(trace, None)
        return [*dict.fromkeys([*self._places, *self._suspects.values()])]

    def _search_unowned(self, path: str, content: bytes) -> None:
        for layer in unfold(content):
            if self._names.search(layer):
                self._places.append(path)
            for trace in self._traces.search(layer):
                self._suspects.setdefault(trace, path)

    def _search_parquet(self, path: str, content: bytes) -> None:
        file = _open_parquet(content)
        if file is None or self._names.search(content):
            self._places.append(path)
        for batch in _read_batches(file) if file is not None else ():
            unowned = batch
            if "user" in batch.column_names:
                names = batch["user"].cast(pa.string())
                if any(self._spells(name) for name in pc.unique(names).to_pylist() if name):
                    self._places.append(path)
                unowned = batch.filter(pc.equal(pc.fill_null(names, ""), ""))
            for layer in unfold(_join_cells(batch)):
                if self._names.search(layer):
                    self._places.append(path)
            if unowned.num_rows:
                self._search_unowned(path, _join_cells(unowned))

    def _find_in_rows_of_others(self) -> Iterable[bytes]:
        suspects = self._traces.select(self._suspects)
        for path, content in _read_files(self._lake):
            file = _open_parquet(content) if path.endswith(".parquet") else None
            if file is not None and "user" in file.schema.names:
                for batch in _read_batches(file):
                    owned = batch.filter(pc.not_equal(pc.fill_null(batch["user"], ""), ""))
                    for layer in unfold(_join_cells(owned)):
                        yield from suspects.search(layer)


def _read_files(lake: Lake) -> Iterator[tuple[str, bytes]]:
    filesystem, base = lake.open_filesystem()
    for info in filesystem.get_file_info(pyarrow.fs.FileSelector(base, recursive=True)):
        if info.type == pyarrow.fs.FileType.File and info.base_name not in LOCK_FILES:
            try:
                with filesystem.open_input_file(info.path) as handle:
                    content: bytes = handle.read()
            except FileNotFoundError:
                continue  # another process has deleted it, so it holds nothing
            yield info.path, content


def _open_parquet(content: bytes) -> Any:  # its stubs are incomplete
    """None where it is not whole."""
    try:
        return cast(Any, pq).ParquetFile(io.BytesIO(content))
    except (pa.ArrowException, OSError):
        return None


def _read_batches(file: Any) -> Iterator[pa.Table]:
    for batch in file.iter_batches(batch_size=_BATCH_ROWS):
        yield pa.Table.from_batches([batch])


def _join_cells(rows: pa.Table) -> bytes:
    """All texts of a table, those in lists and structs too, a zero byte between them."""
    cells: list[bytes] = []
    for column in rows.columns:
        for chunk in column.chunks:
            cells += _read_cells(chunk)
    return b"\0".join(cells)


def _read_cells(array: Any) -> Iterator[bytes]:
    kind = array.type
    if pa.types.is_dictionary(kind):
        yield from _read_cells(array.dictionary_decode())
    elif pa.types.is_struct(kind):
        for part in array.flatten():
            yield from _read_cells(part)
    elif pa.types.is_map(kind):
        yield from _read_cells(array.keys)
        yield from _read_cells(array.items)
    elif pa.types.is_nested(kind):
        yield from _read_cells(array.flatten())
    elif _is_text(kind):
        for value in array.to_pylist():
            if value:
                yield value if isinstance(value, bytes) else value.encode()


def _is_text(kind: pa.DataType) -> bool:
    return any(
        check(kind)
        for check in (
            pa.types.is_string,
            pa.types.is_large_string,
            pa.types.is_binary,
            pa.types.is_large_binary,
            pa.types.is_string_view,
            pa.types.is_binary_view,
            pa.types.is_fixed_size_binary,
        )
    )
