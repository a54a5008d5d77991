"""Events that an application reports of a response: a ticket closed, a deploy that worked, a
purchase, a thumb.

JSON lines: `{"id": "c1", "index": 3, "kind": "ticket_closed", "time": "2026-05-01T10:00:00Z"}`.
Instead of `id` and `index` an event may name the response by the ids that its log has for it:
`trace_id`, `observation_id`, `span_id`, `request_id`, `response_id` or `message_id`, or several of
them under `refs`, `langfuse` or `otel`; the last response that has them all is meant. A score of
Langfuse (`name` and `value`) is read as in its exports.
`records/signals.toml` lists the kinds that an application may report, each with the value it has
where the event gives none; `outcome` takes any news with a `value` in [-1, 1], `rating` a `value`
with its `range`, such as `[1, 5]`. What names no response of the lake goes to quarantine. Events
belong to the conversation, not to one version of it: a longer log of it keeps them.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from upshot.errors import RecordError
from upshot.io.arrow import pc
from upshot.io.files import Bad, open_input, read_json
from upshot.io.json_values import is_object
from upshot.lake import Lake
from upshot.lake.tables import OUTSIDE_PREFIX
from upshot.privacy import Pseudonyms
from upshot.privacy.clean import make_safe_id
from upshot.records import SCHEMAS, BadRecord, CleanTable
from upshot.records.signals import SIGNALS, kinds_from, make_rating
from upshot.sources import fields
from upshot.sources.langfuse import read_score

_MICRO = 1_000_000


class Outside(msgspec.Struct, frozen=True):
    """One event on one response."""

    id: str
    index: int
    kind: str
    value: float
    """In [-1, 1]."""
    time: float | None
    """Seconds since the epoch."""
    detail: str = ""
    """Said with the kind; the newest event of a kind counts, whatever its detail."""
    refs: Mapping[str, str] = {}
    """Ids that the response has in its log, where `id` is empty."""

    @property
    def target(self) -> str:
        """What the event is about, for a message."""
        return f"{self.id} {self.index}" if self.id else json.dumps(dict(self.refs))


class Recorded(msgspec.Struct, frozen=True):
    """What became of events."""

    events: int
    """Written now."""
    quarantined: int
    known: int = 0
    """In the lake already."""
    first_reason: str = ""
    """Why the first of the quarantined events could not be written, and where it is."""


def read_events(path: str | os.PathLike[str]) -> Iterator[Outside | BadRecord]:
    """Events of a file, and what of it cannot be read."""
    name = os.fspath(path)
    source = open_input(name)
    try:
        for position, record in read_json(source):
            try:
                if isinstance(record, Bad):
                    raise RecordError(record.reason)
                yield _read_event(record)
            except (RecordError, TypeError, ValueError, KeyError) as error:
                yield BadRecord(name, position, f"no event: {error}")
    finally:
        source.close()


def _read_event(record: Any) -> Outside:
    if not is_object(record):
        raise RecordError("not an object")
    name = record.get("id", record.get("conversation_id"))
    kind = str(record.get("kind") or record.get("type") or "")
    refs = {} if name and "index" in record else _read_refs(record)
    is_score = not kind and bool(refs) and "name" in record
    if not (refs or (name and "index" in record)) or not (kind or is_score):
        raise RecordError("an event needs id, index and kind, or an id of a trace instead")
    if is_score:
        score = next(iter(read_score(record, set())), None)
        if score is None:
            raise RecordError("a score needs a value or a comment")
        kind, value, detail = score.kind, score.value, score.detail
    else:
        value, detail = _read_value(kind, record)
    return Outside(
        "" if refs else str(name),
        -1 if refs else int(record["index"]),
        kind,
        value,
        fields.epoch(record.get("time", record.get("timestamp"))),
        detail,
        refs,
    )


_REFS = {
    spelling: ref
    for ref in ("trace", "observation", "span", "request", "response", "message")
    for spelling in (ref, f"{ref}_id", f"{ref}Id")
}
"""Ref of a message by the names that events have for it."""


def _read_refs(record: Mapping[str, Any]) -> dict[str, str]:
    places = (
        record,
        *(record[n] for n in ("refs", "langfuse", "otel") if is_object(record.get(n))),
    )
    return {
        _REFS[name]: value
        for place in places
        for name, value in place.items()
        if name in _REFS and isinstance(value, str) and value
    }


def _read_value(kind: str, record: Mapping[str, Any]) -> tuple[float, str]:
    """How good the news of an event is, in [-1, 1], and what to remember of how it was given."""
    if "application" not in (SIGNALS[kind].emitters if kind in SIGNALS else ()):
        raise RecordError(
            f"kind {kind!r} is none that an application reports:"
            f" {', '.join(kinds_from('application'))}"
        )
    value = record.get("value")
    if SIGNALS[kind].scale == "rating":
        limits = fields.read_range(record)
        if value is None or limits is None:
            raise RecordError('a rating needs value and range, such as "range": [1, 5]')
        rating = make_rating(float(value), *limits, at=0)
        return rating.value, f"{float(value):g} of {limits[0]:g} to {limits[1]:g}"
    if SIGNALS[kind].scale == "none":
        return 0.0, fields.text(record.get("comment", value))
    number = SIGNALS[kind].value if value is None else float(value)
    if number is None:
        raise RecordError(f"kind {kind!r} needs a value in [-1, 1]")
    if not math.isfinite(number) or abs(number) > 1:
        raise RecordError(f"value {number} is not in [-1, 1]")
    return number, ""


def record_events(
    items: Iterable[Outside | BadRecord], lake: Lake, pseudonyms: Pseudonyms
) -> tuple[Recorded, list[BadRecord]]:
    """Write events to the lake, each once; returns what could not be written with the reason.

    Ids may be the log's or the lake's.
    """
    bad: list[BadRecord] = []
    good: list[Outside] = []
    for item in items:
        if isinstance(item, BadRecord):
            bad.append(item)
        else:
            good.append(item)
    owners = _index_conversations(lake)
    responses = _index_refs(lake, [event.refs for event in good if event.refs])
    rows: list[dict[str, Any]] = []
    for event in good:
        if event.refs:
            name, index = responses.get(_key_of(event.refs), ("", -1))
            event = msgspec.structs.replace(event, id=name, index=index) if name else event
        spellings = (
            event.id,
            make_safe_id(event.id, pseudonyms),
            pseudonyms.conversation(event.id),
        )
        name = next((name for name in spellings if name in owners), event.id)
        owner = owners.get(name)
        if owner is None or not 0 <= event.index < owner[2]:
            bad.append(
                BadRecord(
                    "(events)",
                    event.target,
                    "the lake has no such response; ingest its log first",
                )
            )
            continue
        kind = SIGNALS[event.kind].stored or event.kind
        rows.append(
            {
                "bucket": owner[0],
                "user": owner[1],
                "id": name,
                "digest": OUTSIDE_PREFIX + name,
                "index": event.index,
                "kind": kind,
                "value": event.value,
                "at": event.index,
                "detail": f"{event.kind}: {event.detail}" if event.detail else event.kind,
                "time": None if event.time is None else int(event.time * _MICRO),
            }
        )
    fresh = _select_new(lake, rows)
    if fresh:
        named = hashlib.blake2b(msgspec.json.encode(fresh), digest_size=16).hexdigest()
        lake.append(
            "events",
            CleanTable(pa.Table.from_pylist(fresh, schema=SCHEMAS["events"])),
            (f"outside/{named}", 1),
            {"stage": "events"},
        )
    first = f"{bad[0].file}: {bad[0].position}: {bad[0].reason}" if bad else ""
    return Recorded(len(fresh), len(bad), len(rows) - len(fresh), first), bad


def _index_conversations(lake: Lake) -> dict[str, tuple[int, str, int]]:
    rows = lake.read("conversations", columns=("bucket", "user", "id", "messages"))
    return {
        name: (bucket, user, size)
        for bucket, user, name, size in zip(
            *(rows[column].to_pylist() for column in ("bucket", "user", "id", "messages")),
            strict=True,
        )
    }


def _key_of(refs: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(refs.items()))


def _index_refs(
    lake: Lake, wanted: Sequence[Mapping[str, str]]
) -> dict[tuple[tuple[str, str], ...], tuple[str, int]]:
    """(conversation, index) of the last response that has all the ids of each mapping."""
    if not wanted:
        return {}
    sets = {_key_of(refs) for refs in wanted}
    by_pair: dict[tuple[str, str], list[tuple[tuple[str, str], ...]]] = {}
    for key in sets:
        by_pair.setdefault(key[0], []).append(key)
    rows = lake.read("messages", columns=("id", "index", "role", "refs"))
    rows = rows.filter(pc.and_(pc.equal(rows["role"], "assistant"), pc.not_equal(rows["refs"], "")))
    responses: dict[tuple[tuple[str, str], ...], tuple[str, int]] = {}
    for name, index, text in zip(
        *(rows[column].to_pylist() for column in ("id", "index", "refs")), strict=True
    ):
        pairs = set(msgspec.json.decode(text, type=dict[str, str]).items())
        for key in (key for pair in pairs for key in by_pair.get(pair, ())):
            if pairs.issuperset(key):  # a branch repeats what it shares, under a longer name
                best = max((responses.get(key, (name, index)), (name, index)), key=_rank)
                responses[key] = best
    return responses


def _rank(response: tuple[str, int]) -> tuple[int, int, str]:
    name, index = response
    return index, -len(name), name


def _select_new(lake: Lake, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that the lake does not have yet."""
    names = ("digest", "index", "kind", "value", "detail", "time")
    table = lake.read("events", columns=names)
    table = table.filter(pc.starts_with(table["digest"], OUTSIDE_PREFIX)).select(names)
    have = set(
        zip(
            *(
                table[name].cast(pa.int64()).to_pylist()
                if name == "time"
                else table[name].to_pylist()
                for name in names
            ),
            strict=True,
        )
    )
    fresh: list[dict[str, Any]] = []
    for row in rows:
        key = tuple(
            pa.scalar(row[name], pa.float32()).as_py() if name == "value" else row[name]
            for name in names
        )
        if key not in have:
            have.add(key)
            fresh.append(row)
    return fresh
