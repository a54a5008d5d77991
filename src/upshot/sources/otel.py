"""OpenTelemetry: spans and log records of models' calls by the conventions of GenAI (old and new),
OpenInference, Traceloop, Vercel's AI SDK and MLflow, in every envelope that exporters write.

A span is one call with its whole request. Conventions: `gen_ai.*` as attributes or as events of
spans and logs, old and new; OpenInference (`llm.input_messages.N.message.…`); Traceloop
(`gen_ai.prompt.N.…`); the Vercel AI SDK (`ai.prompt.messages`, `ai.response.text`); Langfuse's,
ADK's, MLflow's and Logfire's own. Traces are joined by session (`sources.request_logs`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

from upshot.io.files import Bad, Input, read_json
from upshot.io.json_values import is_array, is_number, is_object
from upshot.records import BadRecord, RawConversation, RawMessage, Signal
from upshot.records.signals import make_rating
from upshot.sources import fields
from upshot.sources.detection import Fit, Sample, fit_records
from upshot.sources.messages import read_call, read_message, to_json
from upshot.sources.notes import skip
from upshot.sources.payloads import (
    EMPTY,
    decode_nested,
    find_text,
    merge_answers,
    read_answer,
    read_request,
)
from upshot.sources.reading import describe
from upshot.sources.request_logs import Call, Exchange, TraceRoot, join_exchanges, pick_calls

NAME = "otel"
_ENVELOPES = ("resourceSpans", "resource_spans", "scopeSpans", "scope_spans", "batches")
_LOGS = ("resourceLogs", "resource_logs", "scopeLogs", "scope_logs")
_SCOPES = (
    "scopeSpans",
    "scope_spans",
    "instrumentationLibrarySpans",
    "instrumentation_library_spans",
    "scopeLogs",
    "scope_logs",
)
_SIGNS = re.compile(
    r"^(?:attributes\.)?(?:gen_ai\.|llm\.(?:input_messages|output_messages|prompts|completions"
    r"|model_name|system)|ai\.(?:prompt|response|operationId|model)|openinference\."
    r"|traceloop\.|langfuse\.|mlflow\.|gcp\.vertex\.agent\.|input\.value$|output\.value$)"
)
"""Names of attributes that conventions for models' calls use."""
_REQUESTS = (
    "gen_ai.input.messages",
    "gen_ai.prompt",
    "ai.prompt.messages",
    "ai.prompt",
    "gcp.vertex.agent.llm_request",
    "langfuse.observation.input",
    "mlflow.spanInputs",
    "request_data",
)
_ANSWERS = (
    "gen_ai.output.messages",
    "gen_ai.completion",
    "gcp.vertex.agent.llm_response",
    "langfuse.observation.output",
    "mlflow.spanOutputs",
    "response_data",
)
_NUMBERED_REQUESTS = ("gen_ai.prompt", "llm.input_messages", "llm.prompts", "gen_ai.input.messages")
_NUMBERED_ANSWERS = (
    "gen_ai.completion",
    "llm.output_messages",
    "llm.completions",
    "gen_ai.output.messages",
)
_ROOT_PROMPTS = (
    "langfuse.trace.input",
    "ai.prompt",
    "traceloop.entity.input",
    "input.value",
    "langfuse.observation.input",
    "mlflow.spanInputs",
    "gen_ai.input.messages",
)
_ROOT_ANSWERS = (
    "langfuse.trace.output",
    "ai.response.text",
    "traceloop.entity.output",
    "output.value",
    "langfuse.observation.output",
    "mlflow.spanOutputs",
    "gen_ai.output.messages",
)
_KEYS = ("session_id", "sessionId", "thread_id", "threadId", "conversation_id", "conversationId")
_SESSIONS = (
    "gen_ai.conversation.id",
    "session.id",
    "langfuse.session.id",
    "gcp.vertex.agent.session_id",
    "mlflow.trace.session",
    "langsmith.trace.session_id",
    *(f"traceloop.association.properties.{name}" for name in (*_KEYS, "chat_id")),
    *(f"ai.telemetry.metadata.{name}" for name in (*_KEYS, "chatId")),
    *(f"langfuse.trace.metadata.{name}" for name in _KEYS),
    "thread.id",
    *_KEYS[:2],
)
_USERS = (
    "user.id",
    "enduser.id",
    "langfuse.user.id",
    "mlflow.trace.user",
    "gen_ai.user.id",
    "gen_ai.request.user",
    "traceloop.association.properties.user_id",
    "traceloop.association.properties.userId",
    "ai.telemetry.metadata.userId",
    "ai.telemetry.metadata.user_id",
)
_MODELS = (
    "gen_ai.response.model",
    "ai.response.model",
    "llm.model_name",
    "gen_ai.request.model",
    "ai.model.id",
    "llm.request.model",
    "langfuse.observation.model.name",
)
_WHOLE = frozenset((*_REQUESTS, *_ANSWERS, *_ROOT_PROMPTS, *_ROOT_ANSWERS, "metadata"))
"""Attributes that hold an object, where others are nested by their names."""
_TOOL_KINDS = frozenset({"TOOL", "tool", "execute_tool", "ai.toolCall", "RETRIEVER"})
_CALL_KINDS = frozenset({"LLM", "llm", "CHAT_MODEL", "GENERATION", "generation", "chat"})
_NOT_CALLS = re.compile(r"(?i)embed|rerank|retriev|^guardrail|evaluat")
_EVENT = re.compile(r"gen_ai\.(system|user|assistant|tool|developer)\.message")
_SPANS_OF_PEOPLE = re.compile(r"(?i)user|human|feedback|thumb|csat|customer|annotat")
_PARTS = re.compile(r"^\s*\[\s*\{")


