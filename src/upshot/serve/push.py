"""Send a lake's verdicts back to where the traces live, bucket by bucket.

Users without news since the last push that went well are not looked at again. Within a bucket no
erasure comes between reading and sending.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from upshot.engine import Executor, Here
from upshot.hindsight.references import read_refs
from upshot.lake import Lake
from upshot.lake.progress import Files, Progress
from upshot.llm import run_interruptible
from upshot.privacy import Pseudonyms, Redactor
from upshot.serve.back import TARGETS, Answer
from upshot.serve.back.channel import Address, Channel, Retries
from upshot.serve.outbox import Outbox
from upshot.serve.scores import Score, make_scores

_INPUTS = ("verdicts", "messages", "conversations")
_ROWS = 1000
"""Verdicts that are decoded at a time."""
_RECORDED = 1000
"""Scores between two commits of the outbox: what a kill may have sent again."""


class PushReport(msgspec.Struct, frozen=True):
    """What a push did."""

    target: str
    endpoint: str
    responses: int = 0
    """With a verdict, of users with news."""
    without_refs: int = 0
    """Responses whose logs name nothing by which the system knows them."""
    unsure: int = 0
    """Responses whose verdict is less confident than asked for, and was never sent."""
    unchanged: int = 0
    """Scores that the system has already."""
    sent: int = 0
    """Scores that it took now."""
    pending: int = 0
    """Scores that it has still to take: all that are due, in a dry run."""
    refused: int = 0
    """Scores that it did not take; they are sent again next time."""
    reason: str = ""
    """Why the first was refused."""
    stopped: str = ""
    """Why the push ended early; empty: it did not."""
    skipped: int = 0
    """Buckets with verdicts but without news since the last push."""
    seconds: float = 0.0


class Plan(NamedTuple):
    """What is sent, and where."""

    target: str
    base_url: str
    min_confidence: float
    retries: Retries
    key: str
    """Under which texts are redacted: the lake's."""
    curve: Callable[[Any], Any] | None = None
    """From scores to calibrated ones; None: the lake has none."""
    names: bool = True
    """Redact names where a pattern shows them."""
    dry_run: bool = False


class _Task(NamedTuple):
    """One bucket, as it travels."""

    root: str
    storage_options: Mapping[str, str] | None
    bucket: int
    files: Files | None
    """New files, whose users are looked at; None: all users."""


