"""Rasa's trackers: events of users, bots and actions, as dumps or an event a row.

Where a dump holds no `bot` events, the names of utterances stand for the bot's words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from upshot.errors import RecordError
from upshot.io.files import Input
from upshot.io.json_values import as_object, is_array, is_object
from upshot.records import BadRecord, RawConversation, RawMessage
from upshot.sources import fields
from upshot.sources.detection import Fit, Sample, fit_records, lacks
from upshot.sources.history import take_back
from upshot.sources.notes import skip
from upshot.sources.reading import read_each
from upshot.sources.rows import decode_cell, read_rows

NAME = "rasa"


def fit(sample: Sample) -> Fit:
    """How many of a file's first records are trackers."""
    return fit_records(sample, misfit)


def misfit(record: Any) -> str:
    """What a value lacks to be a tracker."""
    if is_object(record) and "sender_id" in record and _event_of(record) is not None:
        return ""
    if reason := lacks(record, "sender_id", where={"events": list}):
        return reason
    events = record["events"]
    first = as_object(next((event for event in events if is_object(event)), None))
    return "" if "event" in first or not events else "its events have no `event`"


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """Conversations and unreadable records, in order; events a row are put together by sender."""
    senders: dict[str, list[Any]] = {}
    for position, record in read_rows(source):
        event = _event_of(record) if is_object(record) else None
        if event is None:
            yield from read_each(source, iter([(position, record)]), _read_tracker)
        else:
            senders.setdefault(str(record.get("sender_id") or ""), []).append(event)
    for sender, events in senders.items():
        yield from _read_tracker({"sender_id": sender, "events": events})


def _event_of(record: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The event of a row: of an event broker, or of a tracker store in a database."""
    data = decode_cell(record.get("data"))
    if "type_name" in record and is_object(data) and "event" in data:
        return data
    return record if isinstance(record.get("event"), str) and "sender_id" in record else None


def _read_tracker(record: Any) -> list[RawConversation]:
    events = record.get("events") if is_object(record) else None
    if not is_array(events):
        raise RecordError("needs an object with a list `events`")
    speaks = any(is_object(event) and event.get("event") == "bot" for event in events)
    messages: list[RawMessage] = []
    for event in events:
        if not is_object(event):
            raise RecordError("an event is no object")
        kind = str(event.get("event") or "")
        if kind == "rewind":  # the last exchange is taken back
            _rewind(messages)
        elif (message := _read_event(event, kind, speaks)) is not None:
            messages.append(message)
        else:
            skip(NAME, kind)
    if not messages:
        skip(NAME, "a tracker without a message")
        return []
    sender = str(record.get("sender_id") or "")
    return [
        RawConversation(
            tuple(messages),
            sender,
            "" if sender == "default" else sender,
            messages[0].time,
            source=NAME,
        )
    ]


def _rewind(messages: list[RawMessage]) -> None:
    start = max((i for i, m in enumerate(messages) if m.role == "user"), default=0)
    messages[start:] = take_back(messages[start:], start, "undo")


def _read_event(event: Mapping[str, Any], kind: str, speaks: bool) -> RawMessage | None:
    time = fields.epoch(event.get("timestamp"))
    if kind == "user":
        text = fields.text(event.get("text"))
        return RawMessage("user", text, time) if text else None
    if kind == "bot":
        data = event.get("data")
        parts = [fields.text(event.get("text"))]
        if is_object(data):
            parts += ["<image>"] if data.get("image") else []
            buttons = data.get("buttons")
            for button in buttons if is_array(buttons) else []:
                parts += [str(button["title"])] if is_object(button) and button.get("title") else []
        text = "\n".join(part for part in parts if part)
        return RawMessage("assistant", text, time) if text else None
    name = str(event.get("name") or "")
    if kind == "action" and not speaks and name.startswith("utter_"):
        return RawMessage("assistant", f"<{name}>", time)
    return None