class Span(NamedTuple):
    """A span, or the log records of one, in one shape."""

    id: str
    parent: str
    trace: str
    name: str
    start: float | None
    end: float | None
    attributes: Mapping[str, Any]
    events: Sequence[tuple[str, Mapping[str, Any], float | None]]
    """(name, attributes, time)."""


def fit(sample: Sample) -> Fit:
    """How many of the first records are spans or log records of models' calls."""
    return fit_records(sample, explain_misfit)


def explain_misfit(record: Any) -> str:
    """What a record lacks to be one of OpenTelemetry; empty where it is one."""
    if not is_object(record):
        return "not an object"
    if any(is_array(record.get(name)) for name in (*_ENVELOPES, *_LOGS)):
        return ""
    if is_object(record.get("trace")) and any(n in record["trace"] for n in _ENVELOPES):
        return ""
    if (spans := _trace_of(record)) is not None:
        return "" if spans and not explain_misfit(spans[0]) else "no spans of a model's call"
    if is_array(record.get("data")) and record["data"]:
        return "" if all(not explain_misfit(item) for item in record["data"][:3]) else "no spans"
    event = str(record.get("eventName") or record.get("event_name") or "")
    if event.startswith("gen_ai.") and ("body" in record or "attributes" in record):
        return ""
    attributes = _attributes_of(record)
    is_span = any(
        name in record
        for name in (
            "spanContext",
            "context",
            "traceId",
            "trace_id",
            "span_id",
            "spanId",
            "parent_span_id",
            "TraceId",
            "id",
        )
    )
    if is_span and is_object(attributes) and not any(n in record for n in ("messages", "mapping")):
        if any(_SIGNS.match(name) for name in flatten(attributes)):
            return ""
        if str(attributes.get("event.name")).startswith("gen_ai."):
            return ""
        return "" if "spanContext" in record or is_object(record.get("context")) else "no gen_ai"
    if is_span and is_array(attributes) and ("spanId" in record or "span_id" in record):
        return ""
    if sum(_SIGNS.match(name) is not None for name in record) >= 2:
        return ""
    return "no `resourceSpans`, and no attributes of a model's call"


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """Conversations, sessions in the order in which they began in the file."""
    spans: list[Span] = []
    for position, value in read_json(source):
        if isinstance(value, Bad) or not (is_object(value) or is_array(value)):
            reason = value.reason if isinstance(value, Bad) else "not an object"
            yield BadRecord(source.name, position, reason)
            continue
        for number, item in enumerate(_unpack(value), 1):
            try:
                spans.append(_read_span(item, f"{position}.{number}"))
            except Exception as error:  # noqa: BLE001 — whatever one span holds
                yield BadRecord(source.name, f"{position}, span {number}", describe(error))
    yield from join_spans(spans, NAME, source.name)


