"""Linking: F1 of reply links on annotated chat (weights fitted on the other hours), and of session
pairs on synthetic users; precision and recall of session pairs on Claude Code's sessions, whose
truth is the branch of the repository that they share.

`branches.*` goes the road that users go, where the log names the branch; `branches.hidden.*` is the
same linker with the branches left out. `branches.in_a_row.*` is the cheap baseline: each session
goes on with the one before it if that began within a day.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parent))
import linking
import train_links
import upshot
from upshot.api.opening import open_lake
from upshot.records import CleanTable
from upshot.threads import Link, link_sessions
from upshot.threads.background import load_shipped_background
from upshot.threads.sessions import read_sessions

_DAY = 86_400.0
_FOLDS = 5
_SEED = 20_261
"""Not the seed of `train_links.py`; nouns are the same, users are not."""


def link_f1(streams: Sequence[linking.Stream], links: Sequence[list[Link]]) -> float:
    """Reply links: (message, the message it answers, itself where it answers none)."""
    right = gold = said = 0
    for stream, found in zip(streams, links, strict=True):
        for later, parents in stream.gold.items():
            parent = found[later].parent if found[later].parent >= 0 else later
            right += parent in parents
            gold += len(parents)
            said += 1
    return 2 * right / (gold + said)


def pair_f1(streams: Sequence[linking.Stream], links: Sequence[list[Link]]) -> float:
    """Pairs of sessions in one thread."""
    right = gold = said = 0
    for stream, found in zip(streams, links, strict=True):
        truth = _pairs([min(stream.gold[i]) for i in range(len(stream.sessions))])
        made = _pairs([one.parent if one.parent >= 0 else i for i, one in enumerate(found)])
        right += len(truth & made)
        gold += len(truth)
        said += len(made)
    return 2 * right / max(1, gold + said)


def measure_branches(folder: Path) -> dict[str, float]:
    """Pairs of Claude Code's sessions in one thread, against the branches that they share."""
    logs = sorted((folder / "coding-agents" / "claude-code").glob("*.jsonl.gz"))
    if not logs:
        return {}
    with tempfile.TemporaryDirectory() as scratch:
        lake = Path(scratch) / "lake"
        upshot.ingest([str(path) for path in logs], lake)
        list(upshot.link(lake=lake))
        store = open_lake(lake)
        tables = {
            name: CleanTable(pa.concat_tables([store.read(name, b) for b in range(store.buckets)]))
            for name in ("conversations", "messages", "threads")
        }
    (sessions,) = read_sessions(tables).values()
    of = {row["id"]: row["thread"] for row in tables["threads"].to_pylist()}
    truth = [session.branches for session in sessions]
    hidden = [session._replace(branches=frozenset()) for session in sessions]
    links = link_sessions(hidden, background=load_shipped_background())
    rows: list[int] = []
    for place, session in enumerate(sessions):
        before = sessions[place - 1]
        gap = (session.time or 0.0) - (before.time or 0.0)
        rows.append(rows[-1] if place and gap < _DAY else place)
    metrics: dict[str, float] = {"branches.sessions": len(sessions)}
    for name, threads in (
        ("branches", [of[session.id] for session in sessions]),
        ("branches.hidden", _roots_of(links)),
        ("branches.in_a_row", rows),
    ):
        right, made, gold = _count_pairs(threads, truth)
        metrics[f"{name}.precision"] = round(right / max(1, made), 4)
        metrics[f"{name}.recall"] = round(right / max(1, gold), 4)
        metrics[f"{name}.largest_thread"] = Counter(threads).most_common(1)[0][1]
    return metrics


def _count_pairs(
    threads: Sequence[object], truth: Sequence[frozenset[str]]
) -> tuple[int, int, int]:
    """(right, made, gold) pairs among the sessions that were on a branch of their own."""
    right = made = gold = 0
    known = [place for place, branches in enumerate(truth) if branches]
    for a, b in combinations(known, 2):
        joined, same = threads[a] == threads[b], bool(truth[a] & truth[b])
        right += joined and same
        made += joined
        gold += same
    return right, made, gold


def _roots_of(links: Sequence[Link]) -> list[int]:
    root: list[int] = []
    for number, link in enumerate(links):
        root.append(number if link.parent < 0 else root[link.parent])
    return root


def _pairs(parents: Sequence[int]) -> set[tuple[int, int]]:
    root: list[int] = []
    for number, parent in enumerate(parents):
        root.append(number if parent == number else root[parent])
    groups: dict[int, list[int]] = {}
    for number, top in enumerate(root):
        groups.setdefault(top, []).append(number)
    return {pair for group in groups.values() for pair in combinations(group, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    folder = parser.parse_args().data
    started = time.perf_counter()
    streams = list(linking.chat(folder))
    metrics: dict[str, float] = {}
    if streams:
        made = [train_links.choices(stream) for stream in streams]
        links: list[list[Link]] = []
        for number, stream in enumerate(streams):
            others = [
                c
                for other, choices in enumerate(made)
                if other % _FOLDS != number % _FOLDS
                for c in choices
            ]
            links.append(link_sessions(stream.sessions, weights=train_links.fit(others)))
        metrics["chat.f1"] = round(link_f1(streams, links), 4)
        metrics["chat.f1_shipped"] = round(
            link_f1(streams, [link_sessions(s.sessions) for s in streams]), 4
        )
    users = list(linking.synthetic(_SEED))
    background = train_links.background_of(users)
    found = [link_sessions(user.sessions, background=background) for user in users]
    metrics["synthetic.f1"] = round(pair_f1(users, found), 4)
    metrics |= measure_branches(folder)
    print(
        json.dumps(
            {
                "bench": "threads",
                "metrics": metrics,
                "data": str(folder),
                "seconds": round(time.perf_counter() - started, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
