"""Langfuse: traces with observations and scores, rows of observations, traces and scores (CSV, blob
storage), sessions, and the batches that its SDKs post.

Generations of one trace are its calls (`sources.request_logs`); traces of one session are one
conversation. A score lands on the response of its observation, else of its trace or session.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from upshot.errors import RecordError
from upshot.io.files import Bad, Input
from upshot.io.json_values import is_array, is_number, is_object
from upshot.records import BadRecord, RawConversation, RawMessage, Signal
from upshot.sources import fields
from upshot.sources.detection import Fit, Sample, fit_records
from upshot.sources.notes import skip
from upshot.sources.payloads import decode_nested, find_text, read_answer, read_request
from upshot.sources.reading import describe
from upshot.sources.request_logs import Call, Exchange, TraceRoot, join_exchanges, pick_calls
from upshot.sources.rows import read_header, read_rows

NAME = "langfuse"
_KINDS = frozenset(
    {
        "GENERATION",
        "SPAN",
        "EVENT",
        "TOOL",
        "AGENT",
        "CHAIN",
        "RETRIEVER",
        "EVALUATOR",
        "EMBEDDING",
        "GUARDRAIL",
    }
)
"""Types of observations, as Langfuse's server names them."""
_OWN = ("projectId", "htmlPath", "bookmarked", "observations", "scores", "latency", "release")
_THREADS = ("thread_id", "threadId", "session_id", "sessionId", "conversation_id")
_THUMB = re.compile(r"(?i)^$|thumb|feedback|helpful|like|vote|correct|accept")
"""Names of scores that are 0 or 1; a score without a name is one too."""
_THUMBS = frozenset({-1.0, 0.0, 1.0})
_BATCH_KINDS = ("trace", "generation", "span", "event", "score", "observation", "agent", "tool")


def fit(sample: Sample) -> Fit:
    """How many of the first records are Langfuse's."""
    if not sample.records:
        header = {_camel(name) for name in read_header(sample.head)}
        own = header & {"traceId", "sessionId", "userId", "htmlPath", "bookmarked", "projectId"}
        return Fit(int({"input", "output"} <= header and bool(own)), 1, "no columns of Langfuse")
    return fit_records(sample, _explain_misfit)


def _explain_misfit(record: Any) -> str:
    if not is_object(record):
        return "not an object"
    if is_array(record.get("batch")):
        kinds = [str(e.get("type")) for e in record["batch"] if is_object(e)]
        return "" if kinds and kinds[0].partition("-")[0] in _BATCH_KINDS else "no batch of events"
    if is_array(record.get("data")) and record["data"]:
        return _explain_misfit(record["data"][0])
    if is_array(record.get("traces")) and record["traces"]:
        return _explain_misfit(record["traces"][0])
    if is_object(record.get("trace")) and is_array(record.get("observations")):
        return ""
    if any(name in record for name in ("run_type", "resourceSpans", "spans", "spanContext")):
        return "another tool's run"
    names = {_camel(name) for name in record}
    if is_array(record.get("observations")) and names & {"input", "output", "scores", "sessionId"}:
        return ""
    if "traceId" in names and (
        str(record.get("type")).upper() in _KINDS
        or names & {"parentObservationId", "observationId"}
        or {"dataType", "name"} <= names
    ):
        return ""
    if {"input", "output"} <= names and names & {"projectId", "htmlPath", "bookmarked"}:
        return ""
    if {"input", "output", "sessionId", "timestamp"} <= names:
        return ""
    return "no `observations`, and no row of a trace"


def _camel(name: str) -> str:
    """`trace_id` as `traceId`: exports to blob storage have the one, the interface the other."""
    first, *rest = name.strip().split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """Conversations by session, else by trace."""
    store = _Store()
    for position, value in read_rows(source):
        if isinstance(value, Bad):
            yield BadRecord(source.name, position, value.reason)
            continue
        try:
            store.add(value)
        except Exception as error:  # noqa: BLE001 — whatever one record holds
            yield BadRecord(source.name, position, describe(error))
    yield from store.read(source.name)


