"""Threads of a lake as runs: responses are steps, events or verdicts give the outcome."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from upshot.credit.trajectories import Step, Trajectory
from upshot.lake import Lake
from upshot.records import with_calls
from upshot.records.verdicts import SHARED


class ThreadRun(NamedTuple):
    """A thread as a run."""

    run: Trajectory
    responses: list[tuple[str, int]]
    """The response, (conversation, index), behind each step."""


def read_thread_runs(lake: Lake) -> Iterator[ThreadRun]:
    """Read the threads that have at least two responses and an outcome.

    The outcome, in [0, 1], is the mean of the thread's events of kind `outcome` (from applications,
    tests, retention); without any, the mean of its verdicts, weighted by their confidence.
    """
    for bucket in range(lake.buckets):
        rows = {
            table: lake.read(table, bucket).to_pylist()
            for table in ("conversations", "threads", "verdicts", "events")
        }
        rows["messages"] = with_calls(lake.read("messages", bucket)).to_pylist()
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
            outcome = _find_outcome(set(ids), rows["events"], rows["verdicts"])
            if outcome is not None:
                turns = [row for part in ids for row in messages.get(part, ())]
                thread_run = _make_run(name, turns, outcome)
                if len(thread_run.responses) > 1:
                    yield thread_run


def _find_outcome(
    ids: set[str], events: list[dict[str, Any]], verdicts: list[dict[str, Any]]
) -> float | None:
    values = [
        float(row["value"]) for row in events if row["id"] in ids and row["kind"] == "outcome"
    ]
    if values:
        return (1 + sum(values) / len(values)) / 2
    judged = [
        (float(row["score"]), float(row["confidence"])) for row in verdicts if row["id"] in ids
    ]
    confidence_sum = sum(confidence for _, confidence in judged)
    return (
        sum(score * confidence for score, confidence in judged) / confidence_sum
        if confidence_sum >= SHARED
        else None
    )


def _make_run(name: str, messages: list[Mapping[str, Any]], outcome: float) -> ThreadRun:
    task, steps, responses = "", list[Step](), list[tuple[str, int]]()
    for row in messages:
        if row["role"] == "assistant":
            steps.append(Step(row["text"]))
            responses.append((row["id"], row["index"]))
        elif not steps:
            task = f"{task}\n{row['text']}" if task else row["text"]
        else:
            observation = steps[-1].observation
            text = f"{observation}\n{row['text']}" if observation else row["text"]
            steps[-1] = Step(steps[-1].action, text)
    return ThreadRun(Trajectory(name, task, tuple(steps), outcome), responses)
