"""From files to the lake: read, pseudonymise, redact, append in chunks.

Memory is bounded by the chunks in flight.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from upshot.io.arrow import pc, system_memory
from upshot.lake import Lake
from upshot.privacy import Pseudonyms, Redactor, clean
from upshot.privacy.recogniser import load_recogniser
from upshot.records import SCHEMAS, BadRecord, CleanTable, RawConversation

_OVERHEAD = 200
"""Bytes counted for each message beside its text."""


class IngestReport(msgspec.Struct, frozen=True):
    """What one ingest did."""

    conversations: int
    """Written now."""
    known: int
    """Already in the lake, word for word."""
    messages: int
    quarantined: int
    text_mb: float
    redactions: dict[str, int]
    seconds: float
    first_reason: str = ""
    """Why the first of the quarantined records could not be read, and where it is."""


class Cleaning(NamedTuple):
    """What a worker needs to clean a chunk; `recogniser` is a name, resolved where it is used."""

    key: str
    redact: bool
    names: bool
    recogniser: str

    def tools(self) -> tuple[Pseudonyms, Redactor | None]:
        """The objects themselves."""
        pseudonyms = Pseudonyms(self.key)
        if not self.redact:
            return pseudonyms, None
        recogniser = None
        if self.recogniser:
            recogniser = load_recogniser(self.recogniser)
        return pseudonyms, Redactor(pseudonyms, self.names, recogniser)


def ingest(
    items: Iterable[RawConversation | BadRecord],
    lake: Lake,
    cleaning: Cleaning,
    *,
    chunk_mb: float = 32.0,
    workers: int = 1,
    progress: Callable[[int, float], None] | None = None,
) -> IngestReport:
    """Write conversations to the lake; `progress(conversations, megabytes)` is called after each
    chunk.

    The same conversation twice is one; a longer version of it counts instead of the shorter.
    """
    started = time.perf_counter()
    lake.create()
    digests = _read_digests(lake)
    bad: list[BadRecord] = []
    first_reason = ""
    totals = Counter[str]()
    redactions = Counter[str]()
    size = 0.0
    with system_memory():
        for written in _write_chunks(
            _gather_chunks(items, bad, chunk_mb), lake, cleaning, digests, workers
        ):
            totals.update(
                conversations=written.conversations, messages=written.messages, known=written.known
            )
            redactions.update(written.redactions)
            size += written.text_mb
            if progress:
                progress(totals["conversations"] + totals["known"], size)
            first_reason = first_reason or _describe(bad)
            if len(bad) > 1000:
                totals["quarantined"] += quarantine(lake, bad, cleaning)
    first_reason = first_reason or _describe(bad)
    totals["quarantined"] += quarantine(lake, bad, cleaning)
    return IngestReport(
        totals["conversations"],
        totals["known"],
        totals["messages"],
        totals["quarantined"],
        size,
        dict(redactions.most_common()),
        time.perf_counter() - started,
        first_reason,
    )


def _describe(bad: Sequence[BadRecord]) -> str:
    return f"{bad[0].file}: {bad[0].position}: {bad[0].reason}" if bad else ""


class _Written(msgspec.Struct):
    conversations: int
    known: int
    messages: int
    redactions: dict[str, int]
    text_mb: float


def _gather_chunks(
    items: Iterable[RawConversation | BadRecord], bad: list[BadRecord], chunk_mb: float
) -> Iterator[list[RawConversation]]:
    """Conversations gathered to about `chunk_mb`; unreadable records go to `bad`."""
    chunk: list[RawConversation] = []
    room = limit = chunk_mb * 1e6
    for item in items:
        if isinstance(item, BadRecord):
            bad.append(item)
            continue
        chunk.append(item)
        room -= sum([len(message.content) + _OVERHEAD for message in item.messages])
        if room <= 0:
            yield chunk
            chunk, room = [], limit
    if chunk:
        yield chunk


def _write_chunks(
    chunks: Iterator[list[RawConversation]],
    lake: Lake,
    cleaning: Cleaning,
    old_digests: np.ndarray,
    workers: int,
) -> Iterator[_Written]:
    if workers <= 1:
        pseudonyms, redactor = cleaning.tools()
        for chunk in chunks:
            yield _write_chunk(chunk, lake, pseudonyms, redactor, old_digests)
        return
    context = multiprocessing.get_context("spawn")
    arguments = (lake.root, lake.storage_options(), cleaning, old_digests)
    with ProcessPoolExecutor(
        workers, context, initializer=_start_worker, initargs=arguments
    ) as pool:
        flying: deque[Future[_Written]] = deque()
        for chunk in chunks:
            flying.append(pool.submit(_write_in_worker, msgspec.msgpack.encode(chunk)))
            if len(flying) > workers:
                yield flying.popleft().result()
        while flying:
            yield flying.popleft().result()


class _Worker(NamedTuple):
    lake: Lake
    pseudonyms: Pseudonyms
    redactor: Redactor | None
    known: np.ndarray


_worker: list[_Worker] = []


def _start_worker(
    root: str, options: dict[str, str] | None, cleaning: Cleaning, old_digests: np.ndarray
) -> None:
    _worker.append(_Worker(Lake(root, storage_options=options), *cleaning.tools(), old_digests))


def _write_in_worker(packed: bytes) -> _Written:
    worker = _worker[0]
    chunk = msgspec.msgpack.decode(packed, type=list[RawConversation])
    return _write_chunk(chunk, worker.lake, worker.pseudonyms, worker.redactor, worker.known)


def _write_chunk(
    chunk: list[RawConversation],
    lake: Lake,
    pseudonyms: Pseudonyms,
    redactor: Redactor | None,
    old_digests: np.ndarray,
) -> _Written:
    batch = clean(chunk, pseudonyms, redactor, lake.buckets)
    size = (
        sum(len(message.content) for conversation in chunk for message in conversation.messages)
        / 1e6
    )
    digests = batch.conversations["digest"].combine_chunks()
    new = pa.array(~np.isin(_shorten(digests), old_digests))
    fresh = digests.filter(new)
    if len(fresh) == 0:
        return _Written(0, len(chunk), 0, {}, size)
    name = hashlib.blake2b(
        "".join(str(digest) for digest in fresh.to_pylist()).encode(), digest_size=16
    ).hexdigest()
    rows: dict[str, int] = {}
    for table, content in batch.tables.items():
        rows_of_table = (
            content
            if len(fresh) == len(digests)
            else content.filter(pc.is_in(content["digest"], value_set=fresh))
        )
        rows[table] = rows_of_table.num_rows
        if rows_of_table.num_rows:
            lake.append(
                table, CleanTable(rows_of_table), (f"ingest/{name}", 1), {"stage": "ingest"}
            )
    return _Written(
        rows["conversations"],
        len(chunk) - len(fresh),
        rows["messages"],
        dict(batch.redactions),
        size,
    )


def _read_digests(lake: Lake) -> NDArray[np.uint64]:
    """The first 8 bytes of every conversation's digest in the lake, sorted."""
    return np.unique(
        _shorten(lake.read("conversations", columns=["digest"])["digest"].combine_chunks())
    )


