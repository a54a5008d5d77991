"""Retention of a repository from end to end: history, attribution, report, events for a lake."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from upshot.lake import Lake
from upshot.privacy.clean import make_content_id
from upshot.records import RawConversation
from upshot.retention import history_cache, report
from upshot.retention.attribution import Mention, attribute
from upshot.retention.authorship import Attribution
from upshot.retention.edit_survival import Edit, measure_edits
from upshot.retention.git import Git
from upshot.retention.line_history import LineHistory, Progress, trace_lines
from upshot.retention.report import Report
from upshot.sources.outside import Outside

KIND = "retention"
"""The kind of event that a response's retention becomes."""


class RepositoryRetention(NamedTuple):
    """The retention of a repository's lines."""

    report: Report
    edits: list[Edit] | None
    """How much of each edit's text is left, if requested."""


def measure_retention(
    repo: str | os.PathLike[str],
    mentions: Iterable[Mention] = (),
    *,
    releases: str = "*",
    horizon: int = 90,
    paths: Sequence[str] = (),
    traces: str | os.PathLike[str] | None = None,
    state: str | os.PathLike[str] | None = None,
    with_edits: bool = False,
    progress: Progress | None = None,
) -> RepositoryRetention:
    """Measure the retention of the lines that assistants wrote in a repository.

    Args:
        repo: A complete clone (not shallow).
        mentions: Commits that logs name.
        releases: Pattern of the tags that are releases.
        horizon: The age in days at which commits are compared.
        paths: Patterns of the files that count; none: all.
        traces: A file of Agent Trace records; without it those in the repository.
        state: A file that keeps the history between runs; created if it does not exist.
        with_edits: Also four-gram survival of each edit, which reads many files.
        progress: Called with `commits`, how many are done and how many there are in total.

    Raises:
        InputError: the repository, a note, a record or the kept history cannot be read.
    """
    git = Git(repo)
    earlier = (
        history_cache.load_history(state, git)
        if state is not None and Path(state).is_file()
        else None
    )
    history = trace_lines(git, report.find_releases(git, releases), earlier, progress)
    if state is not None:
        history_cache.save_history(history, state)
    attributions = attribute(
        git, history, mentions, None if traces is None else Path(traces).read_text("utf-8")
    )
    measured = report.make_report(git, history, attributions, horizon, paths)
    return RepositoryRetention(
        measured, list(measure_edits(git, history, attributions)) if with_edits else None
    )


def mentions_in_logs(conversations: Iterable[RawConversation]) -> Iterator[Mention]:
    """Find the commits that logs name, each with its response."""
    for conversation in conversations:
        for index, message in enumerate(conversation.messages):
            for signal in message.signals:
                if signal.kind == "commit":
                    yield Mention(
                        signal.detail,
                        (conversation.id or make_content_id(conversation), index),
                        conversation.source,
                    )


def mentions_in_lake(lake: Lake) -> Iterator[Mention]:
    """Find the commits that the events of a lake name."""
    rows = lake.read("events", columns=("id", "index", "kind", "detail")).to_pylist()
    commits = [row for row in rows if row["kind"] == "commit"]
    if not commits:
        return
    sources = {
        row["id"]: row["source"]
        for row in lake.read("conversations", columns=("id", "source")).to_pylist()
    }
    for row in commits:
        yield Mention(row["detail"], (row["id"], row["index"]), sources.get(row["id"], ""))


def make_outcome_events(measured: Report, time: float) -> Iterator[Outside]:
    """Make outcome events of responses: the lift of their commits, times the share known."""
    for commit in measured.commits:
        if (
            commit.id is not None
            and commit.index is not None
            and commit.outcome is not None
            and commit.lift is not None
        ):
            value = max(-1.0, min(1.0, commit.lift * commit.outcome.known))
            detail = (
                f"{commit.commit[:12]} kept {commit.outcome.retained:.2f}, expected"
                f" {commit.outcome.expected:.2f} at {measured.horizon_days} days"
            )
            yield Outside(commit.id, commit.index, KIND, value, time, detail)


__all__ = [
    "Attribution",
    "LineHistory",
    "Mention",
    "RepositoryRetention",
    "make_outcome_events",
    "measure_retention",
    "mentions_in_lake",
    "mentions_in_logs",
]