class _Store:
    """What a file says of its traces."""

    def __init__(self) -> None:
        self.traces: dict[str, dict[str, Any]] = {}
        self.observations: dict[str, dict[str, dict[str, Any]]] = {}
        self.scores: list[Mapping[str, Any]] = []

    def add(self, value: Any, session: str = "") -> None:
        """Take a trace, a row, a list of them or a batch in.

        Raises:
            RecordError: it is none of these.
        """
        if is_array(value):
            for item in value:
                self.add(item, session)
            return
        if not is_object(value):
            raise RecordError("needs an object")
        if is_array(value.get("data")):
            self.add(value["data"])
        elif is_array(value.get("batch")):
            self._add_batch(value["batch"])
        elif is_array(value.get("traces")):
            self.add(value["traces"], find_text(value, "id"))
        elif is_object(value.get("trace")):
            self._add_row({**value["trace"], "observations": value.get("observations")}, session)
        else:
            self._add_row(value, session)

    def _add_batch(self, events: list[Any]) -> None:
        bodies = [
            (str(event.get("type")), event["body"])
            for event in events
            if is_object(event) and is_object(event.get("body"))
        ]
        traces = [find_text(body, "id") for kind, body in bodies if kind.startswith("trace")]
        for kind, body in bodies:
            name = kind.partition("-")[0]
            row = dict(body)
            if name == "trace":
                self._add_trace(row, "")
                continue
            row.setdefault("traceId", traces[0] if len(traces) == 1 else "")
            if name == "score":
                self.scores.append(row)
            else:
                row.setdefault("type", name.upper())
                self._add_observation(row)

    def _add_row(self, value: Mapping[str, Any], session: str) -> None:
        row = {_camel(name): inner for name, inner in value.items()}
        if "providedModelName" in row:
            row.setdefault("model", row["providedModelName"])
        if "traceId" not in row:
            self._add_trace(row, session)
        elif "type" in row or "startTime" in row or "parentObservationId" in row:
            self._add_observation(row)
        elif "value" in row or "stringValue" in row:
            self.scores.append(row)
        else:
            raise RecordError("a row that is no trace, observation or score")

    def _add_trace(self, row: dict[str, Any], session: str) -> None:
        name = find_text(row, "id")
        if not name:
            raise RecordError("needs a trace with an `id`")
        if session:
            row.setdefault("sessionId", session)
        for item in _objects_of(row.pop("observations", None)):
            inner = {_camel(key): content for key, content in item.items()}
            self._add_observation({**inner, "traceId": name})
        for score in _objects_of(row.pop("scores", None)):
            self.scores.append({"traceId": name, **score})
        old = self.traces.setdefault(name, {})
        old.update({key: content for key, content in row.items() if content is not None})

    def _add_observation(self, row: dict[str, Any]) -> None:
        trace = find_text(row, "traceId")
        inside = self.observations.setdefault(trace, {})
        old = inside.setdefault(find_text(row, "id") or f"\0{len(inside)}", {})
        old.update({key: content for key, content in row.items() if content is not None})

    def read(self, file: str) -> Iterator[RawConversation | BadRecord]:
        """The conversations of everything that was taken in."""
        signals = _read_scores(self.scores)
        exchanges: list[Exchange] = []
        roots: dict[str, TraceRoot] = {}
        for name in dict.fromkeys([*self.traces, *self.observations]):
            rows = list(self.observations.get(name, {}).values())
            trace = self.traces.get(name, {})
            try:
                root = _read_root(trace, rows, signals.get(("trace", name), ()))
            except Exception as error:  # noqa: BLE001 — whatever one trace holds
                yield BadRecord(file, f"trace {name}", describe(error))
                continue
            calls: list[Call] = []
            for row in rows:
                try:
                    calls.append(_read_call(row, root, signals))
                except Exception as error:  # noqa: BLE001 — whatever one observation holds
                    yield BadRecord(file, f"observation {row.get('id')}", describe(error))
            picked = pick_calls(calls)
            exchanges += picked if name else [call._replace(trace="") for call in picked]
            if name:
                roots[name] = root
            if not picked and not (root.prompt or root.answer):
                skip(NAME, "traces without messages")
        for conversation in join_exchanges(exchanges, NAME, roots):
            yield _add_session_scores(conversation, signals)


