"""How often the gate is wrong, simulated: worse candidates promoted, better ones refused, the best
of 20 equal ones promoted.

`python bench/gate.py [--data DIR]`. There are 10,000 responses to prompts of 1,000 users to test on
and as many to choose on, true differences -.02 and +.05, success .6 before, users of different
leniency, and a judge that is right nine times in ten. `audited.*`: the same with a judge that the
worse candidates charm (+.05 in its scores, nothing in truth), and an audit that labels 3,000
responses of each policy. Nothing is read from DIR.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

from upshot.loop.gate import Answers, choose, rule

PROMPTS, USERS, CANDIDATES, EQUAL, TRIALS = 10_000, 1_000, 200, 20, 200
WORSE, BETTER, BEFORE, RIGHT = -0.02, 0.05, 0.6, 0.9
CHARM, LABELS = 0.05, 3_000


def answers(
    rng: np.random.Generator,
    success: np.ndarray,
    user: np.ndarray,
    charm: float = 0.0,
    labels: int = 0,
) -> Answers:
    """One policy's responses as the gate sees them: scores are calibrated probabilities of a judge
    that errs.
    """
    truth = rng.random(len(success)) < success
    seen = np.where(rng.random(len(truth)) < RIGHT, truth, ~truth)
    score = np.where(seen, RIGHT, 1 - RIGHT) + charm
    audited = np.zeros(len(truth), bool)
    audited[rng.choice(len(truth), labels, replace=False)] = True
    return Answers(score, user, audited, np.where(audited, truth, 0.0))


def sides(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Users of one split's prompts, and their success before."""
    user = rng.integers(USERS, size=PROMPTS)
    lenient = rng.normal(0, 0.1, USERS)
    return np.array([f"u{n}" for n in user], object), np.clip(BEFORE + lenient[user], 0.05, 0.95)


def one(seed: int, difference: float, charm: float = 0.0, labels: int = 0) -> bool:
    """Whether a candidate of this true difference is promoted."""
    rng = np.random.default_rng(seed)
    user, base = sides(rng)
    ruling = rule(
        "c",
        answers(rng, np.clip(base + difference, 0, 1), user, charm, labels),
        answers(rng, base, user, 0.0, labels),
        [],
        [],
    )
    return ruling.decision == "promote"


def best_of_equal(seed: int) -> bool:
    """Whether the best of equal candidates is promoted."""
    rng = np.random.default_rng(1_000_000 + seed)
    (choosers, base), (testers, other) = sides(rng), sides(rng)
    chosen = choose({f"c{n}": answers(rng, base, choosers) for n in range(EQUAL)})
    return (
        rule(chosen, answers(rng, other, testers), answers(rng, other, testers), [], []).decision
        == "promote"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="")
    parser.parse_args()
    began = time.monotonic()
    half = CANDIDATES // 2
    metrics = {
        "worse_promoted": float(np.mean([one(seed, WORSE) for seed in range(half)])),
        "better_refused": float(np.mean([not one(half + seed, BETTER) for seed in range(half)])),
        "equal_promoted": float(np.mean([best_of_equal(seed) for seed in range(TRIALS)])),
        "audited.worse_promoted": float(
            np.mean([one(seed, WORSE, CHARM, LABELS) for seed in range(half)])
        ),
        "audited.better_refused": float(
            np.mean([not one(half + seed, BETTER, 0.0, LABELS) for seed in range(half)])
        ),
        "charmed.worse_promoted": float(np.mean([one(seed, WORSE, CHARM) for seed in range(half)])),
    }
    print(
        json.dumps(
            {
                "bench": "gate",
                "metrics": metrics,
                "data": "simulated",
                "seconds": round(time.monotonic() - began, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
