"""The verbs that take finished expert work back to its research."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

import upshot
from upshot.cli.options import BaseUrl, ConfigFile, ModelName, Out, load_settings
from upshot.cli.output import end_partly, log, notice, replies_beside, show, write
from upshot.cli.progress import progress
from upshot.errors import EndpointError

if TYPE_CHECKING:
    from upshot.artifacts.llm_judge import JudgeCost

_CONTROLS = ("none", "closed-book", "without-key", "random-sources")
"""The replay itself, and the controls beside it."""

Sources = Annotated[
    list[str],
    typer.Option("--sources", help="Folder or file of the sources; may be given again."),
]


def reconstruct(
    artifacts: Annotated[
        list[str],
        typer.Argument(
            help="Files and folders: Markdown, reStructuredText, HTML, text, or JSON lines."
        ),
    ],
    sources: Sources,
    out: Out = "-",
    as_of: Annotated[
        str,
        typer.Option("--as-of", help="The day whose sources count, instead of each one's date."),
    ] = "",
    judge: Annotated[
        Literal["embedded", "llm"],
        typer.Option(help="Rules alone, or with the language model at --base-url."),
    ] = "embedded",
    base_url: BaseUrl = None,
    model: ModelName = None,
    config: ConfigFile = None,
) -> None:
    """Take finished expert work back to its questions, its research steps and its sources.

    Example: upshot reconstruct examples/memos/memos --sources examples/memos/code -o trails.jsonl
    """
    settings = load_settings(config, llm={"base_url": base_url, "model": model})
    with replies_beside(out) as replies:
        with progress() as update:
            result = upshot.reconstruct(
                artifacts,
                sources=sources,
                judge=judge,
                as_of=as_of,
                settings=settings,
                progress=update,
                replies=replies,
            )
        for record in result.bad_sources:
            where = f"{record.file}: {record.position}"
            log.warning("a source was left out: %s: %s", where, record.reason)
        if result.trails:
            write(result.trails, out, "trails")
            _show_trails(result)
        first = result.bad[0] if result.bad else None
        reason = "" if first is None else f"{first.file}: {first.position}: {first.reason}"
        end_partly(len(result.trails), len(result.bad), reason, what="reconstructed")
        if result.cost is not None:
            _show_cost(result.cost)


def _show_cost(cost: JudgeCost) -> None:
    notice(
        f"{cost.spent.calls:,} requests, {cost.spent.tokens:,} tokens, ${cost.spent.usd:.2f};"
        f" {cost.unreadable:,} artifacts without a usable reply, {cost.refused_spans:,} answers not"
        f" in the text, {cost.refused_questions:,} questions that give away the answer,"
        f" {cost.ties:,} claims with a tie"
    )
    if cost.stopped:
        log.error("%s", cost.stopped)
        raise typer.Exit(1)


def replay(
    trails: Annotated[str, typer.Argument(help="JSON lines of trails; - is standard input.")],
    sources: Sources,
    out: Out = "-",
    policy: Annotated[
        str | None,
        typer.Option("--policy", help="Folder of a model that replays, on this machine."),
    ] = None,
    closed_book: Annotated[
        bool, typer.Option("--closed-book", help="Only without the library.")
    ] = False,
    without: Annotated[
        Literal["key"] | None, typer.Option("--without", help="Only without the key source.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Replays of each trail and control.")] = 1,
    max_calls: Annotated[int, typer.Option(min=1, help="Calls of tools in a replay.")] = 40,
    base_url: BaseUrl = None,
    model: ModelName = None,
    config: ConfigFile = None,
) -> None:
    """Give an agent question and facts alone: does it come to the same sources and conclusion?

    The agent is that of rules, the model at --base-url, or --policy. Three controls stand beside
    it: closed book, the key source removed, random sources.

    Example: upshot replay trails.jsonl --sources examples/memos/code -o replays.jsonl
    """
    controls = choose_controls(closed_book=closed_book, without=without)
    settings = load_settings(config, llm={"base_url": base_url, "model": model})
    with replies_beside(out) as replies:
        with progress() as update:
            report = upshot.replay(
                trails,
                sources=sources,
                policy=policy,
                controls=controls,
                seeds=seeds,
                max_calls=max_calls,
                settings=settings,
                progress=update,
                replies=replies,
            )
        if not report.replays:
            raise EndpointError(f"nothing replayed: {report.stopped or 'no reply could be used'}")
        write(report.replays, out, "replays")
        _show_replays(report)
        if report.stopped:
            log.error("%s", report.stopped)
            raise typer.Exit(1)


def choose_controls(*, closed_book: bool, without: str | None) -> tuple[str, ...]:
    """The controls that flags ask for; all, and the replay itself, without any."""
    chosen = [name for name, flag in (("closed-book", closed_book), ("without-key", bool(without)))
              if flag]  # fmt: skip
    return tuple(chosen) or _CONTROLS


def _show_replays(report: upshot.ReplayReport) -> None:
    measures = (
        "source_recall",
        "cited_precision",
        "passage_recall",
        "quote_fidelity",
        "conclusion",
    )
    rows = Table("control", *(name.replace("_", " ") for name in measures), box=None)
    for control in dict.fromkeys(replay.control for replay in report.replays):
        cells: list[str] = []
        for name in measures:
            value = report.estimate(control, name)
            bounds = f"{value.mean:.2f} [{value.low:.2f}, {min(1.0, value.high):.2f}]"
            cells.append(bounds if value.count else "–")
        rows.add_row("the library" if control == "none" else control.replace("-", " "), *cells)
    show(rows)
    changed = report.changed_without_key
    if math.isfinite(changed):
        notice(f"Without its key source {changed:.0%} of the conclusions change or are withheld.")
    if report.spent is not None:
        notice(f"{report.spent.calls:,} requests, {report.spent.tokens:,} tokens")


trails = typer.Typer(
    name="trails", no_args_is_help=True, rich_markup_mode=None, help="Training data of trails."
)


@trails.command("export")
def trails_export(
    file: Annotated[
        str | None, typer.Argument(help="JSON lines of trails; or nothing with --replays.")
    ] = None,
    target: Annotated[
        Literal["sft", "credit", "verifiers", "preferences"],
        typer.Option("--for", help="What is to be trained."),
    ] = "sft",
    replays: Annotated[
        str | None, typer.Option("--replays", help="JSON lines of replays: credit, preferences.")
    ] = None,
    out: Out = "-",
) -> None:
    """Write conversations, credits, tasks or pairs of trails and replays.

    Example: upshot trails export trails.jsonl --for sft -o sft.jsonl
    """
    write(upshot.trails_export(file, target, replays=replays), out, f"rows for {target}")


def _show_trails(result: upshot.Reconstruction) -> None:
    trails = result.trails
    rows = Table("check", "trails without a problem", box=None)
    for name in result.check_names:
        rows.add_row(name, f"{result.share_passing(name):.0%}")
    show(rows)
    citations = [citation for trail in trails for citation in trail.citations]
    resolved = sum(citation.status == "resolved" for citation in citations)
    unreachable = sum(len(trail.unreachable) for trail in trails)
    silent = sum(not any(step.source for step in trail.steps) for trail in trails)
    notice(
        f"{resolved:,} of {len(citations):,} citations lead to one source;"
        f" {unreachable:,} sources no search leads to;"
        f" {sum(trail.is_exportable for trail in trails):,} trails can be exported"
        f" ({len(trails) / max(result.seconds, 1e-9):.0f} a second)."
    )
    if silent:
        notice(f"{silent:,} artifacts cite no source of the library: their trails hold questions.")
