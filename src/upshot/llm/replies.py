"""Replies by the content of their requests, so that nothing is asked, or paid for, twice.

In a lake they are rows of the table `replies`, with the user whose text they may quote: erasure
takes them too. A run that was killed goes on from them.
"""

from __future__ import annotations

import hashlib
import time
from datetime import UTC, datetime

import msgspec
import pyarrow as pa

from upshot.lake import Lake, bucket_of
from upshot.llm.client import Reply, Request
from upshot.records import SCHEMAS, CleanTable

_FLUSH_ROWS = 500
_FLUSH_S = 15.0


def request_key(request: Request) -> str:
    """What names a request: a hash of everything that is sent, the model included.

    >>> request_key(Request("m", (), 5)) == request_key(Request("m", (), 5)) != request_key(Request("m", (), 6))
    True
    """
    return hashlib.blake2b(msgspec.json.encode(request), digest_size=16).hexdigest()


class Replies:
    """Replies in memory."""

    def __init__(self) -> None:
        self._known: dict[str, Reply] = {}

    def get(self, key: str) -> Reply | None:
        """The reply to a request, where it was asked before."""
        return self._known.get(key)

    def put(self, key: str, user: str, reply: Reply) -> None:
        """Keep a reply; `user` is whose text was in the request."""
        self._known[key] = reply

    def flush(self) -> None:
        """Write what is not written yet."""


class LakeReplies(Replies):
    """Replies in a lake, read bucket by bucket as users are named, written every few seconds."""

    def __init__(self, lake: Lake) -> None:
        super().__init__()
        lake.create()
        self._lake = lake
        self._waiting: list[tuple[str, str, Reply]] = []
        self._flushed = time.monotonic()
        for bucket in range(lake.buckets):
            rows = lake.read("replies", bucket, ["key", "text"])
            for key, text in zip(rows["key"].to_pylist(), rows["text"].to_pylist(), strict=True):
                self._known[key] = msgspec.json.decode(text, type=Reply)

    def put(self, key: str, user: str, reply: Reply) -> None:
        """Keep a reply, and write those that wait where they are many or old."""
        super().put(key, user, reply)
        self._waiting.append((key, user, reply))
        if len(self._waiting) >= _FLUSH_ROWS or time.monotonic() - self._flushed > _FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Append what waits in one commit, which a retry does not double."""
        self._flushed = time.monotonic()
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        now = datetime.now(UTC)
        rows = [
            {
                "bucket": bucket_of(user, self._lake.buckets),
                "user": user,
                "key": key,
                "text": msgspec.json.encode(reply).decode(),
                "at": now,
            }
            for key, user, reply in waiting
        ]
        table = pa.Table.from_pylist(rows, schema=SCHEMAS["replies"])
        name = hashlib.blake2b(
            "\n".join(key for key, _, _ in waiting).encode(), digest_size=12
        ).hexdigest()
        self._lake.append(
            "replies", CleanTable(table), (f"replies/{name}", 1), {"stage": "replies"}
        )
