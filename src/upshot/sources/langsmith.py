"""LangSmith: runs as its API, SDKs and bulk exports write them (`run_type`, `inputs`, `outputs`).

Runs of type `llm` are calls of a model; runs without a parent say what the person gave and got.
Traces of one thread (`session_id`, `thread_id` or `conversation_id` in the metadata) are one
conversation; the field `session_id` of a run names its project.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
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
from upshot.sources.request_logs import Call, Exchange, TraceRoot, join_exchanges, pick_calls
from upshot.sources.rows import read_rows

NAME = "langsmith"
_KINDS = frozenset({"llm", "chain", "tool", "retriever", "embedding", "prompt", "parser"})
"""Types of runs (`RunTypeEnum` of its SDK)."""
_THREADS = ("session_id", "thread_id", "conversation_id", "sessionId", "threadId")
_PEOPLE = re.compile(r"(?i)user|human|thumb|feedback|csat|like")
"""Names of feedback that a person gave; evaluators' are kept as comments."""
_RUN_IN_ORDER = re.compile(r"Z([0-9a-f\-]{36})$")


def fit(sample: Sample) -> Fit:
    """How many of the first records are runs."""
    return fit_records(sample, _explain_misfit)


def _explain_misfit(record: Any) -> str:
    if not is_object(record):
        return "not an object"
    for name in ("post", "patch", "runs", "data"):
        inner = record.get(name)
        if is_array(inner) and inner and is_object(inner[0]) and "outputs" in inner[0]:
            return ""
        if is_array(inner) and inner and not _explain_misfit(inner[0]):
            return ""
    if str(record.get("run_type")) not in _KINDS:
        return "no `run_type`"
    return "" if "inputs" in record or "outputs" in record else "no `inputs`"


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """Conversations by thread, else by trace."""
    runs: dict[str, dict[str, Any]] = {}
    for position, value in read_rows(source):
        if isinstance(value, Bad):
            yield BadRecord(source.name, position, value.reason)
            continue
        try:
            _add_runs(runs, value, position)
        except Exception as error:  # noqa: BLE001 — whatever one record holds
            yield BadRecord(source.name, position, describe(error))
    traces: dict[str, list[dict[str, Any]]] = {}
    for name, run in runs.items():
        traces.setdefault(_trace_of(run) or name, []).append(run)
    exchanges: list[Exchange] = []
    roots: dict[str, TraceRoot] = {}
    for name, members in traces.items():
        root = _read_root(members)
        calls: list[Call] = []
        for run in members:
            try:
                calls.append(_read_call(run, name, root))
            except Exception as error:  # noqa: BLE001 — whatever one run holds
                yield BadRecord(source.name, f"run {run.get('id')}", describe(error))
        exchanges += pick_calls(calls)
        roots[name] = root
    yield from join_exchanges(exchanges, NAME, roots)


def _add_runs(runs: dict[str, dict[str, Any]], value: Any, place: str) -> None:
    """Take a run, its children, a list of runs or a batch in; later records complete earlier ones.

    Raises:
        RecordError: it is no run.
    """
    if is_array(value):
        for number, item in enumerate(value):
            _add_runs(runs, item, f"{place}.{number}")
        return
    if not is_object(value):
        raise RecordError("needs an object")
    lists = [value[n] for n in ("post", "patch", "runs", "data") if is_array(value.get(n))]
    if lists and "run_type" not in value:
        for inner in lists:
            _add_runs(runs, inner, place)
        return
    run = {name: decode_nested(inner) for name, inner in value.items()}
    order = _RUN_IN_ORDER.search(find_text(run, "dotted_order"))
    name = find_text(run, "id", "run_id") or (order.group(1) if order else place)
    children = run.pop("child_runs", None)
    old = runs.setdefault(name, {"id": name})
    old.update({key: inner for key, inner in run.items() if inner not in (None, {}, [])})
    for number, child in enumerate(children if is_array(children) else ()):
        if is_object(child):
            extra = {} if child.get("parent_run_id") else {"parent_run_id": name}
            trace = {} if child.get("trace_id") else {"trace_id": _trace_of(old) or name}
            _add_runs(runs, {**child, **extra, **trace}, f"{place}.{number}")


