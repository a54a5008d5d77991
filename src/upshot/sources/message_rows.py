"""One message a row, in CSV, JSON lines, JSON or Parquet: rows of one conversation id, in order.

Rows without an id are one conversation: a bare list of messages, as agents store it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from upshot.errors import RecordError
from upshot.io.files import Bad, Input
from upshot.io.json_values import is_array, is_object
from upshot.records import BadRecord, RawConversation, RawMessage
from upshot.sources import fields, openai_chat
from upshot.sources.detection import Fit, Sample, fit_records
from upshot.sources.history import Node, make_conversations
from upshot.sources.messages import read_message
from upshot.sources.reading import describe
from upshot.sources.rows import fold_name, fold_names, read_rows

NAME = "message-rows"
_IDS = (
    "conversation_id",
    "conversation",
    "conv_id",
    "session_id",
    "session",
    "thread_id",
    "thread",
    "chat_id",
    "case_id",
    "room_id",
    "dialogue_id",
    "dialog_id",
    "ticket_id",
    "call_id",
)
"""An `id` alone is the message's, unless rows share it."""
_SIDES = {
    **dict.fromkeys(("is_bot", "from_bot", "is_ai", "is_assistant"), ("assistant", "user")),
    **dict.fromkeys(("is_user", "from_user", "is_human", "is_customer"), ("user", "assistant")),
}
"""Roles where a column that is yes or no says who spoke."""
_DIRECTIONS = {
    "inbound": "user",
    "incoming": "user",
    "outbound": "assistant",
    "outgoing": "assistant",
}
_ROLES = (
    "role",
    "sender",
    "speaker",
    "from",
    "author",
    "author_role",
    "sender_type",
    "participant",
)
_TEXTS = ("content", "text", "message", "body", "utterance", "value", "parts", "payload")
_ORDER = (
    "turn",
    "turn_index",
    "turn_number",
    "turn_id",
    "index",
    "idx",
    "seq",
    "sequence",
    "message_index",
    "position",
    "order",
    *map(fold_name, fields.TIMES),
)


def fit(sample: Sample) -> Fit:
    """How many of a file's first records are messages."""
    return fit_records(sample, misfit)


def misfit(record: Any) -> str:
    """What a value lacks to be a message."""
    if is_array(record):
        return "" if record and all(not misfit(item) for item in record) else "no list of messages"
    if not is_object(record):
        return "not an object"
    record = _fold(record)
    role = _role_of(record)
    if not isinstance(role, str):
        return "no `role`"
    if not any(name in record for name in (*_TEXTS, "tool_calls")):
        return "no `content`"
    return "" if fields.is_role(role) else f"role {role[:20]!r} is none"


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """Conversations and unreadable rows."""
    groups: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    lists = 0
    alone: list[tuple[str, Mapping[str, Any]]] = []
    for position, row in read_rows(source):
        if isinstance(row, Bad):
            yield BadRecord(source.name, position, row.reason)
        elif not is_object(row):
            yield BadRecord(source.name, position, "not an object")
        else:
            row = _fold(row)
            name = next((row[n] for n in _IDS if row.get(n) not in (None, "")), "")
            item = position.partition(", item ")
            if not name and item[1]:  # a list of messages a line
                name, lists = f"\0{item[0]}", lists + 1
            if name == "":
                alone.append((position, row))
            else:
                key = f"{name}\0\0{openai_chat.tenant_of(row)}"
                groups.setdefault(key, []).append((position, row))
    shares_ids = len({str(row.get("id")) for _, row in alone if row.get("id")}) * 3 <= 2 * len(
        alone
    )
    for position, row in alone:
        key = f"{row['id']}\0\0" if shares_ids and row.get("id") not in (None, "") else "\0"
        groups.setdefault(key, []).append((position, row))
    for key, rows in groups.items():
        name = "" if key.startswith("\0") else key.partition("\0")[0]
        for own in _split_users(rows):
            yield from _read_group(source, name, own)


