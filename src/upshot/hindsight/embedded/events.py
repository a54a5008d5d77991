"""Events in logs, each resolved to the response that it concerns.

An undo names a commit and gives the new HEAD. The response behind that commit may be in an earlier
session, and every commit after HEAD is gone too: a stack of undos, or a reset, reaches back over
several responses.
"""

from __future__ import annotations

from typing import NamedTuple

from upshot.hindsight.embedded.edits import is_code
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
    steps: tuple[tuple[int, float], ...] = ()
    """Of edited lines: (position, share of the lines that the message there wrote)."""


def resolve_events(events: CleanTable, line: Timeline) -> list[Event]:
    """The events of a bucket, each with the response that it concerns.

    What a tool reports on one step is reported on the whole response, and the last word of its kind
    counts.
    """
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
    return _settle(line, resolved)


def _undo_events(
    line: Timeline,
    commits: dict[tuple[str, str], tuple[int, int]],
    pending: list[tuple[str, int, str, str]],
) -> list[Event]:
    """Undo events on the responses whose commits are gone, in the order of the user's sessions."""
    rank = line.rank
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


_RESULTS = frozenset(["test", "build", "lint", "trace", "exit"])
"""What tools report; the last report of a response says how it left things."""
_OWN_TESTS = 0.3
"""Of passing tests where the response itself ran them: whoever writes code may also write tests
that it passes.
"""
_MAX_TURNS = 3
"""Turns back for which a run of the tests speaks: what they passed long after was changed since."""
_OVERRULED = frozenset(["build", "lint", "trace", "exit"])
"""Reports that passing tests later in the same response overrule."""


def _settle(line: Timeline, events: list[Event]) -> list[Event]:
    """The events by response, of tools' results the last of each kind.

    A result in a response that edited nothing before it is about the responses whose edits had not
    been tried yet.
    """
    rank = line.rank
    by_row: dict[int, list[Event]] = {}
    settled: list[Event] = []
    for event in events:
        row = int(line.row_of[event.response])
        if row < 0:
            continue
        whole = event._replace(response=int(line.responses[row]))
        if event.kind in _RESULTS:
            by_row.setdefault(row, []).append(whole)
        else:
            settled.append(whole)
    edited: dict[int, list[int]] = {}
    for place in sorted(line.edits, key=lambda place: int(rank[place])):
        if any(is_code(one.file) for one in line.edits[place].added | line.edits[place].removed):
            edited.setdefault(int(line.session[place]), []).append(place)
    tried: dict[int, int] = {}
    for row in sorted(by_row, key=lambda row: int(rank[line.responses[row]])):
        last = _last_results(by_row[row])
        session = int(line.session[line.responses[row]])
        for event in last:
            rows = {row}
            if event.kind == "exit" and (event.value > 0 or event.at + 1 < int(line.ends[row])):
                continue  # that a command ran is no news, and what failed on the way was mended
            if event.kind == "test":
                since = tried.get(session, -1)
                waiting = [p for p in edited.get(session, ()) if since < p < event.at]
                tried[session] = event.at
                rows = {int(line.row_of[p]) for p in waiting if line.row_of[p] > row - _MAX_TURNS}
                rows.discard(-1)
                if not rows and line.calls and edited.get(session):
                    continue  # nothing was tried that had not been tried before
                rows = rows or {row}
            for r in sorted(rows):
                own = r == row and event.value > 0 and line.ends[row] - line.responses[row] > 1
                value = event.value * _OWN_TESTS if own else event.value
                settled.append(event._replace(response=int(line.responses[r]), value=value))
    return settled


def _last_results(results: list[Event]) -> list[Event]:
    """The last report of each kind, without what passing tests overrule."""
    last = {event.kind: event for event in sorted(results, key=lambda event: event.at)}
    test = last.get("test")
    if test is not None and test.value > 0:
        return [
            event for event in last.values() if event.kind not in _OVERRULED or event.at > test.at
        ]
    return list(last.values())
