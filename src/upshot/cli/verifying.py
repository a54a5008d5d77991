"""The verbs that ask the world."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.table import Table

import upshot
from upshot.cli.options import BaseUrl, ConfigFile, ModelName, Out, load_settings
from upshot.cli.output import log, notice, replies_beside, show, write
from upshot.cli.progress import progress
from upshot.errors import EndpointError, InputError
from upshot.verifiers.parts import NAMES

if TYPE_CHECKING:
    from upshot.retention.report import Report


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
    config: ConfigFile = None,
) -> None:
    """Which AI-written lines of a repository survive, release by release.

    Example: upshot retention . --json
    """
    with progress() as update:
        followed = upshot.retention(
            repo,
            logs=logs,
            lake=lake,
            settings=load_settings(config),
            progress=update,
            releases=releases,
            horizon=horizon,
            paths=only or (),
            traces=traces,
            state=state,
            with_edits=edits,
        )
    if json or out:
        row = msgspec.structs.asdict(followed.report)
        write([row if followed.edits is None else row | {"edits": followed.edits}], out or "-")
    _show_survival(followed.report)


def _show_survival(report: Report) -> None:
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
    show(rows)
    if report.releases:
        last = report.releases[-1]
        notice(
            f"{last.name}: {last.ai_lines:,} of {last.lines:,} lines are by assistants"
            f" ({last.ai_share:.0%}). Shares alive are at equal churn of files."
        )


def verify(
    items: Annotated[
        str, typer.Argument(help="JSON lines: code, tests, proof; - is standard input.")
    ],
    out: Out = "-",
    parts: Annotated[
        str,
        typer.Option(
            "--with",
            help=f"Of {', '.join(NAMES)}; with commas.",
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
    config: ConfigFile = None,
) -> None:
    """Run code, tests and proofs in a sandbox, and say what the world says of them.

    Example: upshot verify examples/submissions.jsonl -o outcomes.jsonl
    """
    with progress() as update:
        outcomes = upshot.verify(
            items,
            parts.split(","),
            formula=formula,
            seconds=seconds,
            memory_mb=memory_mb,
            workers=workers,
            lake=lake,
            settings=load_settings(config),
            progress=update,
        )
        count = write(outcomes, out, "outcomes")
    if not count:
        raise InputError(f"nothing verified: {items} holds no item")


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
    base_url: BaseUrl = None,
    model: ModelName = None,
    config: ConfigFile = None,
) -> None:
    """Have a model write tests and code, run them in the sandbox, read the failures and fix them.

    Every attempt is kept as a run. The endpoint comes from --base-url and --model, or --config.

    Example: upshot attempt examples/tasks.jsonl -o runs.jsonl --config upshot.toml
    """
    settings = load_settings(config, llm={"base_url": base_url, "model": model})
    with replies_beside(out) as replies:
        with progress() as update:
            attempts = upshot.attempt(
                tasks,
                samples=samples,
                rounds=rounds,
                temperature=temperature,
                seconds=seconds,
                settings=settings,
                progress=update,
                replies=replies,
            )
        if not attempts.runs:
            raise EndpointError(f"nothing attempted: {attempts.stopped or 'there is no task'}")
        write(attempts.runs, out, "runs")
        if rationales is not None:
            write(attempts.rationales, rationales, "rationales")
        solved = sum(run.outcome == 1 for run in attempts.runs)
        notice(
            f"{solved:,} of {len(attempts.runs):,} runs solved their task;"
            f" {len(attempts.rationales):,} rationales."
        )
        if attempts.stopped:
            log.error("%s", attempts.stopped)
            raise typer.Exit(1)
