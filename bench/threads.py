"""Linking: F1 of reply links on annotated chat (weights fitted on the other hours), and of session
pairs on synthetic users.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import linking
import train_links
from upshot.threads import Link, link_sessions

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
