"""Raw conversations to clean tables: the only place that makes a `CleanTable` from a source."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from upshot.lake import bucket_of
from upshot.privacy.keys import is_vendor_key
from upshot.privacy.pseudonyms import Pseudonyms
from upshot.privacy.redact import Redacted, Redactor, find_personal_data
from upshot.privacy.user_names import name_pattern
from upshot.records import (
    SCHEMAS,
    AuthorSpan,
    CleanTable,
    RawConversation,
    RawMessage,
    ToolCall,
)

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
    *,
    marks: Sequence[tuple[str, bytes]] | None = None,
) -> CleanBatch:
    """Pseudonymise and redact a batch; without a `redactor` (an explicit choice) texts stay.

    `marks`: identity and chain of each conversation (`sources.identity`).
    """
    now = now or datetime.now(UTC)
    rows: dict[str, dict[str, list[Any]]] = {
        table: {name: [] for name in SCHEMAS[table].names}
        for table in ("conversations", "messages", "events")
    }
    total: Counter[str] = Counter()
    bucket_of_user: dict[str, int] = {}
    cleaned = clean_conversations(conversations, pseudonyms, redactor)
    for place, (conversation, counts) in enumerate(cleaned):
        user = conversation.user
        bucket = bucket_of_user.get(user)
        if bucket is None:
            bucket = bucket_of_user[user] = bucket_of(user, buckets)
        total.update(counts)
        mark = ("", b"") if marks is None else marks[place]
        _add_rows(rows, conversation, bucket, (mark[0], mark[1], now), counts)
    tables = {
        table: CleanTable(pa.table(columns, schema=SCHEMAS[table]))
        for table, columns in rows.items()
    }
    return CleanBatch(tables["conversations"], tables["messages"], tables["events"], total)


def clean_conversations(
    conversations: Sequence[RawConversation], pseudonyms: Pseudonyms, redactor: Redactor | None
) -> Iterator[tuple[RawConversation, Counter[str]]]:
    """The conversations as a lake stores them, and what was replaced in each.

    Every text goes through one door: messages, calls, names, ids, metadata, details of signals. The
    names of a conversation's people are looked for in all of it.
    """
    texts: list[str] = []
    owners: list[str] = []
    patterns: list[Any] = []
    people: list[tuple[str, Any, int]] = []
    """Of each conversation: its user, a pattern of its names, and the number of its texts."""
    for conversation in conversations:
        name = conversation.id or make_content_id(conversation)
        user = pseudonyms.user(
            conversation.user or f"conversation/{conversation.branch_of or name}"
        )
        names = names_of(conversation)
        own = list(_texts_of(conversation))
        people.append((user, names, len(own)))
        texts += own
        owners += [user] * len(own)
        patterns += [names] * len(own)
    redacted = (
        [Redacted(text, Counter(), ()) for text in texts]
        if redactor is None
        else redactor.redact_all(texts, owners, patterns)
    )
    place = 0
    for conversation, (user, names, size) in zip(conversations, people, strict=True):
        own_texts = redacted[place : place + size]
        place += size
        counts: Counter[str] = Counter()
        for text in own_texts:
            if text.counts:
                counts.update(text.counts)
        yield _rebuild(conversation, user, names, iter(own_texts), pseudonyms), counts


def _texts_of(conversation: RawConversation) -> Iterator[str]:
    """Every text of a conversation, in the order in which `_rebuild` takes them."""
    yield conversation.model
    yield _encode(conversation.metadata)
    yield _encode(conversation.refs)
    for message in conversation.messages:
        yield message.content
        if message.name and message.role != "user":
            yield message.name
        if message.model:
            yield message.model
        if message.refs:
            yield _encode(message.refs)
        for call in message.tool_calls:
            yield call.name
            yield call.arguments
        for signal in message.signals:
            yield signal.detail


def _rebuild(
    conversation: RawConversation,
    user: str,
    names: Any | None,
    texts: Iterator[Redacted],
    pseudonyms: Pseudonyms,
) -> RawConversation:
    model, metadata, refs = next(texts).text, next(texts).text, next(texts).text
    messages = tuple(
        _rebuild_message(message, texts, pseudonyms) for message in conversation.messages
    )
    c = conversation
    return RawConversation(
        messages,
        make_safe_id(c.id or make_content_id(c), pseudonyms, names),
        user,
        c.started_at if c.started_at is not None else _find_first_time(c),
        model,
        c.source,
        _decode(metadata),
        branch_of=make_safe_id(c.branch_of, pseudonyms, names) if c.branch_of else "",
        branch_at=c.branch_at,
        fork=c.fork,
        parent=make_safe_id(c.parent, pseudonyms, names) if c.parent else "",
        parent_at=c.parent_at,
        refs=_decode(refs),
        place=c.place,
    )


def _rebuild_message(
    message: RawMessage, texts: Iterator[Redacted], pseudonyms: Pseudonyms
) -> RawMessage:
    content = next(texts)
    name = message.name
    if not (name or message.model or message.refs or message.tool_calls or message.signals):
        if content.text is message.content:
            return message
        if not message.spans:
            return msgspec.structs.replace(message, content=content.text)
    if name:
        name = pseudonyms.user(name) if message.role == "user" else next(texts).text
    model = next(texts).text if message.model else ""
    refs = _decode(next(texts).text) if message.refs else message.refs
    calls = tuple(
        ToolCall(next(texts).text, next(texts).text, call.id) for call in message.tool_calls
    )
    signals = tuple(
        msgspec.structs.replace(signal, detail=next(texts).text) for signal in message.signals
    )
    spans = tuple(
        AuthorSpan(content.move(span.start), content.move(span.end), span.author)
        for span in message.spans
    )
    return RawMessage(
        message.role,
        content.text,
        message.time,
        signals,
        name,
        model,
        message.author,
        spans,
        calls,
        refs,
        message.status,
    )


_NAME_FIELD = re.compile(
    r"(?i)(?:^|_|\b)(?:user|customer|client|person|author|owner|account|login|full|first"
    r"|last|display"
    r"|nick|e?mail|contact|member|employee|patient|student)(?:_?name|_?mail|_?id|_?login)?$|name$"
)
"""Fields of metadata in which a person's name stands."""
_NOT_NAMES = re.compile(
    r"(?i)(?:file|host|tool|model|path|branch|repo|project|app|event|function)_?name$"
)
_MAX_NAME = 60
"""Characters of a name."""


