"""The upkeep of a lake: what it holds, what it learned, its files and buckets."""

from __future__ import annotations

import os

from upshot.api.judging import linking_of, open_work
from upshot.api.opening import Progress, open_lake, quiet
from upshot.config import Settings, load
from upshot.engine import StepReport
from upshot.errors import NotFoundError
from upshot.hindsight import pipeline
from upshot.lake import (
    Compaction,
    LakeCheck,
    LakeStats,
    check_lake,
    compact_lake,
    has_tables,
    measure_lake,
    rebucket_lake,
    repair_lake,
)


def lake_stats(lake: str | os.PathLike[str], settings: Settings | None = None) -> LakeStats:
    """Rows that count against rows stored, files and commits of each table, and what was learned.

    Raises:
        NotFoundError: there is no lake.
    """
    return measure_lake(open_work("measure", lake, settings or load(), quiet).lake)


def lake_check(
    lake: str | os.PathLike[str], settings: Settings | None = None, *, repair: bool = False
) -> LakeCheck:
    """Look at every log and file of a lake, and count the messages of its conversations.

    `repair`: restore a local lake from what is whole; the result says what is gone.

    Raises:
        NotFoundError: there is no lake.
        InputError: a lake in an object store is to be repaired.
    """
    store = open_lake(lake, settings or load())
    if not has_tables(store):
        raise NotFoundError(
            f"could not check {store.root}: there is no lake; make one with `upshot ingest`"
        )
    return repair_lake(store) if repair else check_lake(store)


def lake_compact(
    lake: str | os.PathLike[str], settings: Settings | None = None, progress: Progress = quiet
) -> Compaction:
    """Drop superseded rows and merge small files.

    Raises:
        NotFoundError: there is no lake.
    """
    work = open_work("compact", lake, settings or load(), progress)
    return compact_lake(work.lake, work.watch("compact"))


def lake_rebucket(
    lake: str | os.PathLike[str],
    buckets: int,
    settings: Settings | None = None,
    progress: Progress = quiet,
) -> int:
    """Give a lake another number of buckets; returns the rows that were moved. No verdict changes.

    Raises:
        NotFoundError: there is no lake.
        InputError: it is in an object store, or has that number already.
    """
    work = open_work("rebucket", lake, settings or load(), progress)
    return rebucket_lake(work.lake, buckets, work.watch("rebucket"))


def lake_renew(
    lake: str | os.PathLike[str], settings: Settings | None = None, progress: Progress = quiet
) -> tuple[StepReport, StepReport]:
    """Learn anew what a lake learns from everybody (the words of all sessions, how this corpus says
    that things went well, crowds), and link and judge everything by it.

    Between renewals nobody's verdict changes because somebody else wrote.
    """
    settings = settings or load()
    work = open_work("renew", lake, settings, progress)
    linked = pipeline.link(work, linking_of(settings), renew=True)
    return linked, pipeline.judge(work, settings.judge.horizon, renew=True)
