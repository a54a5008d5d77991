"""Inspect's logs of evaluations: JSON, and `.eval` (a zip of JSON files). A sample is a
conversation; its scores land on its last answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from upshot.errors import FormatError, RecordError
from upshot.io.archives import open_members
from upshot.io.files import Bad, Input, read_json
from upshot.io.json_values import is_array, is_number, is_object
from upshot.records import BadRecord, RawConversation, RawMessage, Signal
from upshot.sources import fields
from upshot.sources.detection import Fit, Sample, fit_records
from upshot.sources.messages import read_message
from upshot.sources.notes import skip
from upshot.sources.payloads import find_text, read_answer
from upshot.sources.reading import describe

NAME = "inspect-ai"
_SAMPLE = re.compile(r"(?:^|!)samples/.*\.json$")
_ATTACHED = re.compile(r"(?:attachment|tc)://([0-9a-f]{32})")
"""Texts that Inspect moved out of messages, as `attachment://` and a hash."""
_VALUES = {"C": 1.0, "I": -1.0, "P": 0.0, "N": -1.0}
"""Correct, incorrect, partial, no answer (`inspect_ai.scorer`)."""


def fit(sample: Sample) -> Fit:
    """Whether a file is a log of Inspect, or a sample of one."""
    if sample.head[:4] == b"PK\x03\x04":
        is_log = b"samples/" in sample.head or b"_journal/" in sample.head
        return Fit(int(is_log and b".json" in sample.head[:300]), 1)
    return fit_records(sample, _explain_misfit)


def _explain_misfit(record: Any) -> str:
    if not is_object(record):
        return "not an object"
    run = record.get("eval")
    if is_object(run) and "task" in run and ("status" in record or "samples" in record):
        return ""
    if {"epoch", "target", "input", "id"} <= record.keys() and "messages" in record:
        return ""
    return "no `eval` with a task"


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """A conversation a sample.

    Raises:
        FormatError: the archive is damaged.
    """
    if source.head[:4] == b"PK\x03\x04":
        yield from _read_archive(source)
        return
    for position, record in read_json(source):
        if isinstance(record, Bad) or not is_object(record):
            yield BadRecord(
                source.name,
                position,
                record.reason if isinstance(record, Bad) else "not an object",
            )
            continue
        run = record.get("eval")
        samples = record.get("samples") if is_object(run) else [record]
        yield from _read_samples(source, samples, run if is_object(run) else {}, position)


def _read_archive(source: Input) -> Iterator[RawConversation | BadRecord]:
    members = open_members(source)
    if members is None:
        raise FormatError(f"could not read {source.name}: it is no archive")
    run: Mapping[str, Any] = {}
    for member in members:
        is_sample = _SAMPLE.search(member.name) is not None
        if not is_sample and not member.name.endswith(("header.json", "_journal/start.json")):
            skip(NAME, "files of summaries")
            continue
        for position, record in read_json(member):
            if isinstance(record, Bad):
                yield BadRecord(member.name, position, record.reason)
            elif is_sample:
                yield from _read_samples(member, [record], run, position)
            elif is_object(record) and is_object(record.get("eval")):
                run = record["eval"]


def _read_samples(
    source: Input, samples: Any, run: Mapping[str, Any], position: str
) -> Iterator[RawConversation | BadRecord]:
    for number, sample in enumerate(samples if is_array(samples) else (), 1):
        place = f"{position}, sample {number}"
        try:
            conversation = _read_sample(sample, run)
        except Exception as error:  # noqa: BLE001 — whatever one sample holds
            yield BadRecord(source.name, place, describe(error))
            continue
        yield msgspec.structs.replace(conversation, place=place)


def _read_sample(sample: Any, run: Mapping[str, Any]) -> RawConversation:
    if not is_object(sample):
        raise RecordError("a sample is no object")
    texts = _read_attachments(sample)
    messages: list[RawMessage] = []
    for item in sample.get("messages") or _input_of(sample):
        if not is_object(item):
            raise RecordError("a message is no object")
        messages += _read_item(item, texts)
    output = sample.get("output")
    if messages and messages[-1].role == "user" and is_object(output):
        messages += read_answer(output)
    if not messages:
        raise RecordError("a sample has no messages")
    _add_scores(messages, sample)
    parts = (find_text(run, "run_id", "eval_id"), find_text(sample, "id"))
    epoch = find_text(sample, "epoch")
    name = find_text(sample, "uuid") or "/".join(part for part in (*parts, epoch) if part)
    return RawConversation(
        tuple(messages),
        name,
        "",
        fields.epoch(sample.get("started_at") or run.get("created")),
        find_text(output, "model") or find_text(run, "model"),
        NAME,
        {key: run[key] for key in ("task", "model") if isinstance(run.get(key), str)},
        refs={
            key: value
            for key, value in (("run", parts[0]), ("sample", parts[1]), ("epoch", epoch))
            if value
        },
    )


def _input_of(sample: Mapping[str, Any]) -> list[Any]:
    value = sample.get("input")
    return value if is_array(value) else [{"role": "user", "content": value}] if value else []


def _read_attachments(sample: Mapping[str, Any]) -> dict[str, str]:
    transcript = sample.get("transcript")
    holders = [sample.get("attachments"), transcript.get("content") if is_object(transcript) else 0]
    return {
        key: text
        for holder in holders
        if is_object(holder)
        for key, text in holder.items()
        if isinstance(text, str)
    }


def _read_item(item: Mapping[str, Any], texts: Mapping[str, str]) -> Iterator[RawMessage]:
    error = item.get("error")
    is_tool = item.get("role") == "tool"
    if is_tool and is_object(error):
        if not item.get("content"):
            item = {**item, "content": error.get("message")}
        item = {**item, "is_error": True}
    for message in read_message(item):
        if texts and "://" in message.content:
            content = _ATTACHED.sub(
                lambda match: texts.get(match.group(1), match.group()), message.content
            )
            message = msgspec.structs.replace(message, content=content)
        if message.role == "user" and item.get("source") == "generate":
            message = msgspec.structs.replace(message, author="machine")
        yield message


def _add_scores(messages: list[RawMessage], sample: Mapping[str, Any]) -> None:
    last = max((i for i, m in enumerate(messages) if m.role == "assistant"), default=-1)
    scores = sample.get("scores")
    if is_object(sample.get("score")):
        scores = {"score": sample["score"]}
    if last < 0 or not is_object(scores):
        return
    signals = [
        signal
        for name, score in scores.items()
        if is_object(score)
        for signal in _read_score(name, score.get("value"), last)
    ]
    messages[last] = msgspec.structs.replace(messages[last], signals=tuple(signals))


def _read_score(name: str, value: Any, at: int) -> Iterator[Signal]:
    """What a scorer found: letters are outcomes; numbers have no stated range and claim nothing."""
    if isinstance(value, str) and value in _VALUES:
        yield Signal("outcome", _VALUES[value], at, name)
    elif isinstance(value, bool):
        yield Signal("outcome", 1.0 if value else -1.0, at, name)
    elif is_number(value) or isinstance(value, str):
        yield Signal("comment", 0.0, at, f"{name} {value}")
    elif is_object(value):
        for key, inner in value.items():
            if not is_object(inner):
                yield from _read_score(f"{name} {key}", inner, at)
