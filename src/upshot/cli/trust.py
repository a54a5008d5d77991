"""The verbs by which people check verdicts, and what the language model judges by."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

import upshot
from upshot.cli.labelling_prompt import LabellingPrompt
from upshot.cli.options import BaseUrl, ConfigFile, LakeDir, ModelName, Out, load_settings
from upshot.cli.output import notice, write
from upshot.errors import InputError

rubric = typer.Typer(no_args_is_help=True, help="What the language model judges by.")
By = Annotated[
    str,
    typer.Option(help="What tells the arms apart: model, or a key of the conversations' metadata."),
]
Rate = Annotated[
    float, typer.Option(min=0, max=1, help="Share of the responses that the audit draws.")
]
Seed = Annotated[str, typer.Option(help="Another seed draws another sample.")]
LabelFile = Annotated[
    Path,
    typer.Option(
        "--labels", help='JSON lines: {"id": "c1", "index": 3, "label": 1, "rater": "ana"}.'
    ),
]


def audit(
    lake: LakeDir,
    by: By = "model",
    rate: Rate = 0.05,
    seed: Seed = "audit",
    out: Out = "-",
    config: ConfigFile = None,
) -> None:
    """Draw a random sample of responses, independent of what came of them, to be labelled.

    Example: upshot audit --lake demo-lake --rate 0.5 -o audit.jsonl
    """
    items = upshot.audit(lake, by, rate=rate, seed=seed, settings=load_settings(config))
    if not write(items, out, "responses to label"):
        raise InputError(f"nothing drawn: no response fell into a sample of {rate:g}; raise --rate")


def label(
    items: Annotated[Path, typer.Argument(help="What `upshot audit` wrote.")],
    out: Annotated[
        Path,
        typer.Option("-o", "--out", help="Labels are appended here; what has one is passed over."),
    ] = Path("labels.jsonl"),
    rater: Annotated[str, typer.Option(help="Your name.")] = "me",
    blind: Annotated[
        bool, typer.Option("--blind", help="Do not show what the user said afterwards.")
    ] = False,
) -> None:
    """Label responses by hand: y, n, a number from 0 to 1, s to pass, q to stop.

    Example: upshot label audit.jsonl -o labels.jsonl --rater ana
    """
    prompt = LabellingPrompt(sys.stdin, blind=blind)
    for _ in upshot.label(items, prompt, rater=rater, out=out):
        pass  # each label is on disk before the next item is shown
    notice(f"{prompt.count} labels written to {out}.")


def calibrate(
    lake: LakeDir,
    labels: LabelFile,
    error: Annotated[
        float, typer.Option(min=0.001, max=0.5, help="How often an answer may be wrong.")
    ] = 0.1,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Reliability plot to write, as HTML.")
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Turn scores into probabilities by people's labels, and say how far to trust them.

    Example: upshot calibrate --lake demo-lake --labels labels.jsonl
    """
    calibration = upshot.calibrate(
        lake, labels, error=error, out=out, settings=load_settings(config)
    )
    write([calibration], "-")
    if out is not None:
        notice(f"Reliability plot: {out}")


def compare(
    lake: LakeDir,
    by: By = "model",
    a: Annotated[str, typer.Option("--a", help="Arm A.")] = "",
    b: Annotated[str, typer.Option("--b", help="Arm B.")] = "",
    labels: Annotated[Path | None, typer.Option("--labels", help="Labels of the audit.")] = None,
    rate: Rate = 0.05,
    seed: Seed = "audit",
    config: ConfigFile = None,
) -> None:
    """Is B better than A for users? Around an audit; without one it says what the logs cannot tell.

    Example: upshot compare --lake demo-lake --by model
    """
    comparison = upshot.compare(
        lake,
        by,
        a=a,
        b=b,
        labels=labels,
        rate=rate,
        seed=seed,
        settings=load_settings(config),
    )
    notice(comparison.answer)
    write([comparison], "-")


def evaluate(
    lake: LakeDir,
    by: Annotated[
        str, typer.Option(help="The knob: model, or a key of the conversations' metadata.")
    ] = "model",
    estimator: Annotated[
        Literal["ips", "snips", "dm", "dr"], typer.Option(help="How it is estimated.")
    ] = "snips",
    level: Annotated[float, typer.Option(min=0.5, max=0.999, help="Of the intervals.")] = 0.95,
    out: Out = "-",
    config: ConfigFile = None,
) -> None:
    """What each value of a knob would have earned, from logs that drew it at random.

    The conversations' metadata hold the value and the `propensity` it was drawn with.

    Example: upshot evaluate --lake demo-lake --by prompt_variant
    """
    values = upshot.evaluate(
        lake, by, estimator=estimator, level=level, settings=load_settings(config)
    )
    write(values, out, "values of the knob")


@rubric.command("show")
def rubric_show() -> None:
    """Print the shipped rubric, to be edited and given back with --rubric.

    Example: upshot rubric show
    """
    sys.stdout.write(upshot.rubric_show())


@rubric.command("learn")
def rubric_learn(
    lake: LakeDir,
    labels: LabelFile,
    out: Annotated[Path, typer.Option("-o", "--out", help="Rubric file to write.")] = Path(
        "rubric.toml"
    ),
    base_url: BaseUrl = None,
    model: ModelName = None,
    config: ConfigFile = None,
) -> None:
    """Learn a domain's signs of success and failure from labelled responses.

    Example: upshot rubric learn --lake demo-lake --labels labels.jsonl -o rubric.toml
    """
    settings = load_settings(config, llm={"base_url": base_url, "model": model})
    upshot.rubric_learn(lake, labels, out=out, settings=settings)
    notice(f"Rubric: {out}")
