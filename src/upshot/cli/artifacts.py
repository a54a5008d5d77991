"""The verbs that take finished expert work back to its research."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

import upshot
from upshot.api.artifacts import Reconstruction, check_names, share_passing
from upshot.cli.options import Out
from upshot.cli.output import end_partly, log, notice, show, write
from upshot.cli.progress import progress

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
) -> None:
    """Take finished expert work back to its questions, its research steps and its sources.

    Example: upshot reconstruct examples/memos/memos --sources examples/memos/code -o trails.jsonl
    """
    with progress() as update:
        result = upshot.reconstruct(artifacts, sources=sources, as_of=as_of, progress=update)
    for record in result.bad_sources:
        log.warning(
            "a source was left out: %s: %s: %s", record.file, record.position, record.reason
        )
    if result.trails:
        write(result.trails, out, "trails")
        _show_trails(result)
    first = result.bad[0] if result.bad else None
    reason = "" if first is None else f"{first.file}: {first.position}: {first.reason}"
    end_partly(len(result.trails), len(result.bad), reason, what="reconstructed")


def _show_trails(result: Reconstruction) -> None:
    trails = result.trails
    rows = Table("check", "trails without a problem", box=None)
    for name in check_names(trails):
        rows.add_row(name, f"{share_passing(trails, name):.0%}")
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
