"""From files to the lake: read, pseudonymise, redact, append in chunks.

Memory is bounded by the chunks in flight.
"""

from __future__ import annotations

import gc
import hashlib
import itertools
import secrets
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from upshot.engine import Executor, Here
from upshot.io.arrow import pc, system_memory
from upshot.lake import (
    Lake,
    bucket_of,
    mark_of,
    read_erased,
    require_whole_logs,
    tend_lake,
    without_erased,
)
from upshot.privacy import Pseudonyms, Redactor, clean
from upshot.privacy.recogniser import load_recogniser
from upshot.records import SCHEMAS, BadRecord, CleanTable, RawConversation
from upshot.sources.identity import Identities, Placed
from upshot.sources.notes import collect_notes

_MANY_FILES = 64
"""Small files of a bucket from which an ingest merges them, where nobody judges the lake: the judge
does it sooner, when it has read them.
"""
_OVERHEAD = 200
"""Bytes counted for each message beside its text."""


_YOUNG_OBJECTS = 200_000
"""New objects between two collections: Python's 700 cost a tenth of an ingest's time, since what is
read holds hundreds of thousands of objects and no circles.
"""


@contextmanager
def _rare_collections() -> Generator[None]:
    """Python's garbage collector runs rarely inside."""
    before = gc.get_threshold()
    if before[0]:  # else somebody switched it off
        gc.set_threshold(max(before[0], _YOUNG_OBJECTS), *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


class IngestReport(msgspec.Struct, frozen=True):
    """What one ingest did."""

    conversations: int
    """Written now, or continued: each once, however often the logs hold it. What follows is of
    these, as the lake holds them now.
    """
    known: int
    """Already in the lake, or a part of what is."""
    messages: int
    quarantined: int
    """Places of the logs that could not be read; the lake has a row for each."""
    text_mb: float
    """Million characters of text."""
    redactions: dict[str, int]
    """What was replaced, by type."""
    seconds: float
    clashes: int = 0
    """Conversations whose id already stood for another one; both stay, the later under a name of
    its own.
    """
    clash: str = ""
    """Name of the first of them."""
    skipped: dict[str, int] = {}
    """Records that hold no message, by kind."""
    notes: dict[str, int] = {}
    """What was read with something missing, by kind."""
    first_reason: str = ""
    """Why the first of the quarantined records could not be read, and where it is."""
    erased: int = 0
    """Conversations of users who were erased, which were left out."""


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


def fingerprint_of(key: str) -> str:
    """Sixteen hexadecimal digits by which a lake knows its pseudonym key again."""
    return Pseudonyms(key).mark("fingerprint of the key")


def ingest(
    items: Iterable[RawConversation | BadRecord],
    lake: Lake,
    cleaning: Cleaning,
    *,
    chunk_mb: float = 32.0,
    executor: Executor | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> IngestReport:
    """Write conversations to the lake; `progress(conversations, megabytes)` is called after each
    chunk.

    The same conversation twice is one; a longer version that continues it counts instead of the
    shorter (`sources.identity`). Users who were erased are left out.

    Raises:
        ConfigError: the lake was made with another pseudonym key.
    """
    started = time.perf_counter()
    facts: dict[str, _Facts] = {}
    size = 0.0
    with system_memory(), _rare_collections(), collect_notes() as notes:
        first = list(itertools.islice(rest := iter(items), 1))
        # a wrong file has been refused by now, and leaves no lake
        lake.create(fingerprint_of(cleaning.key))
        require_whole_logs(lake)
        present = lake.read("conversations", columns=["id", "identity", "chain", "digest"])
        identities = Identities.of_rows(present, Pseudonyms(cleaning.key))
        run = _Run(lake, cleaning, identities)
        chunks = _gather_chunks(itertools.chain(first, rest), run, chunk_mb)
        writing = _Writing(secrets.token_hex(8), lake.root, lake.storage_options(), cleaning)
        writing.prepare(present["digest"].to_pylist())
        for written in (executor or Here()).run(writing, map(msgspec.msgpack.encode, chunks)):
            facts.update(zip(written.names, written.facts, strict=True))
            run.refused += written.erased
            size += written.read_mb
            if progress:
                progress(len(facts) + run.repeats, size)
            if len(run.bad) > _MAX_WAITING:
                run.quarantine()
    run.quarantine()
    tend_lake(lake, _MANY_FILES)
    redactions = Counter[str]()
    for fact in facts.values():
        redactions.update(fact.redactions)
    return IngestReport(
        len(facts),
        run.read - run.refused - len(facts),
        sum(fact.messages for fact in facts.values()),
        len(run.quarantined),
        sum(fact.characters for fact in facts.values()) / 1e6,
        dict(redactions.most_common()),
        time.perf_counter() - started,
        len(identities.clashes),
        identities.clashes[0] if identities.clashes else "",
        dict(notes.skipped.most_common()),
        dict(notes.notes.most_common()),
        run.first_reason,
        run.erased + run.refused,
    )


_MAX_WAITING = 1000
"""Bad records that are gathered before they are written."""


class _Run:
    """What one ingest does as it goes."""

    def __init__(self, lake: Lake, cleaning: Cleaning, identities: Identities) -> None:
        self.lake, self.cleaning, self.identities = lake, cleaning, identities
        self._pseudonyms, self._marks = Pseudonyms(cleaning.key), read_erased(lake)
        self.erased = 0
        self.refused = 0
        """Of `read`, those that the lake did not take, since their users were erased meanwhile."""
        self.bad: list[BadRecord] = []
        self.read = 0
        self.repeats = 0
        self.quarantined: set[int] = set()
        """Hashes of the rows that this ingest quarantined."""
        self.first_reason = ""

    def is_erased(self, user: str) -> bool:
        """Whether a user was erased before this ingest began; the lake refuses others itself."""
        return bool(user and self._marks) and mark_of(self._pseudonyms.user(user)) in self._marks

    def quarantine(self) -> None:
        """Write the gathered bad records."""
        if self.bad and not self.first_reason:
            self.first_reason = f"{self.bad[0].file}: {self.bad[0].position}: {self.bad[0].reason}"
        self.quarantined |= quarantine(self.lake, self.bad, self.cleaning)


class _Facts(msgspec.Struct, frozen=True, gc=False):
    """What the lake holds of a conversation."""

    messages: int
    characters: int
    redactions: dict[str, int]


class _Written(msgspec.Struct):
    names: list[str]
    """Of the conversations that were written."""
    facts: list[_Facts]
    read_mb: float
    """Of the logs."""
    erased: int = 0
    """Conversations of users who were erased meanwhile, which the lake has refused."""


def _gather_chunks(
    items: Iterable[RawConversation | BadRecord], run: _Run, chunk_mb: float
) -> Iterator[list[Placed]]:
    """Conversations gathered to about `chunk_mb`; unreadable records go to `run.bad`."""
    chunk: list[Placed] = []
    room = limit = chunk_mb * 1e6
    for item in items:
        if isinstance(item, BadRecord):
            run.bad.append(item)
            continue
        if run.is_erased(item.user):
            run.erased += 1
            continue
        run.read += 1
        placed, relation = run.identities.place(item)
        if relation == "older":
            run.repeats += 1
            continue
        chunk.append(placed)
        room -= sum([len(message.content) + _OVERHEAD for message in item.messages])
        if room <= 0:
            yield chunk
            chunk, room = [], limit
    if chunk:
        yield chunk


class _Writing(NamedTuple):
    """Writes packed chunks to a lake, in any process."""

    name: str
    """Of the run; what a process needs for it is made once."""
    root: str
    storage_options: Mapping[str, str] | None
    cleaning: Cleaning

    def __call__(self, chunk: bytes) -> _Written:
        worker = _workers.get(self.name) or self.prepare()
        with _rare_collections():
            return _write_chunk(msgspec.msgpack.decode(chunk, type=list[Placed]), worker)

    def prepare(self, digests: Sequence[Any] | None = None) -> _Worker:
        """`digests`: of what the lake holds, if they have been read already."""
        lake = Lake(self.root, storage_options=self.storage_options)
        present: Sequence[Any] = (
            lake.read("conversations", columns=["digest"])["digest"].to_pylist()
            if digests is None
            else digests
        )
        _workers.clear()
        _workers[self.name] = _Worker(lake, *self.cleaning.tools(), _shorten(present))
        return _workers[self.name]


class _Worker(NamedTuple):
    lake: Lake
    pseudonyms: Pseudonyms
    redactor: Redactor | None
    old_digests: NDArray[np.uint64]


_workers: dict[str, _Worker] = {}
"""Of the run that this process works for."""


def _write_chunk(chunk: list[Placed], worker: _Worker) -> _Written:
    lake = worker.lake
    batch = clean(
        [placed.conversation for placed in chunk],
        worker.pseudonyms,
        worker.redactor,
        lake.buckets,
        marks=[(placed.identity, placed.chain) for placed in chunk],
    )
    size = sum(len(m.content) for placed in chunk for m in placed.conversation.messages) / 1e6
    digests = batch.conversations["digest"].combine_chunks()
    fresh = digests.filter(pa.array(~np.isin(_shorten(digests.to_pylist()), worker.old_digests)))
    if len(fresh) == 0:
        return _Written([], [], size)
    name = hashlib.blake2b(
        "".join(str(digest) for digest in fresh.to_pylist()).encode(), digest_size=16
    ).hexdigest()
    tables = batch.tables
    if len(fresh) < len(digests):
        tables = {
            table: CleanTable(rows.filter(pc.is_in(rows["digest"], value_set=fresh)))
            for table, rows in tables.items()
        }
    for table, rows in tables.items():
        if rows.num_rows:
            lake.append(table, rows, (f"ingest/{name}", 1), {"stage": "ingest"})
    # read after the commits: whoever was erased before one of them is on the list by now
    written = without_erased("conversations", tables["conversations"], read_erased(lake))
    names, facts = _count_facts(CleanTable(written), tables["messages"])
    return _Written(names, facts, size, len(fresh) - len(names))


def _count_facts(conversations: CleanTable, messages: CleanTable) -> tuple[list[str], list[_Facts]]:
    """The name of each conversation, and what its rows hold."""
    sizes = messages.append_column("size", pc.utf8_length(messages["text"]))
    totals = sizes.group_by("digest").aggregate([("size", "sum")])
    digests, sums = totals["digest"].to_pylist(), totals["size_sum"].to_pylist()
    characters = {digest: int(size or 0) for digest, size in zip(digests, sums, strict=True)}
    copies = Counter(conversations["digest"].to_pylist())  # of a chunk; the lake has each once
    columns = ("id", "digest", "messages", "redactions")
    names: list[str] = []
    facts: list[_Facts] = []
    for row in zip(*(conversations[column].to_pylist() for column in columns), strict=True):
        name, digest, count, redactions = row
        replaced = msgspec.json.decode(redactions or "{}", type=dict[str, int])
        names.append(str(name))
        facts.append(_Facts(count, characters.get(digest, 0) // copies[digest], replaced))
    return names, facts


def _shorten(digests: Sequence[Any]) -> NDArray[np.uint64]:
    """The first 8 bytes of each digest."""
    return np.array([int(str(digest)[:16], 16) for digest in digests], dtype=np.uint64)


def quarantine(lake: Lake, bad: list[BadRecord], cleaning: Cleaning) -> set[int]:
    """Write and clear the gathered bad records, those that the lake has already left out; returns
    a hash of each row that the lake now holds for them.

    File names and reasons go through the same door as texts. A record of a known user is erased
    with them.
    """
    if not bad:
        return set()
    pseudonyms, redactor = cleaning.tools()
    texts = [text for record in bad for text in (_shorten_path(record.file), record.reason)]
    if redactor is not None:
        texts = redactor.redact(texts, [""] * len(texts))[0]
    have = lake.read("quarantine", columns=["file", "position", "reason"])
    present = set(zip(*(have[name].to_pylist() for name in have.schema.names), strict=True))
    now = datetime.now(UTC)
    rows: list[dict[str, Any]] = []
    hashes: set[int] = set()
    for record, file, reason in zip(bad, texts[::2], texts[1::2], strict=True):
        key = {"file": file, "position": record.position, "reason": reason}
        values = tuple(key[name] for name in have.schema.names)
        hashes.add(hash(values))
        if values in present:
            continue
        present.add(values)
        user = pseudonyms.user(record.user) if record.user else ""
        bucket = bucket_of(user, lake.buckets) if user else 0
        rows.append({"bucket": bucket, "user": user, **key, "stage": "ingest", "ingested_at": now})
    if rows:
        name = hashlib.blake2b(
            msgspec.json.encode([(r["file"], r["position"], r["reason"]) for r in rows]),
            digest_size=16,
        ).hexdigest()
        table = pa.Table.from_pylist(rows, schema=SCHEMAS["quarantine"])
        lake.append("quarantine", CleanTable(table), (f"quarantine/{name}", 1), {"stage": "ingest"})
    bad.clear()
    return hashes


def _shorten_path(file: str) -> str:
    """The last two parts of a path: what is before them names a machine or a person."""
    return "/".join(file.split("/")[-2:])
