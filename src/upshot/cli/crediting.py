"""The verb that splits outcomes over steps."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from upshot import api
from upshot import config as config_
from upshot.cli.progress import progress
from upshot.io.json_lines import write

_console = Console(stderr=True)
Reviewer = Literal["trained", "llm", "uniform", "last", "first-mistake", "leave-one-out", "shapley"]


def credit(
    runs: Annotated[
        str | None,
        typer.Argument(
            help=(
                "JSON lines of runs: task, steps, outcome; - is standard input. Or nothing with"
                " --lake."
            )
        ),
    ] = None,
    out: Annotated[
        str, typer.Option("-o", "--out", help="File to write, or - for standard output.")
    ] = "-",
    reviewer: Annotated[Reviewer, typer.Option(help="Who splits.")] = "trained",
    labelled: Annotated[
        Path | None,
        typer.Option(
            help=(
                "Runs that say which step was to blame (`label`), or credits of a language model,"
                " to train on."
            )
        ),
    ] = None,
    lake: Annotated[
        str | None,
        typer.Option(
            "--lake", help="Split what became of the threads of this lake over their responses."
        ),
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(help="For llm: OpenAI-compatible address, up to /v1.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Name of the model there.")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="Settings file (TOML).")] = None,
) -> None:
    """Split each run's outcome over its steps; the sum of credits, prior and luck is the outcome,
    exactly.

    Example: upshot credit examples/runs.jsonl -o credits.jsonl
    """
    settings = config_.load(config, llm={"base_url": base_url, "model": model})
    with progress(_console) as step:
        done = api.credit(runs, reviewer, labelled, settings, step, lake)
    write(done.credits, out)
    _console.print(
        f"{len(done.credits):,} runs by {reviewer} in {done.seconds:.1f} s", highlight=False
    )
    if done.cost is not None:
        _console.print(
            f"{done.cost.spent.calls:,} requests, {done.cost.spent.tokens:,} tokens,"
            f" ${done.cost.spent.usd:.2f}; {done.cost.divided:,} runs without a majority,"
            f" {done.cost.unreadable:,} unreadable",
            highlight=False,
        )
        if done.cost.stopped:
            _console.print(f"[yellow]{done.cost.stopped}[/]", highlight=False)
    if math.isfinite(done.worth):
        _console.print(
            f"One run tells {done.kinds} kinds of action apart as well as {done.worth:.1f} runs"
            " with the outcome on every step.",
            highlight=False,
        )
