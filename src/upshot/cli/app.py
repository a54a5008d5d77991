"""One thin command a verb.

JSON lines go to standard output, progress and summaries to standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from upshot import api
from upshot import config as config_
from upshot.cli import crediting, loops, policies, training, verifying, worlds
from upshot.cli.asking import Asking
from upshot.cli.progress import progress as _progress
from upshot.errors import InputError, UpshotError
from upshot.hindsight.llm.rubric import text as rubric_text
from upshot.hindsight.trust.audit import read_items, read_labels
from upshot.io.json_lines import encode
from upshot.io.json_lines import write as _write
from upshot.report.reliability import reliability_page
from upshot.report.terminal import print_asked, print_erasure, print_summary
from upshot.sources import names

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_console = Console(stderr=True)

Logs = Annotated[list[str], typer.Argument(help="Files, folders, globs, or - for standard input.")]
LakeDir = Annotated[str, typer.Option("--lake", help="Folder or URL of the lake.")]
MaybeLake = Annotated[str | None, typer.Option("--lake", help="Work on this lake.")]
Format = Annotated[
    str | None,
    typer.Option("--format", help=f"One of {', '.join(names())}; found by content if left out."),
]
Columns = Annotated[
    str | None, typer.Option("--columns", help="Parquet: messages=COLUMN,id=COLUMN,user=COLUMN.")
]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="Settings file (TOML).")]
Workers = Annotated[int | None, typer.Option("--workers", min=1, help="Local processes.")]
Horizon = Annotated[
    int | None,
    typer.Option("--horizon", min=1, help="Messages after a response that may bear on it."),
]
Kind = Literal["embedded", "llm", "cascade"]
Out = Annotated[str, typer.Option("-o", "--out", help="File to write, or - for standard output.")]


def _settings(
    path: Path | None, workers: int | None = None, horizon: int | None = None
) -> config_.Settings:
    return config_.load(path, engine={"workers": workers}, judge={"horizon": horizon})


def _columns(text: str | None) -> dict[str, str] | None:
    if text is None:
        return None
    pairs = [part.partition("=") for part in text.split(",")]
    if any(not name or not column for name, _, column in pairs):
        raise InputError(f"could not read --columns {text!r}: write messages=COLUMN,id=COLUMN")
    return {name: column for name, _, column in pairs}


@app.command()
def run(
    logs: Logs,
    lake: LakeDir,
    format: Format = None,
    columns: Columns = None,
    config: ConfigFile = None,
    workers: Workers = None,
    horizon: Horizon = None,
) -> None:
    """Ingest, link, judge and report: the main job.

    Example: upshot run examples/chats.jsonl --lake demo-lake
    """
    with _progress(_console) as progress:
        done = api.run(
            logs, lake, _settings(config, workers, horizon), format, _columns(columns), progress
        )
    print_summary(_console, done.summary)
    if done.asked:
        _said(done.asked)
    if done.report:
        _console.print(f"Report: {done.report}", soft_wrap=True)


@app.command()
def ingest(
    lake: LakeDir,
    logs: Annotated[
        list[str] | None, typer.Argument(help="Files, folders, globs, or - for standard input.")
    ] = None,
    events: Annotated[
        Path | None, typer.Option(help="Events of an application, keyed by response (JSON lines).")
    ] = None,
    format: Format = None,
    columns: Columns = None,
    config: ConfigFile = None,
    workers: Workers = None,
) -> None:
    """Read logs, make them private and write them to the lake; or events that an application
    reports of responses.

    Example: upshot ingest examples/chats.jsonl --lake demo-lake
    """
    if logs or events is None:
        with _progress(_console) as progress:
            _write(
                [
                    api.ingest(
                        _need(logs, "ingest"),
                        lake,
                        _settings(config, workers),
                        format,
                        _columns(columns),
                        progress,
                    )
                ],
                "-",
            )
    if events is not None:
        _write([api.ingest_events(events, lake, _settings(config))], "-")


@app.command()
def link(
    logs: Annotated[list[str] | None, typer.Argument(help="Files, or nothing with --lake.")] = None,
    lake: MaybeLake = None,
    out: Out = "-",
    format: Format = None,
    config: ConfigFile = None,
    workers: Workers = None,
) -> None:
    """Join a user's sessions into threads.

    Example: upshot link examples/chats.jsonl -o threads.jsonl
    """
    settings = _settings(config, workers)
    if lake is not None:
        with _progress(_console) as progress:
            _write([api.link_lake(lake, settings, progress)], "-")
        return
    _write(api.link(api.read(_need(logs, "link"), format), settings), out)


@app.command()
def judge(
    logs: Annotated[list[str] | None, typer.Argument(help="Files, or nothing with --lake.")] = None,
    lake: MaybeLake = None,
    out: Out = "-",
    format: Format = None,
    config: ConfigFile = None,
    workers: Workers = None,
    horizon: Horizon = None,
    judge: Annotated[
        Kind | None, typer.Option(help="embedded, llm, or cascade (the LLM where it pays).")
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(help="OpenAI-compatible address, up to /v1.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Name of the model there.")] = None,
    votes: Annotated[int | None, typer.Option(min=1, help="Samples of each judgement.")] = None,
    share: Annotated[
        float | None, typer.Option(help="Share of threads that the cascade sends to the LLM.")
    ] = None,
    rubric: Annotated[Path | None, typer.Option(help="Another rubric file.")] = None,
    budget_tokens: Annotated[
        int | None, typer.Option(help="Stop before more tokens than this.")
    ] = None,
    budget_usd: Annotated[
        float | None,
        typer.Option(help="Stop before more money than this (prices in the settings)."),
    ] = None,
    batch: Annotated[
        bool | None, typer.Option("--batch", help="Use the endpoint's batch interface.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would take, and send nothing.")
    ] = False,
) -> None:
    """Judge every response in hindsight.

    Example: upshot judge examples/chats.jsonl -o verdicts.jsonl --horizon 20
    """
    settings = config_.load(
        config,
        engine={"workers": workers},
        judge={"horizon": horizon, "kind": judge, "share": share},
        llm={
            "base_url": base_url,
            "model": model,
            "votes": votes,
            "rubric": rubric,
            "budget_tokens": budget_tokens,
            "budget_usd": budget_usd,
            "batch": batch,
        },
    )
    if dry_run:
        _write(
            [
                api.plan_lake(lake, settings)
                if lake
                else api.plan(api.read(_need(logs, "judge"), format), settings)
            ],
            "-",
        )
        return
    with _progress(_console) as progress:
        if lake is None:
            found: Iterable[Any] = api.judge(
                api.read(_need(logs, "judge"), format), None, settings, progress, _said
            )
        elif settings.judge.kind == "embedded":
            api.judge_lake(lake, settings, progress)
            found = api.verdicts(lake, settings)
        else:
            _said(api.ask_lake(lake, settings, progress))
            found = api.verdicts(lake, settings)
    _write(found, out)


def _said(done: Any) -> None:
    print_asked(_console, done)


@app.command()
def report(
    lake: LakeDir,
    out: Annotated[Path, typer.Option("-o", "--out", help="HTML file to write.")] = Path(
        "report.html"
    ),
    config: ConfigFile = None,
) -> None:
    """Write the report of a lake as one HTML file and print a summary.

    Example: upshot report --lake demo-lake -o report.html
    """
    print_summary(_console, api.make_report(lake, out, _settings(config)))
    _console.print(f"Report: {out}", soft_wrap=True)


@app.command()
def erase(
    user: Annotated[
        str, typer.Option("--user", help="The name in the logs, or the pseudonym u_….")
    ],
    lake: LakeDir,
    models: Annotated[
        list[Path] | None,
        typer.Option(
            "--models", help="Folders to look for reward models in that learned from them."
        ),
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Erase a user from every table and file version, and prove it.

    Example: upshot erase --user ana --lake demo-lake
    """
    proof = api.erase(user, lake, _settings(config), models or ())
    print_erasure(_console, proof)


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


