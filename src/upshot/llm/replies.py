"""A cache of replies by the content of their requests, so that no request is paid for twice.

In a lake they are rows of the table `replies`, with the user whose text they may quote, so that
erasure covers them. A run that was killed resumes from them.
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
"""Replies are written when there are many or they have waited long: a killed run loses no more."""


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

    def get(self, key: str) -> Reply | None:
        """The cached reply to a request, if any."""
        return self._replies.get(key)

    def put(self, key: str, user: str, reply: Reply) -> None:
        """Store a reply; `user`: whose text is in the request."""
        self._replies[key] = reply

    def flush(self) -> None:
        """Write pending replies."""


class LakeReplies(Replies):
    """Replies in a lake: all read at the start, new ones written every few seconds."""

    def __init__(self, lake: Lake) -> None:
        super().__init__()
        lake.create()
        self._lake = lake
        self._pending: list[tuple[str, str, Reply]] = []
        self._flushed = time.monotonic()
        for bucket in range(lake.buckets):
            rows = lake.read("replies", bucket, ["key", "text"])
            for row in rows.to_pylist():
                self._replies[row["key"]] = msgspec.json.decode(row["text"], type=Reply)

    def put(self, key: str, user: str, reply: Reply) -> None:
        """Store a reply, and write pending ones if they are many or old."""
        super().put(key, user, reply)
        self._pending.append((key, user, reply))
        if len(self._pending) >= _FLUSH_ROWS or time.monotonic() - self._flushed > _FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Append pending replies in one commit, which a retry does not duplicate."""
        self._flushed = time.monotonic()
        if not self._pending:
            return
        waiting, self._pending = self._pending, []
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