def push_lake(
    lake: Lake,
    plan: Plan,
    executor: Executor | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> PushReport:
    """Send the scores that a system does not have yet, or has otherwise.

    The keys are read from the environment of the process that sends.

    Raises:
        ConfigError: the keys are not there.
    """
    started = time.perf_counter()
    if not plan.dry_run:
        TARGETS[plan.target].read_headers(os.environ)  # before anything is read
    work = Progress(lake, _name_work(plan), _INPUTS)
    news = {bucket: work.news(bucket) for bucket in range(lake.buckets)}
    tasks = [
        _Task(lake.root, lake.storage_options(), bucket, files)
        for bucket, files in news.items()
        if files is None or files
    ]
    judged = set(lake.files("verdicts")).difference(task.bucket for task in tasks)
    report = PushReport(plan.target, plan.base_url, skipped=len(judged))
    try:
        for done, (bucket, part) in enumerate((executor or Here()).run(_Push(plan), tasks), 1):
            report = _add(report, part)
            if _is_settled(part) and not plan.dry_run:
                work.finish(bucket)
            progress(done, len(tasks))
            if part.stopped:
                break
    finally:
        work.save()
    return msgspec.structs.replace(report, seconds=time.perf_counter() - started)


def _name_work(plan: Plan) -> str:
    """Another place, limit or curve is other work."""
    parts = [plan.base_url, plan.min_confidence, plan.curve]
    digest = hashlib.blake2b(msgspec.json.encode(parts), digest_size=8).hexdigest()
    return f"push@1/{plan.target}/{digest}"


def _is_settled(report: PushReport) -> bool:
    """Whether a bucket need not be looked at until it has news."""
    is_empty = report.responses > 0 and report.without_refs == report.responses
    return not (report.refused or report.stopped or report.pending or is_empty)


def _add(first: PushReport, second: PushReport) -> PushReport:
    counts = {
        name: getattr(first, name) + getattr(second, name)
        for name in ("responses", "without_refs", "unsure", "unchanged", "sent", "pending")
    }
    return msgspec.structs.replace(
        first,
        **counts,
        refused=first.refused + second.refused,
        reason=first.reason or second.reason,
        stopped=first.stopped or second.stopped,
    )


class _Push:
    """Sends what is due of one bucket; returns the bucket and a report."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def __call__(self, task: _Task) -> tuple[int, PushReport]:
        plan, target = self._plan, TARGETS[self._plan.target]
        lake = Lake(task.root, storage_options=task.storage_options)
        with lake.pinned():
            users = None if task.files is None else lake.users_of(task.bucket, task.files)
            outbox = Outbox(lake, task.bucket, target, plan.base_url, users=users)
            counts: Counter[str] = Counter()
            due = _find_due(lake, task.bucket, users, _Scope(plan, outbox, counts))
            answer = Answer()
            if plan.dry_run:
                counts["pending"] = sum(1 for _ in due)
            else:
                address = Address(target, plan.base_url, target.read_headers(os.environ))
                answer = run_interruptible(_send(due, address, plan.retries, outbox, counts))
        report = PushReport(plan.target, plan.base_url, reason=answer.reason, stopped=answer.stop)
        return task.bucket, msgspec.structs.replace(report, **counts)


class _Scope(NamedTuple):
    """What decides whether a score is due, and where it is counted if it is not."""

    plan: Plan
    outbox: Outbox
    counts: Counter[str]


def _find_due(
    lake: Lake, bucket: int, users: Sequence[str] | None, scope: _Scope
) -> Iterator[Score]:
    """The scores of a bucket that the system does not have, or has otherwise."""
    plan, outbox, counts = scope
    verdicts = lake.read("verdicts", bucket, users=users)
    columns: list[list[Any]] = [verdicts[name].to_pylist() for name in ("id", "index")]
    refs_of = read_refs(lake, bucket, list(zip(*columns, strict=True)), users)
    redactor = Redactor(Pseudonyms(plan.key), plan.names)
    for row, score in _read_rows(verdicts, plan.curve):
        counts["responses"] += 1
        refs = refs_of.get((row["id"], row["index"]), {})
        if not TARGETS[plan.target].locate(refs):
            counts["without_refs"] += 1
            continue
        if row["confidence"] < plan.min_confidence and not outbox.has(row["id"], row["index"]):
            counts["unsure"] += 1
            continue
        for one in make_scores(row, score, refs, redactor):
            if outbox.is_due(one):
                yield one
            else:
                counts["unchanged"] += 1


def _read_rows(
    verdicts: pa.Table, curve: Callable[[Any], Any] | None
) -> Iterator[tuple[dict[str, Any], float]]:
    """Verdicts with their scores, calibrated where there is a curve."""
    for start in range(0, verdicts.num_rows, _ROWS):
        part = verdicts.slice(start, _ROWS)
        raw = part["score"].to_numpy()
        scores = raw if curve is None else curve(raw)
        yield from zip(part.to_pylist(), map(float, scores), strict=True)


async def _send(
    due: Iterator[Score],
    address: Address,
    retries: Retries,
    outbox: Outbox,
    counts: Counter[str],
) -> Answer:
    """Send scores in batches, and record those that were taken, also where that is cut short."""
    total, taken = Answer(), list[Score]()
    try:
        async with Channel(address, retries) as channel:
            while batch := list(islice(due, address.target.batch)):
                answer = await channel.post(batch)
                taken += answer.accepted
                counts["sent"] += len(answer.accepted)
                counts["refused"] += len(answer.refused)
                counts["pending"] += len(batch) - len(answer.accepted) - len(answer.refused)
                total = Answer(reason=total.reason or answer.reason, stop=answer.stop)
                if answer.stop:
                    counts["pending"] += sum(1 for _ in due)
                    break
                if len(taken) >= _RECORDED:
                    outbox.record(taken)
                    taken = []
    finally:
        outbox.record(taken)
    return total