def _shorten(digests: pa.Array[Any]) -> NDArray[np.uint64]:
    return np.array([int(str(digest)[:16], 16) for digest in digests.to_pylist()], dtype=np.uint64)


def quarantine(lake: Lake, bad: list[BadRecord], cleaning: Cleaning) -> int:
    """Write and clear the gathered bad records; reasons may quote a record, so they are redacted
    too.
    """
    if not bad:
        return 0
    now = datetime.now(UTC)
    reasons = [record.reason for record in bad]
    redactor = cleaning.tools()[1]
    if redactor is not None:
        reasons = redactor.redact(reasons, [""] * len(bad))[0]
    rows = [
        {
            "bucket": 0,
            "file": r.file,
            "position": r.position,
            "stage": "ingest",
            "reason": reason,
            "ingested_at": now,
        }
        for r, reason in zip(bad, reasons, strict=True)
    ]
    name = hashlib.blake2b(
        msgspec.json.encode([(r.file, r.position, r.reason) for r in bad]), digest_size=16
    ).hexdigest()
    table = pa.Table.from_pylist(rows, schema=SCHEMAS["quarantine"])
    written = lake.append(
        "quarantine", CleanTable(table), (f"quarantine/{name}", 1), {"stage": "ingest"}
    )
    count = len(bad) if written else 0
    bad.clear()
    return count
