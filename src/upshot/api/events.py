"""Events: what an application reports of responses."""

from __future__ import annotations

import os
from collections.abc import Iterable

from upshot.api.opening import cleaning, open_lake
from upshot.config import Settings, load
from upshot.lake import Lake
from upshot.privacy import Pseudonyms
from upshot.records import BadRecord
from upshot.sources.ingest import quarantine
from upshot.sources.outside import Outside, Recorded, read_events, record_events


def ingest_events(
    events: str | os.PathLike[str], lake: str | os.PathLike[str], settings: Settings | None = None
) -> Recorded:
    """Read events that an application reports of responses (a ticket closed, a deploy that worked)
    into a lake.

    Raises:
        NotFoundError: there is no lake yet: its logs come first.
    """
    settings = settings or load()
    store = open_lake(lake, settings)
    report, bad = write_events(read_events(events), store, settings)
    quarantine(store, bad, cleaning(store, settings))
    return report


def write_events(
    events: Iterable[Outside | BadRecord], store: Lake, settings: Settings
) -> tuple[Recorded, list[BadRecord]]:
    """Write events to a lake under its key; what cannot be written comes back with its reason."""
    return record_events(events, store, Pseudonyms(cleaning(store, settings).key))
