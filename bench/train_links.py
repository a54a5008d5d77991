"""Fit the weights of `threads/link.py`: a softmax over the candidates of each session, "none of
them" among them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

sys.path.insert(0, str(Path(__file__).parent))
import linking
from upshot.threads.background import Background, load_shipped_background
from upshot.threads.link import MAX_EXCLUSIVE, Index
from upshot.threads.sessions import extract_terms

NAMES = (
    "likeness",
    "rare",
    "exclusive",
    "identifiers",
    "errors",
    "refers_back",
    "reports",
    "opens_new",
    "log_hours",
    "steps",
    "same_speaker",
    "addressed",
    "answers",
    "names_of_thread",
    "files",
    "same_branch",
    "other_branch",
)
Choice = tuple[np.ndarray, np.ndarray]
"""(features of the candidates, which of them, or "none", is right)."""


def choices(
    stream: linking.Stream, background: Background | None = None, window: int = 64
) -> list[Choice]:
    """The candidates of each annotated session of a stream."""
    index = Index(stream.sessions, background)
    made: list[Choice] = []
    roots: list[int] = []
    for later in range(len(stream.sessions)):
        right = stream.gold.get(later)
        known = [parent for parent in right or () if parent < later]
        roots.append(roots[min(known)] if known else later)
        candidates = index.candidates(later, window) if right else []
        if candidates and right:
            exclusive, names = index.exclusive(later), index.names_of_thread(later)
            rows: list[list[float]] = []
            for candidate in candidates:
                parts = index.compare(later, candidate)
                root = roots[candidate]
                parts["exclusive"] = min(MAX_EXCLUSIVE, exclusive.get(root, 0.0))
                parts["names_of_thread"] = min(MAX_EXCLUSIVE, names.get(root, 0.0))
                rows.append([parts.get(name, 0.0) for name in NAMES])
            answers = [c in right for c in candidates] + [later in right]
            made.append((np.array(rows), np.array(answers, float)))
        index.join(later, roots[-1])
    return made


def background_of(streams: Sequence[linking.Stream]) -> Background:
    """How common words are among all users, as a lake of theirs would have it."""
    own = Background.from_terms(
        extract_terms([session.text for stream in streams for session in stream.sessions])
    )
    return load_shipped_background().joined(own)


def fit(data: Sequence[Choice], ridge: float = 0.5) -> dict[str, float]:
    """Weights by maximum likelihood with a little ridge."""

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = 0.0, np.zeros_like(weights)
        for rows, right in data:
            if not right.sum():
                continue
            logits = np.append(rows @ weights[1:], -weights[0])
            p = np.exp(logits - logits.max())
            p /= p.sum()
            target = right / right.sum()
            value -= float((target * np.log(p + 1e-12)).sum())
            gradient[1:] += rows.T @ (p - target)[:-1]
            gradient[0] -= (p - target)[-1]
        return value + ridge * float(weights @ weights), gradient + 2 * ridge * weights

    found = minimize(loss, np.zeros(len(NAMES) + 1), jac=True, method="L-BFGS-B")
    weights = {name: round(float(w), 2) for name, w in zip(("bias", *NAMES), found.x, strict=True)}
    return {**weights, "embedding": 3.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    folder = parser.parse_args().data
    users = list(linking.synthetic(1, 300))
    background = background_of(users)
    tables: dict[str, Mapping[str, float]] = {
        "CHAT_WEIGHTS": fit(
            [choice for stream in linking.chat(folder) for choice in choices(stream)]
        ),
        "WEIGHTS": fit([choice for stream in users for choice in choices(stream, background)], 2.0),
    }
    for name, table in tables.items():
        print(name, json.dumps(table))
    print(
        json.dumps(
            {
                "bench": "train_links",
                "metrics": {f"{t}.{n}": w for t, table in tables.items() for n, w in table.items()},
            }
        )
    )


if __name__ == "__main__":
    main()
