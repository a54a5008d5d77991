"""The verb that trains policies."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import upshot
from upshot.cli.options import TrustRemoteCode
from upshot.cli.output import log, notice, write
from upshot.cli.progress import progress
from upshot.errors import InputError
from upshot.policy.methods import method_names

if TYPE_CHECKING:
    from upshot.policy.methods.method import Method


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
        typer.Option(help=f"Of {', '.join(method_names())}."),
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
    trust_remote_code: TrustRemoteCode = False,
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
        _explain(explain, upshot.explain_method(explain))
        return
    chosen = upshot.policy_recipe(recipe, method=method, base=model, seed=seed)
    if check:
        write(
            [upshot.check_policy_recipe(chosen, trust_remote_code=trust_remote_code)._asdict()], "-"
        )
        return
    if not data or out is None:
        raise InputError("could not train a policy: name files to learn from and a folder with -o")
    with progress() as update:
        trained = upshot.train_policy(
            data,
            out,
            chosen,
            rewards=reward or (),
            guard=[str(path) for path in guard or ()],
            credits=credits,
            trust_remote_code=trust_remote_code,
            progress=update,
        )
    kl = "" if trained.kl is None else f", {trained.kl:.2f} nats per answer from its base"
    notice(
        f"{trained.method}: {trained.steps:,} steps on {trained.rows:,} rows in"
        f" {trained.seconds:.0f} s{kl}."
    )
    if trained.stopped:
        log.warning("%s", trained.stopped)
    notice(f"Policy: {out}; read {out / 'card.md'}")


def _explain(name: str, method: Method) -> None:
    lines = [
        f"{method.name} ({name})",
        method.does,
        "",
        f"Choose it: {method.choose}",
        f"It needs: {method.needs}",
        f"Step credits: {method.steps}",
    ]
    lines += (
        [
            "",
            "Options of the recipe:",
            *(f"  {key}: {text}" for key, text in method.options.items()),
        ]
        if method.options
        else []
    )
    sys.stdout.write("\n".join([*lines, "", f"Source: {method.source}"]) + "\n")
