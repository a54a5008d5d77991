"""OpenAI's own logs: responses and chat completions as the API stores them, rows of its evals, and
chats of which every request was kept with the whole history (`chatcmpl-…`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from upshot.errors import RecordError
from upshot.io.files import Bad, Input
from upshot.io.json_values import is_array, is_object
from upshot.records import BadRecord, RawConversation
from upshot.sources import fields
from upshot.sources.detection import Fit, Sample, fit_records
from upshot.sources.gateways import link_previous
from upshot.sources.messages import to_json
from upshot.sources.notes import note
from upshot.sources.openai_chat import is_interchange, parse_conversation
from upshot.sources.payloads import decode_nested, find_text, read_answer, read_request
from upshot.sources.reading import describe
from upshot.sources.request_logs import Exchange, join_exchanges
from upshot.sources.rows import read_rows

NAME = "openai-api"
_REQUEST_ID = re.compile(r"^(?:chatcmpl|msg|resp|gen|cmpl)[-_]\w")
"""Ids of single answers, as OpenAI, Anthropic and OpenRouter give them."""
_SESSIONS = ("conversation_id", "conversationId", "session_id", "sessionId", "thread_id", "chat_id")
_INPUTS = ("messages", "input", "input_items", "prompt")


def fit(sample: Sample) -> Fit:
    """How many of the first records are stored answers, or requests with theirs."""
    best = fit_records(sample, _explain_misfit)
    growing = _count_growing(sample.records)
    return Fit(growing, len(sample.records)) if growing > best.readable else best


def _count_growing(records: Sequence[Any]) -> int:
    """How many chats belong to a log of requests that repeat their history: half of the chats go on
    from another one, of another id, to the letter.
    """
    chats = [r for r in records if is_object(r) and _is_chat(r)]
    if any(find_text(r, *_SESSIONS) for r in chats):
        return 0  # plain chats: what is one conversation is said
    ends = {(_owner_of(r), to_json(r["messages"])): find_text(r, "id") for r in chats}
    growing = 0
    for record in chats:
        messages, name = record["messages"], find_text(record, "id")
        starts = ((_owner_of(record), to_json(messages[:size])) for size in range(2, len(messages)))
        growing += any(key in ends and (not name or ends[key] != name) for key in starts)
    return len(chats) if growing and growing * 2 >= len(chats) - 1 else 0


def _owner_of(record: Mapping[str, Any]) -> str:
    return find_text(record, "user", "user_id", "userId")


def _is_chat(record: Mapping[str, Any]) -> bool:
    messages = record.get("messages")
    if not is_array(messages) or len(messages) < 2 or _answer_of(record) is not None:
        return False
    last = messages[-1]
    return (
        all(map(is_object, messages))
        and fields.is_role(str(last.get("role")))
        and fields.role(last.get("role")) == "assistant"
        and not any(name in record for name in ("response", "output", "branch_of", "parent"))
        and not is_interchange(record)
    )


def _explain_misfit(record: Any) -> str:
    if not is_object(record):
        return "not an object"
    if record.get("object") == "list" and is_array(record.get("data")) and record["data"]:
        return _explain_misfit(record["data"][0])
    if is_object(record.get("item")) and is_object(record.get("sample")):
        return ""
    name = find_text(record, "id")
    if record.get("object") in ("response", "chat.completion") and _answer_of(record) is not None:
        return ""
    if not _REQUEST_ID.match(name):
        return "no `object` and no id of a response"
    if _is_chat(record):
        return "its answer is a message like all others"
    return "" if _answer_of(record) is not None and _input_of(record) else "no messages"


def _answer_of(record: Mapping[str, Any]) -> Any:
    return next((record for n in ("choices", "output") if is_array(record.get(n))), None)


def _input_of(record: Mapping[str, Any]) -> Any:
    for name in _INPUTS:
        value = decode_nested(record.get(name))
        if is_object(value) and is_array(value.get("data")):
            value = value["data"]
        if value:
            return value
    return None


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """Conversations by what they repeat, or by the response that they continue."""
    exchanges: list[Exchange] = []
    for position, value in read_rows(source):
        if isinstance(value, Bad):
            yield BadRecord(source.name, position, value.reason)
            continue
        inner = value.get("data") if is_object(value) else None
        for item in inner if is_array(inner) else [value]:
            try:
                exchanges.append(_read_exchange(item))
            except Exception as error:  # noqa: BLE001 — whatever one record holds
                yield BadRecord(source.name, position, describe(error))
    yield from join_exchanges(link_previous(exchanges), NAME)


def _read_exchange(record: Any) -> Exchange:
    if not is_object(record):
        raise RecordError("needs an object")
    if _is_chat(record):
        return _read_chat(record)
    item, sample = record.get("item"), record.get("sample")
    if is_object(item) and is_object(sample):  # a row of an eval
        record = {**item, **sample, "id": record.get("id") or sample.get("id")}
    instructions = record.get("instructions")
    request = read_request(
        {
            "messages": _input_of(record),
            "system": record.get("system"),
            "instructions": instructions if isinstance(instructions, str) else None,
        }
    )
    answer = read_answer(record) if _answer_of(record) is not None else []
    if not request and not answer:
        raise RecordError("it has no messages")
    if not request:
        note("answers that are stored without their requests")
    name = find_text(record, "id")
    refs = {"response": name, "previous": find_text(record, "previous_response_id")}
    return Exchange(
        tuple(request),
        tuple(answer),
        find_text(record, "conversation.id", "conversation", "session_id", "metadata.session_id"),
        "",
        find_text(record, "user", "user_id", "safety_identifier", "metadata.user_id"),
        next(
            (
                time
                for field in ("created_at", "created", "timestamp", "started_at")
                if (time := fields.epoch(record.get(field))) is not None
            ),
            None,
        ),
        None,
        find_text(record, "model"),
        {key: value for key, value in refs.items() if value},
    )


def _read_chat(record: Mapping[str, Any]) -> Exchange:
    """A chat whose last message is the answer to all before it.

    Raises:
        RecordError: a message cannot be read.
    """
    chat = parse_conversation(record, NAME)
    name = find_text(record, "id")
    return Exchange(
        chat.messages[:-1],
        chat.messages[-1:],
        find_text(record, "session_id", "conversation_id", "thread_id"),
        "",
        chat.user,
        chat.started_at,
        None,
        chat.model,
        {"response": name} if name else {},
        metadata=chat.metadata,
    )
