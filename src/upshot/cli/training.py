"""The verbs that make training data and reward models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.table import Table

import upshot
from upshot.cli.options import ConfigFile, LakeDir, Out, TrustRemoteCode, load_settings
from upshot.cli.output import log, notice, show, write
from upshot.cli.progress import progress
from upshot.errors import InputError
from upshot.preferences.exporters import EXPORTERS
from upshot.preferences.kinds import KINDS

if TYPE_CHECKING:
    from upshot.api.pairs import Exported
    from upshot.preferences.rewrites import Tally


def pairs(
    lake: LakeDir,
    out: Out = "-",
    for_: Annotated[
        str, typer.Option("--for", help=f"Who will read it: {', '.join(EXPORTERS.names)}.")
    ] = "jsonl",
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
    tallies: list[Tally] = []
    with progress() as update:
        exported = upshot.export_pairs(
            lake,
            out,
            for_,
            kinds=[kind.strip() for kind in kinds.split(",") if kind.strip()],
            least_users=least_users,
            test_share=test_share,
            even_length=even_length,
            even_position=even_position,
            settings=load_settings(config),
            progress=update,
            on_report=tallies.append,
        )
    _show_export(exported)
    for tally in tallies:
        _show_rewrites(tally)
    if not exported.train + exported.test:
        raise InputError(
            f"nothing exported: no response of {lake} qualifies; `upshot report --lake {lake}`"
            " shows what its verdicts say"
        )
    if any(tally.stopped for tally in tallies):
        raise typer.Exit(1)


def _show_export(exported: Exported) -> None:
    text = f"{exported.train:,} rows for {exported.format}"
    if exported.test:
        text += f", {exported.test:,} for testing in {exported.test_file}"
    if (balance := exported.balance) is not None:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(balance.by_kind.items()))
        text += (
            f"; {kinds or 'no pairs'} of {balance.users} users; the longer answer was chosen in"
            f" {balance.longer_chosen:.0%}, the later one in {balance.later_chosen:.0%}"
        )
    notice(text + ".")


def _show_rewrites(tally: Tally) -> None:
    notice(
        f"Rewrote {tally.accepted:,} of {tally.corrections:,} answers"
        f" ({tally.using_correction:,} use the correction);"
        f" {tally.no_correction:,} were no corrections, {tally.unmet:,} missed what was"
        f" wanted, {tally.copied:,} copied the user, {tally.unusable:,} were unusable;"
        f" {tally.spent.tokens:,} tokens."
    )
    if tally.stopped:
        log.error("%s", tally.stopped)


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
    raters: Annotated[
        bool,
        typer.Option(
            "--raters",
            help="Take leniency, scale and taste of raters out of scored examples first.",
        ),
    ] = False,
    trust_remote_code: TrustRemoteCode = False,
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
    chosen = upshot.reward_recipe(recipe, base) if recipe or base else None
    if check:
        if chosen is None:
            raise InputError("could not check: name a --recipe or a --base")
        write(
            [
                upshot.check_reward_recipe(
                    chosen, heads, trust_remote_code=trust_remote_code
                )._asdict()
            ],
            "-",
        )
        return
    if raters and update:
        raise InputError(
            "could not update with --raters: rater effects are fitted to all ratings at once; train"
            " anew on the old rows and the new"
        )
    with progress() as report_progress:
        model = (
            upshot.update_reward(update, heads, out, keep=keep)
            if update
            else upshot.train_reward(
                heads,
                out,
                embeddings=embeddings,
                false_alarms=false_alarms,
                recipe=chosen,
                raters=raters,
                trust_remote_code=trust_remote_code,
                privacy=None if epsilon is None else upshot.Privacy(epsilon, delta),
                progress=report_progress,
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
    show(table)
    if model.epsilon is not None:
        notice(f"Private by user: epsilon {model.epsilon:g}, delta {model.delta:g}.")
    notice(f"Model: {out}; read {out / 'card.md'}")


@train.command("audit")
def train_audit(
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
    with progress() as update:
        leak = upshot.train_audit(
            data,
            embeddings=embeddings,
            privacy=None if epsilon is None else upshot.Privacy(epsilon, delta),
            canaries=canaries,
            runs=runs,
            progress=update,
        )
    write([leak], "-")


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
    out: Out = "-",
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
    trust_remote_code: TrustRemoteCode = False,
    groups: Annotated[
        Path | None, typer.Option(help='For worst-group: a JSON object {"user": "group"}.')
    ] = None,
) -> None:
    """Score responses: reward, uncertainty, in-domain or not, and the parts it is made of.

    Example: upshot score reward-model examples/preferences.jsonl -o scores.jsonl
    """
    chosen = _objective(objective or "mean", groups) if objective or people else None
    scores = upshot.score(
        model,
        items,
        weights=_weights(weights),
        people=people,
        trust_remote_code=trust_remote_code,
        objective=chosen,
    )
    if not write(scores, out, "scores"):
        raise InputError(f"nothing scored: {items} holds no row")


def _objective(text: str, groups: Path | None) -> upshot.Objective:
    kind, _, value = text.partition(":")
    try:
        if kind == "cvar":
            return upshot.Objective("cvar", alpha=float(value or 0.1))
        if kind == "worst-group" and groups is not None:
            return upshot.Objective(
                "worst-group", groups=msgspec.json.decode(groups.read_bytes(), type=dict[str, str])
            )
        if kind == "user" and value:
            return upshot.Objective("user", user=value)
        if text == "mean":
            return upshot.Objective("mean")
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
