"""The verbs of the loop."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import upshot
from upshot.cli.options import Out, load_settings
from upshot.cli.output import log, notice, show, write
from upshot.cli.progress import progress

LoopFile = Annotated[Path, typer.Option("--config", help="The loop's file (TOML).")]
Who = Annotated[str, typer.Option("--by", help="Your name.")]
loop = typer.Typer(
    no_args_is_help=True, help="Rounds: logs, verdicts, a better policy, a gate, and again."
)


@loop.command("run")
def run(
    config: LoopFile = Path("loop.toml"),
    rounds: Annotated[int, typer.Option(min=1, help="How many.")] = 1,
    settings: Annotated[
        Path | None, typer.Option(help="Settings of the judge and the lake (TOML).")
    ] = None,
) -> None:
    """Run rounds; what a killed run left unfinished is finished first.

    Example: upshot loop run --config loop.toml --rounds 5
    """
    with progress() as update:
        results = upshot.loop_run(
            upshot.loop_config(config), rounds, settings=load_settings(settings), progress=update
        )
    for result in results:
        notice(f"Round {result.round}: {result.decision}. In service: {result.serving}")
        for reason in result.reasons:
            notice(f"  {reason}")


@loop.command("status")
def show_status(
    config: LoopFile = Path("loop.toml"),
    json: Annotated[
        bool, typer.Option("--json", help="As one JSON object on standard output.")
    ] = False,
) -> None:
    """Say what is in service, what waits for a person, and how every round went.

    Example: upshot loop status --config loop.toml
    """
    status = upshot.loop_status(upshot.loop_config(config))
    if json:
        write([status], "-")
        return
    table = Table(box=None)
    for name in ("round", "conversations", "trial", "examples", "good", "KL", "gain", "decision"):
        table.add_column(name, justify="left" if name in ("trial", "decision") else "right")
    for row in status.rounds:
        tried = row.trial
        trial = (
            ""
            if tried is None
            else (
                f"{tried.decision} {tried.difference:+.3f} (at least {tried.low:+.3f})"
                if tried.low is not None
                else tried.decision
            )
        )
        table.add_row(
            _cell(row.round),
            _cell(row.conversations),
            trial,
            *map(_cell, (row.examples, row.good, row.kl, row.difference)),
            row.decision,
        )
    show(table)
    notice(f"In service: {status.serving}")
    for number, policy in status.waiting.items():
        log.warning(
            "round %s waits for a person: %s; `upshot loop approve`, or with --refuse",
            number,
            policy,
        )


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else f"{value:,}"


@loop.command("approve")
def approve(
    config: LoopFile = Path("loop.toml"),
    by: Who = "",
    refuse: Annotated[bool, typer.Option("--refuse", help="Do not release it.")] = False,
) -> None:
    """Release the candidate that waits for a person, or refuse it.

    Example: upshot loop approve --config loop.toml --by ana
    """
    state = upshot.loop_approve(upshot.loop_config(config), by or getpass.getuser(), refuse)
    notice(f"In service: {state.serving}")


@loop.command("rollback")
def rollback(config: LoopFile = Path("loop.toml"), by: Who = "") -> None:
    """Put what served before into service again.

    Example: upshot loop rollback --config loop.toml
    """
    state = upshot.loop_rollback(upshot.loop_config(config), by or getpass.getuser())
    notice(f"In service: {state.serving}")


@loop.command("forget")
def forget(
    user: Annotated[
        str, typer.Option("--user", help="The name in the logs, or the pseudonym u_….")
    ],
    config: LoopFile = Path("loop.toml"),
    settings: Annotated[Path | None, typer.Option(help="Settings of the lake (TOML).")] = None,
) -> None:
    """Erase a user from the lake and every round, and train anew whatever learned from them.

    Example: upshot loop forget --user ana --config loop.toml
    """
    with progress() as update:
        result = upshot.loop_forget(
            upshot.loop_config(config), user, load_settings(settings), progress=update
        )
    notice(
        f"Forgotten; retrained: {', '.join(result.rounds) or 'nothing had learned from them'}."
        f" In service: {result.serving}"
    )


@loop.command("rerun")
def rerun(
    model: Annotated[str, typer.Option(help="Base: a name on a hub, or a folder.")],
    config: LoopFile = Path("loop.toml"),
    round: Annotated[
        int | None, typer.Option(help="Whose lessons; the last round's if left out.")
    ] = None,
) -> None:
    """Run the kept recipe on another base model, and tabulate all models so far.

    Example: upshot loop rerun --model Qwen/Qwen3-1.7B --config loop.toml
    """
    with progress() as update:
        reruns = upshot.loop_rerun(upshot.loop_config(config), model, round, progress=update)
    table = Table(box=None)
    for name in ("model", "round", "before", "after", "gain", "works", "KL", "seconds", "GB"):
        table.add_column(name, justify="left" if name == "model" else "right")
    for row in reruns:
        gain = "" if row.gain is None else f"{row.gain:+.3f} [{row.low:+.3f}, {row.high:+.3f}]"
        works = "?" if row.works is None else "yes" if row.works else "no"
        table.add_row(
            row.model,
            str(row.round),
            _cell(row.before),
            _cell(row.after),
            gain,
            works,
            _cell(row.kl),
            f"{row.seconds:.0f}",
            f"{row.memory_gb:.1f}",
        )
    show(table)


@loop.command("hotfix")
def hotfix(
    cases: Annotated[
        Path,
        typer.Argument(
            help="JSON lines: prompt, chosen (what was wanted), maybe tests, matches, lacks."
        ),
    ],
    model: Annotated[str, typer.Option(help="Policy to fix: a name on a hub, or a folder.")],
    rest: Annotated[
        Path,
        typer.Option(
            help=(
                "Prompts that are fine as they are, with tests of that kind, or without them and"
                " --reward."
            )
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the adapter.")],
    reward: Annotated[
        str, typer.Option(help="What tells whether the rest held, where it has no tests.")
    ] = "",
    rank: Annotated[int, typer.Option(min=1, help="Of the adapter.")] = 8,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of an answer.")] = 256,
) -> None:
    """Fix a handful of bad cases with a small adapter, and prove that the rest held.

    Example: upshot loop hotfix cases.jsonl --model policy --rest suite.jsonl -o fix
    """
    with progress() as update:
        fixed = upshot.hotfix(
            model,
            cases,
            rest,
            out,
            reward=reward,
            rank=rank,
            max_tokens=max_tokens,
            progress=update,
        )
    rest_of_it = fixed.held
    notice(
        f"{fixed.fixed:.0%} of {fixed.cases} cases pass ({fixed.before:.0%} before); the rest"
        f" {'held' if fixed.kept else 'did not hold'}: {rest_of_it['harm']:+.3f}"
        f" [{rest_of_it['low']:+.3f}, {rest_of_it['high']:+.3f}] worse,"
        f" margin {rest_of_it['margin']}."
    )
    notice(f"Adapter: {fixed.policy} ({fixed.seconds:.0f} s)")


@loop.command("skills")
def skills(
    lake: Annotated[str, typer.Option("--lake", help="Folder or URL of the lake.")],
    out: Out = "-",
    find: Annotated[str, typer.Option(help="Only those that fit this request.")] = "",
) -> None:
    """Write the solutions that the world confirmed, with when they apply.

    Example: upshot loop skills --lake demo-lake
    """
    library = upshot.skills(lake)
    write([skill for skill, _ in library.find(find)] if find else library.skills, out, "skills")
