"""Logs of gateways and tracers that hold a request and its answer in one record: LiteLLM's standard
payload and spend logs, Helicone, Portkey, Cloudflare, Kong, Amazon Bedrock's invocation logs,
Braintrust, Weave, Opik, and any `request` and `response` in the shapes of the large interfaces.

Requests that repeat their context are joined (`sources.request_logs`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from upshot.errors import RecordError
from upshot.io.files import Bad, Input
from upshot.io.json_values import is_array, is_number, is_object
from upshot.records import BadRecord, RawConversation, RawMessage, Signal
from upshot.sources import fields
from upshot.sources.detection import Fit, Sample, fit_records
from upshot.sources.notes import skip
from upshot.sources.payloads import decode_nested, find_text, read_answer, read_request
from upshot.sources.reading import describe
from upshot.sources.request_logs import Exchange, join_exchanges
from upshot.sources.rows import read_rows

NAME = "gateways"
_REQUESTS = (
    "request_body",
    "requestBody",
    "RequestBody",
    "request",
    "req",
    "raw_request",
    "proxy_server_request",
    "llm_request",
    "input_body",
    "request_payload",
    "requestPayload",
    "body",
    "inputs",
    "input",
    "params",
)
_RESPONSES = (
    "response_body",
    "responseBody",
    "ResponseBody",
    "response",
    "res",
    "raw_response",
    "llm_response",
    "output_body",
    "response_payload",
    "responsePayload",
    "reply",
    "outputs",
    "output",
    "result",
    "completion",
)
_BODIES = (
    "body",
    "json",
    "inputBodyJson",
    "outputBodyJson",
    "payload",
    "data",
    "content",
    "postData",
)
_RECORDS = ("data", "interactions", "entries", "logs", "requests", "records")
"""Lists of records in one object: of an API, a cassette, a HAR file."""
_TURNS = ("messages", "contents", "prompt", "input", "inputText", "inputs", "system")
_SESSIONS = tuple(
    f"{holder}{name}"
    for holder in (
        "",
        "metadata.",
        "request_properties.",
        "properties.",
        "requestMetadata.",
        "metadata.requester_metadata.",
        "metadata.spend_logs_metadata.",
        "request.metadata.",
        "extra.metadata.",
    )
    for name in (
        "session_id",
        "sessionId",
        "Helicone-Session-Id",
        "litellm_session_id",
        "conversation_id",
        "conversationId",
        "thread_id",
        "threadId",
        "chat_id",
        "chatId",
    )
)
_USERS = (
    "end_user",
    "user",
    "user_id",
    "userId",
    "request_user_id",
    "metadata.user_api_key_end_user_id",
    "metadata._user",
    "metadata.user_id",
    "metadata.userId",
    "metadata.user_api_key_user_id",
    "requestMetadata.userId",
    "requestMetadata.user_id",
)
_STARTS = (
    "startTime",
    "startedDateTime",
    "start_time",
    "request_created_at",
    "started_at",
    "created_at",
    "createdAt",
    "timestamp",
    "created",
    "time",
)
_ENDS = ("endTime", "end_time", "response_created_at", "ended_at", "finished_at", "completed_at")
_IDS = ("request_id", "requestId", "id", "_id", "call_id", "litellm_call_id", "span_id")
_TRACES = ("trace_id", "traceId", "root_span_id")
_OWN = (
    "schemaType",
    "call_type",
    "helicone_request_id",
    "request_created_at",
    "op_name",
    "span_attributes",
    "feedback_scores",
    "ai_provider",
    "custom_llm_provider",
)
"""Fields of records whose `input` and `output` are those of a model."""


def fit(sample: Sample) -> Fit:
    """How many of the first records hold a request and an answer."""
    return fit_records(sample, _explain_misfit)


def _explain_misfit(record: Any) -> str:
    if not is_object(record):
        return "not an object"
    items = _items_of(record)
    if items[0] is not record:
        return _explain_misfit(items[0])
    record = _unwrap(record)
    if record.get("schemaType") == "ModelInvocationLog":
        return ""
    if any(n in record for n in ("observations", "run_type", "resourceSpans", "custom_id")):
        return "another tool's record"
    request, response = _request_of(record), _response_of(record)
    if request is None:
        return "no request with messages"
    return "" if response is not None else "no response"


def _unwrap(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """A record without the envelope of CloudWatch: the record is its message, as a text."""
    for name in ("message", "@message"):
        inner = decode_nested(record.get(name)) if isinstance(record.get(name), str) else None
        if is_object(inner) and "schemaType" in inner:
            return inner
    return record


def _request_of(record: Mapping[str, Any]) -> Any:
    """The body of the request, in any place and spelling."""
    ai = record.get("ai")
    if is_object(ai) and is_object(ai.get("proxy")):  # Kong
        record = {**record, **_object_of(ai["proxy"].get("payload"))}
    for name in _REQUESTS:
        value = decode_nested(record.get(name))
        for body in (*(decode_nested(v) for v in _bodies_of(value)), value):
            if is_object(body) and any(_has_turns(body.get(key)) for key in _TURNS):
                return body
        if is_array(value) and _has_turns(value) and _is_own(record):
            return value
    messages = decode_nested(record.get("messages"))
    if _has_turns(messages) and _response_of(record) is not None:
        return {**record, "messages": messages, "input": None, "prompt": None}
    if _has_turns(decode_nested(record.get("contents"))):
        return record
    return None


def _is_own(record: Mapping[str, Any]) -> bool:
    return any(name in record for name in _OWN) or record.get("type") == "llm"


def _object_of(value: Any) -> Mapping[str, Any]:
    value = decode_nested(value)
    return value if is_object(value) else {}


def _bodies_of(value: Any) -> Iterator[Any]:
    if not is_object(value):
        return
    for name in _BODIES:
        if body := decode_nested(value.get(name)):
            if is_object(body) and not _is_content(body):  # {"string": "…"}, {"text": "…"}
                inner = decode_nested(body.get("string") or body.get("text"))
                body = inner if is_object(inner) else body
            yield body


def _has_turns(value: Any) -> bool:
    value = decode_nested(value)
    if isinstance(value, str):
        return bool(value.strip())
    return is_array(value) and bool(value) and all(is_object(v) or is_array(v) for v in value)


def _response_of(record: Mapping[str, Any]) -> Any:
    ai = record.get("ai")
    if is_object(ai) and is_object(ai.get("proxy")):
        record = {**record, **_object_of(ai["proxy"].get("payload"))}
    for name in _RESPONSES:
        if name not in record:
            continue
        value = decode_nested(record[name])
        for body in _bodies_of(value):
            body = decode_nested(body)
            if name == "output" or (is_object(body) and not _is_content(value)):
                return body
        return value if value is not None else {}
    return record if is_array(record.get("choices")) else None


def _is_content(value: Any) -> bool:
    """Whether an object is an answer itself, so that its `content` is no wrapper."""
    return is_object(value) and any(
        name in value for name in ("role", "choices", "candidates", "output", "type", "message")
    )


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """Conversations by session, trace or what they repeat."""
    exchanges: list[Exchange] = []
    for position, value in read_rows(source):
        if isinstance(value, Bad):
            yield BadRecord(source.name, position, value.reason)
            continue
        items = _items_of(value)
        for number, item in enumerate(items, 1):
            try:
                exchange = read_exchange(item)
            except Exception as error:  # noqa: BLE001 — whatever one record holds
                place = position if len(items) == 1 else f"{position}.{number}"
                yield BadRecord(source.name, place, describe(error))
                continue
            if exchange is not None:
                exchanges.append(exchange)
    yield from join_exchanges(link_previous(exchanges), NAME)


def _items_of(value: Any) -> list[Any]:
    """The records that a value holds."""
    if not is_object(value) or "request" in value:
        return [value]
    holder = value["log"] if is_object(value.get("log")) else value
    lists = (holder[name] for name in _RECORDS if is_array(holder.get(name)))
    return next((items for items in lists if items and is_object(items[0])), [value])


def read_exchange(record: Any) -> Exchange | None:
    """The call that a record holds; None where it is one of no messages, such as an embedding.

    Raises:
        RecordError: it holds no request.
    """
    if not is_object(record):
        raise RecordError("needs an object")
    record = _unwrap(record)
    record = {**record, "metadata": decode_nested(record.get("metadata"))}
    if record.get("schemaType") == "ModelInvocationLog":
        return _read_bedrock(record)
    request, response = _request_of(record), _response_of(record)
    if request is None and response is None:
        raise RecordError("it holds no request and no response")
    if request is None:
        kind = find_text(record, "call_type", "type", "name") or "records without messages"
        skip(NAME, kind)
        return None
    messages = read_request(request)
    answer = read_answer(response)
    if not messages and not answer:
        skip(NAME, "requests without messages")
        return None
    previous = find_text(request, "previous_response_id")
    refs = {
        "request": find_text(record, *_IDS) or find_text(response, "id"),
        "response": find_text(response, "id"),
        "previous": previous,
    }
    return Exchange(
        tuple(messages),
        tuple(answer),
        find_text(record, *_SESSIONS)
        or find_text(request, "conversation.id", "conversation", "metadata.session_id"),
        find_text(record, *_TRACES),
        find_text(record, *_USERS) or find_text(request, "user", "metadata.user_id"),
        _find_time(record, _STARTS) or _find_time(response, ("created", "created_at")),
        _find_time(record, _ENDS),
        find_text(response, "model", "modelVersion", "model_version")
        or find_text(record, "model", "model_name", "metadata.model")
        or find_text(request, "model"),
        {name: value for name, value in refs.items() if value},
        tuple(_read_feedback(record)),
    )


def _find_time(record: Any, names: Sequence[str]) -> float | None:
    if not is_object(record):
        return None
    for name in names:
        if record.get(name) and (time := fields.epoch(record[name])) is not None:
            return time
    return None


def _read_bedrock(record: Mapping[str, Any]) -> Exchange | None:
    holder, output = _object_of(record.get("input")), _object_of(record.get("output"))
    messages = read_request(holder.get("inputBodyJson"))
    answer = read_answer(output.get("outputBodyJson"))
    if not messages and not answer:
        reason = "bodies in a bucket" if "inputBodyS3Path" in holder else "without messages"
        skip(NAME, f"Bedrock: {reason}")
        return None
    name = find_text(record, "requestId")
    return Exchange(
        tuple(messages),
        tuple(answer),
        find_text(record, *_SESSIONS),
        "",
        find_text(record, *_USERS),
        fields.epoch(record.get("timestamp")),
        None,
        find_text(record, "modelId"),
        {"request": name} if name else {},
    )


def _read_feedback(record: Mapping[str, Any]) -> Iterator[Signal]:
    """What people said: Helicone's and Portkey's feedback, Opik's scores."""
    rating = record.get("feedback_rating", record.get("request_feedback"))
    feedback = record.get("feedback")
    if is_object(feedback) and isinstance(feedback.get("rating"), bool):
        rating, feedback = feedback["rating"], None
    if isinstance(rating, bool):
        yield Signal("thumb", 1.0 if rating else -1.0, 0)
    if is_object(feedback) and is_number(feedback.get("value")):  # Portkey: -10 to 10
        yield fields.read_rating(
            "feedback", float(feedback["value"]), {"min": -10, "max": 10}, 0, None
        )
    elif isinstance(feedback, (str, bool)):
        yield from fields.feedback(feedback, 0)
    scores = record.get("feedback_scores")
    for score in scores if is_array(scores) else ():
        if is_object(score):
            value, name = score.get("value"), find_text(score, "name")
            if is_number(value):
                yield fields.read_rating(name, float(value), score, 0, None)


def link_previous(exchanges: Sequence[Exchange]) -> list[Exchange]:
    """The calls, those that name an earlier response as their context with that context."""
    by_response: dict[str, Exchange] = {}
    linked: list[Exchange] = []
    for exchange in sorted(exchanges, key=lambda e: e.start or 0.0):
        previous = by_response.get(exchange.refs.get("previous", ""))
        refs = {name: value for name, value in exchange.refs.items() if name != "previous"}
        request = exchange.request
        if previous is not None:
            request = (*previous.request, *previous.answer, *_without_lead(exchange.request))
        linked.append(exchange._replace(request=request, refs=refs))
        if name := refs.get("response", ""):
            by_response[name] = linked[-1]
    return linked


def _without_lead(messages: Sequence[RawMessage]) -> Sequence[RawMessage]:
    """A request without its instructions, which every one repeats."""
    return [m for place, m in enumerate(messages) if place or m.role != "system"]
