"""The verbs of the loop."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from upshot import api
from upshot import config as config_
from upshot.cli.progress import progress
from upshot.io.json_lines import write

_console = Console(stderr=True)
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
    with progress(_console) as step:
        done = api.loop_run(api.loop_config(config), rounds, config_.load(settings), None, step)
    for one in done:
        _console.print(
            f"Round {one['round']}: {one['decision']}. In service: {one['serving']}",
            soft_wrap=True,
            highlight=False,
        )
        for reason in one["reasons"]:
            _console.print(f"  {reason}", highlight=False, markup=False)


@loop.command("status")
def status(
    config: LoopFile = Path("loop.toml"),
    json: Annotated[
        bool, typer.Option("--json", help="As one JSON object on standard output.")
    ] = False,
) -> None:
    """Say what is in service, what waits for a person, and how every round went.

    Example: upshot loop status --config loop.toml
    """
    found = api.loop_status(api.loop_config(config))
    if json:
        write([found], "-")
        return
    table = Table(box=None)
    for name in ("round", "conversations", "trial", "examples", "good", "KL", "gain", "decision"):
        table.add_column(name, justify="left" if name in ("trial", "decision") else "right")
    for one in found["rounds"]:
        tried = one["trial"]
        told = (
            ""
            if tried is None
            else (
                f"{tried['decision']} {tried['difference']:+.3f} (at least {tried['low']:+.3f})"
                if tried["low"] is not None
                else tried["decision"]
            )
        )
        table.add_row(
            _cell(one["round"]),
            _cell(one["conversations"]),
            told,
            *(_cell(one[name]) for name in ("examples", "good", "kl", "difference")),
            one["decision"],
        )
    _console.print(table)
    _console.print(f"In service: {found['serving']}", soft_wrap=True, highlight=False)
    for number, policy in found["waiting"].items():
        _console.print(
            f"[yellow]Round {number} waits for a person: {policy}; `upshot loop approve`, or with"
            " --refuse[/]",
            soft_wrap=True,
            highlight=False,
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
    state = api.loop_approve(api.loop_config(config), by or getpass.getuser(), refuse)
    _console.print(f"In service: {state.serving}", soft_wrap=True, highlight=False)


@loop.command("rollback")
def rollback(config: LoopFile = Path("loop.toml"), by: Who = "") -> None:
    """Put what served before into service again.

    Example: upshot loop rollback --config loop.toml
    """
    state = api.loop_roll_back(api.loop_config(config), by or getpass.getuser())
    _console.print(f"In service: {state.serving}", soft_wrap=True, highlight=False)


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
    with progress(_console) as step:
        found = api.loop_forget(api.loop_config(config), user, config_.load(settings), step)
    _console.print(
        f"Forgotten; trained anew: {', '.join(found['rounds']) or 'nothing had learned from them'}."
        f" In service: {found['serving']}",
        soft_wrap=True,
        highlight=False,
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
    with progress(_console) as step:
        found = api.loop_rerun(api.loop_config(config), model, round, step)
    table = Table(box=None)
    for name in ("model", "round", "before", "after", "gain", "works", "KL", "seconds", "GB"):
        table.add_column(name, justify="left" if name == "model" else "right")
    for one in found:
        gain = "" if one.gain is None else f"{one.gain:+.3f} [{one.low:+.3f}, {one.high:+.3f}]"
        works = "?" if one.works is None else "yes" if one.works else "no"
        table.add_row(
            one.model,
            str(one.round),
            _cell(one.before),
            _cell(one.after),
            gain,
            works,
            _cell(one.kl),
            f"{one.seconds:.0f}",
            f"{one.memory_gb:.1f}",
        )
    _console.print(table)


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
    with progress(_console) as step:
        done = api.hotfix(model, cases, rest, out, reward, rank, max_tokens, step)
    held = "held" if done.kept else "[red]did not hold[/]"
    _console.print(
        f"{done.fixed:.0%} of {done.cases} cases pass ({done.before:.0%} before); the rest {held}:"
        f" {done.held['harm']:+.3f} [{done.held['low']:+.3f}, {done.held['high']:+.3f}] worse,"
        f" margin {done.held['margin']}.",
        highlight=False,
    )
    _console.print(
        f"Adapter: {done.policy} ({done.seconds:.0f} s)", soft_wrap=True, highlight=False
    )


@loop.command("skills")
def skills(
    lake: Annotated[str, typer.Option("--lake", help="Folder or URL of the lake.")],
    out: Annotated[
        str, typer.Option("-o", "--out", help="File to write, or - for standard output.")
    ] = "-",
    find: Annotated[str, typer.Option(help="Only those that fit this request.")] = "",
) -> None:
    """Write the solutions that the world confirmed, with when they apply.

    Example: upshot loop skills --lake demo-lake
    """
    library = api.skills(lake)
    write([skill for skill, _ in library.find(find)] if find else library.skills, out)