def _objects_of(value: Any) -> list[Mapping[str, Any]]:
    value = decode_nested(value)
    return [item for item in value if is_object(item)] if is_array(value) else []


def _read_root(
    trace: Mapping[str, Any], rows: list[dict[str, Any]], signals: tuple[Signal, ...]
) -> TraceRoot:
    """What the person gave and got, before the application's templates."""
    ids = {row.get("id") for row in rows}
    tops = [
        row
        for row in rows
        if row.get("parentObservationId") not in ids and row.get("type") != "GENERATION"
    ]
    holders = [trace, *sorted(tops, key=lambda row: str(row.get("startTime") or ""))]
    prompts = (_read_text(holder.get("input"), read_request) for holder in holders)
    answers = (_read_text(holder.get("output"), read_answer) for holder in holders)
    prompt = next((messages for messages in prompts if messages), list[RawMessage]())
    answer = next((messages for messages in answers if messages), list[RawMessage]())
    metadata = {
        name: trace[name] for name in ("name", "tags", "release", "version") if trace.get(name)
    }
    owners = [trace, *rows]
    return TraceRoot(
        tuple(prompt),
        tuple(answer),
        signals,
        next((s for owner in owners if (s := find_text(owner, "sessionId"))), "")
        or next((s for owner in owners if (s := _find_in_metadata(owner, _THREADS))), ""),
        next((u for owner in owners if (u := find_text(owner, "userId"))), "")
        or next((u for owner in owners if (u := _find_in_metadata(owner, ("user_id",)))), ""),
        fields.epoch(trace.get("timestamp")) or _earliest(rows),
        None,
        metadata,
    )


def _read_text(value: Any, reader: Any) -> list[RawMessage]:
    try:
        return reader(value)
    except RecordError:
        return []


def _earliest(rows: list[dict[str, Any]]) -> float | None:
    times = [time for row in rows if (time := fields.epoch(row.get("startTime"))) is not None]
    return min(times, default=None)


def _find_in_metadata(record: Mapping[str, Any], names: tuple[str, ...]) -> str:
    metadata = decode_nested(record.get("metadata"))
    attributes = metadata.get("attributes") if is_object(metadata) else None
    return find_text(metadata, *(f"langfuse_{name}" for name in names), *names) or find_text(
        attributes, "session.id" if "session_id" in names else "user.id"
    )


def _read_call(
    row: Mapping[str, Any], root: TraceRoot, signals: Mapping[tuple[str, str], tuple[Signal, ...]]
) -> Call:
    name, parent = find_text(row, "id"), find_text(row, "parentObservationId")
    kind = str(row.get("type") or "GENERATION").upper()
    if kind != "GENERATION":
        skip(NAME, f"observations of type {kind}")
        return Call(name, parent, None, kind == "TOOL")
    request = read_request(row.get("input"))
    answer = read_answer(row.get("output"))
    if not request and not answer:
        skip(NAME, "generations without messages")
        return Call(name, parent)
    exchange = Exchange(
        tuple(request),
        tuple(answer),
        root.session,
        find_text(row, "traceId"),
        root.user,
        fields.epoch(row.get("startTime")),
        fields.epoch(row.get("endTime") or row.get("completionStartTime")),
        find_text(row, "model"),
        {"observation": name} if name else {},
        signals.get(("observation", name), ()),
    )
    return Call(name, parent, exchange, False, isinstance(decode_nested(row.get("input")), str))