def _names_of(conversation: RawConversation) -> Iterator[str]:
    """Names of a conversation's people: its user, those who speak, and those in its metadata."""
    if conversation.user and ":" not in conversation.user:
        yield conversation.user
    for message in conversation.messages:
        if message.role == "user" and message.name:
            yield message.name
    for field, value in conversation.metadata.items():
        if (
            isinstance(value, str)
            and 0 < len(value) <= _MAX_NAME
            and _NAME_FIELD.search(field)
            and not _NOT_NAMES.search(field)
        ):
            yield value


def _encode(value: Mapping[str, Any]) -> str:
    return _ENCODER.encode(value).decode("utf-8", "replace") if value else ""


def _decode(text: str) -> dict[str, Any]:
    """An object that was redacted as text; a placeholder may have broken its form."""
    if not text:
        return {}
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return {"text": text}
    return value if isinstance(value, dict) else {"text": text}  # pyright: ignore[reportUnknownVariableType]  # JSON


def make_safe_id(name: str, pseudonyms: Pseudonyms, names: Any | None = None) -> str:
    """The id where it is plainly an id; replaced where it holds a person's name or address.

    `names`: a pattern of the names of the conversation's people (`names_of`).

    >>> make_safe_id("chat-17", Pseudonyms("a key of at least sixteen characters"))
    'chat-17'
    """
    if (
        _SAFE_ID.fullmatch(name)
        and not (names is not None and names.search(name))
        and not (_MARKS.search(name) and _holds_personal_data(name))
    ):
        return name
    return pseudonyms.conversation(name)


def names_of(conversation: RawConversation) -> Any | None:
    """A pattern of the names of a conversation's people; None where there are none to look for."""
    if not conversation.metadata and not any(m.name for m in conversation.messages):
        return _pattern_of((conversation.user,)) if conversation.user else None
    return _pattern_of(tuple(sorted(set(_names_of(conversation)))))


