"""The verbs of simulated worlds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

import upshot
from upshot.cli.options import Seed
from upshot.cli.output import notice, write
from upshot.cli.progress import progress

World = Annotated[str, typer.Argument(help="programs or plans.")]
Policy = Annotated[Path, typer.Option(help="Folder of a policy.")]
Phrases = Annotated[
    Path | None, typer.Option(help="Other phrasings (TOML); the shipped file documents the shape.")
]
Crowd = Literal["plain", "noisy", "troubled"]
world = typer.Typer(no_args_is_help=True, help="Simulated people and tasks whose truth is known.")


@world.command("policy")
def make(
    name: World,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write.")],
    skill: Annotated[
        float, typer.Option(min=0, max=1, help="How often those it learns from are right.")
    ] = 0.4,
    steps: Annotated[int, typer.Option(min=1, help="Of training.")] = 400,
    seed: Seed = 0,
) -> None:
    """Train a tiny policy that is mediocre at a world, from nothing (two minutes or so).

    Example: upshot world policy programs -o policy
    """
    with progress() as update:
        upshot.world_policy(name, out, skill=skill, steps=steps, seed=seed, progress=update)
    notice(f"Policy: {out}")


@world.command("talk")
def talk(
    name: World,
    policy: Policy,
    out: Annotated[Path, typer.Option("-o", "--out", help="Log to write.")],
    people: Annotated[int, typer.Option(min=1, help="How many.")] = 300,
    crowd: Annotated[
        Crowd,
        typer.Option(
            help=(
                "plain; noisy (silent, lenient, late); or troubled (a fifth lie or are pleased by"
                " length)."
            )
        ),
    ] = "plain",
    phrases: Phrases = None,
    seed: Seed = 0,
    truth: Annotated[
        Path | None,
        typer.Option(help="Where to write, apart from the log, what each answer was worth."),
    ] = None,
    canary: Annotated[
        str, typer.Option(help="Another policy, for a share of the people; empty: none.")
    ] = "",
    share: Annotated[
        float, typer.Option(min=0, max=1, help="Of the people who talk with the canary.")
    ] = 0.0,
) -> None:
    """Let people talk with a policy; the log is what any assistant would have.

    Example: upshot world talk programs --policy policy -o logs.jsonl --people 400
    """
    with progress() as update:
        talked = upshot.world_talk(
            name,
            policy,
            out,
            people=people,
            crowd=crowd,
            phrases=phrases,
            seed=seed,
            truth=truth,
            canary=canary,
            share=share,
            progress=update,
        )
    notice(f"{talked.conversations:,} conversations with {talked.answers:,} answers in {out}.")


@world.command("measure")
def measure(
    name: World,
    policy: Policy,
    tasks: Annotated[int, typer.Option(min=1, help="How many.")] = 500,
    phrases: Phrases = None,
    seed: Seed = 1_000_003,
) -> None:
    """True success of a policy on fresh tasks.

    Example: upshot world measure programs --policy policy
    """
    measured = upshot.world_measure(name, policy, tasks=tasks, phrases=phrases, seed=seed)
    write(
        [{"success": measured.success, "characters": measured.length, "kinds": measured.kinds}], "-"
    )
