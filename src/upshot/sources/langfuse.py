"""Langfuse's export: traces with observations and scores (JSON array, JSON lines, or `{"data":
[…]}` of its API).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from upshot.errors import RecordError
from upshot.io.files import Bad, Input, read_json
from upshot.io.json_values import is_array, is_object
from upshot.records import BadRecord, RawConversation, RawMessage, Signal
from upshot.sources import fields

NAME = "langfuse"
_HEAD = re.compile(rb'"(?:observations|traceId|sessionId|projectId|htmlPath)"\s*:')


def matches(head: bytes) -> bool:
    """Whether the start of a file looks like this format."""
    return (
        _HEAD.search(head) is not None
        and re.search(rb'"input"\s*:', head) is not None
        and b'"output"' in head
    )


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """A conversation a trace."""
    for position, value in read_json(source):
        items: Sequence[Any] = (
            value["data"] if is_object(value) and is_array(value.get("data")) else [value]
        )
        for item in items:
            try:
                yield _read_trace(item)
            except RecordError as error:
                yield BadRecord(source.name, position, str(error))


def _read_trace(record: Any) -> RawConversation:
    if isinstance(record, Bad):
        raise RecordError(record.reason)
    if not is_object(record) or not record.get("id"):
        raise RecordError("needs a trace object with an `id`")
    generations = [
        o
        for o in record.get("observations") or ()
        if is_object(o) and str(o.get("type")).upper() == "GENERATION"
    ]
    generations.sort(key=lambda o: str(o.get("startTime") or ""))
    messages = _longest_call(
        [(o.get("input"), o.get("output"), o.get("endTime")) for o in generations]
    )
    messages = messages or _longest_call([(record.get("input"), record.get("output"), None)])
    if not messages:
        raise RecordError("the trace has neither messages nor text in `input` and `output`")
    last = max((i for i, message in enumerate(messages) if message.role == "assistant"), default=-1)
    signals = tuple(_read_scores(record.get("scores"), last))
    if signals and last >= 0:
        messages[last] = msgspec.structs.replace(messages[last], signals=signals)
    model = next((str(o["model"]) for o in reversed(generations) if o.get("model")), "")
    metadata = {
        name: record[name] for name in ("name", "tags", "release", "sessionId") if record.get(name)
    }
    return RawConversation(
        tuple(messages),
        str(record["id"]),
        str(record.get("userId") or record.get("sessionId") or ""),
        fields.epoch(record.get("timestamp")),
        model,
        NAME,
        metadata,
    )


def _longest_call(calls: list[tuple[Any, Any, Any]]) -> list[RawMessage]:
    """The longest of several calls: later ones repeat what came before."""
    best: list[RawMessage] = []
    for prompt, answer, time in calls:
        messages = _read_messages(prompt, "user")
        answers = _read_messages(answer, "assistant")
        if answers:
            answers[-1] = msgspec.structs.replace(answers[-1], time=fields.epoch(time))
        if len(messages) + len(answers) >= len(best) and answers:
            best = messages + answers
    return best


def _read_messages(value: Any, role: str) -> list[RawMessage]:
    if is_object(value) and is_array(value.get("messages")):
        value = value["messages"]
    if is_object(value) and is_array(value.get("choices")):
        value = [choice.get("message") for choice in value["choices"] if is_object(choice)]
    if is_array(value) and value and all(is_object(item) and "role" in item for item in value):
        return [
            RawMessage(
                fields.role(item["role"]),
                "\n".join(
                    part
                    for part in (
                        fields.text(item.get("content")),
                        *(fields.tool_call(call) for call in item.get("tool_calls") or ()),
                    )
                    if part
                ),
            )
            for item in value
        ]
    text = fields.text(value)
    return [RawMessage(fields.role(role), text)] if text else []


def _read_scores(scores: Any, index: int) -> Iterator[Signal]:
    """Scores of people count as they are; those of other judges are kept as comments."""
    for score in scores or ():
        if not is_object(score):
            continue
        value, time = (
            score.get("value"),
            fields.epoch(score.get("timestamp") or score.get("createdAt")),
        )
        by_people = str(score.get("source") or "API").upper() in ("API", "ANNOTATION")
        name, comment = str(score.get("name") or ""), str(score.get("comment") or "")
        if not isinstance(value, (int, float)) or not by_people:
            yield Signal("comment", 0.0, index, f"{name}: {value}", time)
        elif str(score.get("dataType")).upper() == "BOOLEAN" or (
            value in (0, 1) and _THUMB.search(name)
        ):
            yield Signal("thumb", 1.0 if value else -1.0, index, comment, time)
        else:
            yield fields.read_rating(name, float(value), score, index, time)


_THUMB = re.compile(r"(?i)^$|thumb|feedback|helpful|like|vote|correct|accept")
"""Names of scores that are 0 or 1; a score without a name is one too."""
