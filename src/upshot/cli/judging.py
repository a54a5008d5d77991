"""The verbs from logs to verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

import upshot
from upshot.api.opening import exported
from upshot.cli.options import (
    BaseUrl,
    ConfigFile,
    Format,
    Horizon,
    LakeDir,
    Logs,
    Map,
    MaybeLake,
    MaybeLogs,
    ModelName,
    Out,
    UserName,
    Workers,
    load_settings,
    parse_map,
    require_logs,
)
from upshot.cli.output import end_partly, log, notice, replies_beside, write
from upshot.cli.progress import progress
from upshot.cli.summaries import show_asked, show_erasure, show_notes, show_summary
from upshot.errors import InputError

if TYPE_CHECKING:
    from upshot.hindsight.llm.cascade import Report as AskReport
    from upshot.sources.ingest import IngestReport


def run(
    logs: Logs,
    lake: LakeDir,
    format: Format = None,
    mapping: Map = None,
    user: UserName = None,
    config: ConfigFile = None,
    workers: Workers = None,
    horizon: Horizon = None,
) -> None:
    """Ingest, link, judge and report: the main job.

    Example: upshot run examples/chats.jsonl --lake demo-lake
    """
    settings = load_settings(
        config, workers=workers, judge={"horizon": horizon}, sources={"user": user}
    )
    with progress() as update:
        result = upshot.run(
            logs,
            lake,
            settings,
            format=format,
            mapping=parse_map(mapping),
            progress=update,
        )
    show_summary(result.summary)
    if result.asked is not None:
        show_asked(result.asked)
    if result.report:
        notice(f"Report: {result.report}")
    _end_of_ingest(result.ingest)
    if result.asked is not None and (result.asked.stopped or result.asked.tally.unanswered):
        problem = result.asked.stopped or result.asked.tally.first_problem
        log.error("the language model did not judge everything: %s", problem)
        raise typer.Exit(1)


def read(
    logs: Logs,
    out: Out = "-",
    raw: Annotated[
        bool, typer.Option("--raw", help="As the logs have it: not redacted, real names.")
    ] = False,
    format: Format = None,
    mapping: Map = None,
    user: UserName = None,
    config: ConfigFile = None,
) -> None:
    """Read logs and write what was understood: who wrote what, in which order, of which
    conversation.

    Example: upshot read examples/chats.jsonl -o conversations.jsonl
    """
    reading = upshot.read(
        logs,
        raw=raw,
        format=format,
        mapping=parse_map(mapping),
        user=user or "",
        settings=load_settings(config),
    )
    count = write(reading, out, "conversations")
    show_notes(reading.skipped, reading.notes)
    end_partly(count, len(reading.bad), reading.first_reason, what="read")


def ingest(
    lake: LakeDir,
    logs: Annotated[
        list[str] | None, typer.Argument(help="Files, folders, globs, or - for standard input.")
    ] = None,
    events: Annotated[
        Path | None,
        typer.Option(help="Events of an application, keyed by response (JSON lines)."),
    ] = None,
    format: Format = None,
    mapping: Map = None,
    user: UserName = None,
    config: ConfigFile = None,
    workers: Workers = None,
) -> None:
    """Read logs, make them private and write them to a lake; or events that an application reports.

    Example: upshot ingest examples/chats.jsonl --lake demo-lake
    """
    settings = load_settings(config, workers=workers, sources={"user": user})
    report = None
    if logs or events is None:
        with progress() as update:
            report = upshot.ingest(
                require_logs(logs, "ingest"),
                lake,
                settings,
                format=format,
                mapping=parse_map(mapping),
                progress=update,
            )
        write([report], "-")
    if events is not None:
        recorded = upshot.ingest_events(events, lake, settings)
        write([recorded], "-")
        end_partly(
            recorded.events + recorded.known,
            recorded.quarantined,
            recorded.first_reason,
            what="recorded",
        )
    if report is not None:
        _end_of_ingest(report)


def _end_of_ingest(report: IngestReport) -> None:
    show_notes(report.skipped, report.notes)
    if report.clashes:
        notice(
            f"{report.clashes:,} conversations have an id that already stood for another; both"
            f" stay, the later under a name of its own (the first: {report.clash})."
        )
    if report.erased:
        notice(
            f"{report.erased:,} conversations are of users who were erased, and were left out;"
            " `upshot erase --allow-again` lets a user in again."
        )
    done = report.conversations + report.known
    if not done and not report.quarantined and not report.erased:
        raise InputError("could not ingest: the logs hold no conversation")
    end_partly(done, report.quarantined, report.first_reason, what="read")


def link(
    logs: MaybeLogs = None,
    lake: MaybeLake = None,
    out: Out = "-",
    format: Format = None,
    mapping: Map = None,
    user: UserName = None,
    config: ConfigFile = None,
    workers: Workers = None,
) -> None:
    """Join each user's sessions into threads.

    Example: upshot link examples/chats.jsonl -o threads.jsonl
    """
    settings = load_settings(config, workers=workers, sources={"user": user})
    bad: list[upshot.BadRecord] = []
    with progress() as update:
        members = upshot.link(
            None if lake else require_logs(logs, "link"),
            lake=lake,
            settings=settings,
            format=format,
            mapping=parse_map(mapping),
            progress=update,
            on_bad=bad.append,
        )
    with exported(lake, out, "threads", settings):
        count = write(members, out, "conversations")
    _end_of_reading(count, bad, "linked", "conversation")


Judge = Literal["embedded", "llm", "cascade"]


def judge(
    logs: MaybeLogs = None,
    lake: MaybeLake = None,
    out: Out = "-",
    format: Format = None,
    mapping: Map = None,
    user: UserName = None,
    config: ConfigFile = None,
    workers: Workers = None,
    horizon: Horizon = None,
    judge: Annotated[
        Judge | None, typer.Option(help="embedded, llm, or cascade (the LLM where it pays).")
    ] = None,
    base_url: BaseUrl = None,
    model: ModelName = None,
    votes: Annotated[int | None, typer.Option(min=1, help="Samples of each judgement.")] = None,
    share: Annotated[
        float | None, typer.Option(help="Share of threads that the cascade sends to the LLM.")
    ] = None,
    rubric: Annotated[Path | None, typer.Option(help="Another rubric file.")] = None,
    budget_tokens: Annotated[int | None, typer.Option(help="Stop before more tokens.")] = None,
    budget_usd: Annotated[
        float | None, typer.Option(help="Stop before more money (prices in the settings).")
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
    settings = load_settings(
        config,
        workers=workers,
        sources={"user": user},
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
    paths = None if lake else require_logs(logs, "judge")
    if dry_run:
        write([upshot.plan(paths, lake=lake, settings=settings, format=format)], "-")
        return
    bad: list[upshot.BadRecord] = []
    reports: list[AskReport] = []
    with replies_beside(out, lake) as replies:
        with progress() as update:
            verdicts = upshot.judge(
                paths,
                lake=lake,
                settings=settings,
                format=format,
                mapping=parse_map(mapping),
                progress=update,
                on_report=reports.append,
                on_bad=bad.append,
                replies=replies,
            )
        with exported(lake, out, "verdicts", settings):
            count = write(verdicts, out, "verdicts")
        for report in reports:
            show_asked(report)
        _end_of_reading(count, bad, "judged", "response")
        if any(report.stopped or report.tally.unanswered for report in reports):
            raise typer.Exit(1)


def _end_of_reading(count: int, bad: list[upshot.BadRecord], what: str, noun: str) -> None:
    if not count and not bad:
        raise InputError(f"nothing {what}: there is no {noun}")
    first = f"{bad[0].file}: {bad[0].position}: {bad[0].reason}" if bad else ""
    end_partly(count, len(bad), first, what=what)


def report(
    lake: MaybeLake = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="HTML file to write.")] = Path(
        "report.html"
    ),
    trails: Annotated[
        str | None, typer.Option("--trails", help="Show these trails of artifacts instead.")
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Write the report of a lake as one HTML file and print a summary; or the page of trails.

    Example: upshot report --lake demo-lake -o report.html
    """
    if trails is not None:
        count = upshot.report_trails(trails, out)
        notice(f"{count:,} trails on the page {out}.")
        return
    if lake is None:
        raise InputError("could not report: name a lake with --lake, or trails with --trails")
    show_summary(upshot.report(lake, out, load_settings(config)))
    notice(f"Report: {out}")


def erase(
    user: Annotated[
        str, typer.Option("--user", help="The name in the logs, or the pseudonym u_….")
    ],
    lake: LakeDir,
    models: Annotated[
        list[Path] | None,
        typer.Option(
            "--models", help="Folders to search for reward models that learned from them."
        ),
    ] = None,
    pseudonym: Annotated[
        bool, typer.Option("--pseudonym", help="The user is a pseudonym, and nobody's name.")
    ] = False,
    allow_again: Annotated[
        bool,
        typer.Option("--allow-again", help="Erase nothing: let later runs take the user in again."),
    ] = False,
    config: ConfigFile = None,
) -> None:
    """Erase a user from every table and file version, and prove it; later runs leave them out.

    Example: upshot erase --user ana --lake demo-lake
    """
    proof = upshot.erase(
        user,
        lake,
        load_settings(config),
        models=models or (),
        pseudonym=pseudonym,
        allow_again=allow_again,
    )
    show_erasure(proof)
