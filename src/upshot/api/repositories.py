"""Retention: which AI-written lines of a repository survive."""

from __future__ import annotations

import os
import time
from typing import Any

from upshot.api.events import write_events
from upshot.api.opening import Paths, Progress, open_lake, quiet
from upshot.config import Settings, load
from upshot.records import RawConversation
from upshot.retention import pipeline
from upshot.retention.pipeline import RepositoryRetention
from upshot.sources.reading import read


def retention(
    repo: str | os.PathLike[str],
    *,
    logs: Paths | None = None,
    lake: str | os.PathLike[str] | None = None,
    settings: Settings | None = None,
    progress: Progress = quiet,
    **options: Any,
) -> RepositoryRetention:
    """Which AI-written lines of a repository survive, release by release.

    With `logs` or a `lake`, commits that they name are tied to their responses; in the lake each
    response gets its retention as an event, which the next judging counts as evidence. `options`
    are those of `upshot.retention.pipeline.measure_retention`.

    Raises:
        InputError: the repository, a note, a record or the kept history cannot be read.
    """
    store = None if lake is None else open_lake(lake, settings or load())
    mentions = [] if store is None else list(pipeline.mentions_in_lake(store))
    if logs is not None:
        mentions += pipeline.mentions_in_logs(
            item for item in read(logs) if isinstance(item, RawConversation)
        )
    followed = pipeline.measure_retention(repo, mentions, progress=progress, **options)
    if store is not None:
        outcomes = pipeline.make_outcome_events(followed.report, time.time())
        write_events(outcomes, store, settings or load())
    return followed