def join_spans(
    spans: Iterable[Span], source: str, file: str
) -> Iterator[RawConversation | BadRecord]:
    """The conversations that spans of calls make."""
    traces: dict[str, list[Span]] = {}
    for span in _join_events(spans):
        traces.setdefault(span.trace or f"\0{len(traces)}", []).append(span)
    exchanges: list[Exchange] = []
    roots: dict[str, TraceRoot] = {}
    for name, members in traces.items():
        calls: list[Call] = []
        session, user = _find_owner(members)
        for span in members:
            try:
                calls.append(_read_call_of(span, session, user))
            except Exception as error:  # noqa: BLE001 — whatever one span holds
                yield BadRecord(file, f"span {span.id or span.name}", describe(error))
        picked = pick_calls(calls)
        exchanges += picked
        if not name.startswith("\0"):
            roots[name] = _read_root(members, bool(picked))._replace(session=session, user=user)
    yield from join_exchanges(exchanges, source, roots)


def _unpack(value: Any) -> Iterator[Mapping[str, Any]]:
    """The spans and log records of an envelope."""
    if is_array(value):
        for item in value:
            yield from _unpack(item)
        return
    if not is_object(value):
        return
    trace = value.get("trace")
    inner = trace if is_object(trace) else value
    if is_array(spans := value.get("data")) or (spans := _trace_of(value)) is not None:
        yield from _unpack(spans)
        return
    for name in (*_ENVELOPES, *_LOGS):
        if is_array(inner.get(name)):
            for resource in inner[name]:
                yield from _unpack_resource(resource)
            return
    yield inner


def _trace_of(value: Mapping[str, Any]) -> list[Any] | None:
    """The spans of a trace as MLflow exports it: `{"info", "data": {"spans"}}`."""
    data = value.get("data")
    spans = data.get("spans") if is_object(data) else None
    return spans if is_array(spans) and "info" in value else None


def _unpack_resource(resource: Any) -> Iterator[Mapping[str, Any]]:
    if not is_object(resource):
        return
    scopes = [scope for name in _SCOPES for scope in _items_of(resource.get(name))]
    for scope in scopes or [resource]:
        for name in ("spans", "logRecords", "log_records"):
            yield from (item for item in _items_of(scope.get(name)) if is_object(item))


def _items_of(value: Any) -> list[Any]:
    return [item for item in value if is_object(item)] if is_array(value) else []


def _read_span(record: Mapping[str, Any], place: str) -> Span:
    names = ("spanContext", "context")
    context = next((record[n] for n in names if is_object(record.get(n))), EMPTY)
    attributes = read_attributes(_attributes_of(record))
    if not attributes:
        attributes = {
            name.removeprefix("attributes."): value
            for name, value in record.items()
            if _SIGNS.match(name) or name.startswith(("attributes.", "session.", "user."))
        }
    parent = record.get("parentSpanContext")
    start = _first_time(
        record,
        ("startTimeUnixNano", "start_time_unix_nano", "startTime", "start_time", "timeUnixNano"),
        ("time_unix_nano", "timestamp", "Timestamp", "observedTimeUnixNano"),
    )
    end = _first_time(record, ("endTimeUnixNano", "end_time_unix_nano", "endTime", "end_time"), ())
    events = [
        (
            str(event.get("name") or ""),
            read_attributes(event.get("attributes")),
            _first_time(event, ("timeUnixNano", "time_unix_nano", "timestamp", "time"), ()),
        )
        for event in _items_of(record.get("events"))
    ]
    name = str(record.get("name") or record.get("spanName") or record.get("SpanName") or "")
    event_name = str(
        record.get("eventName") or record.get("event_name") or attributes.get("event.name") or ""
    )
    if event_name:
        body = _unwrap_value(record.get("body"))
        body = decode_nested(body)
        words = dict(body) if is_object(body) else {"content": body} if body is not None else {}
        events.append((event_name, {**attributes, **words}, start))
        end = end or start
    return Span(
        find_text(record, "spanId", "span_id", "context.span_id", "SpanId", "trace.span_id")
        or find_text(context, "spanId", "span_id")
        or (find_text(record, "id") if "traceId" in record or "trace_id" in record else "")
        or f"\0{place}",
        find_text(
            record,
            "parentSpanId",
            "parent_span_id",
            "parent_id",
            "parentId",
            "ParentSpanId",
            "trace.parent_id",
        )
        or find_text(parent, "spanId"),
        find_text(record, "traceId", "trace_id", "context.trace_id", "TraceId", "trace.trace_id")
        or find_text(context, "traceId", "trace_id"),
        name,
        start,
        end,
        attributes,
        events,
    )


