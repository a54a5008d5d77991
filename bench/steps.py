"""Runs of an agent that a policy needs to learn from, with conserved step credit and with the outcome on every step.

`python bench/steps.py [--data DIR] [--seeds 3] [--base POLICY]`. In the world of plans, where an early step decides the outcome and most of the others do nothing, a mediocre policy makes runs, whose outcome is known and nothing else. `upshot credit`
splits the outcomes. The policy learns from so many of the runs (50, 100, … 1,600) by imitation (`sft`, successes or steps that credit does not mask) and by policy gradient on the logged runs (`grpo`), with credit and without. *samples*: runs until the success
that the outcome on every step reaches with all of them; *ratio*: with credit over without, each by interpolation of the curve over all smaller numbers. Nothing is read from DIR.
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

from upshot import api, worlds
from upshot.policy.data import read
from upshot.policy.recipe import Recipe
from upshot.policy.sample import Local, open_policy
from upshot.policy.tokens import open_tokenizer
from upshot.policy.train import train
from upshot.worlds import mediocre, phrases, talk
from upshot.worlds.people import Dials

SIZES = (50, 100, 200, 400, 800, 1_600)
TESTS = 1_000
WAYS: dict[str, dict[str, Any]] = {
    "sft": {"method": "sft", "trainer": {"learning_rate": 3e-4, "per_device_train_batch_size": 16, "num_train_epochs": 2, "lr_scheduler_type": "constant", "save_strategy": "no"}},
    "grpo": {"method": "grpo", "trainer": {"learning_rate": 3e-4, "per_device_train_batch_size": 16, "num_train_epochs": 2, "lr_scheduler_type": "constant", "save_strategy": "no", "num_iterations": 1}},
}  # fmt: skip


def sampler(policy: str) -> Local:
    """What draws a policy's answers."""
    return Local(open_policy(policy), open_tokenizer(policy))


def runs(policy: str, count: int, seed: int) -> list[dict[str, Any]]:
    """Runs of a policy, with what came of them."""
    found = talk.talk(worlds.get("plans"), sampler(policy), phrases.load(), count, Dials(silence=1.0, tasks=1), seed)
    right = {one.id: one.ok for one in found.truths}
    out: list[dict[str, Any]] = []
    for one in found.conversations:
        steps: list[dict[str, str]] = []
        for message in one["messages"][1:]:
            if message["role"] == "assistant":
                steps.append({"action": message["content"], "observation": ""})
            else:
                steps[-1]["observation"] = message["content"]
        out.append({"id": one["id"], "task": one["messages"][0]["content"], "steps": steps, "outcome": float(right[one["id"]])})
    return out


def learned(job: tuple[str, str, int, int, bool]) -> dict[str, Any]:
    """True success of a policy that learned from so many runs."""
    way, base, count, seed, with_credit = job
    torch.set_num_threads(1)
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix=f"steps-{way}-{count}-{seed}-"))
    log = folder / "runs.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in runs(base, max(SIZES), seed)[:count]))
    credits = None
    if with_credit:
        credits = folder / "credits.jsonl"
        credits.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in api.credit(log).credits))
    recipe = msgspec.convert({"base": base, "seed": seed, "kl": {"prompts": 8}, "draw": {"max_tokens": 12}, **WAYS[way]}, Recipe)
    train(recipe, read([str(log)], credits), folder / "policy")
    success = talk.measure(worlds.get("plans"), sampler(str(folder / "policy")), phrases.load(), TESTS).success
    shutil.rmtree(folder)
    print(f"{way} {count} runs, seed {seed}, {'credit' if with_credit else 'outcome'}: {success:.3f}, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return {"way": way, "count": count, "seed": seed, "credit": with_credit, "success": success}


def samples(curve: Sequence[float], goal: float) -> float:
    """Runs until a success: where the curve first reaches it, on a line over the logarithm of their number."""
    if curve[0] >= goal:
        return float(SIZES[0])
    for low, high, few, many in zip(curve, curve[1:], SIZES, SIZES[1:], strict=False):
        if low < goal <= high:
            return float(few * (many / few) ** ((goal - low) / (high - low)))
    return float("inf")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--base", default="", help="A policy made before; else one is made.")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    began = time.monotonic()
    base = given.base or str(mediocre.make(worlds.get("plans"), phrases.load(), Path(tempfile.mkdtemp(prefix="steps-base-")) / "base"))
    before = talk.measure(worlds.get("plans"), sampler(base), phrases.load(), TESTS).success
    ways = given.ways.split(",")
    with ProcessPoolExecutor(given.workers) as pool:
        found = list(pool.map(learned, [(way, base, count, seed, with_credit) for way in ways for count in SIZES for seed in range(given.seeds) for with_credit in (True, False)]))
    metrics: dict[str, float] = {"before": before}
    for way in ways:
        curve = {
            with_credit: [float(np.mean([one["success"] for one in found if (one["way"], one["count"], one["credit"]) == (way, count, with_credit)])) for count in SIZES]
            for with_credit in (True, False)
        }  # fmt: skip
        for with_credit, name in ((True, "credit"), (False, "outcome")):
            metrics |= {f"{way}.{name}.{count}": value for count, value in zip(SIZES, curve[with_credit], strict=True)}
        goal = max(curve[False])
        metrics |= {f"{way}.samples.credit": samples(curve[True], goal), f"{way}.samples.outcome": samples(curve[False], goal)}
        metrics[f"{way}.ratio"] = metrics[f"{way}.samples.credit"] / metrics[f"{way}.samples.outcome"]
    print(json.dumps({"bench": "steps", "metrics": {name: round(value, 4) for name, value in metrics.items()}, "data": "world: plans", "seconds": round(time.monotonic() - began, 1)}))


if __name__ == "__main__":
    main()
