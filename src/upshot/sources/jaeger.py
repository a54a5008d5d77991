"""Jaeger's export of traces, in which OpenTelemetry's conventions are tags and logs.

`{"data": [{"traceID", "spans": […]}]}`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from upshot.io.files import Bad, Input, read_json
from upshot.io.json_values import is_array, is_number, is_object
from upshot.records import BadRecord, RawConversation
from upshot.sources import fields
from upshot.sources.detection import Fit, Sample, fit_records
from upshot.sources.otel import Span, join_spans, read_attributes
from upshot.sources.reading import describe

NAME = "jaeger"


def fit(sample: Sample) -> Fit:
    """How many of the first records hold Jaeger's spans."""
    return fit_records(sample, _explain_misfit)


def _explain_misfit(record: Any) -> str:
    traces = _traces_of(record)
    if not traces or not all(is_array(trace.get("spans")) for trace in traces):
        return "no traces with `spans`"
    spans = [span for trace in traces for span in trace["spans"][:3]]
    return "" if all(is_object(s) and "operationName" in s for s in spans) else "no operationName"


def _traces_of(record: Any) -> list[Mapping[str, Any]]:
    if is_object(record) and is_array(record.get("data")):
        return [trace for trace in record["data"] if is_object(trace)]
    return [record] if is_object(record) and "spans" in record else []


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """Conversations of all traces, joined by session."""
    spans: list[Span] = []
    for position, value in read_json(source):
        if isinstance(value, Bad):
            yield BadRecord(source.name, position, value.reason)
            continue
        for trace in _traces_of(value):
            for number, span in enumerate(trace.get("spans") or (), 1):
                try:
                    spans.append(_read_span(span))
                except Exception as error:  # noqa: BLE001 — whatever one span holds
                    yield BadRecord(source.name, f"{position}, span {number}", describe(error))
    yield from join_spans(spans, NAME, source.name)


def _read_span(record: Mapping[str, Any]) -> Span:
    start = fields.epoch(record.get("startTime"))
    duration = record.get("duration")
    end = start
    if start is not None and is_number(duration) and duration > 0:
        end = fields.epoch(start + duration / 1e6)
    references = record.get("references")
    parents = [r for r in references if is_object(r)] if is_array(references) else []
    events = [_read_log(log) for log in (record.get("logs") or ()) if is_object(log)]
    return Span(
        str(record.get("spanID") or ""),
        str(parents[0].get("spanID") or "") if parents else "",
        str(record.get("traceID") or ""),
        str(record.get("operationName") or ""),
        start,
        end,
        read_attributes(record.get("tags")),
        events,
    )


def _read_log(log: Mapping[str, Any]) -> tuple[str, Mapping[str, Any], float | None]:
    attributes = read_attributes(log.get("fields"))
    name = str(attributes.get("event") or attributes.get("name") or "")
    return name, attributes, fields.epoch(log.get("timestamp"))