def _attributes_of(record: Mapping[str, Any]) -> Any:
    """The attributes, as exporters, Zipkin and ClickHouse name them."""
    names = ("attributes", "tags", "SpanAttributes", "span_attributes", "spanAttributes")
    return next((record[n] for n in names if record.get(n)), None)


def _first_time(
    record: Mapping[str, Any], names: Sequence[str], others: Sequence[str]
) -> float | None:
    name = next((n for n in (*names, *others) if record.get(n) not in (None, "", 0)), "")
    value = record.get(name)
    if is_array(value):  # [seconds, nanoseconds]
        is_pair = len(value) == 2 and all(map(is_number, value))
        return fields.epoch(value[0] + value[1] / 1e9) if is_pair else None
    if name.lower().replace("_", "").endswith("unixnano"):
        try:
            return fields.epoch(int(str(value)) / 1e9)
        except ValueError:
            pass
    return fields.epoch(value)


def read_attributes(items: Any) -> dict[str, Any]:
    """Attributes by name: of OTLP's list, of a list of tags, or of an object.

    >>> read_attributes([{"key": "a", "value": {"stringValue": "b"}}]), read_attributes({"a": 1})
    ({'a': 'b'}, {'a': 1})
    """
    if is_object(items):
        return flatten({name: _unwrap_value(value) for name, value in items.items()})
    return {
        str(item["key"]): _unwrap_value(item.get("value"))
        for item in _items_of(items)
        if "key" in item
    }


_WRAPPERS = frozenset(
    {
        "stringValue",
        "intValue",
        "boolValue",
        "doubleValue",
        "bytesValue",
        "string_value",
        "int_value",
        "bool_value",
        "double_value",
    }
)


def _unwrap_value(value: Any) -> Any:
    """The value inside OTLP's wrapper."""
    if not is_object(value) or len(value) != 1:
        return value
    name, inner = next(iter(value.items()))
    if name in ("arrayValue", "array_value"):
        items = inner.get("values") if is_object(inner) else None
        return [_unwrap_value(item) for item in items] if is_array(items) else []
    if name in ("kvlistValue", "kvlist_value"):
        return read_attributes(inner.get("values")) if is_object(inner) else {}
    return inner if name in _WRAPPERS else value


def flatten(attributes: Mapping[str, Any], prefix: str = "", depth: int = 0) -> dict[str, Any]:
    """Attributes that are nested by name, as Phoenix gives them, with names that have dots.

    >>> flatten({"llm": {"model_name": "m"}, "session.id": "s"})
    {'llm.model_name': 'm', 'session.id': 's'}
    """
    flat: dict[str, Any] = {}
    for name, value in attributes.items():
        full = f"{prefix}{name}"
        if is_object(value) and value and depth < 4 and full not in _WHOLE:
            flat.update(flatten(value, f"{full}.", depth + 1))
        else:
            flat[full] = value
    return flat


def _join_events(spans: Iterable[Span]) -> list[Span]:
    """The spans, each with the log records that name it; log records alone make spans."""
    by_id: dict[tuple[str, str], Span] = {}
    for span in spans:
        key = (span.trace, span.id)
        old = by_id.get(key)
        if old is None:
            by_id[key] = span
        else:
            base, other = (old, span) if old.name or not span.name else (span, old)
            by_id[key] = base._replace(
                attributes={**other.attributes, **base.attributes},
                events=[*old.events, *span.events],
                start=min((t for t in (old.start, span.start) if t is not None), default=None),
                end=max((t for t in (old.end, span.end) if t is not None), default=None),
            )
    return list(by_id.values())


def _find_owner(spans: Sequence[Span]) -> tuple[str, str]:
    """The session and the user that any span of a trace names."""
    session = user = ""
    for span in spans:
        for attributes in (span.attributes, *(attributes for _, attributes, _ in span.events)):
            metadata = attributes.get("metadata")
            extra = decode_nested(metadata) if isinstance(metadata, str) else metadata
            session = session or _attribute(attributes, _SESSIONS) or find_text(extra, *_KEYS)
            user = user or _attribute(attributes, _USERS) or find_text(extra, "user_id", "userId")
    return session, user


