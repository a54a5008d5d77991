"""Whether `upshot compare` tells if B is better than A, on simulated logs whose truth is known, 5 %
audited at random.

Every run draws users (lenient or harsh), tasks (easy to hard), two arms and the follow-ups: unhappy
users leave in silence, hard tasks are routed to the better arm, one arm may flatter (its users
praise it whatever happened). The truth of a run is the mean difference of P(helped) over its own
tasks. Scenarios: B better, equal and worse, each with and without flattery. Verdicts come from a
noisy reading of the follow-ups, as the embedded judge's do; nothing is read from DIR.

`bias_ratio`: mean |bias| of the naive difference over scenarios, over ours. `right_sign`: of the
runs where the arms differ, the share where ours has the right sign. `coverage`: the share whose
95 % interval holds the truth.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from upshot.hindsight.trust.compare import compare
from upshot.hindsight.trust.units import Units


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def simulate(
    rng: np.random.Generator, effect: float, flattery: float, rows: int, users: int, audit: float
) -> tuple[Units, float]:
    """One log and the true difference B - A on its tasks."""
    user = rng.integers(0, users, rows)
    lenient = rng.normal(0, 0.9, users)[user]
    hard = rng.normal(0, 1, rows)
    prompt = np.column_stack([hard + rng.normal(0, 0.3, rows), rng.normal(0, 1, (rows, 3))])
    better = np.sign(effect) or rng.choice([-1, 1])
    arm = (rng.random(rows) < sigmoid(1.1 * better * prompt[:, 0])).astype(int)
    helps = [sigmoid(0.6 - 1.1 * hard), sigmoid(0.6 - 1.1 * hard + effect)]
    truth = float((helps[1] - helps[0]).mean())
    helped = rng.random(rows) < np.where(arm == 1, helps[1], helps[0])
    flattered = (arm == 1) & (rng.random(rows) < flattery)
    silent = rng.random(rows) < np.where(
        helped, 0.35, np.where(arm == 1, 0.65, 0.45)
    )  # the unhappy leave, B's more often
    mood = np.where(helped, 1.6, -1.6) + lenient
    mood = np.where(flattered, 1.8 + lenient, mood)
    heard = np.where(silent & ~flattered, 0.3, mood)
    verdict = sigmoid(heard + rng.normal(0, 0.8, rows))
    audited = rng.random(rows) < audit
    return Units(
        arm,
        verdict,
        prompt,
        user.astype(str).astype(object),
        audited,
        helped.astype(float),
        np.full(rows, audit),
    ), truth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--runs", type=int, default=150)
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    started = time.perf_counter()
    naive_bias, our_bias, log_bias, signs, covered, flagged, unflagged, claims = (
        [],
        [],
        [],
        [],
        [],
        [],
        [],
        [],
    )
    for effect in (0.8, 0.0, -0.8):
        for flattery in (0.0, 0.5):
            errors = {"naive": [], "logs": [], "ours": []}
            for run in range(arguments.runs):
                rng = np.random.default_rng(
                    (arguments.seed, run, int(effect * 10) + 100, int(flattery * 10))
                )
                units, truth = simulate(
                    rng, effect, flattery, arguments.rows, arguments.rows // 6, 0.05
                )
                found = compare(units)
                errors["naive"].append(found.naive.difference - truth)
                errors["logs"].append(found.logs.difference - truth)
                if found.audited is None or found.logs is None:
                    raise RuntimeError("a simulated comparison has logs and an audit")
                errors["ours"].append(found.audited.difference - truth)
                covered.append(found.audited.low <= truth <= found.audited.high)
                if effect:
                    signs.append(np.sign(found.audited.difference) == np.sign(truth))
                (flagged if flattery else unflagged).append((found.flattered_low or 0.0) > 0)
                if flattery:
                    log_only = compare(units._replace(audited=np.zeros(arguments.rows, bool)))
                    claims.append("cannot tell" in log_only.answer)
            for name, store in (("naive", naive_bias), ("logs", log_bias), ("ours", our_bias)):
                store.append(abs(float(np.mean(errors[name]))))
            print(
                f"effect {effect:+} flattery {flattery}: "
                + ", ".join(f"{k} {np.mean(v):+.3f} sd {np.std(v):.3f}" for k, v in errors.items()),
                file=sys.stderr,
            )
    metrics = {
        "bias_ratio": round(float(np.mean(naive_bias) / np.mean(our_bias)), 2),
        "right_sign": round(float(np.mean(signs)), 4),
        "coverage": round(float(np.mean(covered)), 4),
        "bias.naive": round(float(np.mean(naive_bias)), 4),
        "bias.logs": round(float(np.mean(log_bias)), 4),
        "bias.ours": round(float(np.mean(our_bias)), 4),
        "logs_only_says_it_cannot_tell": round(float(np.mean(claims)), 4),
        "flattery_flagged": round(float(np.mean(flagged)), 4),
        "flattery_flagged_without": round(float(np.mean(unflagged)), 4),
    }
    print(
        json.dumps(
            {
                "bench": "comparison",
                "metrics": metrics,
                "data": "simulated",
                "seconds": round(time.perf_counter() - started, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