def _trace_of(run: Mapping[str, Any]) -> str:
    return find_text(run, "trace_id")


def _metadata_of(run: Mapping[str, Any]) -> Mapping[str, Any]:
    extra = run.get("extra")
    inner = decode_nested(extra.get("metadata")) if is_object(extra) else None
    own = run.get("metadata")
    return {**(own if is_object(own) else {}), **(inner if is_object(inner) else {})}


def _read_root(runs: list[dict[str, Any]]) -> TraceRoot:
    ids = {run.get("id") for run in runs}
    tops = [r for r in runs if r.get("parent_run_id") not in ids and r.get("run_type") != "tool"]
    top = min(tops or runs, key=lambda run: str(run.get("start_time") or ""))
    is_call = top.get("run_type") in ("embedding", "retriever", "parser", "prompt")
    metadata = [_metadata_of(run) for run in runs]
    signals = [s for run in tops for s in _read_feedback(run)] if top not in _calls_in(runs) else []
    return TraceRoot(
        () if is_call else tuple(_read_text(top.get("inputs"), read_request)),
        () if is_call else tuple(_read_text(top.get("outputs"), read_answer)),
        tuple(signals),
        next((s for m in metadata if (s := find_text(m, *_THREADS))), ""),
        next((u for m in metadata if (u := find_text(m, "user_id", "userId", "user"))), ""),
        fields.epoch(top.get("start_time")),
        fields.epoch(top.get("end_time")),
        {"name": top["name"]} if isinstance(top.get("name"), str) else {},
    )


def _calls_in(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [run for run in runs if run.get("run_type") == "llm"]


def _read_text(value: Any, reader: Any) -> list[RawMessage]:
    try:
        return reader(value)
    except RecordError:
        return []


def _read_call(run: Mapping[str, Any], trace: str, root: TraceRoot) -> Call:
    name, parent = find_text(run, "id"), find_text(run, "parent_run_id")
    kind = str(run.get("run_type") or "llm")
    if kind != "llm":
        skip(NAME, f"runs of type {kind}")
        return Call(name, parent, None, kind == "tool")
    request, answer = read_request(run.get("inputs")), read_answer(run.get("outputs"))
    if not request and not answer:
        skip(NAME, "runs without messages")
        return Call(name, parent)
    metadata, extra = _metadata_of(run), run.get("extra")
    exchange = Exchange(
        tuple(request),
        tuple(answer),
        root.session,
        trace,
        root.user,
        fields.epoch(run.get("start_time")),
        fields.epoch(run.get("end_time")),
        find_text(run.get("outputs"), "model", "llm_output.model_name")
        or find_text(metadata, "ls_model_name")
        or find_text(extra, "invocation_params.model", "invocation_params.model_name")
        or find_text(run.get("inputs"), "model"),
        {"run": name},
        tuple(_read_feedback(run)),
    )
    return Call(name, parent, exchange)


def _read_feedback(run: Mapping[str, Any]) -> Iterator[Signal]:
    """Of a person's name and 0 or 1: a thumb; else a comment."""
    stats = run.get("feedback_stats")
    for name, value in stats.items() if is_object(stats) else ():
        if not is_object(value):
            continue
        average = value.get("avg")
        if is_number(average) and average in (-1, 0, 1) and _PEOPLE.search(str(name)):
            yield Signal("thumb", 1.0 if average > 0 else -1.0, 0)
        elif is_number(average):
            yield Signal("comment", 0.0, 0, f"{name}: {average:g}")
        comments = value.get("comments")
        for comment in comments if is_array(comments) else ():
            if isinstance(comment, str) and comment.strip():
                yield Signal("comment", 0.0, 0, f"{name}: {comment}")
