"""Retention of a repository from end to end: history, attribution, report, and back to the
responses of a lake.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from upshot.lake import Lake
from upshot.privacy.clean import content_id
from upshot.records import RawConversation
from upshot.retention import history_cache, retention
from upshot.retention.attribution import Attribution, Mention, attribute
from upshot.retention.edit_survival import Edit, edits
from upshot.retention.git import Git
from upshot.retention.line_history import LineHistory, Progress, walk
from upshot.retention.retention import Report
from upshot.sources.outside import Outside

KIND = "retention"
"""The kind of event that a response's retention becomes."""


class Followed(NamedTuple):
    """What was found in a repository."""

    report: Report
    edits: list[Edit] | None
    """Text that is left of each edit, where it was asked for."""


def follow(
    repo: str | os.PathLike[str],
    mentions: Iterable[Mention] = (),
    releases: str = "*",
    horizon: int = 90,
    paths: Sequence[str] = (),
    traces: str | os.PathLike[str] | None = None,
    state: str | os.PathLike[str] | None = None,
    with_edits: bool = False,
    progress: Progress | None = None,
) -> Followed:
    """What became of the lines that assistants wrote in a repository.

    Args:
        repo: A clone, whole (not shallow).
        mentions: Commits that logs name.
        releases: Pattern of the tags that are releases.
        horizon: Days at which commits are compared.
        paths: Patterns of the files that count; none: all.
        traces: A file of Agent Trace records; without it those in the repository.
        state: A file that keeps the history between runs, made where it is not there.
        with_edits: Also four-gram survival of each edit, which reads many files.
        progress: Called with `commits`, how many are done and how many there are.

    Raises:
        InputError: the repository, a note, a record or the kept history cannot be read.
    """
    git = Git(repo)
    known = history_cache.load(state, git) if state is not None and Path(state).is_file() else None
    history = walk(git, retention.releases(git, releases), known, progress)
    if state is not None:
        history_cache.save(history, state)
    said = attribute(
        git, history, mentions, None if traces is None else Path(traces).read_text("utf-8")
    )
    report = retention.report(git, history, said, horizon, paths)
    return Followed(report, list(edits(git, history, said)) if with_edits else None)


def of_logs(conversations: Iterable[RawConversation]) -> Iterator[Mention]:
    """Commits that logs name, each with the response behind it."""
    for conversation in conversations:
        for index, message in enumerate(conversation.messages):
            for signal in message.signals:
                if signal.kind == "commit":
                    yield Mention(
                        signal.detail,
                        (conversation.id or content_id(conversation), index),
                        conversation.source,
                    )


def of_lake(lake: Lake) -> Iterator[Mention]:
    """The same, of a lake."""
    rows = lake.read("events", columns=("id", "index", "kind", "detail"))
    for row in rows.to_pylist():
        if row["kind"] == "commit":
            yield Mention(row["detail"], (row["id"], row["index"]))


def outcomes(report: Report, time: float) -> Iterator[Outside]:
    """What retention says of responses: more or less kept than lines of its kind, as far as that is
    known yet.
    """
    for commit in report.commits:
        if (
            commit.id is not None
            and commit.index is not None
            and commit.outcome is not None
            and commit.lift is not None
        ):
            value = max(-1.0, min(1.0, commit.lift * commit.outcome.known))
            detail = (
                f"{commit.commit[:12]} kept {commit.outcome.retained:.2f}, expected"
                f" {commit.outcome.expected:.2f} at {report.horizon_days} days"
            )
            yield Outside(commit.id, commit.index, KIND, value, time, detail)


__all__ = [
    "Attribution",
    "Followed",
    "LineHistory",
    "Mention",
    "follow",
    "of_lake",
    "of_logs",
    "outcomes",
]
