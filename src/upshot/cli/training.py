"""The verbs that make training data and reward models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from upshot import api
from upshot import config as config_
from upshot.cli.progress import progress
from upshot.errors import InputError
from upshot.io.json_lines import write
from upshot.preferences import KINDS
from upshot.preferences.rewrites import Tally

if TYPE_CHECKING:
    from upshot.reward.private import Privacy
    from upshot.reward.recipe import Recipe

_console = Console(stderr=True)
Trainer = Literal[
    "jsonl", "parquet", "trl", "openrlhf", "llamafactory", "kto", "sft", "verl", "examples"
]
LakeDir = Annotated[str, typer.Option("--lake", help="Folder or URL of the lake.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="Settings file (TOML).")]


def pairs(
    lake: LakeDir,
    out: Annotated[
        str, typer.Option("-o", "--out", help="File to write, or - for standard output.")
    ] = "-",
    for_: Annotated[Trainer, typer.Option("--for", help="Who will read it.")] = "jsonl",
    kinds: Annotated[
        str,
        typer.Option(
            help=f"Of {', '.join(KINDS)}; and rewrite, which asks the language model of --config."
        ),
    ] = ",".join(KINDS),
    least_users: Annotated[
        int, typer.Option(min=1, help="People behind every pair across users.")
    ] = 5,
    test_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of users whose rows go to NAME.test.EXT.")
    ] = 0.1,
    even_length: Annotated[
        bool,
        typer.Option(
            "--even-length", help="As many pairs with the longer chosen as with the shorter."
        ),
    ] = False,
    even_position: Annotated[
        bool,
        typer.Option(
            "--even-position",
            help="As many pairs with the later answer chosen as with the earlier.",
        ),
    ] = False,
    config: ConfigFile = None,
) -> None:
    """Turn verdicts into training data: pairs, unpaired labels, or conversations with what failed
    masked.

    Example: upshot pairs --lake demo-lake -o pairs.jsonl --for trl
    """
    wanted = [kind.strip() for kind in kinds.split(",") if kind.strip()]
    with progress(_console) as step:
        done = api.export(
            lake,
            out,
            for_,
            wanted,
            least_users,
            test_share,
            even_length,
            even_position,
            config_.load(config),
            step,
            _told,
        )
    told = f"{done.train:,} rows for {done.format}" + (
        f", {done.test:,} for testing in {done.test_file}" if done.test else ""
    )
    if (found := done.balance) is not None:
        told += (
            f"; {', '.join(f'{count} {kind}' for kind, count in sorted(found.by_kind.items())) or 'no pairs'}"
            f" of {found.users} users"
        )
        told += (
            f"; the longer answer was chosen in {found.longer_chosen:.0%}, the later one in"
            f" {found.later_chosen:.0%}"
        )
    _console.print(told + ".", highlight=False)


def _told(tally: Tally) -> None:
    refused = (
        f"{tally.no_correction:,} were no corrections, {tally.unmet:,} missed what was wanted,"
        f" {tally.copied:,} copied the user, {tally.unusable:,} were unusable"
    )
    _console.print(
        f"Rewrote {tally.kept:,} of {tally.asked:,} answers ({tally.told_later:,} use what was told"
        f" later); {refused}; {tally.spent.tokens:,} tokens.",
        highlight=False,
    )
    if tally.stopped:
        _console.print(f"[yellow]{tally.stopped}[/]", highlight=False)


Epsilon = Annotated[
    float | None,
    typer.Option(help="Train with differential privacy: what a user's data may change, at most."),
]
Delta = Annotated[float, typer.Option(help="Chance that it changes more.")]
train = typer.Typer(no_args_is_help=True, help="Train reward models and policies.")


@train.command("reward")
def train_reward(
    data: Annotated[
        list[str],
        typer.Argument(
            help="Files of pairs or of scored examples; NAME=FILE makes a head of that name."
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write.")],
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="Read MiniLM embeddings too (the minilm extra).")
    ] = False,
    false_alarms: Annotated[
        float,
        typer.Option(
            min=0.001, max=0.5, help="Share of known kinds of input that are flagged as unknown."
        ),
    ] = 0.05,
    recipe: Annotated[
        Path | None,
        typer.Option(help="Train a transformer (the train extra) as this TOML file says."),
    ] = None,
    base: Annotated[
        str,
        typer.Option(help="Train a transformer from this name or folder; overrides the recipe's."),
    ] = "",
    epsilon: Epsilon = None,
    delta: Delta = 1e-6,
    update: Annotated[
        Path | None,
        typer.Option(help="Teach this embedded model the new rows, without the old ones."),
    ] = None,
    keep: Annotated[
        float,
        typer.Option(
            min=0.01, max=1, help="With --update: share of the old evidence that still counts."
        ),
    ] = 1.0,
    check: Annotated[
        bool,
        typer.Option("--check", help="Validate the recipe and say what it needs; train nothing."),
    ] = False,
) -> None:
    """Train a reward model and write its card: the embedded one, or a transformer.

    Example: upshot train reward examples/preferences.jsonl -o reward-model
    """
    heads = dict(
        _named(part, f"helpful_{number}" if number else "helpful")
        for number, part in enumerate(data)
    )
    chosen = _recipe(recipe, base)
    if check:
        if chosen is None:
            raise InputError("could not check: name a --recipe or a --base")
        _console.print_json(data=api.check_recipe(chosen, heads)._asdict())
        return
    with progress(_console) as step:
        model = (
            api.update_reward(update, heads, out, keep)
            if update
            else api.train_reward(
                heads, out, embeddings, false_alarms, chosen, _privacy(epsilon, delta), step
            )
        )
    table = Table(box=None)
    for name in ("head", "rows", "accuracy", "calibration error", "label noise"):
        table.add_column(name, justify="left" if name == "head" else "right")
    for head in model.heads:
        table.add_row(
            head.name,
            f"{head.rows:,}",
            f"{head.accuracy['all']:.3f}",
            f"{head.calibration.error:.3f}",
            f"{head.calibration.noise:.0%}",
        )
    _console.print(table)
    if model.epsilon is not None:
        _console.print(
            f"Private by user: epsilon {model.epsilon:g}, delta {model.delta:g}.", highlight=False
        )
    _console.print(f"Model: {out}; read {out / 'card.md'}", soft_wrap=True, highlight=False)


def _privacy(epsilon: float | None, delta: float) -> Privacy | None:
    if epsilon is None:
        return None
    from upshot.reward.private import Privacy  # scipy takes half a second to load

    return Privacy(epsilon, delta)


@train.command("audit")
def audit_leaks(
    data: Annotated[str, typer.Argument(help="A file of pairs.")],
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="Read MiniLM embeddings too (the minilm extra).")
    ] = False,
    epsilon: Epsilon = None,
    delta: Delta = 1e-6,
    canaries: Annotated[
        int, typer.Option(min=100, help="Made-up users of a run; half of them are trained on.")
    ] = 1000,
    runs: Annotated[int, typer.Option(min=1, help="Trainings with canaries.")] = 2,
) -> None:
    """Plant canaries to see how much the embedded reward model tells of whom it was trained on.

    Example: upshot train audit examples/preferences.jsonl --epsilon 3
    """
    with progress(_console) as step:
        found = api.audit_leaks(data, embeddings, _privacy(epsilon, delta), canaries, runs, step)
    write([found], "-")


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
    items: Annotated[
        str,
        typer.Argument(
            help="JSON lines of prompt and completion, or of pairs; - is standard input."
        ),
    ],
    out: Annotated[
        str, typer.Option("-o", "--out", help="File to write, or - for standard output.")
    ] = "-",
    weights: Annotated[
        str | None, typer.Option(help="How much each head counts: helpful=1,brief=0.5")
    ] = None,
    people: Annotated[
        str | None,
        typer.Option(help="Rows that users rated: what a response is worth to each of them."),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(
            help=(
                "With --people: mean, cvar:0.1 (the worst-served tenth), worst-group, or user:NAME."
            )
        ),
    ] = None,
    groups: Annotated[
        Path | None, typer.Option(help='For worst-group: a JSON object {"user": "group"}.')
    ] = None,
) -> None:
    """Score responses: reward, uncertainty, in-domain or not, and the parts it is made of.

    Example: upshot score reward-model examples/preferences.jsonl -o scores.jsonl
    """
    chosen = _objective(objective or "mean", groups) if objective or people else None
    write(api.score(model, items, _weights(weights), people, chosen), out)


def _objective(text: str, groups: Path | None) -> api.Objective:
    kind, _, value = text.partition(":")
    try:
        if kind == "cvar":
            return api.Objective("cvar", alpha=float(value or 0.1))
        if kind == "worst-group" and groups is not None:
            return api.Objective(
                "worst-group", groups=msgspec.json.decode(groups.read_bytes(), type=dict[str, str])
            )
        if kind == "user" and value:
            return api.Objective("user", user=value)
        if text == "mean":
            return api.Objective("mean")
    except (ValueError, OSError) as error:
        raise InputError(f"could not read --objective {text!r}: {error}") from error
    raise InputError(
        f"could not read --objective {text!r}: write mean, cvar:0.1, user:NAME, or worst-group with"
        " --groups FILE"
    )


def _weights(text: str | None) -> dict[str, float] | None:
    if text is None:
        return None
    try:
        return {
            name: float(value)
            for name, _, value in (part.partition("=") for part in text.split(","))
        }
    except ValueError as error:
        raise InputError(f"could not read --weights {text!r}: write helpful=1,brief=0.5") from error
