"""A prompt and its response a row, with an id, a user, a time and feedback where there are any.

Rows of one conversation or session are put together in order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from upshot.errors import RecordError
from upshot.io.files import Input
from upshot.io.json_values import is_array, is_object
from upshot.records import BadRecord, RawConversation, RawMessage
from upshot.sources import fields, openai_chat
from upshot.sources.detection import Fit, Sample, fit_records
from upshot.sources.messages import read_content, read_message
from upshot.sources.reading import read_each
from upshot.sources.rows import decode_cell, fold_names, read_rows
from upshot.sources.speakers import join_authored

NAME = "prompt-rows"
_SIDES = (
    ("prompt", "response"),
    ("prompt", "completion"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("question", "answer"),
    ("query", "response"),
    ("query", "answer"),
    ("input", "output"),
    ("user_message", "assistant_message"),
    ("user", "assistant"),
    ("request", "response"),
    ("user_input", "bot_response"),
    ("human", "assistant"),
    ("user_prompt", "assistant_response"),
    ("user_query", "response"),
    ("question", "response"),
    ("prompt", "answer"),
    ("input", "response"),
    ("query_text", "fulfillment_text"),
    ("query_text", "response_text"),
    ("user_text", "bot_text"),
    ("message", "response"),
    ("message", "reply"),
)
"""Names of the two sides, most usual first."""


def fit(sample: Sample) -> Fit:
    """How many of a file's first records are a prompt and its response."""
    return fit_records(sample, misfit)


def misfit(record: Any) -> str:
    """What a value lacks to be a prompt and its response."""
    if not is_object(record):
        return "not an object"
    record = fold_names(record)
    if _sides_of(record) is None:
        return "no `prompt` and `response`"
    return "it has `messages`" if is_array(record.get("messages")) else ""


def _sides_of(record: Mapping[str, Any]) -> tuple[str, str] | None:
    return next(
        (
            (prompt, response)
            for prompt, response in _SIDES
            if _is_side(record.get(prompt)) and _is_side(record.get(response))
        ),
        None,
    )


def _is_side(value: Any) -> bool:
    """Whether a value is words: text, or messages with roles."""
    return isinstance(value, str) or (is_array(value) and _are_messages(value))


def _are_messages(value: list[Any]) -> bool:
    return bool(value) and all(is_object(item) and "role" in item for item in value)


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """Conversations and unreadable records."""
    groups: dict[str, list[RawConversation]] = {}
    tenant = ""

    def parse(record: Any) -> RawConversation:
        nonlocal tenant
        tenant = openai_chat.tenant_of(record)
        return _read_row(record)

    for item in read_each(source, read_rows(source), parse):
        if isinstance(item, BadRecord) or not item.id:
            yield item
        else:
            groups.setdefault(f"{tenant}\0{item.user}\0{item.id}", []).append(item)
    for rows in groups.values():
        if all(row.started_at is not None for row in rows):
            rows.sort(key=lambda row: row.started_at or 0.0)
        yield from openai_chat.join_rows(rows)


def _read_row(record: Any) -> RawConversation:
    record = fold_names(record) if is_object(record) else record
    sides = _sides_of(record) if is_object(record) else None
    if sides is None:
        raise RecordError("needs a prompt and a response")
    time = fields.epoch(fields.first_of(record, openai_chat.STARTS))
    messages: list[RawMessage] = []
    if isinstance(record.get("system"), str) and record["system"]:
        messages.append(RawMessage("system", record["system"]))
    history = record.get("history") or record.get("chat_history")
    for turn in history if is_array(history) else []:  # earlier exchanges, as LLaMA-Factory has
        if is_array(turn) and len(turn) == 2 and all(isinstance(side, str) for side in turn):
            messages += [RawMessage("user", turn[0]), RawMessage("assistant", turn[1])]
        elif is_object(turn) and "role" in turn:
            messages += read_message(turn)
    prompt = _open_side(record[sides[0]])
    if is_array(prompt):
        messages += [message for item in prompt for message in read_message(item)]
    else:
        given = record.get("input") if sides[0] == "instruction" else None
        text = "\n".join(part for part in (prompt, given) if isinstance(part, str) and part)
        context = record.get("context") if sides[0] in ("instruction", "question") else None
        shown = context if isinstance(context, str) else ""
        question = join_authored([(text, "person"), (shown, "machine")])
        messages.append(msgspec.structs.replace(question, time=time))
    answer = _open_side(record[sides[1]])
    if is_array(answer):
        messages += [message for item in answer for message in read_message(item)]
    else:
        inner = read_content(answer)
        messages.append(RawMessage("assistant", inner.text, time, tool_calls=inner.calls))
    last = max((i for i, m in enumerate(messages) if m.role == "assistant"), default=-1)
    if last >= 0 and (signals := openai_chat.read_feedback(record, last)):
        own = messages[last]
        messages[last] = msgspec.structs.replace(own, signals=(*own.signals, *signals))
    return _describe_row(record, sides, messages, time)


def _open_side(value: Any) -> Any:
    """A side whose words are messages in JSON, as a list of them."""
    inner = decode_cell(value)
    if is_object(inner) and is_array(inner.get("messages")):
        inner = inner["messages"]
    elif is_object(inner) and "role" in inner:
        inner = [inner]
    return inner if is_array(inner) and _are_messages(inner) else value


def _describe_row(
    record: Mapping[str, Any],
    sides: tuple[str, str],
    messages: list[RawMessage],
    time: float | None,
) -> RawConversation:
    metadata = record.get("metadata")
    user = fields.first_of(record, [name for name in openai_chat.USERS if name not in sides])
    name = record.get("id")
    return RawConversation(
        tuple(messages),
        str(fields.first_of(record, [name for name in openai_chat.IDS if name != "id"]) or ""),
        "" if user is None or is_object(user) else str(user),
        time,
        str(fields.first_of(record, openai_chat.MODELS) or ""),
        NAME,
        metadata if is_object(metadata) else {},
        refs={"row": str(name)} if isinstance(name, (str, int)) else {},
    )
