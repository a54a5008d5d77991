"""Raw conversations to clean tables: the only place that makes a `CleanTable` from a source."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from upshot.lake import bucket_of
from upshot.privacy.pseudonyms import Pseudonyms
from upshot.privacy.redact import Redactor, find_personal_data
from upshot.records import SCHEMAS, CleanTable, RawConversation

_SAFE_ID = re.compile(r"[A-Za-z0-9_.:~#\-]{1,100}")
_ENCODER = msgspec.json.Encoder(enc_hook=str)
_MICRO = 1_000_000


class CleanBatch(NamedTuple):
    """The clean tables of one batch of conversations."""

    conversations: CleanTable
    messages: CleanTable
    events: CleanTable
    redactions: Counter[str]

    @property
    def tables(self) -> dict[str, CleanTable]:
        """The tables by name; conversations last, since their row makes the rest count."""
        return {
            "messages": self.messages,
            "events": self.events,
            "conversations": self.conversations,
        }


def clean(
    conversations: Sequence[RawConversation],
    pseudonyms: Pseudonyms,
    redactor: Redactor | None,
    buckets: int,
    now: datetime | None = None,
) -> CleanBatch:
    """Pseudonymise and redact a batch; without a `redactor` (an explicit choice) texts stay."""
    now = now or datetime.now(UTC)
    ids, users = _make_ids(conversations, pseudonyms)
    texts: list[str] = []
    owners: list[str] = []
    for conversation, user in zip(conversations, users, strict=True):
        for message in conversation.messages:
            texts.append(message.content)
        details = [signal.detail for message in conversation.messages for signal in message.signals]
        texts += details
        texts.append(
            _ENCODER.encode(conversation.metadata).decode() if conversation.metadata else ""
        )
        owners += [user] * (len(conversation.messages) + len(details) + 1)
    counts: list[Counter[str]] | None = None
    if redactor is not None:
        texts, counts = redactor.redact(texts, owners)
    return _build_tables(
        conversations,
        ids,
        users,
        texts,
        counts,
        pseudonyms=pseudonyms,
        buckets=buckets,
        now=now,
    )


def _make_ids(
    conversations: Sequence[RawConversation], pseudonyms: Pseudonyms
) -> tuple[list[str], list[str]]:
    ids: list[str] = []
    users: list[str] = []
    for conversation in conversations:
        name = conversation.id or make_content_id(conversation)
        ids.append(make_safe_id(name, pseudonyms))
        users.append(
            pseudonyms.user(conversation.user or f"conversation/{conversation.branch_of or name}")
        )
    return ids, users


def make_safe_id(name: str, pseudonyms: Pseudonyms) -> str:
    """The id where it is plainly an id; replaced where it could be a person's name or address.

    >>> make_safe_id("chat-17", Pseudonyms("a key of at least sixteen characters"))
    'chat-17'
    """
    if (
        _SAFE_ID.fullmatch(name)
        and any(c.isdigit() for c in name)
        and not (name.count(".") and find_personal_data([name])[0])
    ):
        return name
    return pseudonyms.conversation(name)


def make_content_id(conversation: RawConversation) -> str:
    """An id from the opening of a conversation that has none, the same when it grows later."""
    digest = hashlib.blake2b(digest_size=10)
    digest.update(f"{conversation.source}\0{conversation.user}\0{conversation.started_at}".encode())
    for message in conversation.messages[:2]:
        digest.update(f"\0{message.role}\0{message.content}".encode("utf-8", "surrogatepass"))
    return digest.hexdigest() + "0"


def _build_tables(
    conversations: Sequence[RawConversation],
    ids: Sequence[str],
    users: Sequence[str],
    texts: Sequence[str],
    counts: Sequence[Counter[str]] | None,
    *,
    pseudonyms: Pseudonyms,
    buckets: int,
    now: datetime,
) -> CleanBatch:
    rows: dict[str, dict[str, list[Any]]] = {
        table: {name: [] for name in SCHEMAS[table].names}
        for table in ("conversations", "messages", "events")
    }
    total: Counter[str] = Counter()
    bucket_of_user: dict[str, int] = {}
    position = 0
    for conversation, cid, user in zip(conversations, ids, users, strict=True):
        bucket = bucket_of_user.get(user)
        if bucket is None:
            bucket = bucket_of_user[user] = bucket_of(user, buckets)
        size = len(conversation.messages)
        signals = sum(len(message.signals) for message in conversation.messages)
        own = texts[position : position + size + signals + 1]
        redactions: Counter[str] = Counter()
        if counts is not None:
            for count in counts[position : position + size + signals + 1]:
                if count:
                    redactions.update(count)
        total.update(redactions)
        position += size + signals + 1
        digest = _compute_digest(cid, conversation, own)
        common = (bucket, user, cid)
        _add_messages(
            rows["messages"], conversation, common, digest, own[:size], pseudonyms=pseudonyms
        )
        if signals:
            _add_events(rows["events"], conversation, common, digest, own[size:-1])
        branch_of = (
            make_safe_id(conversation.branch_of, pseudonyms) if conversation.branch_of else ""
        )
        _append_row(
            rows["conversations"],
            (
                *common,
                _microseconds(conversation.started_at or _find_first_time(conversation)),
                conversation.model,
                conversation.source,
                size,
                digest,
                branch_of,
                conversation.branch_at,
                conversation.fork,
                own[-1] or "{}",
                _ENCODER.encode(redactions).decode() if redactions else "{}",
                now,
            ),
        )
    tables = {
        table: CleanTable(pa.table(columns, schema=SCHEMAS[table]))
        for table, columns in rows.items()
    }
    return CleanBatch(tables["conversations"], tables["messages"], tables["events"], total)


def _append_row(columns: dict[str, list[Any]], row: Sequence[Any]) -> None:
    for column, value in zip(columns.values(), row, strict=True):
        column.append(value)


def _add_messages(
    columns: dict[str, list[Any]],
    conversation: RawConversation,
    common: tuple[int, str, str],
    digest: str,
    texts: Sequence[str],
    *,
    pseudonyms: Pseudonyms,
) -> None:
    size = len(texts)
    messages = conversation.messages
    for name, value in zip(("bucket", "user", "id"), common, strict=True):
        columns[name] += [value] * size
    columns["digest"] += [digest] * size
    columns["index"] += range(size)
    columns["role"] += [message.role for message in messages]
    columns["text"] += texts
    columns["time"] += [_microseconds(message.time) for message in messages]
    columns["name"] += [
        (pseudonyms.user(m.name) if m.role == "user" else m.name) if m.name else ""
        for m in messages
    ]
    columns["model"] += [message.model for message in messages]


def _add_events(
    columns: dict[str, list[Any]],
    conversation: RawConversation,
    common: tuple[int, str, str],
    digest: str,
    details: Sequence[str],
) -> None:
    at = 0
    for index, message in enumerate(conversation.messages):
        for signal in message.signals:
            _append_row(
                columns,
                (
                    *common,
                    digest,
                    index,
                    signal.kind,
                    signal.value,
                    signal.at,
                    details[at],
                    _microseconds(signal.time),
                ),
            )
            at += 1


def _compute_digest(cid: str, conversation: RawConversation, texts: Sequence[str]) -> str:
    """A digest of the content after redaction, so that it reveals nothing of what was removed."""
    digest = hashlib.blake2b(cid.encode(), digest_size=12)
    digest.update("\x1e".join(texts).encode("utf-8", "surrogatepass"))
    digest.update("".join(message.role[0] for message in conversation.messages).encode())
    digest.update(
        "".join(signal.kind for m in conversation.messages for signal in m.signals).encode()
    )
    return digest.hexdigest()


def _microseconds(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * _MICRO)


def _find_first_time(conversation: RawConversation) -> float | None:
    return next(
        (message.time for message in conversation.messages if message.time is not None), None
    )
