"""Gemini's conversations: `contents` of roles and parts, with the `candidates` that answered where
the log has them; saved prompts of AI Studio (`chunkedPrompt`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from upshot.errors import RecordError
from upshot.io.files import Input
from upshot.io.json_values import is_array, is_object
from upshot.records import BadRecord, RawConversation, RawMessage
from upshot.sources import fields
from upshot.sources.detection import Fit, Sample, fit_records
from upshot.sources.messages import read_message
from upshot.sources.notes import skip
from upshot.sources.payloads import find_text, read_answer, read_request
from upshot.sources.reading import read_each
from upshot.sources.rows import read_rows

NAME = "gemini-api"


def fit(sample: Sample) -> Fit:
    """How many of the first records hold contents of parts."""
    return fit_records(sample, _explain_misfit)


def _explain_misfit(record: Any) -> str:
    if not is_object(record):
        return "not an object"
    chunked = record.get("chunkedPrompt")
    if is_object(chunked) and is_array(chunked.get("chunks")):
        return ""
    contents = record.get("contents", record.get("history"))
    if not is_array(contents) or not contents:
        return "no `contents`"
    first = contents[0]
    return "" if is_object(first) and is_array(first.get("parts")) else "no `parts`"


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """A conversation a record."""
    return read_each(source, read_rows(source), read_record)


def read_record(record: Any) -> RawConversation:
    """A conversation of one record.

    Raises:
        RecordError: it has no contents.
    """
    if not is_object(record):
        raise RecordError("needs an object")
    chunked = record.get("chunkedPrompt")
    if is_object(chunked) and is_array(chunked.get("chunks")):
        messages = _read_chunks(record, chunked["chunks"])
    else:
        answer = record.get("response", record)
        request = {**record, "contents": record.get("contents", record.get("history"))}
        messages = read_request(request)
        if is_object(answer) and "candidates" in answer:
            messages += read_answer(answer)
    if not messages:
        raise RecordError("its contents hold no messages")
    return RawConversation(
        tuple(messages),
        find_text(record, "id", "conversation_id", "session_id", "responseId"),
        find_text(record, "user", "user_id", "metadata.user_id"),
        fields.epoch(record.get("createTime") or record.get("timestamp")),
        find_text(record, "model", "modelVersion", "runSettings.model"),
        NAME,
    )


def _read_chunks(record: Any, chunks: list[Any]) -> list[RawMessage]:
    """The turns of a prompt that AI Studio saved to Drive."""
    system = record.get("systemInstruction")
    messages = read_request({"systemInstruction": system}) if system else []
    for chunk in chunks:
        if not is_object(chunk):
            continue
        if chunk.get("isThought") is True:
            skip(NAME, "thoughts")
            continue
        media = next((name for name in chunk if name.startswith("drive")), "")
        if media and not chunk.get("text"):
            kind = media.removeprefix("drive").lower() or "file"
            chunk = {**chunk, "text": f"<{kind}>"}
        messages += [m for m in read_message(chunk) if m.content or m.tool_calls]
    return messages
