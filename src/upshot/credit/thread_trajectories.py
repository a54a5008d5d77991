"""Threads of a lake as runs: responses are steps, and what the world or the verdicts say of the
thread is the outcome.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from upshot.credit.trajectories import Step, Trajectory
from upshot.lake import Lake

_LEAST_SURE = 0.2
"""Confidence of all a thread's verdicts together, below which nothing is known of it."""


class Work(NamedTuple):
    """One thread as a run."""

    run: Trajectory
    places: list[tuple[str, int]]
    """The response, (conversation, index), that each step is."""


def of_lake(lake: Lake) -> Iterator[Work]:
    """Threads with at least two responses of which something is known.

    The outcome, in [0, 1], is the mean of what the world said of the thread (events of an
    application, tests, retention: kind `outcome`); where it said nothing, the mean of its verdicts,
    weighed by their confidence.
    """
    for bucket in range(lake.buckets):
        rows = {
            table: lake.read(table, bucket).to_pylist()
            for table in ("conversations", "messages", "threads", "verdicts", "events")
        }
        thread = {row["id"]: row["thread"] for row in rows["threads"]}
        messages: dict[str, list[Mapping[str, Any]]] = {}
        for row in sorted(rows["messages"], key=lambda row: (row["id"], row["index"])):
            messages.setdefault(row["id"], []).append(row)
        parts: dict[str, list[str]] = {}
        for row in sorted(
            rows["conversations"],
            key=lambda row: (row["started_at"] is None, row["started_at"], row["id"]),
        ):
            parts.setdefault(thread.get(row["id"], row["id"]), []).append(row["id"])
        for name, ids in sorted(parts.items()):
            outcome = _outcome(set(ids), rows["events"], rows["verdicts"])
            if outcome is not None:
                work = _work(name, [row for part in ids for row in messages.get(part, ())], outcome)
                if len(work.places) > 1:
                    yield work


def _outcome(
    ids: set[str], events: list[dict[str, Any]], verdicts: list[dict[str, Any]]
) -> float | None:
    said = [float(row["value"]) for row in events if row["id"] in ids and row["kind"] == "outcome"]
    if said:
        return (1 + sum(said) / len(said)) / 2
    known = [
        (float(row["score"]), float(row["confidence"])) for row in verdicts if row["id"] in ids
    ]
    sure = sum(confidence for _, confidence in known)
    return (
        sum(score * confidence for score, confidence in known) / sure
        if sure >= _LEAST_SURE
        else None
    )


def _work(name: str, messages: list[Mapping[str, Any]], outcome: float) -> Work:
    task, steps, places = "", list[Step](), list[tuple[str, int]]()
    for row in messages:
        if row["role"] == "assistant":
            steps.append(Step(row["text"]))
            places.append((row["id"], row["index"]))
        elif not steps:
            task = f"{task}\n{row['text']}" if task else row["text"]
        else:
            seen = steps[-1].observation
            steps[-1] = Step(steps[-1].action, f"{seen}\n{row['text']}" if seen else row["text"])
    return Work(Trajectory(name, task, tuple(steps), outcome), places)
