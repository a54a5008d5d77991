"""Events that logs carry, each resolved to the response that it concerns.

An undo names a commit and says where HEAD now is. The response behind that commit may be in an
earlier session, and every commit made after HEAD is gone too: a stack of undos, or a reset, reaches
back over several responses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from upshot.hindsight.embedded.timeline import ASSISTANT, Timeline
from upshot.io.arrow import pc
from upshot.records import CleanTable

POLARITY = {
    "thumb": 1,
    "rating": 1,
    "edit": -1,
    "regenerate": -1,
    "undo": -1,
    "undone_later": -1,
    "commit": 1,
    "own_commit": 0,
    "exit": 1,
    "test": 1,
    "lint": -1,
    "build": -1,
    "trace": -1,
    "copy": 1,
    "kept": 1,
    "outcome": 1,
    "interrupt": -1,
    "comment": 0,
    "rewritten": -1,
}
"""Sign of good news for each kind of event, times its value's sign where that can be either."""


class Event(NamedTuple):
    """One event on one response."""

    response: int
    """Position of the response."""
    at: int
    """Position of the message that shows it; the response itself where no message does."""
    kind: str
    value: float
    """In [-1, 1]."""
    detail: str


def resolve(events: CleanTable, line: Timeline) -> list[Event]:
    """Events of a bucket, on the responses that they concern."""
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
        here = position.get((row["id"], row["index"]))
        at = position.get((row["id"], row["at"]), here)
        if here is None or at is None:
            continue
        kind = row["kind"]
        if kind in ("commit", "own_commit"):
            commits[(row["user"], row["detail"])] = (here, at)
        if kind in ("undo", "head") and line.role[here] != ASSISTANT:
            pending.append((row["user"], at, kind, row["detail"]))
        elif line.role[here] == ASSISTANT and kind in POLARITY:
            resolved.append(Event(here, at, kind, float(row["value"]), row["detail"]))
    resolved += _undone(line, commits, pending)
    return resolved


def _undone(
    line: Timeline,
    commits: dict[tuple[str, str], tuple[int, int]],
    pending: list[tuple[str, int, str, str]],
) -> list[Event]:
    """Undo events on the responses whose commits are gone, in the order of the user's sessions."""
    rank = chronological(line)
    gone: dict[tuple[str, str], tuple[int, str, str]] = {}
    for user, at, kind, detail in pending:
        if kind == "undo" and (user, detail) in commits:
            gone[(user, detail)] = (at, "undo", detail)
        elif kind == "head" and (user, detail) in commits:
            base = rank[commits[(user, detail)][1]]
            for (owner, commit), (_, made) in commits.items():
                if owner == user and base < rank[made] < rank[at]:
                    gone.setdefault((owner, commit), (at, "undone_later", detail))
    return [
        Event(commits[key][0], at, kind, -1.0, shown)
        for key, (at, kind, shown) in gone.items()
        if line.role[commits[key][0]] == ASSISTANT
    ]


def chronological(line: Timeline) -> NDArray[np.int64]:
    """Rank of each message in time, whatever its thread; sessions of one time stay in order."""
    order = np.lexsort((line.index, line.conversation.astype(str), line.time))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank


def commits_of(events: CleanTable) -> dict[str, tuple[str, int]]:
    """Commit hash → (conversation, index) of the response behind it; used to join outcomes that
    come later.
    """
    mine = events.filter(pc.equal(events["kind"], "commit"))
    return {row["detail"]: (row["id"], row["index"]) for row in mine.to_pylist()}


def followed(line: Timeline) -> list[Event]:
    """`rewritten` and `kept` events of every response that edited code, over all of its user's
    later sessions.

    Of the lines that a response added, those that a later edit removed are rewritten, those that a
    later edit shows and leaves are kept.
    """
    edits = line.edits
    if len(edits) < 2:
        return []
    rank: NDArray[np.int64] = chronological(line)
    owner: dict[tuple[str, str], set[int]] = {}
    fate: dict[int, dict[str, tuple[float, int]]] = {p: {} for p in edits}
    for p in sorted(edits, key=lambda p: int(rank[p])):
        user, edit = line.user[p], edits[p]
        for text in edit.removed:
            for writer in owner.pop((user, text), ()):
                fate[writer][text] = (-1.0, p)
        for text in edit.shown:
            for writer in owner.get((user, text), ()):
                fate[writer][text] = (1.0, p)
        for text in edit.added:
            owner.setdefault((user, text), set()).add(p)
    return [
        event
        for p, lines in fate.items()
        for event in _fates(p, lines, max(1, len(edits[p].added)))
    ]


def _fates(response: int, lines: dict[str, tuple[float, int]], written: int) -> Iterator[Event]:
    for kind, sign in (("rewritten", -1.0), ("kept", 1.0)):
        found = [(text, at) for text, (value, at) in lines.items() if value == sign]
        if found:
            text, at = max(found, key=lambda item: len(item[0]))
            yield Event(response, at, kind, sign * len(found) / written, text)
