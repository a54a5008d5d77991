"""Append, read by bucket, versions, compaction and vacuum of the lake's Delta tables.

Three rules keep it consistent when processes die or race:

* a commit carries a Delta transaction identifier (application id, version), so a retried append
  changes nothing;
* base tables are append-only and resolved on reading: the longest version of a conversation counts,
  of equal ones the first, so writers never wait for each other; `compact` drops superseded rows;
* derived tables are append-only too, and the newest row counts; only upkeep and erasure replace a
  bucket, and only in the version that they read.

Delta's log keeps column minima and maxima, text included. Every table therefore restricts
statistics to `bucket`.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import pyarrow as pa
import pyarrow.fs
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

from upshot.errors import ConfigError, LakeChangedError, LakeError, NotFoundError
from upshot.io.arrow import pc
from upshot.lake.erased import (
    ERASED_TEXT,
    ErasedList,
    read_list,
    without_erased,
    without_words,
)
from upshot.lake.failures import explain, lake_boundary
from upshot.lake.locks import LakeLock
from upshot.lake.storage import check_store, is_local_root, open_filesystem
from upshot.records import AUTHOR_OF_ROLE, SCHEMAS, CleanTable, empty

_CONFIGURATION = {
    "delta.dataSkippingStatsColumns": "bucket",
    "delta.logRetentionDuration": "interval 0 days",
    "delta.deletedFileRetentionDuration": "interval 0 days",
    "delta.enableExpiredLogCleanup": "false",
    "delta.checkpointInterval": "100",
}
_WRITER = WriterProperties(
    compression="ZSTD",
    compression_level=1,
    column_properties={
        "text": ColumnProperties(dictionary_enabled=False)
    },  # texts seldom repeat; a dictionary of them is slow
)
_CHECKPOINTS = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)
_COMMIT_RETRIES = 100
"""Of an append that raced others; each retry takes milliseconds."""
_REWRITE_RETRIES = 20
"""Of a bucket that others write to; each reads it anew."""
_REVISIONED = ("messages", "events")
OUTSIDE_PREFIX = "outside/"
"""Prefix of the digest of reported events, which belong to all versions of a conversation."""


def bucket_of(user: str, buckets: int) -> int:
    """hash(user) mod N, stable across machines and versions.

    >>> bucket_of("u", 16) == bucket_of("u", 16)
    True
    """
    return int.from_bytes(hashlib.blake2b(user.encode(), digest_size=8).digest(), "big") % buckets


class Merged(NamedTuple):
    """What a merging of files did to a table."""

    buckets: int
    """Rewritten."""
    before: dict[int, tuple[str, ...]]
    """The files of those buckets of which it is certain that nobody else wrote to the table
    meanwhile: what is in the new files was in the old ones, and nothing else.
    """
    after: dict[int, tuple[str, ...]]


class Lake:
    """The tables under one folder or object-store URL (`s3://…`, `az://…`, `gs://…`, `memory://…`).

    Raises:
        ConfigError: the object store is not known, or may lose commits under these options.
    """

    def __init__(
        self, root: str | Path, buckets: int = 16, storage_options: Mapping[str, str] | None = None
    ) -> None:
        text = str(root)
        self.is_local = is_local_root(text)
        self.root = (
            text
            if not self.is_local
            else str(Path(text.removeprefix("file://")).expanduser().resolve())
        )
        self._options = dict(storage_options or {}) or None
        if not self.is_local:
            check_store(self.root, self._options)
        self._wanted_buckets = buckets
        self._opened: dict[str, DeltaTable] = {}
        self._lock = LakeLock(Path(self.root) if self.is_local else None)
        self._erased = ErasedList(-1, frozenset())
        self._erased_before: ErasedList | None = None
        self._pinned: set[str] | None = None
        """Tables that are read as they were when first read; None: everything is read as it is."""

    @contextmanager
    def pinned(self) -> Generator[None]:
        """Inside the block each table is read as it was when it was first read there; writing sees
        what others have written meanwhile.
        """
        with self._lock.shared():  # the files of what was read first must last
            before, self._pinned = self._pinned, set()
            try:
                yield
            finally:
                self._pinned = before

    @contextmanager
    def exclusive(self) -> Generator[None]:
        """Inside the block no other process reads or writes a local lake; it waits for those that
        do. A lake in an object store goes on as ever.
        """
        with self._lock.exclusive():
            yield

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
        return int(self._describe()[0] or self._wanted_buckets)

    @property
    def key_fingerprint(self) -> str:
        """Of the pseudonym key that the lake was made with; empty: it does not know it yet."""
        return self._describe()[1] if self.exists() else ""

    def _describe(self) -> tuple[str, str]:
        """The number of buckets and the fingerprint of the key, each maybe empty."""
        with self._lock.shared():
            parts = (self._open("conversations").metadata().description or "").split()
        return parts[0] if parts else "", parts[1] if len(parts) > 1 else ""

    def check_key(self, fingerprint: str) -> None:
        """Raise where the lake was made with another pseudonym key.

        Raises:
            ConfigError: it was.
        """
        if self.key_fingerprint not in ("", fingerprint):
            key_file = f" or the file {self.root.rstrip('/')}.key" if self.is_local else ""
            raise ConfigError(
                f"could not use the lake at {self.root} with this pseudonym key: it was made with"
                f" another, under which its users have other names; set UPSHOT_KEY{key_file} to"
                " that key, or name a new lake"
            )

    def create(self, fingerprint: str = "") -> None:
        """Make every missing table; safe to call from several processes at once. `fingerprint`: of
        the pseudonym key, which the lake remembers from now on.

        Raises:
            ConfigError: the lake was made with another key.
        """
        self._create_tables(fingerprint)
        if fingerprint and not self.key_fingerprint:
            content = f"{self.buckets} {fingerprint}"
            with lake_boundary(f"describe {self.root}"):
                self._open("conversations").alter.set_table_description(content)
        if fingerprint:
            self.check_key(fingerprint)  # another process may have made the lake meanwhile

    def _create_tables(self, fingerprint: str) -> None:
        if self.is_local:
            with lake_boundary(f"make the lake at {self.root}"):
                Path(self.root).mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._lock.shared():
            self._add_tables(self.buckets, fingerprint)

    def _add_tables(self, buckets: int, fingerprint: str) -> None:
        for table, schema in SCHEMAS.items():
            if self.exists(table):
                self._add_columns(table, schema)
                continue
            with lake_boundary(f"make table {table} in {self.root}"):
                DeltaTable.create(
                    self.uri(table),
                    schema,
                    mode="ignore",
                    partition_by=["bucket"],
                    description=f"{buckets} {fingerprint}".rstrip(),
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
            with lake_boundary(f"add columns to {self.uri(table)}"):
                opened.alter.add_columns(missing)
            self._opened.pop(table, None)

    def version(self, table: str) -> int:
        """The newest version of a table."""
        return self._open(table).version()

    def committed(self, table: str, application: str) -> int | None:
        """The last transaction version that `application` committed to the table, if any."""
        name = _name_work(application, self._read_erased())
        return self._open(table).transaction_version(name)

    def append(
        self,
        table: str,
        rows: CleanTable,
        transaction: tuple[str, int],
        metadata: Mapping[str, Any] | None = None,
    ) -> bool:
        """Append rows once: False, without writing, if the transaction was committed before."""
        return self._write(table, rows, transaction, metadata, None)

    def replace(
        self,
        table: str,
        bucket: int,
        rows: CleanTable,
        transaction: tuple[str, int],
        metadata: Mapping[str, Any] | None = None,
        *,
        read_files: Sequence[str],
    ) -> bool:
        """Replace a bucket's rows in one commit; False if this transaction was committed before.

        `read_files`: what the new rows were made from (`files`). Rows that another process appends
        meanwhile stay.

        Raises:
            LakeChangedError: the bucket has other files by now; nothing was written.
        """
        return self._write(table, rows, transaction, metadata, (bucket, read_files))

    def _write(
        self,
        table: str,
        rows: pa.Table,
        transaction: tuple[str, int],
        metadata: Mapping[str, Any] | None,
        replaced: tuple[int, Sequence[str]] | None,
    ) -> bool:
        """`replaced`: the bucket that is replaced and its files, all of which go."""
        with self._lock.shared():
            erased = self._read_erased()
            rows = without_erased(table, rows, erased.marks)
            if table == "verdicts" and erased.changed != self._first_erased().changed:
                rows = self._without_erased_words(rows)
            transaction = _name_work(transaction[0], erased), transaction[1]
            is_new = self._commit(table, rows, transaction, metadata, replaced)
        if not self.is_local and (later := self._read_erased()).changed != erased.changed:
            self.drop_users(table, later.marks)  # what an erasure meanwhile has not seen
        return is_new

    def _first_erased(self) -> ErasedList:
        """The list of the erased as it was before anything was read."""
        if self._erased_before is None:
            self._erased_before = self._read_erased()
        return self._erased_before

    def _without_erased_words(self, verdicts: pa.Table) -> pa.Table:
        """Verdicts that were made before an erasure, without what it has blanked since."""
        for bucket in cast(list[int], pc.unique(verdicts["bucket"]).to_pylist()):
            users = cast(list[str], pc.unique(verdicts["user"]).to_pylist())
            columns = ["id", "index", "text"]
            rows = self.read_all_versions("messages", bucket, columns, users=users)
            blank = rows.filter(pc.equal(rows["text"], ERASED_TEXT))
            places = set(zip(blank["id"].to_pylist(), blank["index"].to_pylist(), strict=True))
            verdicts = without_words(verdicts, places)
        return verdicts

    def _read_erased(self) -> ErasedList:
        if self._erased.version < 0 and not self.exists("erased"):
            return self._erased  # a lake of an earlier version
        if self._pinned is not None:
            self._pinned.discard("erased")
        if self._erased.version != self.version("erased"):
            self._erased = read_list(self)
        return self._erased

    def drop_users(self, table: str, marks: Collection[str]) -> dict[str, int]:
        """Rewrite the buckets of a table that hold users with these marks, without them; returns
        the rows that went, by bucket. What others write meanwhile stays.

        Raises:
            LakeChangedError: other processes wrote to a bucket again and again.
        """
        dropped: dict[str, int] = {}
        for bucket in () if table not in _USER_COLUMNS else sorted(self.files(table)):
            probe = self.read_all_versions(table, bucket, _USER_COLUMNS[table])
            if without_erased(table, probe, marks) is probe:
                continue
            before, after = self.rewrite(
                table, bucket, lambda rows: without_erased(table, rows, marks)
            )
            dropped[str(bucket)] = before - after
        return dropped

    def rewrite(
        self, table: str, bucket: int, change: Callable[[pa.Table], pa.Table]
    ) -> tuple[int, int]:
        """Replace the rows of a bucket by what `change` makes of them, which may be called again;
        returns the number of rows before and after. Where it gives back the same object, nothing is
        written. What others write meanwhile stays.

        Raises:
            LakeChangedError: other processes wrote to the bucket again and again.
        """
        for _ in range(_REWRITE_RETRIES):
            files = self.files(table).get(bucket, ())
            rows = self.read_all_versions(table, bucket)
            changed = change(rows)
            if changed is rows:
                return rows.num_rows, rows.num_rows
            name = f"erase/{table}/{bucket}/{secrets.token_hex(8)}"
            try:
                self.replace(table, bucket, CleanTable(changed), (name, 1), read_files=files)
            except LakeChangedError:
                continue
            return rows.num_rows, changed.num_rows
        raise LakeChangedError(
            f"could not rewrite bucket {bucket} of {self.uri(table)}: other processes wrote to it"
            f" {_REWRITE_RETRIES} times meanwhile; try again when they are finished"
        )

    def _commit(
        self,
        table: str,
        rows: pa.Table,
        transaction: tuple[str, int],
        metadata: Mapping[str, Any] | None,
        replaced: tuple[int, Sequence[str]] | None,
    ) -> bool:
        if self._pinned is not None:
            self._pinned.discard(table)
        opened = self._open(table)
        committed = opened.transaction_version(transaction[0])
        if committed is not None and committed >= transaction[1]:
            return False
        if replaced is not None and _files_of(opened).get(replaced[0], ()) != tuple(replaced[1]):
            raise LakeChangedError(
                f"could not rewrite bucket {replaced[0]} of {self.uri(table)}: another process"
                " wrote to it"
            )
        if rows.num_rows == 0 and replaced is None:
            rows = empty(table)
        properties = CommitProperties(
            custom_metadata={name: str(value) for name, value in (metadata or {}).items()},
            max_commit_retries=_COMMIT_RETRIES,
            app_transactions=[Transaction(app_id=transaction[0], version=transaction[1])],
        )
        try:
            with lake_boundary(f"write {rows.num_rows} rows to {self.uri(table)}"):
                write_deltalake(
                    opened,
                    rows.select(SCHEMAS[table].names).cast(SCHEMAS[table]),
                    mode=("append" if replaced is None else "overwrite"),  # pyright: ignore[reportArgumentType]  # both are allowed
                    predicate=None if replaced is None else f"bucket = {replaced[0]}",
                    writer_properties=_WRITER,
                    commit_properties=properties,
                    post_commithook_properties=_CHECKPOINTS,
                )
        except LakeError as error:
            # Two processes did the same work: the loser finds the winner's transaction and is done.
            if isinstance(error.__cause__, CommitFailedError):
                committed = self._open(table).transaction_version(transaction[0])
                if committed is not None and committed >= transaction[1]:
                    return False
                if replaced is not None:
                    raise LakeChangedError(str(error)) from error
            raise
        return True

    def read(
        self,
        table: str,
        bucket: int | None = None,
        columns: Sequence[str] | None = None,
        *,
        version: int | None = None,
        conversations: CleanTable | None = None,
        users: Sequence[str] | None = None,
    ) -> CleanTable:
        """The rows that count, of one bucket or all; `version` reads the table as it was.

        `conversations`: those of the bucket, if they have been read already; `users`: only their
        rows, by pseudonym.
        """
        rows = self.read_all_versions(table, bucket, columns, version, users)
        if table == "conversations":
            return CleanTable(
                _select_newest(rows, ("user", "id"), ("messages", "ingested_at"), columns)
            )
        if table == "verdicts":
            ranked = rows.append_column("asked", pc.starts_with(rows["judge"], "llm/"))
            newest = _select_newest(ranked, ("id", "index"), ("seen", "asked", "as_of"), columns)
            return CleanTable(newest.drop_columns("asked") if columns is None else newest)
        if table == "threads":
            return CleanTable(_select_newest(rows, ("user", "id"), ("as_of",), columns))
        if table == "erased":
            return CleanTable(_select_newest(rows, ("mark",), ("as_of",), columns))
        if table == "outbox":
            return CleanTable(_select_newest(rows, _KEYS[table][:-1], ("as_of",), columns))
        if table == "checksums":
            return CleanTable(
                _select_newest(rows, ("table", "path"), ("version", "as_of"), columns)
            )
        if table == "progress":
            return CleanTable(_select_newest(rows, ("step", "table"), ("as_of",), columns))
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
        users: Sequence[str] | None = None,
    ) -> pa.Table:
        """The rows of a table, superseded ones included."""
        with self._lock.shared():
            if table != "erased":
                self._first_erased()
            return self._read_rows(table, bucket, columns, version, users)

    def _read_rows(
        self,
        table: str,
        bucket: int | None,
        columns: Sequence[str] | None,
        version: int | None,
        users: Sequence[str] | None,
    ) -> pa.Table:
        opened = self._open(table, version)
        needed = None if columns is None else sorted(set(columns) | set(_KEYS.get(table, ())))
        with lake_boundary(f"read {self.uri(table)}", is_read=True):
            dataset = self._dataset(table, opened, bucket)
            present = dataset.schema.names
            rows: pa.Table = dataset.to_table(
                columns=None if needed is None else [name for name in needed if name in present],
                filter=None
                if users is None
                else pc.field("user").isin(pa.array(list(users), pa.string())),
            )
        schema: Any = SCHEMAS[table]
        for name in schema.names if needed is None else needed:
            if name not in present:  # a lake of an earlier version
                rows = rows.append_column(schema.field(name), _defaults(name, rows))
        return rows.cast(pa.schema([schema.field(name) for name in rows.schema.names]))

    def _dataset(self, table: str, opened: DeltaTable, bucket: int | None) -> Any:
        """The files of a bucket, or of all: an Arrow dataset."""
        wanted = None if bucket is None else [("bucket", "=", str(bucket))]
        where = SubTreeFileSystem(self.uri(table), LocalFileSystem()) if self.is_local else None
        return cast(Any, opened).to_pyarrow_dataset(filesystem=where, file_pruning_predicate=wanted)

    def files(self, table: str) -> dict[int, tuple[str, ...]]:
        """The paths of a table's files, by bucket."""
        with self._lock.shared():
            return _files_of(self._open(table))

    def count_rows(self, table: str) -> int:
        """Rows that are stored, superseded ones included; read from the log alone."""
        actions = pa.table(self._open(table).get_add_actions(flatten=True))
        return int(pc.sum(actions["num_records"]).as_py() or 0)

    def count_files(self, table: str) -> tuple[int, int]:
        """How many files a table has, and their bytes."""
        actions = pa.table(self._open(table).get_add_actions(flatten=True))
        return actions.num_rows, int(pc.sum(actions["size_bytes"]).as_py() or 0)

    def users_of(self, bucket: int, files: Mapping[str, Sequence[str]]) -> list[str]:
        """The users (pseudonyms) of whom some files of a bucket hold rows, in order.

        Files that another process has replaced meanwhile are left out: their users are in the file
        that came instead.
        """
        with self._lock.shared():
            return self._users_of(bucket, files)

    def _users_of(self, bucket: int, files: Mapping[str, Sequence[str]]) -> list[str]:
        users = set[str]()
        for table, paths in files.items():
            wanted = set(paths)
            for fragment in self._dataset(table, self._open(table), bucket).get_fragments():
                if fragment.path in wanted:
                    rows = fragment.to_table(columns=["user"])
                    users.update(pc.unique(rows["user"]).to_pylist())
        return sorted(users)

    def compact(self, table: str) -> int:
        """Merge the files of each bucket, without superseded rows; returns buckets rewritten."""
        return self.merge_files(table).buckets

    def merge_files(self, table: str) -> Merged:
        """The same, saying which files came of which."""
        merged = Merged(0, {}, {})
        for bucket, files in self.files(table).items():
            if len(files) < 2:
                continue
            version = self.version(table)
            name = hashlib.blake2b("\n".join(files).encode(), digest_size=12).hexdigest()
            rows = self._drop_superseded(table, bucket)
            try:
                self.replace(table, bucket, rows, (f"compact/{bucket}/{name}", 1), read_files=files)
            except LakeChangedError:
                continue  # somebody else wrote to it; the next compaction takes it
            merged = merged._replace(buckets=merged.buckets + 1)
            opened = self._open(table)
            if opened.version() == version + 1:
                merged.before[bucket] = files
                merged.after[bucket] = _files_of(opened).get(bucket, ())
        return merged

    def merge_small_files(self, table: str, min_files: int, max_bytes: int) -> Merged:
        """Merge the small files of buckets that have many; their rows stay, superseded ones too.

        Leaves it to another time where another process rewrites the table meanwhile.
        """
        with self._lock.shared():
            return self._merge_small_files(table, min_files, max_bytes)

    def _merge_small_files(self, table: str, min_files: int, max_bytes: int) -> Merged:
        opened = self._open(table)
        actions = pa.table(opened.get_add_actions(flatten=True))
        small = actions.filter(pc.less(actions["size_bytes"], max_bytes))
        counts = Counter(str(bucket) for bucket in small["partition.bucket"].to_pylist())
        buckets = sorted(bucket for bucket, count in counts.items() if count >= min_files)
        nothing = Merged(0, {}, {})
        if not buckets:
            return nothing
        before, version = _files_of(opened), opened.version()
        try:
            opened.optimize.compact(
                partition_filters=[("bucket", "in", buckets)],
                target_size=max_bytes,
                writer_properties=_WRITER,
                post_commithook_properties=_CHECKPOINTS,
            )
        except CommitFailedError:
            return nothing
        except (DeltaError, OSError) as error:
            reason = explain(error, is_read=True)
            raise LakeError(f"could not merge files of {self.uri(table)}: {reason}") from error
        if opened.version() != version + 1:
            return nothing._replace(buckets=len(buckets))
        after = _files_of(opened)
        return Merged(
            len(buckets),
            {bucket: before.get(bucket, ()) for bucket in map(int, buckets)},
            {bucket: after.get(bucket, ()) for bucket in map(int, buckets)},
        )

    def _drop_superseded(self, table: str, bucket: int) -> CleanTable:
        """The rows of a bucket that count, and those of conversations that are not there yet."""
        if table not in _REVISIONED:
            return self.read(table, bucket)
        rows = self.read_all_versions(table, bucket)
        versions = self.read_all_versions("conversations", bucket, ("digest",))["digest"]
        current = self.read("conversations", bucket, ("digest",))["digest"]
        old = pc.and_(
            pc.is_in(rows["digest"], value_set=versions.combine_chunks()),
            pc.invert(pc.is_in(rows["digest"], value_set=current.combine_chunks())),
        )
        return CleanTable(_drop_duplicates(rows.filter(pc.invert(old)), table))

    def vacuum(self, retention: timedelta = timedelta(days=7)) -> list[str]:
        """Delete files that no version younger than `retention` uses; returns their paths."""
        gone: list[str] = []
        hours = int(retention.total_seconds() // 3600)
        # Files that no version knows were left by a kill, where nobody else can be writing them.
        is_full = self.is_local and hours == 0
        with self.exclusive():
            for table in filter(self.exists, SCHEMAS):
                gone += self._open(table).vacuum(
                    hours, dry_run=False, enforce_retention_duration=False, full=is_full
                )
        return gone

    def tidy_log(self, table: str) -> None:
        """Write a checkpoint and delete the log entries before it."""
        with self.exclusive():
            self._tidy_log(table)

    def _tidy_log(self, table: str) -> None:
        opened = self._open(table)
        with lake_boundary(f"tidy the log of {self.uri(table)}"):
            opened.create_checkpoint()
            opened.cleanup_metadata()
            self._opened.pop(table, None)  # what it knows of the log is about to be deleted
            filesystem, root = self.open_filesystem()
            log = f"{root}/{table}/_delta_log".lstrip("/" if not root else "")
            _drop_old_log(filesystem, log, opened.version())

    def open_filesystem(self) -> tuple[pyarrow.fs.FileSystem, str]:
        """All files of the lake, and the path of its root among them."""
        return open_filesystem(self.root, self._options)

    def forget_opened(self) -> None:
        """Read every table anew, since its folder has been replaced."""
        self._opened.clear()
        self._erased = ErasedList(-1, frozenset())

    def storage_options(self) -> dict[str, str] | None:
        """What object stores need, as given."""
        return self._options

    def _open(self, table: str, version: int | None = None) -> DeltaTable:
        """The table at a version, or now: an open one only reads what the log has added since."""
        with self._lock.shared():
            return self._open_table(table, version)

    def _open_table(self, table: str, version: int | None) -> DeltaTable:
        try:
            opened = self._opened.get(table)
            if opened is None or version is not None:
                opened = DeltaTable(self.uri(table), version=version, storage_options=self._options)
                if version is None:
                    self._opened[table] = opened
            elif self._pinned is None or table not in self._pinned:
                opened.update_incremental()
            if self._pinned is not None and version is None:
                self._pinned.add(table)
            return opened
        except TableNotFoundError as error:
            raise NotFoundError(
                f"could not open {self.uri(table)}: there is no lake here; make one with `upshot"
                " ingest LOGS --lake DIR`"
            ) from error
        except (DeltaError, OSError) as error:
            reason = explain(error, is_read=True)
            raise LakeError(f"could not open {self.uri(table)}: {reason}") from error


def _name_work(application: str, erased: ErasedList) -> str:
    """The name of a transaction: what was erased since it was committed may be written again."""
    return f"{application}@{erased.changed}" if erased.changed else application


def _files_of(opened: DeltaTable) -> dict[int, tuple[str, ...]]:
    files: dict[int, list[str]] = {}
    actions = pa.table(opened.get_add_actions(flatten=True))
    for path, bucket in zip(
        actions["path"].to_pylist(), actions["partition.bucket"].to_pylist(), strict=True
    ):
        files.setdefault(int(bucket or 0), []).append(str(path))
    return {bucket: tuple(sorted(paths)) for bucket, paths in files.items()}


_USER_COLUMNS: Mapping[str, Sequence[str]] = {
    table: [name for name in ("user", "users", "name") if name in schema.names]
    for table, schema in SCHEMAS.items()
    if {"user", "users"}.intersection(schema.names)
}
"""Columns of pseudonyms; a `name` is one where a person speaks in another's conversation."""
_KEYS: Mapping[str, Sequence[str]] = {
    "conversations": ("user", "id", "messages", "digest", "ingested_at"),
    "messages": ("digest", "index"),
    "events": ("digest", "index", "kind", "at", "detail", "time"),
    "verdicts": ("id", "index", "as_of", "judge", "seen"),
    "threads": ("user", "id", "as_of"),
    "progress": ("step", "table", "as_of"),
    "erased": ("mark", "as_of"),
    "outbox": ("target", "endpoint", "id", "index", "kind", "as_of"),
    "checksums": ("table", "path", "version", "as_of"),
}


def _defaults(name: str, rows: pa.Table) -> Any:
    """What a column holds in a lake of an earlier version, which did not write it."""
    schema: Any = next(schema for schema in SCHEMAS.values() if name in schema.names)
    values: list[Any] = [_DEFAULTS.get(name, "")] * rows.num_rows
    if name == "author" and "role" in rows.schema.names:
        roles: list[Any] = rows["role"].to_pylist()
        values = [AUTHOR_OF_ROLE[role] for role in roles]
    return cast(Any, pa).array(values, schema.field(name).type)


_DEFAULTS: Mapping[str, Any] = {
    "parent_at": -1,
    "status": None,
    "spans": None,
    "chain": b"",
    "as_of": None,
}


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


def _drop_old_log(filesystem: pyarrow.fs.FileSystem, log: str, version: int) -> None:
    """Delete what the log holds of earlier versions."""
    files = filesystem.get_file_info(pyarrow.fs.FileSelector(log))
    if f"{version:020d}.checkpoint.parquet" not in {file.base_name for file in files}:
        return
    for file in files:
        stem = file.base_name.split(".")[0]
        if stem.isdigit() and int(stem) < version:
            filesystem.delete_file(file.path)