def _fold(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row under folded names; where it has the message in a field of its own, that one's too."""
    folded = fold_names(row)
    if _role_of(folded) is None and any(name in folded for name in _IDS):
        for name in ("message", "turn", "data", "payload"):
            inner = folded.get(name)
            if is_object(inner) and _role_of(inner := fold_names(inner)) is not None:
                del folded[name]
                return {**folded, **inner}
    return folded


def _split_users(
    rows: list[tuple[str, Mapping[str, Any]]],
) -> list[list[tuple[str, Mapping[str, Any]]]]:
    """The rows of one id by user, where every row names one and several were answered."""
    users: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    roles: dict[str, set[str]] = {}
    for position, row in rows:
        user = next((str(row[n]) for n in openai_chat.USERS if row.get(n) not in (None, "")), "")
        users.setdefault(user, []).append((position, row))
        roles.setdefault(user, set()).add(str(_role_of(row)))
    spoken = [{fields.role(role) for role in own if fields.is_role(role)} for own in roles.values()]
    if len(users) > 1 and "" not in users and all({"user", "assistant"} <= own for own in spoken):
        return list(users.values())
    return [rows]


def _role_of(row: Mapping[str, Any]) -> Any:
    """Who speaks: a role or a name."""
    role = next((row[name] for name in _ROLES if row.get(name) not in (None, "")), None)
    if role is not None:
        return role
    for name, (yes, no) in _SIDES.items():
        if name in row:
            return yes if str(row[name]).strip().lower() in ("1", "true", "yes", "t") else no
    return _DIRECTIONS.get(str(row.get("direction") or "").strip().lower())


def _read_group(
    source: Input, name: str, rows: list[tuple[str, Mapping[str, Any]]]
) -> Iterator[RawConversation | BadRecord]:
    messages: list[RawMessage] = []
    nodes: list[Node] = []
    ordered = _in_order(rows)
    named = openai_chat.name_speakers([{**row, "role": _role_of(row)} for _, row in ordered])
    for (position, _), row in zip(ordered, named, strict=True):
        try:
            own = list(_read_row(row, len(messages)))
            messages += own
            key = next(
                (str(row[n]) for n in openai_chat.MESSAGE_IDS if row.get(n)), f"\0{position}"
            )
            parent = next((row[n] for n in openai_chat.PARENTS if row.get(n)), "")
            nodes.append(Node(key, str(parent), tuple(own)))
        except Exception as error:  # noqa: BLE001  # one bad row is one bad record
            yield BadRecord(source.name, position, describe(error))
    if messages:
        first = rows[0][1]
        user = next((row[n] for _, row in rows for n in openai_chat.USERS if row.get(n)), "")
        model = next((row[n] for _, row in rows for n in ("model", "model_name") if row.get(n)), "")
        base = RawConversation(
            tuple(messages),
            name,
            "" if fields.is_role(str(user)) else str(user),
            messages[0].time or fields.epoch(first.get("started_at")),
            str(model),
            NAME,
            place=rows[0][0],
        )
        if openai_chat.is_forked(named):
            yield from make_conversations(base, nodes)
        else:
            yield base


def _in_order(
    rows: list[tuple[str, Mapping[str, Any]]],
) -> list[tuple[str, Mapping[str, Any]]]:
    """The rows by the field that says their order, where all have it; else as they stand."""
    for name in _ORDER:
        values = [row.get(name) for _, row in rows]
        if all(value not in (None, "") for value in values):
            keys = [_order_key(value) for value in values]
            if all(key is not None for key in keys) and len(set(keys)) > 1:
                ranked = sorted(zip(keys, range(len(rows)), strict=True), key=_by_key)
                return [rows[place] for _, place in ranked]
    return rows


def _by_key(pair: tuple[float | None, int]) -> tuple[float, int]:
    return pair[0] or 0.0, pair[1]


def _order_key(value: Any) -> float | None:
    if isinstance(value, (int, float)):
        return float(value)
    try:
        return float(value)
    except (TypeError, ValueError):
        return fields.epoch(value)


def _read_row(row: Mapping[str, Any], index: int) -> Iterator[RawMessage]:
    role = row.get("role")
    content = next((row[name] for name in _TEXTS if row.get(name) is not None), None)
    if role is None:
        raise RecordError("it has no role")
    signals = openai_chat.read_feedback(row, index)
    for message in read_message({**row, "role": role, "content": content}):
        yield (
            msgspec.structs.replace(message, signals=signals)
            if signals and message.role == "assistant"
            else message
        )
