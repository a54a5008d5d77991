"""The verbs that make training data and reward models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from upshot import api
from upshot import config as config_
from upshot.cli.progress import progress
from upshot.errors import InputError
from upshot.json_lines import write
from upshot.preferences import KINDS

if TYPE_CHECKING:
    from upshot.reward.recipe import Recipe

_console = Console(stderr=True)
Trainer = Literal["jsonl", "parquet", "trl", "openrlhf", "llamafactory", "kto", "sft", "verl", "examples"]
LakeDir = Annotated[str, typer.Option("--lake", help="Folder or URL of the lake.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="Settings file (TOML).")]


def pairs(
    lake: LakeDir,
    out: Annotated[str, typer.Option("-o", "--out", help="File to write, or - for standard output.")] = "-",
    for_: Annotated[Trainer, typer.Option("--for", help="Who will read it.")] = "jsonl",
    kinds: Annotated[str, typer.Option(help=f"Of {', '.join(KINDS)}.")] = ",".join(KINDS),
    least_users: Annotated[int, typer.Option(min=1, help="People behind every pair across users.")] = 5,
    test_share: Annotated[float, typer.Option(min=0, max=1, help="Share of users whose rows go to NAME.test.EXT.")] = 0.1,
    even_length: Annotated[bool, typer.Option("--even-length", help="As many pairs with the longer chosen as with the shorter.")] = False,
    config: ConfigFile = None,
) -> None:
    """Turn verdicts into training data: pairs, unpaired labels, or conversations with what failed masked.

    Example: upshot pairs --lake demo-lake -o pairs.jsonl --for trl
    """
    done = api.export(lake, out, for_, [kind.strip() for kind in kinds.split(",") if kind.strip()], least_users, test_share, even_length, config_.load(config))
    told = f"{done.train:,} rows for {done.format}" + (f", {done.test:,} for testing in {done.test_file}" if done.test else "")
    if (found := done.balance) is not None:
        told += f"; {', '.join(f'{count} {kind}' for kind, count in sorted(found.by_kind.items())) or 'no pairs'} of {found.users} users"
        told += f"; the longer answer was chosen in {found.longer_chosen:.0%}, the later one in {found.later_chosen:.0%}"
    _console.print(told + ".", highlight=False)


train = typer.Typer(no_args_is_help=True, help="Train reward models.")


@train.command("reward")
def train_reward(
    data: Annotated[list[str], typer.Argument(help="Files of pairs or of scored examples; NAME=FILE makes a head of that name.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write.")],
    embeddings: Annotated[bool, typer.Option("--embeddings", help="Read MiniLM embeddings too (the minilm extra).")] = False,
    false_alarms: Annotated[float, typer.Option(min=0.001, max=0.5, help="Share of known kinds of input that are flagged as unknown.")] = 0.05,
    recipe: Annotated[Path | None, typer.Option(help="Train a transformer (the train extra) as this TOML file says.")] = None,
    base: Annotated[str, typer.Option(help="Train a transformer from this name or folder; overrides the recipe's.")] = "",
    check: Annotated[bool, typer.Option("--check", help="Validate the recipe and say what it needs; train nothing.")] = False,
) -> None:
    """Train a reward model and write its card: the embedded one, or a transformer.

    Example: upshot train reward examples/preferences.jsonl -o reward-model
    """
    heads = dict(_named(part, f"helpful_{number}" if number else "helpful") for number, part in enumerate(data))
    chosen = _recipe(recipe, base)
    if check:
        if chosen is None:
            raise InputError("could not check: name a --recipe or a --base")
        _console.print_json(data=api.check_recipe(chosen, heads)._asdict())
        return
    with progress(_console) as step:
        model = api.train_reward(heads, out, embeddings, false_alarms, chosen, step)
    table = Table(box=None)
    for name in ("head", "rows", "accuracy", "calibration error", "label noise"):
        table.add_column(name, justify="left" if name == "head" else "right")
    for head in model.heads:
        table.add_row(head.name, f"{head.rows:,}", f"{head.accuracy['all']:.3f}", f"{head.calibration.error:.3f}", f"{head.calibration.noise:.0%}")
    _console.print(table)
    _console.print(f"Model: {out}; read {out / 'card.md'}", soft_wrap=True, highlight=False)


def _recipe(path: Path | None, base: str) -> Recipe | None:
    if path is None and not base:
        return None
    from upshot.reward.recipe import Recipe, load_recipe  # scipy takes half a second to load

    return Recipe(base) if path is None else load_recipe(path, base)


def _named(part: str, name: str) -> tuple[str, str]:
    head, mark, path = part.partition("=")
    return (head, path) if mark and path and head.isidentifier() else (name, part)


def score(
    model: Annotated[str, typer.Argument(help="Folder of a reward model.")],
    items: Annotated[str, typer.Argument(help="JSON lines of prompt and completion, or of pairs; - is standard input.")],
    out: Annotated[str, typer.Option("-o", "--out", help="File to write, or - for standard output.")] = "-",
    weights: Annotated[str | None, typer.Option(help="How much each head counts: helpful=1,brief=0.5")] = None,
) -> None:
    """Score responses: reward, uncertainty, in-domain or not, and the parts it is made of.

    Example: upshot score reward-model examples/preferences.jsonl -o scores.jsonl
    """
    write(api.score(model, items, _weights(weights)), out)


def _weights(text: str | None) -> dict[str, float] | None:
    if text is None:
        return None
    try:
        return {name: float(value) for name, _, value in (part.partition("=") for part in text.split(","))}
    except ValueError as error:
        raise InputError(f"could not read --weights {text!r}: write helpful=1,brief=0.5") from error
