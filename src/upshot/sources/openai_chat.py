"""OpenAI-chat JSON lines: the interchange format of DESIGN.md, and what most tools write.

Accepted spellings: `id`, `conversation_id`, `session_id`; `user`, `user_id`; `started_at`,
`timestamp`, `created_at`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from upshot.errors import RecordError
from upshot.io.files import Bad, Input, read_json, read_lines
from upshot.io.json_values import is_array, is_object
from upshot.records import BadRecord, RawConversation, RawMessage
from upshot.sources import fields

NAME = "openai-chat"
_HEAD = re.compile(rb'"messages"\s*:\s*\[')


class _Message(msgspec.Struct, gc=False):
    role: str
    content: str
    time: float | str | None = None


class _Line(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """The plain case, decoded at full speed; anything else takes the tolerant road below."""

    messages: list[_Message]
    id: str = ""
    user: str = ""
    started_at: str | float | None = None
    model: str = ""
    metadata: dict[str, Any] = {}


class _StrictMessage(_Message, forbid_unknown_fields=True):
    pass


class _StrictLine(_Line, forbid_unknown_fields=True):
    messages: list[_StrictMessage]  # pyright: ignore[reportIncompatibleVariableOverride, reportGeneralTypeIssues]


def matches(head: bytes) -> bool:
    """Whether the start of a file looks like this format."""
    return _HEAD.search(head) is not None


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """Conversations and unreadable records, in order."""
    if source.head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{":
        decode = msgspec.json.Decoder(_StrictLine).decode
        if _first_line_decodes(source.head):
            for number, line in read_lines(source.stream):
                try:
                    plain = decode(line)
                    yield _convert_line(plain)
                except (msgspec.DecodeError, UnicodeDecodeError, RecordError):
                    yield _parse_line(source.name, f"line {number}", line)
            return
    for position, value in read_json(source):
        yield parse_item(value, position, source.name)


def _first_line_decodes(head: bytes) -> bool:
    first, newline, rest = head.lstrip(b"\xef\xbb\xbf \t\r\n").partition(b"\n")
    if not newline:
        return True
    try:
        msgspec.json.decode(first)
    except msgspec.DecodeError:
        return rest.lstrip().startswith(b"{")
    return True


def _convert_line(line: _StrictLine) -> RawConversation:
    if not line.messages:
        raise RecordError("`messages` is empty")
    role, epoch = fields.role, fields.epoch
    return RawConversation(
        tuple(
            [
                RawMessage(role(m.role), m.content, epoch(m.time) if m.time is not None else None)
                for m in line.messages
            ]
        ),
        line.id,
        line.user,
        epoch(line.started_at),
        line.model,
        NAME,
        line.metadata,
    )


def _parse_line(name: str, position: str, line: bytes) -> RawConversation | BadRecord:
    try:
        return parse_item(msgspec.json.decode(line), position, name)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return BadRecord(name, position, f"not JSON: {error}")


def parse_item(value: Any, position: str, name: str = "(memory)") -> RawConversation | BadRecord:
    """A conversation from one decoded value, or why it is none."""
    if isinstance(value, Bad):
        return BadRecord(name, position, value.reason)
    try:
        return parse_conversation(value)
    except RecordError as error:
        return BadRecord(name, position, str(error))


def parse_conversation(record: Any, source: str = NAME) -> RawConversation:
    """A conversation from one decoded object.

    Raises:
        RecordError: `messages` is missing, or a message cannot be read.
    """
    if not is_object(record) or not is_array(record.get("messages")) or not record["messages"]:
        raise RecordError("needs an object with a list `messages` of at least one message")
    messages = tuple(_read_message(item, index) for index, item in enumerate(record["messages"]))
    return RawConversation(
        messages,
        _first_of(record, "id", "conversation_id", "session_id"),
        _first_of(record, "user", "user_id"),
        fields.epoch(
            record.get("started_at") or record.get("timestamp") or record.get("created_at")
        ),
        str(record.get("model") or ""),
        source,
        {**_as_object(record.get("metadata")), **_collect_other_fields(record)},
        str(record.get("branch_of") or ""),
        _read_branch_point(record, len(messages)),
    )


def _read_branch_point(record: Mapping[str, Any], size: int) -> int:
    """Index of the first message that a branch does not share with the conversation it is a branch
    of.
    """
    at = record.get("branch_at", 0)
    if not isinstance(at, int) or not 0 <= at < size:
        raise RecordError(f"`branch_at` is {at!r}, not the index of one of {size} messages")
    return at


_KNOWN = frozenset(
    [
        "messages",
        "id",
        "conversation_id",
        "session_id",
        "user",
        "user_id",
        "started_at",
        "timestamp",
        "created_at",
        "model",
        "metadata",
        "branch_of",
        "branch_at",
    ]
)


def _collect_other_fields(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value for name, value in record.items() if name not in _KNOWN and value is not None
    }


def _as_object(value: Any) -> dict[str, Any]:
    return dict(value) if is_object(value) else {} if value is None else {"metadata": value}


def _first_of(record: Mapping[str, Any], *names: str) -> str:
    return next((str(record[name]) for name in names if record.get(name) not in (None, "")), "")


def _read_message(item: Any, index: int) -> RawMessage:
    if not is_object(item) or "role" not in item:
        raise RecordError(f"message {index} is not an object with a `role`")
    content = fields.text(item.get("content"))
    calls = [fields.tool_call(call) for call in item.get("tool_calls") or () if is_object(call)]
    return RawMessage(
        fields.role(item["role"]),
        "\n".join(part for part in (content, *calls) if part),
        fields.epoch(item.get("time") or item.get("timestamp") or item.get("created_at")),
        fields.feedback(item.get("feedback"), index),
        str(item.get("name") or ""),
        str(item.get("model") or ""),
    )
