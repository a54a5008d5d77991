"""OpenTelemetry GenAI spans in OTLP JSON: one span is one call of a model, with its whole prompt
and its answer.

Spans of one conversation (`gen_ai.conversation.id`, `session.id`, else the trace) are joined: the
longest prompt and its answer are the conversation. Both conventions are read:
`gen_ai.input.messages` attributes (JSON), and the older
`gen_ai.user.message` / `gen_ai.choice` span events.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from upshot.errors import RecordError
from upshot.io.files import Bad, Input, read_json
from upshot.io.json_values import is_array, is_object
from upshot.records import BadRecord, RawConversation, RawMessage, Signal
from upshot.records.signals import make_rating
from upshot.sources import fields

NAME = "otel"
_HEAD = re.compile(rb'"(?:resourceSpans|resource_spans|scopeSpans)"\s*:')
_OPEN = 4_096
"""Conversations held open while later spans may still belong to them."""


class _Open:
    """What is known of one conversation so far."""

    def __init__(self) -> None:
        self.messages: list[RawMessage] = []
        self.user = self.model = ""
        self.started: float | None = None


def matches(head: bytes) -> bool:
    """Whether the start of a file looks like this format."""
    return _HEAD.search(head) is not None


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """Conversations, each when nothing was added to it for long or the file ends."""
    open_: OrderedDict[str, _Open] = OrderedDict()
    for position, value in read_json(source):
        if isinstance(value, Bad) or not is_object(value):
            yield BadRecord(
                source.name, position, value.reason if isinstance(value, Bad) else "not an object"
            )
            continue
        for number, span in enumerate(_iterate_spans(value), start=1):
            try:
                _add_span(open_, span)
            except (RecordError, msgspec.DecodeError) as error:
                yield BadRecord(source.name, f"{position}, span {number}", str(error))
        while len(open_) > _OPEN:
            yield _close_conversation(*open_.popitem(last=False))
    while open_:
        yield _close_conversation(*open_.popitem(last=False))


def _iterate_spans(value: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for resource in value.get("resourceSpans") or value.get("resource_spans") or [value]:
        for scope in resource.get("scopeSpans") or resource.get("scope_spans") or ():
            yield from scope.get("spans") or ()


def _read_attributes(items: Any) -> dict[str, Any]:
    return {
        item["key"]: _unwrap_value(item.get("value"))
        for item in items or ()
        if is_object(item) and "key" in item
    }


def _unwrap_value(value: Any) -> Any:
    """The value inside OTLP's wrapper."""
    if not is_object(value):
        return value
    if "arrayValue" in value:
        return [_unwrap_value(item) for item in value["arrayValue"].get("values") or ()]
    if "kvlistValue" in value:
        return _read_attributes(value["kvlistValue"].get("values"))
    return next(iter(value.values()), None)


def _decode_json(value: Any) -> Any:
    return msgspec.json.decode(value) if isinstance(value, str) and value[:1] in "[{" else value


def _add_span(open_: OrderedDict[str, _Open], span: Mapping[str, Any]) -> None:
    attributes = _read_attributes(span.get("attributes"))
    messages = _read_messages(span, attributes)
    scores = any(_read_scores(span, 0, None))
    name = str(
        attributes.get("gen_ai.conversation.id")
        or attributes.get("session.id")
        or span.get("traceId")
        or ""
    )
    if not messages and not (scores and name in open_):
        return
    entry = open_.setdefault(name, _Open())
    open_.move_to_end(name)
    entry.user = entry.user or str(attributes.get("user.id") or attributes.get("enduser.id") or "")
    entry.model = str(
        attributes.get("gen_ai.response.model")
        or attributes.get("gen_ai.request.model")
        or entry.model
    )
    start = _parse_seconds(span.get("startTimeUnixNano"))
    entry.started = start if entry.started is None else min(entry.started, start or entry.started)
    end = _parse_seconds(span.get("endTimeUnixNano"))
    if messages:
        messages[-1] = msgspec.structs.replace(messages[-1], time=end)
        entry.messages = _join_messages(entry.messages, messages)
    if scores:
        last = max((i for i, m in enumerate(entry.messages) if m.role == "assistant"), default=-1)
        if last >= 0:
            old = entry.messages[last]
            entry.messages[last] = msgspec.structs.replace(
                old,
                signals=(
                    *old.signals,
                    *_read_scores(span, last, end),
                ),
            )


