"""The verbs of a lake's upkeep."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

import upshot
from upshot.cli.options import ConfigFile, LakeDir, Workers, load_settings
from upshot.cli.output import log, notice, show, write
from upshot.cli.progress import progress

lake = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="What a lake holds and has learned; its files and buckets.",
)


@lake.command()
def stats(
    lake: LakeDir,
    config: ConfigFile = None,
) -> None:
    """Count rows, files and commits of each table.

    Example: upshot lake stats --lake demo-lake
    """
    measured = upshot.lake_stats(lake, load_settings(config))
    table = Table(box=None, pad_edge=False)
    for name in ("table", "rows", "stored", "files", "MB", "commits"):
        table.add_column(name, justify="left" if name == "table" else "right")
    for name, one in measured.tables.items():
        numbers = (one.rows, one.stored, one.files)
        table.add_row(
            name, *(f"{number:,}" for number in numbers), f"{one.mb:,.1f}", f"{one.commits:,}"
        )
    show(table)
    for model in measured.models:
        notice(f"learned: {model.name} {model.version}, {model.learned_at}")
    write([measured], "-")


@lake.command()
def check(
    lake: LakeDir,
    repair: Annotated[
        bool, typer.Option("--repair", help="Restore from what is whole; says what is gone.")
    ] = False,
    config: ConfigFile = None,
) -> None:
    """Look at every log and file, and count the messages of each conversation.

    Example: upshot lake check --lake demo-lake
    """
    result = upshot.lake_check(lake, load_settings(config), repair=repair)
    for damage in result.damages:
        log.error("%s: %s", damage.place, damage.problem)
        if damage.lost:
            log.error("  gone: %s", damage.lost)
    write([result], "-")
    if result.damages and not result.is_repaired:
        log.error("repair it with `upshot lake check --repair`; copy the folder before")
    if any(damage.lost or not result.is_repaired for damage in result.damages):
        raise typer.Exit(1)
    notice("repaired; nothing is gone" if result.is_repaired else "the lake is whole")


@lake.command()
def compact(lake: LakeDir, config: ConfigFile = None) -> None:
    """Drop superseded rows, merge small files, shorten the logs.

    Example: upshot lake compact --lake demo-lake
    """
    with progress() as update:
        done = upshot.lake_compact(lake, load_settings(config), update)
    write([done], "-")


@lake.command()
def rebucket(
    lake: LakeDir,
    buckets: Annotated[int, typer.Option("--buckets", min=1, max=65536, help="How many.")],
    config: ConfigFile = None,
) -> None:
    """Give a lake another number of buckets. No verdict changes.

    Example: upshot lake rebucket --lake demo-lake --buckets 64
    """
    with progress() as update:
        moved = upshot.lake_rebucket(lake, buckets, load_settings(config), update)
    notice(f"moved {moved:,} rows to {buckets} buckets")


@lake.command()
def renew(lake: LakeDir, config: ConfigFile = None, workers: Workers = None) -> None:
    """Learn anew what is learned from everybody, and link and judge everything by it.

    Between renewals nobody's verdict changes because somebody else wrote.
    Example: upshot lake renew --lake demo-lake
    """
    with progress() as update:
        linked, judged = upshot.lake_renew(lake, load_settings(config, workers=workers), update)
    notice(f"{linked.rows:,} links and {judged.rows:,} verdicts changed")
    write([linked, judged], "-")
