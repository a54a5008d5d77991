"""The verbs that meet other systems."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

import upshot
from upshot.cli.options import ConfigFile, LakeDir, Workers, load_settings
from upshot.cli.output import log, notice, write
from upshot.cli.progress import progress

Target = Literal["langfuse", "otlp", "phoenix"]


def push(
    lake: LakeDir,
    to: Annotated[Target, typer.Option("--to", help="The system in which the traces are.")],
    base_url: Annotated[
        str | None,
        typer.Option(help="Its address; left out: what the environment says, as for its client."),
    ] = None,
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Verdicts below it are not sent.")
    ] = 0.3,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count what would be sent, and send nothing.")
    ] = False,
    config: ConfigFile = None,
    workers: Workers = None,
) -> None:
    """Send verdicts back to where the traces live; keys come from the environment alone.

    Example: upshot push --lake demo-lake --to langfuse --base-url http://localhost:3000 --dry-run
    """
    settings = load_settings(config, workers=workers)
    with progress() as update:
        report = upshot.push(
            lake,
            to=to,
            base_url=base_url,
            min_confidence=min_confidence,
            dry_run=dry_run,
            settings=settings,
            progress=update,
        )
    write([report], "-")
    done = f"{report.pending:,} to send" if dry_run else f"{report.sent:,} sent"
    notice(
        f"Scores: {done}, {report.unchanged:,} unchanged. Of {report.responses:,} responses with"
        f" news, {report.without_refs:,} have no id there and {report.unsure:,} are unsure."
    )
    if report.refused:
        log.error("%s scores were refused; first: %s", f"{report.refused:,}", report.reason)
    if report.stopped:
        log.error("%s (%s scores)", report.stopped, f"{report.pending:,}")
    if report.refused or report.stopped:
        raise typer.Exit(1)