def _read_scores(scores: list[Mapping[str, Any]]) -> dict[tuple[str, str], tuple[Signal, ...]]:
    """Signals by what they are about: an observation, a trace or a session, and its id."""
    rows = [{_camel(name): value for name, value in score.items()} for score in scores]
    values: dict[str, set[float]] = {}
    for row in rows:
        if is_number(number := _number_of(row.get("value"))):
            values.setdefault(find_text(row, "name"), set()).add(float(number))
    signals: dict[tuple[str, str], tuple[Signal, ...]] = {}
    for row in rows:
        key = next(
            (
                (what, name)
                for what in ("observation", "trace", "session")
                if (name := find_text(row, f"{what}Id"))
            ),
            None,
        )
        if key is None:
            skip(NAME, "scores of nothing")
            continue
        try:
            signal = read_score(row, values.get(find_text(row, "name"), set()))
        except RecordError as error:
            skip(NAME, f"scores: {error}")
            continue
        signals[key] = (*signals.get(key, ()), *signal)
    return signals


def _number_of(value: Any) -> Any:
    """A number that a CSV file has as text."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def read_score(score: Mapping[str, Any], values: set[float]) -> tuple[Signal, ...]:
    """Scores of people count; those of other judges are kept as comments.

    `values`: all that the log has for a score of this name: one that is ever another number than
    -1, 0 and 1 is no thumb.
    """
    value = _number_of(score.get("value"))
    time = fields.epoch(score.get("timestamp") or score.get("createdAt"))
    name, comment = find_text(score, "name"), find_text(score, "comment")
    word = find_text(score, "stringValue") or (value if isinstance(value, str) else "")
    kind = str(score.get("dataType") or "").upper()
    if str(score.get("source") or "API").upper() not in ("API", "ANNOTATION"):
        return (Signal("comment", 0.0, 0, f"{name}: {word or value}", time),)
    if isinstance(value, bool):
        value, kind = float(value), "BOOLEAN"
    if kind == "BOOLEAN" and is_number(value):
        return (Signal("thumb", 1.0 if value else -1.0, 0, comment, time),)
    if is_number(value) and kind != "CATEGORICAL":
        if value in _THUMBS and values <= _THUMBS and _THUMB.search(name):
            return (Signal("thumb", 1.0 if value > 0 else -1.0, 0, comment, time),)
        config = score.get("config")
        limits = (
            {"min": config.get("minValue"), "max": config.get("maxValue")}
            if is_object(config) and is_number(config.get("minValue"))
            else score
        )
        rating = fields.read_rating(name, float(value), limits, 0, time)
        if rating.kind == "comment" and comment:
            rating = msgspec.structs.replace(rating, detail=f"{rating.detail}: {comment}")
        elif comment:
            rating = msgspec.structs.replace(rating, detail=comment)
        return (rating,)
    signals = fields.feedback(word, 0) if word else ()
    signals = tuple(
        msgspec.structs.replace(
            s, time=time, detail=f"{name}: {word}" if s.kind == "comment" else comment
        )
        for s in signals
    )
    return signals or ((Signal("comment", 0.0, 0, f"{name}: {comment}", time),) if comment else ())


def _add_session_scores(
    conversation: RawConversation, signals: Mapping[tuple[str, str], tuple[Signal, ...]]
) -> RawConversation:
    """The conversation, with what was said of its session at the last response."""
    own = signals.get(("session", conversation.refs.get("session", "")), ())
    if not own or conversation.parent or conversation.branch_of:
        return conversation
    last = max(
        (i for i, m in enumerate(conversation.messages) if m.role == "assistant"), default=-1
    )
    if last < 0:
        return conversation
    messages = list(conversation.messages)
    added = tuple(msgspec.structs.replace(signal, at=last) for signal in own)
    messages[last] = msgspec.structs.replace(
        messages[last], signals=(*messages[last].signals, *added)
    )
    return msgspec.structs.replace(conversation, messages=tuple(messages))
