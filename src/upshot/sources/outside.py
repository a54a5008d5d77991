"""Events that an application reports of a response: a ticket closed, a deploy that worked, a
purchase, a thumb.

JSON lines: `{"id": "c1", "index": 3, "kind": "ticket_closed", "time": "2026-05-01T10:00:00Z"}`;
`value` in [-1, 1] says how good the news is, and is needed for kinds that are not known here. What
names no response of the lake goes to quarantine. Events lie with the conversation, not with one
version of it: a longer log of the same conversation keeps them.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from upshot.errors import RecordError
from upshot.io.arrow import pc
from upshot.io.files import Bad, json_records, open_input
from upshot.lake import Lake
from upshot.lake.tables import OUTSIDE
from upshot.privacy import Pseudonyms
from upshot.privacy.clean import safe_id
from upshot.records import SCHEMAS, BadRecord, CleanTable
from upshot.sources import fields

VALUES: Mapping[str, float] = {
    "ticket_closed": 0.6,
    "ticket_reopened": -0.8,
    "escalated": -0.6,
    "deploy_succeeded": 0.7,
    "deploy_failed": -0.8,
    "rolled_back": -0.9,
    "tests_passed": 0.8,
    "tests_failed": -0.8,
    "merged": 0.7,
    "reverted": -0.9,
    "purchase": 0.6,
    "refund": -0.7,
    "cancelled": -0.7,
    "renewed": 0.5,
    "accepted": 0.6,
    "rejected": -0.6,
    "thumb_up": 1.0,
    "thumb_down": -1.0,
}
"""How good the news of an event is, where its `value` does not say it."""
_THUMBS = ("thumb_up", "thumb_down", "thumb", "thumbs")
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


class Recorded(msgspec.Struct, frozen=True):
    """What became of events."""

    events: int
    """Written now; those that were written before are not counted."""
    quarantined: int


def read_events(path: str | os.PathLike[str]) -> Iterator[Outside | BadRecord]:
    """Events of a file, and what of it cannot be read."""
    name = os.fspath(path)
    source = open_input(name)
    try:
        for position, record in json_records(source):
            try:
                if isinstance(record, Bad):
                    raise RecordError(record.reason)
                yield _event(record)
            except (RecordError, TypeError, ValueError, KeyError) as error:
                yield BadRecord(name, position, f"no event: {error}")
    finally:
        source.close()


def _event(record: Any) -> Outside:
    if not isinstance(record, Mapping):
        raise RecordError("not an object")
    name = record.get("id", record.get("conversation_id"))
    kind = str(record.get("kind") or record.get("type") or "")
    if not name or not kind or "index" not in record:
        raise RecordError("an event needs id, index and kind")
    given = record.get("value")
    if given is None and kind not in VALUES:
        raise RecordError(
            f"kind {kind!r} needs a value in [-1, 1]; without one there are {', '.join(VALUES)}"
        )
    value = VALUES[kind] if given is None else float(given)
    if not math.isfinite(value) or abs(value) > 1:
        raise RecordError(f"value {value} is not in [-1, 1]")
    return Outside(
        str(name),
        int(record["index"]),
        kind,
        value,
        fields.epoch(record.get("time", record.get("timestamp"))),
    )


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
    known = _responses(lake)
    rows: list[dict[str, Any]] = []
    for event in good:
        name = event.id if event.id in known else safe_id(event.id, pseudonyms)
        owner = known.get(name)
        if owner is None or not 0 <= event.index < owner[2]:
            bad.append(
                BadRecord(
                    "(events)",
                    f"{event.id} {event.index}",
                    "the lake has no such response; ingest its log first",
                )
            )
            continue
        kind = "thumb" if event.kind in _THUMBS else "outcome"
        rows.append(
            {
                "bucket": owner[0],
                "user": owner[1],
                "id": name,
                "digest": OUTSIDE + name,
                "index": event.index,
                "kind": kind,
                "value": event.value,
                "at": event.index,
                "detail": f"{event.kind}: {event.detail}" if event.detail else event.kind,
                "time": None if event.time is None else int(event.time * _MICRO),
            }
        )
    fresh = _fresh(lake, rows)
    if fresh:
        named = hashlib.blake2b(msgspec.json.encode(fresh), digest_size=16).hexdigest()
        lake.append(
            "events",
            CleanTable(pa.Table.from_pylist(fresh, schema=SCHEMAS["events"])),
            (f"outside/{named}", 1),
            {"stage": "events"},
        )
    return Recorded(len(fresh), len(bad)), bad


def _responses(lake: Lake) -> dict[str, tuple[int, str, int]]:
    rows = lake.read("conversations", columns=("bucket", "user", "id", "messages"))
    return {
        name: (bucket, user, size)
        for bucket, user, name, size in zip(
            *(rows[column].to_pylist() for column in ("bucket", "user", "id", "messages")),
            strict=True,
        )
    }


def _fresh(lake: Lake, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that the lake does not have yet."""
    names = ("digest", "index", "kind", "value", "detail", "time")
    table = lake.read("events", columns=names)
    table = table.filter(pc.starts_with(table["digest"], OUTSIDE)).select(names)
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
