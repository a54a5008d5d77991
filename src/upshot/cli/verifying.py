"""The verbs that ask the world."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from upshot import api
from upshot import config as config_
from upshot.cli.progress import progress
from upshot.io.json_lines import write

if TYPE_CHECKING:
    from upshot.retention.retention import Report

_console = Console(stderr=True)


def retention(
    repo: Annotated[Path, typer.Argument(help="Folder of a git repository.")],
    out: Annotated[
        str,
        typer.Option("-o", "--out", help="File for the report as JSON, or - for standard output."),
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    releases: Annotated[str, typer.Option(help="Pattern of the tags that are releases.")] = "*",
    only: Annotated[
        list[str] | None, typer.Option(help="Pattern of files that count; may be given again.")
    ] = None,
    horizon: Annotated[int, typer.Option(min=1, help="Days at which commits are compared.")] = 90,
    logs: Annotated[
        list[str] | None, typer.Option(help="Logs that name commits; may be given again.")
    ] = None,
    lake: Annotated[
        str | None,
        typer.Option(
            "--lake",
            help="Tie commits to the responses of this lake, and write what became of them there.",
        ),
    ] = None,
    traces: Annotated[Path | None, typer.Option(help="Agent Trace records (JSON lines).")] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            help="File that keeps the history, so that the next release costs only its own commits."
        ),
    ] = None,
    edits: Annotated[
        bool, typer.Option("--edits", help="Also four-gram survival of every edit.")
    ] = False,
    config: Annotated[Path | None, typer.Option("--config", help="Settings file (TOML).")] = None,
) -> None:
    """Which AI-written lines of a repository survive, release by release.

    Example: upshot retention . --json
    """
    with progress(_console) as step:
        found = api.retention(
            repo,
            logs,
            lake,
            config_.load(config),
            step,
            releases=releases,
            horizon=horizon,
            paths=only or (),
            traces=traces,
            state=state,
            with_edits=edits,
        )
    if json or out:
        write(
            [
                {
                    **msgspec.structs.asdict(found.report),
                    **({} if found.edits is None else {"edits": found.edits}),
                }
            ],
            out or "-",
        )
    _table(found.report)


def _table(report: Report) -> None:
    rows = Table(
        "who",
        "lines",
        "commits",
        "half-life",
        *(f"{day} d" for day in report.other.alive),
        box=None,
    )
    for who, lives in (
        ("assistants", report.ai),
        ("people", report.other),
        *report.by_agent.items(),
    ):
        half = "" if lives.half_life_days is None else f"{lives.half_life_days:.0f} days"
        rows.add_row(
            who,
            f"{lives.lines:,}",
            f"{lives.commits:,}",
            half,
            *(
                f"{lives.alive[day].value:.2f}" if day in lives.alive else ""
                for day in report.other.alive
            ),
        )
    _console.print(rows)
    if report.releases:
        last = report.releases[-1]
        _console.print(
            f"{last.name}: {last.ai_lines:,} of {last.lines:,} lines are by assistants"
            f" ({last.ai_share:.0%}). Shares alive are at equal churn of files.",
            highlight=False,
        )


def verify(
    items: Annotated[
        str, typer.Argument(help="JSON lines: code, tests, proof; - is standard input.")
    ],
    out: Annotated[
        str, typer.Option("-o", "--out", help="File to write, or - for standard output.")
    ] = "-",
    parts: Annotated[
        str,
        typer.Option(
            "--with",
            help=(
                "Of tests, coverage, lint, types, mutation, speed, complexity, proof; with commas."
            ),
        ),
    ] = "tests",
    formula: Annotated[
        str,
        typer.Option(
            help="Outcome from parts, as 0.8 * tests + 0.2 * lint; gates come first in any case."
        ),
    ] = "",
    seconds: Annotated[
        float, typer.Option(min=0.1, help="Time that each program may take.")
    ] = 10.0,
    memory_mb: Annotated[
        int, typer.Option(min=64, help="Memory that each program may take.")
    ] = 1024,
    workers: Annotated[int, typer.Option(min=1, help="Items at once.")] = 2,
    lake: Annotated[
        str | None,
        typer.Option(
            "--lake", help="Write the outcomes of items that name a response to this lake."
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="Settings file (TOML).")] = None,
) -> None:
    """Run code, tests and proofs in a sandbox, and say what the world says of them.

    Example: upshot verify examples/submissions.jsonl -o outcomes.jsonl
    """
    with progress(_console) as step:
        write(
            api.verify(
                items,
                parts.split(","),
                formula,
                seconds,
                memory_mb,
                workers,
                lake,
                config_.load(config),
                step,
            ),
            out,
        )


def attempt(
    tasks: Annotated[
        str,
        typer.Argument(
            help=(
                "JSON lines of tasks: id, task, and tests, hidden_tests or reference; or"
                " HumanEval's rows."
            )
        ),
    ],
    out: Annotated[
        str, typer.Option("-o", "--out", help="File for the runs, or - for standard output.")
    ] = "-",
    rationales: Annotated[
        Path | None,
        typer.Option(help="File for reasoning that led to right code, as chats to fine-tune on."),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Independent runs of each task.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Programs that may be written in a run.")] = 4,
    temperature: Annotated[float, typer.Option(min=0, max=2)] = 0.7,
    seconds: Annotated[
        float, typer.Option(min=0.1, help="Time that each program may take.")
    ] = 10.0,
    base_url: Annotated[
        str | None, typer.Option(help="OpenAI-compatible address, up to /v1.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Name of the model there.")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="Settings file (TOML).")] = None,
) -> None:
    """Have a model write tests and code, run them in the sandbox, read the failures and fix: every
    attempt kept as a run.

    Example: upshot attempt examples/tasks.jsonl -o runs.jsonl --base-url http://localhost:8000/v1
    --model NAME
    """
    settings = config_.load(config, llm={"base_url": base_url, "model": model})
    with progress(_console) as step:
        found = api.attempt(tasks, samples, rounds, temperature, seconds, settings, step)
    write(found.runs, out)
    if rationales is not None:
        write(found.rationales, str(rationales))
    right = sum(run.outcome == 1 for run in found.runs)
    _console.print(
        f"{right:,} of {len(found.runs):,} runs came out right; {len(found.rationales):,}"
        f" rationales{'; ' + found.stopped if found.stopped else ''}",
        highlight=False,
    )
