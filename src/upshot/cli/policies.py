"""The verb that trains policies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from upshot import api
from upshot.cli.progress import progress
from upshot.errors import InputError

if TYPE_CHECKING:
    from upshot.policy.recipe import Method

_console = Console(stderr=True)


def train_policy(
    data: Annotated[
        list[str] | None,
        typer.Argument(help="Files of pairs, examples, conversations, runs or prompts."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder to write; any library opens it as a model."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="sft, dpo, kto, rrhf, raft, ppo, rloo, grpo, sdpo, conditioned or star."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Base: a name on a hub, or a folder.")] = None,
    reward: Annotated[
        list[str] | None,
        typer.Option(
            help=(
                "Folder of a reward model, panel:A,B, verify:tests, or module:function; =WEIGHT"
                " behind it."
            )
        ),
    ] = None,
    guard: Annotated[
        list[Path] | None,
        typer.Option(help="Embedded reward models that watch for over-optimisation."),
    ] = None,
    credits: Annotated[
        Path | None, typer.Option(help="What `upshot credit` wrote of the runs.")
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(help="TOML: base, method, [trainer], [lora], [kl], [draw], [options]."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random.")] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Validate the recipe and say what it needs; train nothing."),
    ] = False,
    explain: Annotated[
        str | None,
        typer.Option(metavar="METHOD", help="Say when to choose a method and what it needs."),
    ] = None,
) -> None:
    """Train a policy: a better assistant from pairs, scores, credits, follow-ups or rewards.

    Example: upshot train policy pairs.jsonl --method dpo --model Qwen/Qwen3-0.6B -o policy
    """
    if explain is not None:
        _explain(explain, api.explain(explain))
        return
    chosen = api.policy_recipe(recipe, method=method, base=model, seed=seed)
    if check:
        _console.print_json(data=api.check_policy(chosen)._asdict())
        return
    if not data or out is None:
        raise InputError("could not train a policy: name files to learn from and a folder with -o")
    with progress(_console) as step:
        done = api.train_policy(
            data, out, chosen, reward or (), [str(path) for path in guard or ()], credits, step
        )
    kl = "" if done.kl is None else f", {done.kl:.2f} nats an answer from its base"
    _console.print(
        f"{done.method}: {done.steps:,} steps on {done.rows:,} rows in {done.seconds:.0f} s{kl}.",
        highlight=False,
    )
    if done.stopped:
        _console.print(f"[yellow]{done.stopped}[/]", highlight=False)
    _console.print(f"Policy: {out}; read {out / 'card.md'}", soft_wrap=True, highlight=False)


def _explain(name: str, found: Method) -> None:
    lines = [
        f"[bold]{found.name}[/] ({name})",
        found.does,
        "",
        f"Choose it: {found.choose}",
        f"It needs: {found.needs}",
        f"Step credits: {found.steps}",
    ]
    lines += (
        ["", "Options of the recipe:", *(f"  {key}: {text}" for key, text in found.options.items())]
        if found.options
        else []
    )
    Console(highlight=False).print("\n".join([*lines, "", f"Source: {found.source}"]))