@lru_cache(4096)
def _pattern_of(names: tuple[str, ...]) -> Any | None:
    return name_pattern(name for name in names if ":" not in name)


def _holds_personal_data(name: str) -> bool:
    """Whether an id holds more than random characters, which are what ids are made of."""
    return any(
        span.kind != "KEY" or is_vendor_key(name[span.start : span.end])
        for span in find_personal_data([name])[0]
    )


_MARKS = re.compile(r"\.|[A-Z]{2}|[0-9]{8}|sk-|AKIA|gh[pousr]_")
"""Marks without which no id is personal data: looking takes a hundred times as long."""


def make_content_id(conversation: RawConversation) -> str:
    """An id of all of the content of a conversation that has none, and of its place in its file."""
    digest = hashlib.blake2b(digest_size=10)
    digest.update(
        f"{conversation.source}\0{conversation.user}\0{conversation.started_at}\0"
        f"{conversation.place}".encode("utf-8", "replace")
    )
    for message in conversation.messages:
        digest.update(f"\0{message.role}\0{message.content}".encode("utf-8", "replace"))
    return digest.hexdigest() + "0"


def _add_rows(
    rows: Mapping[str, dict[str, list[Any]]],
    c: RawConversation,
    bucket: int,
    mark: tuple[str, bytes, datetime],
    counts: Counter[str],
) -> None:
    digest = _compute_digest(c)
    common = (bucket, c.user, c.id)
    _add_messages(rows["messages"], c, common, digest)
    for index, message in enumerate(c.messages):
        for signal in message.signals:
            _append_row(
                rows["events"],
                (
                    *common,
                    digest,
                    index,
                    signal.kind,
                    signal.value,
                    signal.at,
                    signal.detail,
                    _microseconds(signal.time),
                ),
            )
    _append_row(
        rows["conversations"],
        (
            *common,
            _microseconds(c.started_at),
            c.model,
            c.source,
            len(c.messages),
            digest,
            c.branch_of,
            c.branch_at,
            c.fork,
            _encode(c.metadata) or "{}",
            _ENCODER.encode(counts).decode() if counts else "{}",
            mark[2],
            c.parent,
            c.parent_at,
            _encode(c.refs) or "{}",
            *mark[:2],
        ),
    )


def _append_row(columns: dict[str, list[Any]], row: Sequence[Any]) -> None:
    for column, value in zip(columns.values(), row, strict=True):
        column.append(value)


def _add_messages(
    columns: dict[str, list[Any]],
    conversation: RawConversation,
    common: tuple[int, str, str],
    digest: str,
) -> None:
    messages = conversation.messages
    size = len(messages)
    for name, value in zip(("bucket", "user", "id"), common, strict=True):
        columns[name] += [value] * size
    columns["digest"] += [digest] * size
    columns["index"] += range(size)
    columns["role"] += [m.role for m in messages]
    columns["text"] += [m.content for m in messages]
    columns["time"] += [_microseconds(m.time) for m in messages]
    columns["name"] += [m.name for m in messages]
    columns["model"] += [m.model for m in messages]
    columns["author"] += [m.written_by for m in messages]
    columns["spans"] += [
        [msgspec.to_builtins(span) for span in m.spans] if m.spans else None for m in messages
    ]
    columns["tool_calls"] += [
        _ENCODER.encode(m.tool_calls).decode() if m.tool_calls else "" for m in messages
    ]
    columns["refs"] += [_encode(m.refs) for m in messages]
    columns["status"] += [m.status for m in messages]


def _compute_digest(conversation: RawConversation) -> str:
    """A digest of the content after redaction, so that it reveals nothing of what was removed, and
    of all else that is stored: new facts of the same text are another version of it.
    """
    digest = hashlib.blake2b(digest_size=12)
    digest.update(_ENCODER.encode(msgspec.structs.replace(conversation, place="")))
    return digest.hexdigest()


def _microseconds(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * _MICRO)


def _find_first_time(conversation: RawConversation) -> float | None:
    return next(
        (message.time for message in conversation.messages if message.time is not None), None
    )
