"""Progress bars on standard error; nothing where that is not a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from upshot import api

_UNITS = {
    **dict.fromkeys(
        (
            "sft",
            "dpo",
            "kto",
            "rrhf",
            "raft",
            "ppo",
            "rloo",
            "grpo",
            "sdpo",
            "conditioned",
            "star",
            "pre-train",
        ),
        "steps",
    ),
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
}


@contextmanager
def progress(console: Console) -> Iterator[api.Progress]:
    """Something to call with a stage, what is done and what there is."""
    bars = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[said]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    tasks: dict[str, Any] = {}
    with bars:

        def step(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total or None, said="")
            said = (
                f"{done:,} conversations"
                if not total
                else f"{done:,} of {total:,} {_UNITS.get(stage, 'buckets')}"
            )
            bars.update(tasks[stage], completed=done, total=total or None, said=said)

        yield step