@app.command()
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
    _write(api.audit(lake, by, rate, seed, _settings(config)), out)


@app.command()
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
    known = list(read_labels(out).mean) if out.is_file() else []
    asking = Asking(_console, sys.stdin, blind)
    with open(out, "ab") as handle:
        for found in api.label(read_items(items), asking, rater, known):
            handle.write(encode(found) + b"\n")
            handle.flush()
    _console.print(f"{asking.given} labels written to {out}.", highlight=False)


@app.command()
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
    found = api.calibrate(lake, labels, error, _settings(config))
    if out is not None:
        out.write_text(reliability_page(found), encoding="utf-8")
    _write([found], "-")


@app.command()
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
    found = api.compare(lake, by, a, b, labels, rate, seed, _settings(config))
    _console.print(found.answer, highlight=False, markup=False)
    _write([found], "-")


app.command("pairs")(training.pairs)
training.train.command("policy")(policies.train_policy)
app.add_typer(training.train, name="train")
app.command("score")(training.score)
app.add_typer(worlds.world, name="world")
app.add_typer(loops.loop, name="loop")
app.command("credit")(crediting.credit)
app.command("retention")(verifying.retention)
app.command("verify")(verifying.verify)
app.command("attempt")(verifying.attempt)

rubrics = typer.Typer(no_args_is_help=True, help="What the language model judges by.")
app.add_typer(rubrics, name="rubric")


@rubrics.command("show")
def rubric_show() -> None:
    """Print the shipped rubric, to be edited and given back with --rubric.

    Example: upshot rubric show
    """
    sys.stdout.write(rubric_text())


@rubrics.command("learn")
def rubric_learn(
    lake: LakeDir,
    labels: LabelFile,
    out: Annotated[Path, typer.Option("-o", "--out", help="Rubric file to write.")] = Path(
        "rubric.toml"
    ),
    base_url: Annotated[
        str | None, typer.Option(help="OpenAI-compatible address, up to /v1.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Name of the model there.")] = None,
    config: ConfigFile = None,
) -> None:
    """Learn a domain's signs of success and failure from labelled responses.

    Example: upshot rubric learn --lake demo-lake --labels labels.jsonl -o rubric.toml
    """
    settings = config_.load(config, llm={"base_url": base_url, "model": model})
    out.write_text(rubric_text(api.learn_rubric(lake, labels, settings)), encoding="utf-8")
    _console.print(f"Rubric: {out}", soft_wrap=True)


def _need(logs: list[str] | None, verb: str) -> list[str]:
    if not logs:
        raise InputError(
            f"could not {verb}: name files (- is standard input) or a lake with --lake"
        )
    return logs


def main() -> None:
    """Run the command line: exit code 0, 1 (a defect), 2 (the user's input), 130 (interrupted)."""
    try:
        app(standalone_mode=False)
    except UpshotError as error:
        _console.print(
            f"upshot: {error}", style="red", markup=False, highlight=False, soft_wrap=True
        )
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        _console.print(
            "upshot: interrupted; what was committed is whole, run the same command to go on",
            markup=False,
        )
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        _console.print(
            f"upshot: {error.format_message()}; see `upshot --help`",
            style="red",
            markup=False,
            soft_wrap=True,
        )  # pyright: ignore
        sys.exit(2)
