"""Events that an application reports of a response: a ticket closed, a deploy that worked, a
purchase, a thumb.

JSON lines: `{"id": "c1", "index": 3, "kind": "ticket_closed", "time": "2026-05-01T10:00:00Z"}`.
`records/signals.toml` lists the kinds that an application may report, each with the value it has
where the event gives none; `outcome` takes any news with a `value` in [-1, 1], `rating` a `value`
with its `range`, such as `[1, 5]`. What names no response of the lake goes to quarantine. Events
belong to the conversation, not to one version of it: a longer log of it keeps them.
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
from upshot.io.files import Bad, open_input, read_json
from upshot.io.json_values import is_object
from upshot.lake import Lake
from upshot.lake.tables import OUTSIDE_PREFIX
from upshot.privacy import Pseudonyms
from upshot.privacy.clean import make_safe_id
from upshot.records import SCHEMAS, BadRecord, CleanTable
from upshot.records.signals import SIGNALS, kinds_from, make_rating
from upshot.sources import fields

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
    if not name or not kind or "index" not in record:
        raise RecordError("an event needs id, index and kind")
    value, detail = _read_value(kind, record)
    return Outside(
        str(name),
        int(record["index"]),
        kind,
        value,
        fields.epoch(record.get("time", record.get("timestamp"))),
        detail,
    )


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
    rows: list[dict[str, Any]] = []
    for event in good:
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
                    f"{event.id} {event.index}",
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