def _attribute(attributes: Mapping[str, Any], names: Sequence[str]) -> str:
    return next(
        (
            str(attributes[n])
            for n in names
            if isinstance(attributes.get(n), (str, int)) and str(attributes[n])
        ),
        "",
    )


def _kind_of(span: Span) -> str:
    return _attribute(
        span.attributes,
        (
            "openinference.span.kind",
            "traceloop.span.kind",
            "gen_ai.operation.name",
            "langfuse.observation.type",
            "mlflow.spanType",
            "ai.operationId",
            "span_kind",
        ),
    ).strip('"')


def _read_call_of(span: Span, session: str, user: str) -> Call:
    """A span, with the call of a model that it records."""
    kind = _kind_of(span)
    is_tool = kind in _TOOL_KINDS or "gen_ai.tool.call.id" in span.attributes
    scores = tuple(_read_scores(span))
    request: list[RawMessage] = []
    answer: list[RawMessage] = []
    plain = False
    if not is_tool and not _NOT_CALLS.search(kind):
        request, plain = _read_request_of(span, kind)
        answer = _read_answer_of(span, kind)
    if not request and not answer and not scores:
        skip(NAME, f"spans without messages ({kind or span.name or 'no kind'})")
        return Call(span.id, span.parent, None, is_tool)
    exchange = Exchange(
        tuple(request),
        tuple(answer),
        session,
        span.trace,
        user,
        span.start,
        span.end,
        _attribute(span.attributes, _MODELS),
        {} if span.id.startswith("\0") else {"span": span.id},
        scores,
    )
    return Call(span.id, span.parent, exchange, is_tool, plain)


def _read_request_of(span: Span, kind: str) -> tuple[list[RawMessage], bool]:
    """The request of a call, and whether it is only a text."""
    attributes = span.attributes
    for name in _NUMBERED_REQUESTS:
        if (items := _gather(attributes, name)) and (messages := _read_items(items, "user")):
            return _with_system(attributes, messages), False
    messages, plain = _read_events_of(span, answers=False)
    if messages:
        return _with_system(attributes, messages), plain
    for name in _REQUESTS:
        value = attributes.get(name)
        if value and (messages := _read_structured(value)):
            return _with_system(attributes, messages), _is_text(value)
    if kind in _CALL_KINDS and (value := attributes.get("input.value")):
        return _with_system(attributes, _read_structured(value)), _is_text(value)
    return [], False


def _is_text(value: Any) -> bool:
    return isinstance(decode_nested(value), str)


def _read_structured(value: Any) -> list[RawMessage]:
    value = decode_nested(value)
    if is_array(value):
        value = [_nest(item) if is_object(item) else item for item in value]
        return _read_items(value, "user")
    return read_request(value)


def _with_system(attributes: Mapping[str, Any], messages: list[RawMessage]) -> list[RawMessage]:
    value = attributes.get("gen_ai.system_instructions") or attributes.get(
        "llm.system_instructions"
    )
    if not value or any(message.role == "system" for message in messages[:1]):
        return messages
    value = decode_nested(value)
    return [*read_message({"role": "system", "content": value}), *messages]


def _read_answer_of(span: Span, kind: str) -> list[RawMessage]:
    attributes = span.attributes
    for name in _NUMBERED_ANSWERS:
        if items := _gather(attributes, name):
            if len(items) > 1 and all(is_object(i) and "finish_reason" in i for i in items):
                skip(NAME, "further choices", len(items) - 1)
                items = items[:1]
            if messages := merge_answers(_read_items(items, "assistant")):
                return messages
    messages, _ = _read_events_of(span, answers=True)
    if messages:
        return merge_answers(messages)
    if messages := _read_vercel_answer(attributes):
        return messages
    for name in _ANSWERS:
        value = decode_nested(attributes.get(name))
        if is_array(value):
            value = [_nest(item) if is_object(item) else item for item in value]
            if messages := merge_answers(_read_items(value, "assistant")):
                return messages
        elif value and (messages := read_answer(value)):
            return messages
    if kind in _CALL_KINDS and (value := attributes.get("output.value")):
        return read_answer(value)
    return []