def _parse_seconds(nanoseconds: Any) -> float | None:
    try:
        return float(nanoseconds) / 1e9 if nanoseconds else None
    except (TypeError, ValueError):
        raise RecordError(f"time {nanoseconds!r} is not a number of nanoseconds") from None


def _join_messages(old: list[RawMessage], new: list[RawMessage]) -> list[RawMessage]:
    """A prompt that repeats the conversation replaces it, keeping known times; another one
    continues it.
    """
    shared = sum(
        1 for a, b in zip(old, new, strict=False) if (a.role, a.content) == (b.role, b.content)
    )
    if shared < min(len(old), 1):
        return old + new
    return [*old[:shared], *new[shared:]] if len(new) >= len(old) else old


def _read_messages(span: Mapping[str, Any], attributes: Mapping[str, Any]) -> list[RawMessage]:
    messages: list[RawMessage] = []
    instructions = attributes.get("gen_ai.system_instructions")
    if instructions:
        messages.append(RawMessage("system", fields.text(_decode_json(instructions))))
    for key in ("gen_ai.input.messages", "gen_ai.output.messages"):
        for item in _decode_json(attributes.get(key)) or ():
            if is_object(item):
                messages += _parse_item(item, "assistant" if "output" in key else "user")
    for event in span.get("events") or ():
        fields_of_event = _read_attributes(event.get("attributes"))
        name = str(event.get("name") or "")
        if name == "gen_ai.choice":
            message = _decode_json(fields_of_event.get("message")) or fields_of_event
            messages += _parse_item(
                message if is_object(message) else {"content": message}, "assistant"
            )
        elif match := re.fullmatch(r"gen_ai\.(system|user|assistant|tool)\.message", name):
            messages += _parse_item(fields_of_event, match.group(1))
    return messages


def _parse_item(item: Mapping[str, Any], role: str) -> list[RawMessage]:
    parts = item.get("parts")
    if is_array(parts):
        tool = [p for p in parts if is_object(p) and p.get("type") == "tool_call_response"]
        if tool:
            return [
                RawMessage("tool", fields.text(p.get("response") or p.get("result"))) for p in tool
            ]
    content = fields.text(parts if parts is not None else item.get("content"))
    calls = [
        fields.tool_call(call)
        for call in _decode_json(item.get("tool_calls")) or ()
        if is_object(call)
    ]
    text = "\n".join(part for part in (content, *calls) if part)
    return [RawMessage(fields.role(item.get("role") or role), text)] if text else []


def _read_scores(span: Mapping[str, Any], at: int, time: float | None) -> Iterator[Signal]:
    """`gen_ai.evaluation.result` events of people; the convention's scores run from 0 to 1, and
    one outside that range claims nothing.
    """
    for event in span.get("events") or ():
        if event.get("name") not in ("gen_ai.evaluation.result", "gen_ai.user.feedback"):
            continue
        attributes = _read_attributes(event.get("attributes"))
        value = attributes.get("gen_ai.evaluation.score.value")
        name = str(attributes.get("gen_ai.evaluation.name") or "")
        if value is not None and 0.0 <= float(value) <= 1.0:
            yield make_rating(float(value), 0.0, 1.0, at, detail=name, time=time)
        elif value is not None:
            yield Signal("comment", 0.0, at, f"{name or 'score'} {value}", time)


def _close_conversation(name: str, entry: _Open) -> RawConversation:
    return RawConversation(
        tuple(entry.messages), name, entry.user, entry.started, entry.model, NAME
    )
