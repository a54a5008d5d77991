"""A cache of replies by the content of their requests, so that no request is paid for twice.

In a lake they are rows of the table `replies`, with the user whose text they may quote, so that
erasure covers them. On the way there they are lines of a journal in the lake's folder; what a run
that was killed has left in its journal, the next one moves into the table. A lake that is not on
this machine has no journal: there pending replies are committed every second.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from weakref import WeakValueDictionary

import msgspec
import pyarrow as pa

from upshot.errors import LakeError
from upshot.lake import Lake, bucket_of
from upshot.llm.client import Reply, Request
from upshot.llm.journal import (
    Journal,
    JournalRow,
    open_journal,
    open_leftovers,
    start_journal,
)
from upshot.records import SCHEMAS, CleanTable

_FLUSH_ROWS = 2_000
"""Replies in a journal that are moved into the table: few enough for a second's work."""
_FLUSH_S = 1.0
"""Longest that a reply waits for its commit where there is no journal."""
_JOURNALS = "replies-journal"
"""Folder of a lake."""


def request_key(request: Request) -> str:
    """The key of a request: a hash of everything that is sent, the model included.

    >>> keys = [request_key(Request("m", (), tokens)) for tokens in (5, 5, 6)]
    >>> keys[0] == keys[1] != keys[2]
    True
    """
    return hashlib.blake2b(msgspec.json.encode(request), digest_size=16).hexdigest()


class Replies:
    """Replies in memory."""

    def __init__(self) -> None:
        self._replies: dict[str, Reply] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.problems: dict[str, str] = {}
        """Why requests of this run were not answered, by key: they are not sent again in it."""

    def get(self, key: str) -> Reply | None:
        """The cached reply to a request, if any; it may lack samples."""
        return self._replies.get(key)

    def put(self, key: str, user: str, reply: Reply) -> None:
        """Store a reply, unless a fuller one is there; `user`: whose text is in the request."""
        earlier = self._replies.get(key)
        if earlier is None or _fullness(reply) >= _fullness(earlier):
            self._replies[key] = reply

    def lock(self, key: str) -> asyncio.Lock:
        """A lock for whoever requests this, so that the same is not sent twice at once."""
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        return lock

    def flush(self) -> None:
        """Write pending replies."""


def _fullness(reply: Reply) -> tuple[int, int]:
    return len(reply.texts), reply.missing


class FileReplies(Replies):
    """Replies in a journal at a path, for runs without a lake; use it as a context.

    A run that was cut short leaves the journal, and the next one goes on from it. Whoever has all
    that was asked for deletes it. Where another process writes it, or it cannot be written, replies
    are in memory only.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self._path = Path(path)
        self._journal: Journal | None = None

    def __enter__(self) -> FileReplies:
        try:
            self._journal = open_journal(self._path)
        except LakeError:  # so cannot the output, which is said when it is written
            return self
        for key, user, reply in self._journal.read() if self._journal else ():
            super().put(key, user, reply)
        return self

    def __exit__(self, *_: object) -> None:
        if self._journal is not None:
            self._journal.close(delete=not self._replies)
            self._journal = None

    def draw_secret(self) -> str:
        """A pseudonym key that is the same when the run goes on; "" without a journal."""
        return "" if self._journal is None else self._journal.draw_secret()

    def put(self, key: str, user: str, reply: Reply) -> None:
        """Store a reply and write it."""
        super().put(key, user, reply)
        if self._journal is not None:
            self._journal.write(JournalRow(key, user, reply))

    def flush(self) -> None:
        """Write to the disk what the system still holds."""
        if self._journal is not None:
            self._journal.sync()


class LakeReplies(Replies):
    """Replies in a lake: new ones go to a journal first, and to the table at the end."""

    def __init__(self, lake: Lake) -> None:
        super().__init__()
        lake.create()
        self._lake = lake
        self._pending: dict[str, JournalRow] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._flushed = time.monotonic()
        self._journal: Journal | None = None
        settle_journals(lake)
        for bucket in range(lake.buckets):
            rows = lake.read("replies", bucket, ["key", "text"])
            for row in rows.to_pylist():
                super().put(row["key"], "", msgspec.json.decode(row["text"], type=Reply))

    def put(self, key: str, user: str, reply: Reply) -> None:
        """Store a reply and write it to the journal; where there is none, within a second."""
        super().put(key, user, reply)
        row = JournalRow(key, user, reply)
        self._pending[key] = row
        if self._lake.is_local:
            if self._journal is None:
                self._journal = start_journal(_journal_folder(self._lake))
            self._journal.write(row)
        elif time.monotonic() - self._flushed > _FLUSH_S:
            self.flush()
        elif self._timer is None:
            self._timer = _call_later(_FLUSH_S, self.flush)
        if len(self._pending) >= _FLUSH_ROWS:
            self.flush()

    def flush(self) -> None:
        """Append pending replies in one commit, which a retry does not duplicate."""
        self._flushed = time.monotonic()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pending:
            _append_rows(self._lake, list(self._pending.values()))
            self._pending = {}
        if self._journal is not None:
            self._journal.close(delete=True)
            self._journal = None
            _remove_if_empty(_journal_folder(self._lake))


@contextmanager
def keep_replies(
    path: str | os.PathLike[str] | None, lake: Lake | None = None
) -> Generator[Replies]:
    """The cache of replies of a lake; or one in a file; or, where neither is named, in memory."""
    if lake is not None:
        yield LakeReplies(lake)
    elif path is not None:
        with FileReplies(path) as replies:
            yield replies
    else:
        yield Replies()


def settle_journals(lake: Lake) -> int:
    """Move the replies that killed runs have left in journals into the table; returns how many."""
    if not lake.is_local or not lake.exists("replies"):
        return 0
    count = 0
    for journal in open_leftovers(_journal_folder(lake)):
        rows = {row.key: row for row in journal.read()}  # the last of a key is the fullest
        if rows:
            _append_rows(lake, list(rows.values()))
        journal.close(delete=True)
        count += len(rows)
    _remove_if_empty(_journal_folder(lake))
    return count


def _append_rows(lake: Lake, rows: list[JournalRow]) -> None:
    now = datetime.now(UTC)
    buckets = lake.buckets
    table = pa.Table.from_pylist(
        [
            {
                "bucket": bucket_of(user, buckets),
                "user": user,
                "key": key,
                "text": msgspec.json.encode(reply).decode(),
                "at": now,
            }
            for key, user, reply in rows
        ],
        schema=SCHEMAS["replies"],
    )
    content = "\n".join(f"{key} {_fullness(reply)}" for key, _, reply in rows)
    name = hashlib.blake2b(content.encode(), digest_size=12).hexdigest()
    lake.append("replies", CleanTable(table), (f"replies/{name}", 1), {"stage": "replies"})


def _journal_folder(lake: Lake) -> Path:
    return Path(lake.root) / _JOURNALS


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):  # it is not there, or another run writes to it
        folder.rmdir()


def _call_later(seconds: float, call: object) -> asyncio.TimerHandle | None:
    try:
        return asyncio.get_running_loop().call_later(seconds, call)  # pyright: ignore[reportArgumentType]
    except RuntimeError:  # outside of a run, where the caller flushes
        return None
