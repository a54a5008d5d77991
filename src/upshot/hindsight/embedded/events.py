"""Events in logs, each resolved to the response that it concerns.

An undo names a commit and gives the new HEAD. The response behind that commit may be in an earlier
session, and every commit after HEAD is gone too: a stack of undos, or a reset, reaches back over
several responses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from upshot.hindsight.embedded.timeline import ASSISTANT, Timeline
from upshot.records import CleanTable
from upshot.records.signals import SIGNALS

EVENT_KINDS = tuple(name for name, kind in SIGNALS.items() if kind.prior)
"""Kinds of signals that the judge weighs: one feature each."""


class Event(NamedTuple):
    """One event on one response."""

    response: int
    """Position of the response."""
    at: int
    """Position of the message that shows it, or of the response itself."""
    kind: str
    value: float
    """In [-1, 1]."""
    detail: str


def resolve_events(events: CleanTable, line: Timeline) -> list[Event]:
    """The events of a bucket, each with the response that it concerns."""
    if not events.num_rows:
        return []
    position = {
        (cid, i): p for p, (cid, i) in enumerate(zip(line.conversation, line.index, strict=True))
    }
    rows = events.select(["user", "id", "index", "kind", "value", "at", "detail"]).to_pylist()
    resolved: list[Event] = []
    commits: dict[tuple[str, str], tuple[int, int]] = {}
    pending: list[tuple[str, int, str, str]] = []
    for row in rows:
        response = position.get((row["id"], row["index"]))
        at = position.get((row["id"], row["at"]), response)
        if response is None or at is None:
            continue
        kind = row["kind"]
        if kind in ("commit", "own_commit"):
            commits[(row["user"], row["detail"])] = (response, at)
        if kind in ("undo", "head") and line.role[response] != ASSISTANT:
            pending.append((row["user"], at, kind, row["detail"]))
        elif line.role[response] == ASSISTANT and kind in EVENT_KINDS:
            resolved.append(Event(response, at, kind, float(row["value"]), row["detail"]))
    resolved += _undo_events(line, commits, pending)
    return resolved


def _undo_events(
    line: Timeline,
    commits: dict[tuple[str, str], tuple[int, int]],
    pending: list[tuple[str, int, str, str]],
) -> list[Event]:
    """Undo events on the responses whose commits are gone, in the order of the user's sessions."""
    rank = rank_by_time(line)
    gone: dict[tuple[str, str], tuple[int, str, str]] = {}
    for user, at, kind, detail in pending:
        if kind == "undo" and (user, detail) in commits:
            gone[(user, detail)] = (at, "undo", detail)
        elif kind == "head" and (user, detail) in commits:
            base = rank[commits[(user, detail)][1]]
            for (owner, commit), (_, committed) in commits.items():
                if owner == user and base < rank[committed] < rank[at]:
                    gone.setdefault((owner, commit), (at, "undone_later", detail))
    return [
        Event(commits[key][0], at, kind, -1.0, shown)
        for key, (at, kind, shown) in gone.items()
        if line.role[commits[key][0]] == ASSISTANT
    ]


def rank_by_time(line: Timeline) -> NDArray[np.int64]:
    """Rank of each message in time across threads; simultaneous sessions keep their order."""
    order = np.lexsort((line.index, line.conversation.astype(str), line.time))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank


def follow_edits(line: Timeline) -> list[Event]:
    """`rewritten` and `kept` events of code edits, from all later sessions of the same user.

    Lines that a response added and a later edit removed are rewritten; those that a later edit
    shows and leaves alone are kept.
    """
    edits = line.edits
    if len(edits) < 2:
        return []
    rank: NDArray[np.int64] = rank_by_time(line)
    writers: dict[tuple[str, str], set[int]] = {}
    fates: dict[int, dict[str, tuple[float, int]]] = {p: {} for p in edits}
    for p in sorted(edits, key=lambda p: int(rank[p])):
        user, edit = line.user[p], edits[p]
        for text in edit.removed:
            for writer in writers.pop((user, text), ()):
                fates[writer][text] = (-1.0, p)
        for text in edit.shown:
            for writer in writers.get((user, text), ()):
                fates[writer][text] = (1.0, p)
        for text in edit.added:
            writers.setdefault((user, text), set()).add(p)
    return [
        event
        for p, lines in fates.items()
        for event in _edit_events(p, lines, max(1, len(edits[p].added)))
    ]


def _edit_events(
    response: int, lines: dict[str, tuple[float, int]], written: int
) -> Iterator[Event]:
    for kind, sign in (("rewritten", -1.0), ("kept", 1.0)):
        matches = [(text, at) for text, (value, at) in lines.items() if value == sign]
        if matches:
            text, at = max(matches, key=lambda item: len(item[0]))
            yield Event(response, at, kind, sign * len(matches) / written, text)
