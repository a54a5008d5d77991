"""Sessions of Continue, in the editor and in the terminal (`~/.continue/sessions/*.json`): one
object with `history`, whose items hold a message and the state of the calls it made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from upshot.errors import RecordError
from upshot.io.files import Input, read_json
from upshot.io.json_values import is_array, is_object
from upshot.records import BadRecord, RawConversation, RawMessage
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
from upshot.sources.messages import ToolResult, make_tool_message, read_message, read_output
from upshot.sources.notes import skip
from upshot.sources.reading import read_each

NAME = "continue"
_FAILURES = {"done": False, "errored": True}


def fit(sample: Sample) -> Fit:
    """How many of a file's first records are sessions."""
    return fit_records(sample, _find_misfit)


def _find_misfit(record: Any) -> str:
    if not is_object(record) or not is_array(record.get("history")):
        return "no `history`"
    if "sessionId" not in record:
        return "no `sessionId`"
    items = record["history"][:20]
    good = sum(is_object(item) and is_object(item.get("message")) for item in items)
    return "" if good * 2 >= len(items) else "no `history` of messages"


def is_side_file(sample: Sample, folder: object) -> bool:
    """Whether a file only lists the sessions."""
    del folder
    return bool(sample.records) and all(
        is_object(record)
        and {"sessionId", "dateCreated"} <= set(record)
        and "history" not in record
        for record in sample.records
    )


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """One conversation a session."""
    return read_each(source, read_json(source), _read_session)


def _read_session(record: Any) -> list[RawConversation]:
    if not is_object(record):
        raise RecordError("not an object")
    items = list_of(record, "history")
    answered = {string_of(object_of(item, "message"), "toolCallId") for item in items} - {""}
    trail = Trail()
    take_each(NAME, items, lambda item: _add_item(trail, require_object(item), answered))
    base = RawConversation(
        (),
        string_of(record, "sessionId"),
        started_at=fields.epoch(record.get("dateCreated")),
        model=string_of(record, "chatModelTitle"),
        source=NAME,
        metadata=facts_of(record, cwd="workspaceDirectory"),
    )
    conversations = trail.build(base)
    if not conversations:
        raise RecordError("the session holds no messages")
    return conversations


def _add_item(trail: Trail, item: Mapping[str, Any], answered: set[str]) -> None:
    message = object_of(item, "message")
    if message.get("role") == "thinking":
        skip(NAME, "thinking")
        return
    if item.get("conversationSummary"):
        skip(NAME, "summaries of a compaction")
    if list_of(item, "contextItems"):
        skip(NAME, "context items", len(list_of(item, "contextItems")))
    value = {**message, "tool_call_id": string_of(message, "toolCallId")}
    log = next(iter(list_of(item, "promptLogs")), None)
    model = string_of(log, "modelTitle") or string_of(object_of(message, "usage"), "model")
    messages = [
        msgspec.structs.replace(m, model=m.model or model) if m.role == "assistant" else m
        for m in read_message(value)
        if m.content or m.tool_calls or m.role == "tool"
    ]
    news = False
    for state in list_of(item, "toolCallStates"):
        if not is_object(state):
            continue
        news = news or state.get("status") == "canceled"
        result = _read_result(state)
        if result is not None and string_of(state, "toolCallId") not in answered:
            messages.append(result)
    if messages:
        trail.add(messages)
    trail.tell([DENIED] if news else ())


def _read_result(state: Mapping[str, Any]) -> RawMessage | None:
    outputs = [read_output(o.get("content")) for o in list_of(state, "output") if is_object(o)]
    text = "\n".join(filter(None, outputs))
    if not text:
        return None
    status = state.get("status")
    failed = _FAILURES.get(status) if isinstance(status, str) else None
    name = string_of(object_of(state, "toolCall", "function"), "name")
    return make_tool_message(ToolResult(text, string_of(state, "toolCallId"), name, failed))
