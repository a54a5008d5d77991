"""ShareGPT and its kin: `{"conversations": [{"from": "human", "value": "…"}, …]}`, as JSON, JSON
lines or Parquet; turns as objects, as columns, or with `role` and `content`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from upshot.errors import RecordError
from upshot.io.files import Input
from upshot.io.json_values import is_array, is_object
from upshot.records import BadRecord, RawConversation, RawMessage, ToolCall
from upshot.sources import fields
from upshot.sources.detection import Fit, Sample, fit_records
from upshot.sources.messages import read_message
from upshot.sources.reading import read_each
from upshot.sources.rows import decode_cell, read_rows

NAME = "sharegpt"
_LISTS = ("conversations", "items", "conversation", "dialogue")


def fit(sample: Sample) -> Fit:
    """How many of a file's first records are conversations of this form."""
    return fit_records(sample, misfit)


def misfit(record: Any) -> str:
    """What a value lacks to be a conversation of this form."""
    if not is_object(record):
        return "not an object"
    turns = _turns_of(record)
    if not turns:
        return "no list `conversations`"
    first = turns[0]
    if not is_object(first) or not ("from" in first or "role" in first):
        return "its turns have no `from`"
    if "from" not in first and "conversations" not in record:
        return "its turns have no `from`"
    return ""


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """Conversations and unreadable records, in order."""
    return read_each(source, read_rows(source), _read_conversation)


def _turns_of(record: Mapping[str, Any]) -> list[Any] | None:
    turns = next((record[name] for name in _LISTS if record.get(name)), None)
    if is_object(turns):  # columns: {"from": […], "value": […]}
        names = [name for name in turns if is_array(turns[name])]
        size = max((len(turns[name]) for name in names), default=0)
        return [
            {name: turns[name][i] for name in names if i < len(turns[name])} for i in range(size)
        ]
    return turns if is_array(turns) else None


def _read_conversation(record: Any) -> RawConversation:
    turns = _turns_of(record) if is_object(record) else None
    if not turns:
        raise RecordError("needs an object with a list `conversations` of at least one turn")
    messages: list[RawMessage] = []
    if record.get("system"):
        messages.append(RawMessage("system", fields.text(record["system"])))
    for turn in turns:
        messages += _read_turn(turn, len(messages))
    return RawConversation(
        tuple(messages),
        str(record.get("id") or record.get("conversation_id") or ""),
        str(record.get("user") or record.get("user_id") or ""),
        fields.epoch(record.get("created_at") or record.get("timestamp")),
        str(record.get("model") or ""),
        NAME,
    )


def _read_turn(turn: Any, index: int) -> Iterator[RawMessage]:
    if not is_object(turn):
        raise RecordError(f"turn {index} is not an object with `from` and `value`")
    speaker = str(turn.get("from") or turn.get("role") or "").lower()
    if speaker == "function_call":
        yield RawMessage("assistant", "", tool_calls=tuple(_read_calls(turn.get("value"))))
        return
    message = {**turn, "role": speaker, "content": turn.get("value", turn.get("content"))}
    signals = fields.feedback(turn.get("feedback"), index)
    for one in read_message(message):
        yield msgspec.structs.replace(one, signals=signals) if signals else one


def _read_calls(value: Any) -> Iterator[ToolCall]:
    """The calls of a `function_call` turn: an object or a list of them, as JSON in a string."""
    inner = decode_cell(value)
    for call in inner if is_array(inner) else [inner]:
        if is_object(call):
            arguments = call.get("arguments", call.get("parameters", {}))
            text = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments)
            yield ToolCall(
                str(call.get("name") or ""), text if isinstance(text, str) else text.decode()
            )
        else:
            yield ToolCall("", fields.text(call))
