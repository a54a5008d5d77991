"""Runs that an agent's policy needs to learn from, with conserved step credit and with the outcome
on every step.

`python bench/steps.py [--data DIR] [--seeds 3] [--base POLICY]`. In the world of plans an early
step decides the outcome, most of the others do nothing, and some outcomes are luck. A mediocre
policy makes 52 runs, learns from them by policy gradient (`grpo` on logged runs), makes the next
52, sixteen times over; a run's outcome is known, and nothing else. *outcome*: the outcome counts
for every step. *credit*: values of prefixes, learned from the texts and outcomes of the last 600
runs, split it (`advantages(..., causal=True)`: differences of values, and what they leave
unexplained on every step). Each runs at learning rates 1e-4 and 3e-4. There are two goals, by the
mean curve over seeds: the best success that *outcome* reaches in any round at any rate, and its
success at the end (mean of the last four rounds). `best.*` and `end.*`: the goal, the runs that
each needs to reach it at its better rate, and `ratio`, credit over outcome; `final.*`: success at
the end. Nothing is read from DIR.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from upshot import worlds
from upshot.credit import Credit, Review, Step, Trajectory, split_outcomes, value
from upshot.hub.models import open_policy, open_tokenizer
from upshot.hub.sampling import Local
from upshot.policy.data import Data, make_run
from upshot.policy.recipe import Recipe
from upshot.policy.train import train
from upshot.worlds import mediocre, phrases, talk
from upshot.worlds.people import Dials

RUNS, ROUNDS, MEMORY, TESTS = 52, 16, 600, 1_000
RATES = (1e-4, 3e-4)
_LEAST = 2 * RUNS
"""Runs from which values are learned."""


def sampler(policy: str) -> Local:
    """What samples a policy's responses."""
    return Local(open_policy(policy), open_tokenizer(policy))


def runs(policy: str, seed: int) -> list[Trajectory]:
    """Runs of a policy, with their outcomes."""
    found = talk.talk(
        worlds.get("plans"),
        sampler(policy),
        phrases.load(),
        RUNS,
        Dials(silence=1.0, tasks=1),
        seed=seed,
    )
    right = {one.id: one.ok for one in found.truths}
    out: list[Trajectory] = []
    for one in found.conversations:
        steps: list[Step] = []
        for message in one["messages"][1:]:
            if message["role"] == "assistant":
                steps.append(Step(message["content"], ""))
            else:
                steps[-1] = Step(steps[-1].action, message["content"])
        out.append(
            Trajectory(
                one["id"], one["messages"][0]["content"], tuple(steps), float(right[one["id"]])
            )
        )
    return out


def credits(memory: Sequence[Trajectory], made: Sequence[Trajectory]) -> Sequence[Credit | None]:
    """Credit of these runs by values learned from earlier ones."""
    if len(memory) < _LEAST:
        return [None] * len(made)
    worth = value.learn(memory).predict(made)
    reviews = [
        Review(np.diff(v), float(v[0]), run.outcome - float(v[-1]))
        for run, v in zip(made, worth, strict=True)
    ]
    return split_outcomes(made, lambda _: reviews, "values")


def learned(job: tuple[str, str, float, int]) -> dict[str, Any]:
    """True success after each round."""
    way, base, rate, seed = job
    torch.set_num_threads(1)
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix=f"steps-{way}-{seed}-"))
    memory: list[Trajectory] = []
    curve: list[float] = []
    for number in range(ROUNDS):
        made = runs(base, seed * 1_000 + number)
        split = credits(memory, made) if way == "credit" else [None] * len(made)
        memory = [*memory, *made][-MEMORY:]
        trainer = {
            "learning_rate": rate,
            "per_device_train_batch_size": RUNS // 2,
            "num_train_epochs": 2,
            "lr_scheduler_type": "constant",
            "save_strategy": "no",
        }
        recipe = msgspec.convert(
            {
                "base": base,
                "method": "grpo",
                "seed": seed,
                "kl": {"prompts": 4, "coefficient": 0.0},
                "draw": {"max_tokens": 12},
                "options": {"causal": way == "credit"},
                "trainer": trainer,
            },
            Recipe,
        )
        base = str(folder / str(number))
        train(
            recipe,
            Data(
                runs=[make_run(run, one) for run, one in zip(made, split, strict=True)],
                rows=len(made),
            ),
            Path(base),
        )
        curve.append(
            talk.measure(worlds.get("plans"), sampler(base), phrases.load(), TESTS).success
        )
    shutil.rmtree(folder)
    print(
        f"{way} rate {rate} seed {seed}: {[round(value_, 3) for value_ in curve]},"
        f" {time.monotonic() - began:.0f} s",
        file=sys.stderr,
        flush=True,
    )
    return {"way": way, "rate": rate, "seed": seed, "curve": curve}


def samples(before: float, curve: Sequence[float], goal: float) -> float:
    """Runs until a level of success: where the curve first reaches it, linear between rounds."""
    for number, (low, high) in enumerate(zip([before, *curve], curve, strict=False)):
        if low < goal <= high:
            return RUNS * (number + (goal - low) / (high - low))
    return float("inf")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--base", default="", help="A policy made before; else one is made.")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    began = time.monotonic()
    base = given.base or str(
        mediocre.make(
            worlds.get("plans"),
            phrases.load(),
            Path(tempfile.mkdtemp(prefix="steps-base-")) / "base",
        )
    )
    before = talk.measure(worlds.get("plans"), sampler(base), phrases.load(), TESTS).success
    with ProcessPoolExecutor(given.workers) as pool:
        found = list(
            pool.map(
                learned,
                [
                    (way, base, rate, seed)
                    for seed in range(given.seeds)
                    for way in ("outcome", "credit")
                    for rate in RATES
                ],
            )
        )
    curves = {
        (way, rate): np.mean(
            [one["curve"] for one in found if (one["way"], one["rate"]) == (way, rate)], axis=0
        )
        for way in ("outcome", "credit")
        for rate in RATES
    }
    final = {
        way: max(float(curves[way, rate][-4:].mean()) for rate in RATES)
        for way in ("outcome", "credit")
    }
    metrics: dict[str, float] = {
        "before": before,
        **{f"final.{way}": value_ for way, value_ in final.items()},
    }
    for name, goal in (
        ("best", max(float(curves["outcome", rate].max()) for rate in RATES)),
        ("end", final["outcome"]),
    ):
        needed = {
            way: min(samples(before, curves[way, rate].tolist(), goal) for rate in RATES)
            for way in ("outcome", "credit")
        }
        metrics |= {
            f"{name}.goal": goal,
            f"{name}.outcome": needed["outcome"],
            f"{name}.credit": needed["credit"],
            f"{name}.ratio": needed["credit"] / needed["outcome"],
        }
    print(
        json.dumps(
            {
                "bench": "steps",
                "metrics": {name: round(value_, 4) for name, value_ in metrics.items()},
                "data": "world: plans",
                "seconds": round(time.monotonic() - began, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
