"""Pairs and examples of a lake, bucket by bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from upshot.hindsight.embedded.judge import collect_events
from upshot.hindsight.embedded.timeline import build_timeline
from upshot.lake import Lake
from upshot.preferences import across_users
from upshot.preferences.kinds import KINDS
from upshot.preferences.pairs import JudgedBucket, attach_verdicts, make_pairs, summarize_verdict
from upshot.records import Preference

Curve = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""From scores to probabilities."""


def read_buckets(lake: Lake, curve: Curve | None = None) -> Iterator[JudgedBucket]:
    """Read every bucket with its verdicts; `curve` turns scores into probabilities."""
    for bucket in range(lake.buckets):
        conversations = lake.read("conversations", bucket)
        if not conversations.num_rows:
            continue
        messages, events, threads = (
            lake.read(name, bucket) for name in ("messages", "events", "threads")
        )
        verdicts = lake.read("verdicts", bucket, ("id", "index", "score", "confidence", "evidence"))
        scores: NDArray[np.float64] = verdicts["score"].to_numpy()
        if curve is not None and len(scores):
            scores = curve(scores)
        summaries = {
            (str(row["id"]), int(row["index"])): summarize_verdict(
                score, row["confidence"], row["evidence"]
            )
            for row, score in zip(verdicts.to_pylist(), scores.tolist(), strict=True)
        }
        line = build_timeline(messages, conversations, threads)
        yield attach_verdicts(line, collect_events(events, line), conversations, summaries)


def read_pairs(
    lake: Lake, kinds: Sequence[str] = KINDS, min_users: int = 5, curve: Curve | None = None
) -> Iterator[Preference]:
    """Make every pair of a lake; those across users last, since they need all buckets."""
    answers: list[across_users.Answer] = []
    for bucket in read_buckets(lake, curve):
        yield from make_pairs(bucket, kinds)
        if "across" in kinds:
            answers += across_users.collect_openings(bucket)
    yield from across_users.make_pairs_across_users(answers, min_users)
