"""Append, read by bucket, versions, compaction and vacuum of the lake's Delta tables.

Three rules keep it consistent when processes die or race:

* a commit carries a Delta transaction identifier (application id, version), so a retried append
  changes nothing;
* base tables are append-only and resolved on reading: the longest version of a conversation counts,
  of equal ones the first, so writers never wait for each other; `compact` drops superseded rows;
* derived tables are replaced one bucket at a time.

Delta's log keeps column minima and maxima, text included. Every table therefore restricts
statistics to `bucket`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, cast

import pyarrow as pa
from deltalake import (
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    Schema,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

from upshot.errors import LakeError, NotFoundError, boundary
from upshot.io.arrow import pc
from upshot.records import AUTHOR_OF_ROLE, SCHEMAS, CleanTable, empty

_CONFIGURATION = {
    "delta.dataSkippingStatsColumns": "bucket",
    "delta.logRetentionDuration": "interval 0 days",
    "delta.deletedFileRetentionDuration": "interval 0 days",
    "delta.enableExpiredLogCleanup": "false",
}
_WRITER = WriterProperties(
    compression="ZSTD",
    compression_level=1,
    column_properties={
        "text": ColumnProperties(dictionary_enabled=False)
    },  # texts seldom repeat; a dictionary of them is slow
)
_NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
_COMMIT_RETRIES = 100
"""Of an append that raced others; each retry takes milliseconds."""
_REVISIONED = ("messages", "events")
OUTSIDE_PREFIX = "outside/"
"""Prefix of the digest of reported events, which belong to all versions of a conversation."""


def bucket_of(user: str, buckets: int) -> int:
    """hash(user) mod N, stable across machines and versions.

    >>> bucket_of("u", 16) == bucket_of("u", 16)
    True
    """
    return int.from_bytes(hashlib.blake2b(user.encode(), digest_size=8).digest(), "big") % buckets


class Lake:
    """The tables under one folder or object-store URL (`s3://…`, `az://…`, `gs://…`, `memory://…`)."""

    def __init__(
        self, root: str | Path, buckets: int = 16, storage_options: Mapping[str, str] | None = None
    ) -> None:
        text = str(root)
        self.is_local = "://" not in text or text.startswith("file://")
        self.root = (
            text
            if not self.is_local
            else str(Path(text.removeprefix("file://")).expanduser().resolve())
        )
        self._options = dict(storage_options or {}) or None
        self._wanted_buckets = buckets
        self._opened: dict[str, DeltaTable] = {}

    def uri(self, table: str) -> str:
        """The location of a table."""
        if table not in SCHEMAS:
            raise NotFoundError(
                f"could not open table {table!r}: the lake holds {', '.join(SCHEMAS)}"
            )
        return f"{self.root.rstrip('/')}/{table}"

    def exists(self, table: str = "conversations") -> bool:
        """Whether the table exists."""
        return table in self._opened or DeltaTable.is_deltatable(self.uri(table), self._options)

    @property
    def buckets(self) -> int:
        """Number of buckets, fixed when the lake is made."""
        if not self.exists():
            return self._wanted_buckets
        return int(self._open("conversations").metadata().description or self._wanted_buckets)

    def create(self) -> None:
        """Make every missing table; safe to call from several processes at once."""
        if self.is_local:
            with boundary(f"make the lake at {self.root}", (OSError,), LakeError):
                Path(self.root).mkdir(parents=True, exist_ok=True)
        buckets = self.buckets
        for table, schema in SCHEMAS.items():
            if self.exists(table):
                self._add_columns(table, schema)
                continue
            with boundary(f"make table {table} in {self.root}", (DeltaError, OSError), LakeError):
                DeltaTable.create(
                    self.uri(table),
                    schema,
                    mode="ignore",
                    partition_by=["bucket"],
                    description=str(buckets),
                    configuration=dict(_CONFIGURATION),
                    storage_options=self._options,
                )

    def _add_columns(self, table: str, schema: pa.Schema) -> None:
        """Add the columns that an earlier version did not write."""
        opened = self._open(table)
        wanted: Any = Schema.from_arrow(schema)
        present = {field.name for field in opened.schema().fields}
        missing = [field for field in wanted.fields if field.name not in present]
        if missing:
            with boundary(f"add columns to {self.uri(table)}", (DeltaError, OSError), LakeError):
                opened.alter.add_columns(missing)
            self._opened.pop(table, None)

    def version(self, table: str) -> int:
        """The newest version of a table."""
        return self._open(table).version()

    def committed(self, table: str, application: str) -> int | None:
        """The last transaction version that `application` committed to the table, if any."""
        return self._open(table).transaction_version(application)

    def append(
        self,
        table: str,
        rows: CleanTable,
        transaction: tuple[str, int],
        metadata: Mapping[str, Any] | None = None,
    ) -> bool:
        """Append rows once: False, without writing, if the transaction was committed before."""
        return self._write(table, rows, transaction, metadata, predicate=None)

    def replace(
        self,
        table: str,
        bucket: int,
        rows: CleanTable,
        transaction: tuple[str, int],
        metadata: Mapping[str, Any] | None = None,
    ) -> bool:
        """Replace a bucket's rows in one commit; False if this transaction was committed before."""
        return self._write(table, rows, transaction, metadata, predicate=f"bucket = {bucket}")

    def _write(
        self,
        table: str,
        rows: pa.Table,
        transaction: tuple[str, int],
        metadata: Mapping[str, Any] | None,
        predicate: str | None,
    ) -> bool:
        opened = self._open(table)
        committed = opened.transaction_version(transaction[0])
        if committed is not None and committed >= transaction[1]:
            return False
        if rows.num_rows == 0 and predicate is None:
            rows = empty(table)
        properties = CommitProperties(
            custom_metadata={name: str(value) for name, value in (metadata or {}).items()},
            max_commit_retries=_COMMIT_RETRIES,
            app_transactions=[Transaction(app_id=transaction[0], version=transaction[1])],
        )
        try:
            with boundary(
                f"write {rows.num_rows} rows to {self.uri(table)}", (DeltaError, OSError), LakeError
            ):
                write_deltalake(
                    opened,
                    rows.select(SCHEMAS[table].names).cast(SCHEMAS[table]),
                    mode=("append" if predicate is None else "overwrite"),  # pyright: ignore[reportArgumentType]  # both are allowed
                    predicate=predicate,
                    writer_properties=_WRITER,
                    commit_properties=properties,
                    post_commithook_properties=_NO_HOOKS,
                )
        except LakeError as error:
            # Two processes did the same work: the loser finds the winner's transaction and is done.
            if isinstance(error.__cause__, CommitFailedError):
                committed = self._open(table).transaction_version(transaction[0])
                if committed is not None and committed >= transaction[1]:
                    return False
            raise
        return True

    def read(
        self,
        table: str,
        bucket: int | None = None,
        columns: Sequence[str] | None = None,
        version: int | None = None,
        conversations: CleanTable | None = None,
    ) -> CleanTable:
        """The rows that count, of one bucket or all; `version` reads the table as it was.

        `conversations`: those of the bucket, if they have been read already.
        """
        rows = self.read_all_versions(table, bucket, columns, version)
        if table == "conversations":
            return CleanTable(
                _select_newest(rows, ("user", "id"), ("messages", "ingested_at"), columns)
            )
        if table == "verdicts":
            ranked = rows.append_column("asked", pc.starts_with(rows["judge"], "llm/"))
            newest = _select_newest(ranked, ("id", "index"), ("seen", "asked", "as_of"), columns)
            return CleanTable(newest.drop_columns("asked") if columns is None else newest)
        if table in _REVISIONED:
            current = (
                conversations
                if conversations is not None
                else self.read("conversations", bucket, ("id", "digest", "messages", "ingested_at"))
            )
            counts = pc.is_in(rows["digest"], value_set=current["digest"].combine_chunks())
            if table == "events":
                outside = pc.starts_with(rows["digest"], OUTSIDE_PREFIX)
                if pc.any(outside).as_py():
                    rows, counts = _merge_outside_events(rows, outside, counts)
            return CleanTable(
                _drop_duplicates(rows if pc.all(counts).as_py() else rows.filter(counts), table)
            )
        return CleanTable(rows)

    def read_all_versions(
        self,
        table: str,
        bucket: int | None,
        columns: Sequence[str] | None = None,
        version: int | None = None,
    ) -> pa.Table:
        """The rows of a table, superseded ones included."""
        opened = self._open(table, version)
        needed = None if columns is None else sorted(set(columns) | set(_KEYS.get(table, ())))
        wanted = None if bucket is None else [("bucket", "=", str(bucket))]
        where = SubTreeFileSystem(self.uri(table), LocalFileSystem()) if self.is_local else None
        with boundary(
            f"read {self.uri(table)}", (DeltaError, OSError, pa.ArrowException), LakeError
        ):
            dataset = cast(Any, opened).to_pyarrow_dataset(
                filesystem=where, file_pruning_predicate=wanted
            )
            present = dataset.schema.names
            rows: pa.Table = dataset.to_table(
                columns=None if needed is None else [name for name in needed if name in present]
            )
        schema: Any = SCHEMAS[table]
        for name in schema.names if needed is None else needed:
            if name not in present:  # a lake of an earlier version
                rows = rows.append_column(schema.field(name), _defaults(name, rows))
        return rows.cast(pa.schema([schema.field(name) for name in rows.schema.names]))

    def fingerprints(self, table: str) -> list[str]:
        """A hash of each bucket, which changes when a commit adds to the bucket or replaces it."""
        files: list[list[str]] = [[] for _ in range(self.buckets)]
        actions = pa.table(self._open(table).get_add_actions(flatten=True))
        for path, bucket in zip(
            actions["path"].to_pylist(), actions["partition.bucket"].to_pylist(), strict=True
        ):
            files[int(bucket or 0)].append(str(path))
        return [
            hashlib.blake2b("\n".join(sorted(paths)).encode(), digest_size=12).hexdigest()
            for paths in files
        ]

    def compact(self, table: str) -> int:
        """Merge the files of each bucket, without superseded rows; returns buckets rewritten."""
        paths = [
            str(path) for path in pa.table(self._open(table).get_add_actions())["path"].to_pylist()
        ]
        rewritten = 0
        for bucket in range(self.buckets):
            files = [path for path in paths if f"bucket={bucket}/" in path]
            if len(files) < 2:
                continue
            name = hashlib.blake2b("\n".join(sorted(files)).encode(), digest_size=12).hexdigest()
            rewritten += self.replace(
                table, bucket, self.read(table, bucket), (f"compact/{bucket}/{name}", 1)
            )
        return rewritten

    def vacuum(self, retention: timedelta = timedelta(days=7)) -> list[str]:
        """Delete files that no version younger than `retention` uses; returns their paths."""
        gone: list[str] = []
        for table in SCHEMAS:
            if self.exists(table):
                opened = self._open(table)
                hours = int(retention.total_seconds() // 3600)
                gone += opened.vacuum(
                    hours, dry_run=False, enforce_retention_duration=False, full=hours == 0
                )
        return gone

    def tidy_log(self, table: str) -> None:
        """Write a checkpoint and delete the log entries before it."""
        opened = self._open(table)
        with boundary(f"tidy the log of {self.uri(table)}", (DeltaError, OSError), LakeError):
            opened.create_checkpoint()
            opened.cleanup_metadata()
            self._opened.pop(table, None)  # what it knows of the log is about to be deleted
        if self.is_local:
            _drop_old_log(Path(self.uri(table)) / "_delta_log", opened.version())

    def storage_options(self) -> dict[str, str] | None:
        """What object stores need, as given."""
        return self._options

    def _open(self, table: str, version: int | None = None) -> DeltaTable:
        """The table at a version, or now: an open one only reads what the log has added since."""
        try:
            opened = self._opened.get(table)
            if opened is None or version is not None:
                opened = DeltaTable(self.uri(table), version=version, storage_options=self._options)
                if version is None:
                    self._opened[table] = opened
            else:
                opened.update_incremental()
            return opened
        except TableNotFoundError as error:
            raise NotFoundError(
                f"could not open {self.uri(table)}: there is no lake here; make one with `upshot"
                " ingest LOGS --lake DIR`"
            ) from error
        except (DeltaError, OSError) as error:
            raise LakeError(f"could not open {self.uri(table)}: {error}") from error


_KEYS: Mapping[str, Sequence[str]] = {
    "conversations": ("user", "id", "messages", "digest", "ingested_at"),
    "messages": ("digest", "index"),
    "events": ("digest", "index", "kind", "at", "detail", "time"),
    "verdicts": ("id", "index", "as_of", "judge", "seen"),
}


def _defaults(name: str, rows: pa.Table) -> Any:
    """What a column holds in a lake of an earlier version, which did not write it."""
    schema: Any = next(schema for schema in SCHEMAS.values() if name in schema.names)
    values: list[Any] = [_DEFAULTS.get(name, "")] * rows.num_rows
    if name == "author" and "role" in rows.schema.names:
        roles: list[Any] = rows["role"].to_pylist()
        values = [AUTHOR_OF_ROLE[role] for role in roles]
    return cast(Any, pa).array(values, schema.field(name).type)


_DEFAULTS: Mapping[str, Any] = {"parent_at": -1, "status": None, "spans": None, "chain": b""}


def _select_newest(
    rows: pa.Table, key: Sequence[str], order: Sequence[str], columns: Sequence[str] | None
) -> pa.Table:
    """The last row by `order` for each key; of ties the smallest digest, so readers agree."""
    if rows.num_rows == 0:
        return rows.select(columns) if columns else rows
    sorting: list[tuple[str, Literal["ascending", "descending"]]] = [
        *((name, "ascending") for name in key),
        *((name, "descending") for name in order),
    ]
    if "digest" in rows.schema.names:
        sorting.append(("digest", "ascending"))
    rows = rows.take(pc.sort_indices(rows, sort_keys=sorting))
    same = _repeat_mask(rows, key)
    rows = rows.filter(pc.invert(same))
    return rows.select(columns) if columns else rows


def _repeat_mask(rows: pa.Table, key: Sequence[str]) -> Any:
    """Whether each row has the key of the row before it."""
    same: Any = None
    for name in key:
        column = rows[name].combine_chunks()
        equal = pc.equal(column.slice(1), column.slice(0, len(column) - 1))
        same = equal if same is None else pc.and_(same, equal)
    joined = same.combine_chunks() if hasattr(same, "combine_chunks") else same
    return pa.concat_arrays([pa.array([False]), pc.fill_null(joined, False)])


def _drop_duplicates(rows: pa.Table, table: str) -> pa.Table:
    """Drop rows that two writers both wrote: the same conversation version and position."""
    if rows.num_rows == 0:
        return rows
    names = (
        ("digest", "index") if table == "messages" else ("digest", "index", "kind", "at", "detail")
    )
    order = pc.sort_indices(rows.select(names), [(name, "ascending") for name in names])
    same = _repeat_mask(rows.select(names).take(order), names)
    return rows.take(pc.filter(order, pc.invert(same))) if pc.any(same).as_py() else rows


def _merge_outside_events(rows: pa.Table, outside: Any, counts: Any) -> tuple[pa.Table, Any]:
    """Events including those from outside, of which the newest of each kind counts.

    The detail of an outside event begins with its kind.
    """
    reported = rows.filter(outside)
    what = pc.replace_substring_regex(reported["detail"], pattern="(?s):.*", replacement="")
    order = ("time",) if "time" in reported.schema.names else ()
    newest = _select_newest(
        reported.append_column("what", what), ("digest", "index", "kind", "what"), order, None
    ).drop_columns("what")
    others = rows.filter(pc.and_(counts, pc.invert(outside)))
    both = pa.concat_tables([others, newest.select(rows.schema.names)])
    return both, pa.array([True] * both.num_rows)


def _drop_old_log(log: Path, version: int) -> None:
    """Delete what the log holds of earlier versions; entries younger than a day stay."""
    if not (log / f"{version:020d}.checkpoint.parquet").exists():
        return
    for path in log.iterdir():
        stem = path.name.split(".")[0]
        if stem.isdigit() and int(stem) < version:
            os.unlink(path)
