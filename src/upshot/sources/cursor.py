"""Cursor's agent transcripts: JSON lines of `{"role", "message"}`, one session a file.

What the person typed stands in `<user_query>`; what surrounds it is the editor's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from upshot.errors import RecordError
from upshot.io.files import Input
from upshot.io.json_values import is_array, is_object
from upshot.records import AuthorSpan, BadRecord, RawConversation, RawMessage
from upshot.sources import fields
from upshot.sources.agent_steps import DENIED, News, Step, build_conversations, split_denial
from upshot.sources.detection import Fit, Sample, fit_records
from upshot.sources.messages import read_content, read_message
from upshot.sources.notes import skip
from upshot.sources.reading import describe, object_records
from upshot.sources.speakers import mark_author

NAME = "cursor"
_OPEN, _CLOSE = "<user_query>", "</user_query>"
_HIDDEN = "[REDACTED]"
"""What a transcript shows for the model's thoughts."""


def fit(sample: Sample) -> Fit:
    """How many of a file's first records are lines of a transcript."""
    return fit_records(sample, _find_misfit)


def _find_misfit(record: Any) -> str:
    if not is_object(record):
        return "not an object"
    message = record.get("message")
    if not is_object(message) or "content" not in message:
        return "no `message.content`"
    if "type" in record or ("role" in message and "uuid" in record):
        return "no transcript of Cursor's"
    return "" if record.get("role") in ("user", "assistant", "system", "tool") else "no `role`"


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """The session of a file."""
    steps: list[Step] = []
    for position, value in object_records(source):
        if isinstance(value, BadRecord):
            yield value
            continue
        try:
            messages, news = _read_line(value)
        except Exception as error:  # noqa: BLE001 - whatever a line holds is one bad record
            yield BadRecord(source.name, position, describe(error))
            continue
        if messages or news:
            parent = steps[-1].name if steps else ""
            steps.append(Step(f"line {len(steps)}", parent, messages, news))
    if any(step.messages for step in steps):
        first = next(step.messages[0] for step in steps if step.messages)
        yield from build_conversations(
            RawConversation((), source=NAME, started_at=first.time), steps
        )


def _read_line(record: Mapping[str, Any]) -> tuple[list[RawMessage], list[News]]:
    message = record.get("message")
    if not is_object(message):
        raise RecordError("needs an object `message`")
    content = message.get("content")
    if is_array(content):
        content = [part for part in content if not _is_hidden(part)]
    if not read_content(content).text and content in ([], "", None):
        skip(NAME, "lines without words")
        return [], []
    time = fields.epoch(record.get("timestamp") or record.get("createdAt"))
    merged = {**message, "role": record.get("role"), "content": content}
    messages: list[RawMessage] = []
    news: list[News] = []
    for read in read_message(merged, time=time):
        denial = split_denial(read.content) if read.role == "tool" else None
        if denial is not None:
            messages.append(msgspec.structs.replace(read, content=denial[0], status=None))
            messages += [RawMessage("user", denial[1], time)] if denial[1] else []
            news.append(DENIED)
        else:
            messages.append(mark_query(read))
    return messages, news


def _is_hidden(part: Any) -> bool:
    text = part.get("text") if is_object(part) else part
    return isinstance(text, str) and text.strip() == _HIDDEN


def mark_query(message: RawMessage) -> RawMessage:
    """The message, where it holds a `<user_query>`, with everything around it as a machine's.

    >>> marked = mark_query(RawMessage("user", "x <user_query>why?</user_query>"))
    >>> marked.content[marked.spans[0].end : marked.spans[1].start]
    'why?'
    """
    if message.role != "user":
        return message
    text = message.content
    spans: list[AuthorSpan] = []
    last = start = 0
    while (start := text.find(_OPEN, start)) >= 0:
        end = text.find(_CLOSE, start)
        if end < 0:
            break
        inner = text[start + len(_OPEN) : end]
        first = start + len(_OPEN) + len(inner) - len(inner.lstrip())
        spans.append(AuthorSpan(last, first, "machine"))
        last = max(first, end - len(inner) + len(inner.rstrip()))
        start = end
    if not spans:
        return mark_author(message)
    spans.append(AuthorSpan(last, len(message.content), "machine"))
    return msgspec.structs.replace(message, spans=tuple(s for s in spans if s.start < s.end))
