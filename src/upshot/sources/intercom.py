"""Intercom conversations as its interface gives them: the first message and the parts after it.

A bot's parts are the assistant's, and so are an employee's: both answer for the company.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from upshot.errors import RecordError
from upshot.io.files import Input, read_json
from upshot.io.json_values import as_array, as_object, is_array, is_object
from upshot.records import BadRecord, RawConversation, RawMessage
from upshot.sources import fields
from upshot.sources.detection import Fit, Sample, fit_records
from upshot.sources.notes import skip
from upshot.sources.reading import read_each

NAME = "intercom"
_BREAK = re.compile(r"(?i)<(?:br|/p|/div|/li|/h\d)\s*/?>")
_TAG = re.compile(r"<[^<>]{1,2000}>")
_IMAGE = re.compile(r"(?i)<img\b[^<>]*>")


def fit(sample: Sample) -> Fit:
    """How many of a file's first records are conversations."""
    return fit_records(sample, misfit)


def misfit(record: Any) -> str:
    """What a value lacks to be a conversation."""
    if not is_object(record):
        return "not an object"
    if any(is_array(record.get(n)) for n in ("conversations", "data")):
        inner = record.get("conversations") or record.get("data")
        return misfit(inner[0]) if inner else "no conversations"
    if not any(is_object(record.get(n)) for n in ("source", "conversation_message")):
        return "no `source` or `conversation_message`"
    return "" if "conversation_parts" in record else "no `conversation_parts`"


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """Conversations and unreadable records, in order."""
    return read_each(source, read_json(source), _read_record)


def _read_record(record: Any) -> list[RawConversation]:
    if not is_object(record):
        raise RecordError("not an object")
    inner = record.get("conversations") or record.get("data")
    return [_read_conversation(item) for item in (inner if is_array(inner) else [record])]


def _read_conversation(record: Any) -> RawConversation:
    first = (
        record.get("source") or record.get("conversation_message") if is_object(record) else None
    )
    if not is_object(first):
        raise RecordError("needs a `source` or `conversation_message`")
    parts = record.get("conversation_parts")
    listed = parts.get("conversation_parts") if is_object(parts) else parts
    start = fields.epoch(record.get("created_at"))
    messages: list[RawMessage] = []
    for item in [{**first, "created_at": first.get("created_at") or start}, *as_array(listed)]:
        message = _read_part(item) if is_object(item) else None
        if message is not None:
            messages.append(message)
    if not messages:
        raise RecordError("it has no messages")
    user = record.get("user") or next(iter(_contacts_of(record)), None)
    rating = record.get("conversation_rating")
    number = as_object(rating).get("rating")
    last = max((i for i, m in enumerate(messages) if m.role == "assistant"), default=-1)
    if isinstance(number, (int, float)) and 1 <= number <= 5 and last >= 0:
        value = {"rating": number, "range": [1, 5], "comment": as_object(rating).get("remark")}
        signals = fields.feedback(value, last)
        messages[last] = msgspec.structs.replace(messages[last], signals=signals)
    return RawConversation(
        tuple(messages),
        str(record.get("id") or ""),
        str(user.get("id") or user.get("email") or "") if is_object(user) else "",
        start,
        source=NAME,
    )


def _contacts_of(record: Mapping[str, Any]) -> list[Any]:
    contacts = record.get("contacts")
    inner = contacts.get("contacts") if is_object(contacts) else contacts
    return inner if is_array(inner) else []


def _read_part(item: Mapping[str, Any]) -> RawMessage | None:
    author = item.get("author")
    kind = str(author.get("type") or "") if is_object(author) else ""
    text = strip_html(str(item.get("body") or ""))
    if str(item.get("part_type") or "comment") == "note":
        skip(NAME, "note")  # between employees
        return None
    for file in item.get("attachments") or ():
        if is_object(file) and file.get("name"):
            text = f"{text}\n<file: {file['name']}>".strip()
    if not text:
        skip(NAME, item.get("part_type") or "an empty part")
        return None
    return RawMessage(
        "user" if kind in ("user", "lead", "contact") else "assistant",
        text,
        fields.epoch(item.get("created_at")),
        name=str(author.get("id") or "") if is_object(author) else "",
        refs={"message": str(item.get("id") or "")},
    )


def strip_html(text: str) -> str:
    """The words of a page's markup.

    >>> strip_html("<p>Hi,</p><p>it&#39;s <b>fine</b></p>")
    "Hi,\\nit's fine"
    """
    if "<" not in text:
        return html.unescape(text)
    marked = _BREAK.sub("\n", _IMAGE.sub("&lt;image&gt;", text))
    lines = html.unescape(_TAG.sub("", marked)).splitlines()
    return "\n".join(line.strip() for line in lines if line.strip())
