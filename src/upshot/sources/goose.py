"""Goose's sessions: JSON lines of a header and messages, and what `goose session export --format
json` writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from upshot.errors import RecordError
from upshot.io.files import Bad, Input, read_json
from upshot.io.json_values import is_array, is_object
from upshot.records import BadRecord, RawConversation, RawMessage, ToolCall
from upshot.sources import fields
from upshot.sources.agent_lines import (
    Trail,
    facts_of,
    list_of,
    object_of,
    require_object,
    string_of,
    take_each,
)
from upshot.sources.agent_steps import DENIED
from upshot.sources.detection import Fit, Sample, fit_records
from upshot.sources.messages import (
    ToolResult,
    make_tool_message,
    read_content,
    read_output,
    to_json,
)
from upshot.sources.notes import skip
from upshot.sources.reading import read_each

NAME = "goose"
_BLOCKS = frozenset(
    {
        "text",
        "image",
        "toolRequest",
        "toolResponse",
        "thinking",
        "redactedThinking",
        "toolConfirmationRequest",
        "frontendToolRequest",
        "contextLengthExceeded",
        "summarizationRequested",
        "systemNotification",
        "conversationCompacted",
        "actionRequired",
        "reasoning",
    }
)
_DENIED = "The user has declined to run this tool"


def fit(sample: Sample) -> Fit:
    """How many of a file's first records are sessions, or lines of one."""
    return fit_records(sample, _find_misfit)


def _find_misfit(record: Any) -> str:
    if not is_object(record):
        return "not an object"
    if "role" in record:
        return "" if _is_message(record) else "no `created`"
    if "working_dir" not in record:
        return "no `working_dir`"
    messages = _messages_of(record)
    if not messages:
        return "" if "message_count" in record or "description" in record else "no `description`"
    return "" if all(map(_is_message, messages[:20])) else "no messages of Goose"


def _is_message(value: Any) -> bool:
    return (
        is_object(value)
        and string_of(value, "role") in ("user", "assistant")
        and "created" in value
        and is_array(value.get("content"))
        and all(string_of(block, "type") in _BLOCKS for block in value["content"])
    )


def _messages_of(record: Mapping[str, Any]) -> Sequence[Any]:
    return list_of(record, "conversation") or list_of(record, "messages")


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """The sessions of a file."""
    lines: list[Any] = []
    head: Mapping[str, Any] = {}
    for position, value in read_json(source):
        if isinstance(value, Bad):
            yield BadRecord(source.name, position, value.reason)
        elif is_object(value) and "role" in value:
            lines.append(value)
        elif is_object(value) and _messages_of(value):
            yield from read_each(source, iter([(position, value)]), _read_session)
        elif is_object(value):
            head = value
        else:
            yield BadRecord(source.name, position, "not an object")
    if lines:
        whole = iter([("whole file", {**head, "messages": lines})])
        yield from read_each(source, whole, _read_session)


def _read_session(record: Any) -> list[RawConversation]:
    trail = Trail()
    names: dict[str, str] = {}

    def take(value: Any) -> None:
        messages = list(_read_message(require_object(value), names))
        if any(m.role == "tool" and _DENIED in m.content[:300] for m in messages):
            trail.tell([DENIED])
        if messages:
            trail.add(messages)

    take_each(NAME, _messages_of(record), take)
    base = RawConversation(
        (),
        string_of(record, "id", "session_id"),
        started_at=fields.epoch(record.get("created_at")),
        model=string_of(object_of(record, "model_config"), "model_name"),
        source=NAME,
        metadata=facts_of(record, cwd="working_dir"),
    )
    conversations = trail.build(base)
    if not conversations:
        raise RecordError("the session holds no messages")
    return conversations


def _read_message(value: Mapping[str, Any], names: dict[str, str]) -> Iterator[RawMessage]:
    """The messages of one; `names`: the tool of each call so far."""
    time = fields.epoch(value.get("created"))
    if "content" not in value:
        raise RecordError("a message has no `content`")
    content = value["content"]
    words: list[Any] = []
    calls: list[ToolCall] = []
    for block in content if is_array(content) else [content]:
        part = object_of({"block": block}, "block")
        kind = part.get("type", "")
        if kind in ("toolRequest", "frontendToolRequest"):
            call = _read_call(part)
            names[call.id] = call.name
            calls.append(call)
        elif kind == "toolResponse":
            if (result := _read_result(part, names, time)) is not None:
                yield result
        elif kind in ("text", "image", "") or not isinstance(kind, str):
            words.append(block)
        else:
            skip(NAME, kind)
    text = read_content(words).text
    role = value.get("role")
    name = string_of(value, "id")
    refs = {"message": name} if name else {}
    if role == "assistant":
        if text.strip() or calls:
            yield RawMessage("assistant", text, time, tool_calls=tuple(calls), refs=refs)
    elif role != "user":
        raise RecordError("a message has no role of Goose")
    elif text.strip():
        message = RawMessage("user", text, time, refs=refs)
        shown = object_of(value, "metadata").get("userVisible")
        yield message if shown is not False else msgspec.structs.replace(message, author="machine")


def _read_call(block: Mapping[str, Any]) -> ToolCall:
    call = object_of(block, "toolCall", "value") or object_of(block, "toolCall")
    given = call.get("arguments", call.get("params"))
    arguments = given if isinstance(given, str) else to_json({} if given is None else given)
    return ToolCall(string_of(call, "name"), arguments, string_of(block, "id"))


def _read_result(
    block: Mapping[str, Any], names: Mapping[str, str], time: float | None
) -> RawMessage | None:
    result = object_of(block, "toolResult")
    value = result.get("value")
    inner = value.get("content") if is_object(value) and "content" in value else value
    parts = [p for p in inner if _is_for_model(p)] if is_array(inner) else inner
    text = read_output(parts) or string_of(result, "error")
    if not text:
        skip(NAME, "results without content")
        return None
    failed = True if result.get("status") == "error" else None
    if is_object(value) and isinstance(value.get("isError"), bool):
        failed = value["isError"]
    call = string_of(block, "id")
    return make_tool_message(ToolResult(text, call, names.get(call, ""), failed), time=time)


def _is_for_model(part: Any) -> bool:
    """Whether a part is the model's to read: the person's copy of an output is another."""
    audience = list_of(object_of({"part": part}, "part", "annotations"), "audience")
    return not audience or "assistant" in audience