def _read_vercel_answer(attributes: Mapping[str, Any]) -> list[RawMessage]:
    text = attributes.get("ai.response.text", attributes.get("ai.result.text"))
    if not text:
        text = attributes.get("ai.response.object", attributes.get("ai.result.object"))
    calls = decode_nested(
        attributes.get("ai.response.toolCalls", attributes.get("ai.result.toolCalls"))
    )
    entries = tuple(read_call(call) for call in _items_of(calls))
    words = text if isinstance(text, str) else to_json(text) if text else ""
    return [RawMessage("assistant", words, tool_calls=entries)] if words or entries else []


def _gather(attributes: Mapping[str, Any], name: str) -> list[Any]:
    """What stands under numbered names (`NAME.0.role`), or under the name as a list."""
    listed = attributes.get(name)
    if is_array(listed):
        return [_nest(item) if is_object(item) else item for item in listed]
    start = f"{name}."
    rest = {k[len(start) :]: v for k, v in attributes.items() if k.startswith(start)}
    numbered = {k: v for k, v in rest.items() if k.partition(".")[0].isdigit()}
    if not numbered:
        return []
    nested = _nest(numbered)
    return nested if is_array(nested) else [nested[key] for key in sorted(nested, key=_number_of)]


def _number_of(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _nest(flat: Mapping[str, Any]) -> Any:
    """Names with dots as objects in objects; numbered ones as lists."""
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        inner: Any = _nest(value) if is_object(value) else value
        if is_array(inner):
            inner = [_nest(item) if is_object(item) else item for item in inner]
        *path, last = name.split(".")
        place = nested
        for part in path:
            step: Any = place.get(part)
            if not isinstance(step, dict):
                step = place[part] = dict[str, Any]()
            place = cast(dict[str, Any], step)
        place[last] = inner
    return _number(nested)


def _number(value: Any) -> Any:
    if not is_object(value):
        return value
    named = {name: _number(inner) for name, inner in value.items()}
    if named and all(name.isdigit() for name in named):
        return [named[name] for name in sorted(named, key=int)]
    return named


def _read_items(items: Sequence[Any], role: str) -> list[RawMessage]:
    """Messages of any convention."""
    messages: list[Any] = []
    for item in items:
        if not is_object(item):
            messages.append(item)
            continue
        inner = item.get("message")
        message = dict(inner) if is_object(inner) else dict(item)
        for name in ("prompt", "completion"):
            if is_object(message.get(name)):
                message = dict(message[name])
        message.setdefault("role", role)
        contents = message.pop("contents", None)
        if is_array(contents) and not message.get("content"):
            message["content"] = [
                part.get("message_content", part) if is_object(part) else part for part in contents
            ]
        content = message.get("content", message.get("text"))
        if isinstance(content, str) and _PARTS.match(content):
            decoded = decode_nested(content)
            if message["role"] != "tool" and _are_parts(decoded):
                content = decoded
        message["content"] = content if content is not None else message.get("parts")
        calls = decode_nested(message.get("tool_calls"))
        if is_array(calls):
            message["tool_calls"] = [
                call.get("tool_call", call) if is_object(call) else call for call in calls
            ]
        messages.append(message)
    return read_request(messages) if role == "user" else _read_answers(messages)


def _read_answers(items: Sequence[Any]) -> list[RawMessage]:
    answers: list[RawMessage] = []
    for item in items:
        if not is_object(item) or item.get("role") == "assistant":
            answers += read_answer(item)
        else:
            answers += read_request([item])
    return answers


def _are_parts(value: Any) -> bool:
    return (
        is_array(value)
        and bool(value)
        and all(
            is_object(p) and any(n in p for n in ("type", "text", "toolUse", "toolResult"))
            for p in value
        )
    )


def _read_events_of(span: Span, *, answers: bool) -> tuple[list[RawMessage], bool]:
    """The messages of a span's events; whether they are only a text."""
    items: list[dict[str, Any]] = []
    listed = decode_nested(
        span.attributes.get("events") or span.attributes.get("all_messages_events")
    )
    pairs = [
        *((name, attributes) for name, attributes, _ in span.events),
        *((str(event.get("event.name") or ""), event) for event in _items_of(listed)),
    ]
    for name, attributes in pairs:
        match = _EVENT.fullmatch(name)
        if match and not answers:
            items.append({"role": match.group(1), **_words_of(attributes)})
        elif name == "gen_ai.choice" and answers:
            inner = decode_nested(attributes.get("message"))
            message = dict(inner) if is_object(inner) else {"content": inner or None}
            for field in ("content", "tool_calls"):
                if message.get(field) is None and attributes.get(field) is not None:
                    message[field] = attributes[field]
            for field in ("content", "tool_calls"):  # written as `message.content`
                if message.get(field) is None and f"message.{field}" in attributes:
                    message[field] = attributes[f"message.{field}"]
            items.append({**_words_of(message), "role": "assistant"})
    if items:
        if answers and len(items) > 1:
            skip(NAME, "further choices", len(items) - 1)
            items = items[:1]
        return _read_items(items, "assistant" if answers else "user"), False
    for name, attributes in pairs:
        key = "gen_ai.completion" if answers else "gen_ai.prompt"
        if name in ("gen_ai.content.prompt", "gen_ai.content.completion"):
            if name.endswith("completion") is answers:
                value = attributes.get(key, attributes.get("gen_ai.event.content"))
                messages = read_answer(value) if answers else read_request(value)
                return messages, _is_text(value)
        elif name == "gen_ai.client.inference.operation.details":
            value = attributes.get(f"gen_ai.{'output' if answers else 'input'}.messages")
            value = decode_nested(value)
            if is_array(value):
                messages = _read_items(value, "assistant" if answers else "user")
                return (messages if answers else _with_system(attributes, messages)), False
    return [], False


def _words_of(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What an event's attributes say of its message."""
    names = ("role", "content", "parts", "tool_calls", "name", "id", "tool_call_id")
    words = {n: attributes[n] for n in names if attributes.get(n) not in (None, "")}
    if "id" in words and (words.get("role") == "tool" or "tool_call_id" not in words):
        words["tool_call_id"] = words.pop("id")
    return words


def _read_root(spans: Sequence[Span], has_calls: bool) -> TraceRoot:
    """What the outermost span says of its trace."""
    ids = {span.id for span in spans}
    tops = [span for span in spans if not span.parent or span.parent not in ids]
    if len(tops) > 1:  # calls side by side are no root
        parents = {span.parent for span in spans}
        tops = [span for span in tops if span.id in parents]
        if not tops:
            return TraceRoot()
    top = min(tops or spans, key=lambda span: span.start or 0.0)
    if not has_calls and not any(_SIGNS.match(name) for name in top.attributes):
        return TraceRoot()
    prompt: list[RawMessage] = []
    answer: list[RawMessage] = []
    for name in _ROOT_PROMPTS:
        if top.attributes.get(name) and (prompt := _read_structured(top.attributes[name])):
            break
    for name in _ROOT_ANSWERS:
        if top.attributes.get(name) and (answer := read_answer(top.attributes[name])):
            break
    if not has_calls and (_NOT_CALLS.search(_kind_of(top)) or _kind_of(top) in _TOOL_KINDS):
        return TraceRoot()
    if not has_calls and not (prompt and answer):
        prompt, answer = [], []
    return TraceRoot(tuple(prompt), tuple(answer), start=top.start, end=top.end)


def _read_scores(span: Span) -> Iterator[Signal]:
    """What people and judges said of a call.

    The convention's scores (`gen_ai.evaluation.result`) run from 0 to 1; those that are not named
    as a person's, and those outside that range, are kept as comments.
    """
    for name, attributes, time in span.events:
        if name not in ("gen_ai.evaluation.result", "gen_ai.user.feedback"):
            continue
        value = attributes.get("gen_ai.evaluation.score.value")
        label = str(attributes.get("gen_ai.evaluation.score.label") or "")
        title = str(attributes.get("gen_ai.evaluation.name") or "")
        by_person = name == "gen_ai.user.feedback" or _SPANS_OF_PEOPLE.search(title) is not None
        if by_person and is_number(value) and 0.0 <= value <= 1.0:
            yield make_rating(float(value), 0.0, 1.0, 0, detail=title, time=time)
        elif by_person and label:
            yield from fields.feedback(label, 0)
        elif value is not None or label:
            yield Signal("comment", 0.0, 0, f"{title or 'score'} {label or value}", time)
