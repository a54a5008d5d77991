"""Progress on standard error: bars on a terminal, a line every half minute where it is piped."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from upshot.cli.output import console, notice

EVERY_S = 30.0
"""Seconds between two lines where standard error is no terminal."""
_UNITS = {
    "ingest": "conversations",
    "link": "buckets",
    "judge": "buckets",
    "push": "buckets",
    "talk": "people",
    "draw": "prompts",
    "ask": "threads",
    "train": "steps",
    "audit": "runs",
    "rewrite": "corrections",
    "review": "runs",
    "commits": "commits",
    "verify": "items",
    "attempt": "runs",
    "reconstruct": "artifacts",
    "replay": "trails",
}
"""What each stage counts; training methods count steps."""


@contextmanager
def progress() -> Generator[Callable[[str, int, int], None]]:
    """A callback that takes a stage, how much is done and how much there is (0: not known)."""
    if not console.is_terminal or console.quiet:
        yield _Lines()
        return
    bars = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[details]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
    tasks: dict[str, TaskID] = {}
    with bars:

        def update(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total or None, details="")
            bars.update(
                tasks[stage],
                completed=done,
                total=total or None,
                details=describe(stage, done, total),
            )

        yield update


class _Lines:
    """A log line now and then; nothing of work that ends sooner."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last >= EVERY_S:
            self._last = now
            notice(f"{stage}: {describe(stage, done, total)}")


def describe(stage: str, done: int, total: int) -> str:
    """How far a stage is.

    >>> describe("judge", 3, 16), describe("ingest", 1200, 0)
    ('3 of 16 buckets', '1,200 conversations')
    """
    unit = _UNITS.get(stage, "steps")
    return f"{done:,} of {total:,} {unit}" if total else f"{done:,} {unit}"
