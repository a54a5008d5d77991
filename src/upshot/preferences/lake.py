"""Pairs and examples of a lake, bucket by bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from numpy.typing import NDArray

from upshot.hindsight.embedded.judge import all_events
from upshot.hindsight.embedded.timeline import timeline
from upshot.lake import Lake
from upshot.preferences import across
from upshot.preferences.pairs import KINDS, Judged, fate, judged
from upshot.preferences.pairs import pairs as of_bucket
from upshot.records import Preference

Curve = Callable[[NDArray], NDArray]


def buckets(lake: Lake, curve: Curve | None = None) -> Iterator[Judged]:
    """Every bucket with its verdicts; `curve` turns scores into probabilities."""
    for bucket in range(lake.buckets):
        conversations = lake.read("conversations", bucket)
        if not conversations.num_rows:
            continue
        messages, events, threads = (
            lake.read(name, bucket) for name in ("messages", "events", "threads")
        )
        verdicts = lake.read("verdicts", bucket, ("id", "index", "score", "confidence", "evidence"))
        score = verdicts["score"].to_numpy()
        score = curve(score) if curve is not None and len(score) else score
        names = zip(verdicts["id"].to_pylist(), verdicts["index"].to_pylist(), strict=True)
        rows = zip(
            names,
            score.tolist(),
            verdicts["confidence"].to_pylist(),
            verdicts["evidence"].to_pylist(),
            strict=True,
        )
        fates = {name: fate(s, sure, evidence) for name, s, sure, evidence in rows}
        line = timeline(messages, conversations, threads)
        yield judged(line, all_events(events, line), conversations, fates)


def pairs(
    lake: Lake, kinds: Sequence[str] = KINDS, least_users: int = 5, curve: Curve | None = None
) -> Iterator[Preference]:
    """Every pair of a lake; those across users last, since they need every bucket."""
    openings: list[across.Answer] = []
    for seen in buckets(lake, curve):
        yield from of_bucket(seen, kinds)
        if "across" in kinds:
            openings += across.openings(seen)
    yield from across.pairs(openings, least_users)
