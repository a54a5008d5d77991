"""The verb that splits outcomes over steps."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

import typer

import upshot
from upshot.api.opening import exported
from upshot.cli.options import BaseUrl, ConfigFile, ModelName, Out, load_settings
from upshot.cli.output import log, notice, replies_beside, write
from upshot.cli.progress import progress
from upshot.errors import InputError

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
    out: Out = "-",
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
    base_url: BaseUrl = None,
    model: ModelName = None,
    config: ConfigFile = None,
) -> None:
    """Split each run's outcome over its steps; credits, prior and luck add up to it exactly.

    Example: upshot credit examples/runs.jsonl -o credits.jsonl
    """
    settings = load_settings(config, llm={"base_url": base_url, "model": model})
    with replies_beside(out, lake) as replies:
        with progress() as update:
            result = upshot.credit(
                runs,
                reviewer,
                lake=lake,
                labelled=labelled,
                settings=settings,
                progress=update,
                replies=replies,
            )
        with exported(lake, out, "verdicts", settings):
            count = write(result.credits, out, "credited runs")
        if not count:
            raise InputError("nothing credited: there is no run with an outcome")
        _show_credit(result, reviewer)


def _show_credit(result: upshot.CreditReport, reviewer: str) -> None:
    notice(f"{len(result.credits):,} runs by {reviewer} in {result.seconds:.1f} s")
    if math.isfinite(result.sample_ratio):
        notice(
            f"One run tells {result.kinds} kinds of action apart as well as"
            f" {result.sample_ratio:.1f} runs with the outcome on every step."
        )
    cost = result.cost
    if cost is not None:
        notice(
            f"{cost.spent.calls:,} requests, {cost.spent.tokens:,} tokens, ${cost.spent.usd:.2f};"
            f" {cost.divided:,} runs without a majority, {cost.unreadable:,} unreadable"
        )
        if cost.stopped:
            log.error("%s", cost.stopped)
            raise typer.Exit(1)
