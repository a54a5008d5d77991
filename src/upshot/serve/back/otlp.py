"""OTLP over HTTP as JSON: log records with the event `gen_ai.evaluation.result` of the GenAI
conventions, on the span that is judged, else by the id of the model's response.

Logs are appended, so a changed score is another event; `log.record.uid` names the score and its
verdict, by which a receiver knows a repeat.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import msgspec

from upshot.errors import ConfigError
from upshot.io.json_values import is_object
from upshot.serve.back.target import Answer, Target, read_otel_id
from upshot.serve.scores import Score

EVENT = "gen_ai.evaluation.result"
_INFO = 9
"""Severity number of the data model of logs."""
_NANOSECONDS = 1_000_000_000


def read_headers(environment: Mapping[str, str]) -> dict[str, str]:
    """Pairs `name=value` with commas, percent-encoded, as OpenTelemetry's own exporters read them.

    Raises:
        ConfigError: a pair cannot be read; no value is shown.

    >>> read_headers({"OTEL_EXPORTER_OTLP_HEADERS": "x-key=a%20b, team=c"})
    {'x-key': 'a b', 'team': 'c'}
    """
    headers: dict[str, str] = {}
    for variable in ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_LOGS_HEADERS"):
        for number, pair in enumerate(environment.get(variable, "").split(","), 1):
            name, equals, value = (part.strip() for part in pair.partition("="))
            if not name and not equals:
                continue
            if not name or not equals:
                raise ConfigError(
                    f"could not push to otlp: pair {number} of {variable} is no NAME=VALUE; write"
                    " pairs with commas between them, and %2C for a comma in a value"
                )
            headers[unquote(name)] = unquote(value)
    return headers


def _span_of(refs: Mapping[str, str]) -> tuple[str, str]:
    """The ids of the trace and the span as hexadecimal digits; both empty without a span."""
    trace = read_otel_id(refs.get("trace", ""), 16)
    span = read_otel_id(refs.get("span") or refs.get("observation", ""), 8)
    return (trace, span) if trace and span else ("", "")


def locate(refs: Mapping[str, str]) -> str:
    """The trace and span, else the id of the model's response.

    >>> locate({"trace": "4bf92f3577b34da6a3ce929d0e0e4736", "span": "00f067aa0ba902b7"})
    '4bf92f3577b34da6a3ce929d0e0e4736/00f067aa0ba902b7'
    >>> locate({"response": "chatcmpl-1"}), locate({"trace": "t1"})
    ('chatcmpl-1', '')
    """
    return "/".join(filter(None, _span_of(refs))) or refs.get("response", "")


def encode(scores: Sequence[Score]) -> bytes:
    """A request to export logs."""
    now = str(time.time_ns())
    records = [_make_record(score, now) for score in scores]
    resource = {"attributes": [_attribute("service.name", "upshot")]}
    scopes = [{"scope": {"name": "upshot"}, "logRecords": records}]
    return msgspec.json.encode({"resourceLogs": [{"resource": resource, "scopeLogs": scopes}]})


def _make_record(score: Score, now: str) -> dict[str, Any]:
    trace, span = _span_of(score.refs)
    attributes = {
        "gen_ai.evaluation.name": score.name,
        "gen_ai.evaluation.score.value": score.value,
        "gen_ai.evaluation.score.label": score.label,
        "gen_ai.evaluation.explanation": score.comment,
        "gen_ai.response.id": score.refs.get("response", ""),
        "log.record.uid": score.revision,
        "upshot.confidence": score.confidence,
        "upshot.judge": score.judge,
    }
    return {
        "timeUnixNano": str(int(score.as_of.timestamp() * _NANOSECONDS)),
        "observedTimeUnixNano": now,
        "severityNumber": _INFO,
        "severityText": "INFO",
        "eventName": EVENT,
        "attributes": [_attribute(n, v) for n, v in attributes.items() if v != ""],
        **({"traceId": trace, "spanId": span} if span else {}),
    }


def _attribute(name: str, value: str | float) -> dict[str, Any]:
    kind = "stringValue" if isinstance(value, str) else "doubleValue"
    return {"key": name, "value": {kind: value}}


def read_answer(body: Any, scores: Sequence[Score]) -> Answer:
    """All are accepted, unless the receiver rejected some: it does not say which, so none counts
    as accepted.

    Raises:
        ValueError: the body is no answer of OTLP.
    """
    if body is None:  # some receivers answer 204
        return Answer(scores)
    if not is_object(body):
        raise ValueError("an answer that is no object")
    partial = body.get("partialSuccess")
    rejected = int(partial.get("rejectedLogRecords") or 0) if is_object(partial) else 0
    if not rejected:
        return Answer(scores)
    message = str(partial.get("errorMessage") or "without a reason") if is_object(partial) else ""
    return Answer((), scores, f"{rejected} of {len(scores)} log records were rejected: {message}")


TARGET = Target(
    "otlp",
    "/v1/logs",
    ("OTEL_EXPORTER_OTLP_ENDPOINT",),
    200,  # well below the 512 of OpenTelemetry's own batches
    "a trace and a span of OpenTelemetry, or the id of the model's response",
    read_headers,
    locate,
    encode,
    read_answer,
)
