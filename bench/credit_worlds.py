"""Small worlds in which every step's true credit is known, by dynamic programming."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from upshot.credit import Step, Trajectory

Array = np.ndarray
STEPS = 10
ACTIONS = ("work", "fix", "perform", "break")
BEHAVIOUR: Mapping[int, tuple[float, ...]] = {0: (0.5, 0.15, 0.2, 0.15), 1: (0.2, 0.5, 0.2, 0.1)}
"""What the logged agent does, without and with a bug."""


def outcomes(progress: int, bug: int, action: int) -> Iterator[tuple[int, int, float]]:
    """(progress, bug, probability) after an action."""
    if action == 0:
        for more, p in ((1, 0.7), (0, 0.3)):
            if bug:
                yield min(4, progress + more), 1, p
            else:
                yield min(4, progress + more), 1, p * 0.15
                yield min(4, progress + more), 0, p * 0.85
    elif action == 1 and bug:
        yield progress, 0, 0.9
        yield progress, 1, 0.1
    else:
        yield progress, 1 if action == 3 else bug, 1.0


def success(progress: int, bug: int) -> float:
    """P(success) at the end."""
    return 0.95 if progress == 4 and not bug else 0.02


def worth(policy: Array | None = None) -> Array:
    """V(step, progress, bug), shape (11, 5, 2).

    `policy`: P(action | step, progress, bug), the logged one if left out.
    """
    v = np.zeros((STEPS + 1, 5, 2))
    for p in range(5):
        for b in (0, 1):
            v[STEPS, p, b] = success(p, b)
    for t in range(STEPS - 1, -1, -1):
        for p in range(5):
            for b in (0, 1):
                chances = BEHAVIOUR[b] if policy is None else policy[t, p, b]
                v[t, p, b] = sum(
                    chances[a] * sum(q * v[t + 1, p2, b2] for p2, b2, q in outcomes(p, b, a))
                    for a in range(4)
                )
    return v


def logs(count: int, seed: int) -> tuple[list[Trajectory], list[Array], list[Array]]:
    """Runs as text, the true credit of their steps, and their states (progress, bug) before each
    step.

    The text shows progress exactly and the bug half of the time.
    """
    rng = np.random.default_rng(seed)
    v = worth()
    runs: list[Trajectory] = []
    credits: list[Array] = []
    states: list[Array] = []
    for number in range(count):
        p = b = 0
        steps: list[Step] = []
        true, where = np.zeros(STEPS), np.zeros((STEPS, 3), int)
        for t in range(STEPS):
            action = int(rng.choice(4, p=BEHAVIOUR[b]))
            options = list(outcomes(p, b, action))
            chosen = options[int(rng.choice(len(options), p=[q for *_, q in options]))]
            where[t], before = (p, b, action), v[t, p, b]
            p, b = chosen[:2]
            true[t] = v[t + 1, p, b] - before
            seen = ("a bug" if b else "no bug") if rng.random() < 0.5 else "bugs not looked for"
            steps.append(Step(ACTIONS[action], f"progress {p}, {seen}"))
        runs.append(
            Trajectory(
                f"w{seed}-{number}",
                "finish the work",
                tuple(steps),
                float(rng.random() < success(p, b)),
            )
        )
        credits.append(true)
        states.append(where)
    return runs, credits, states
