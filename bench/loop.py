"""How much of an oracle's gain the loop gets from text alone.

`python bench/loop.py [--data DIR] [--seeds 3] [--contrast 1] [--people 800] [--base POLICY] [--keep
FILE]`. In the world of short programs a mediocre policy talks with people for five rounds; each
round's candidate is tried on half of the people, and what came of it decides. Only the judge
differs: *verdicts* (the embedded judge, text alone), *oracle* (the world's truth), *foresight* (the
verdicts' score before anything followed; it calls as many responses good as the verdicts do),
*thumbs* (3 % of the people give them), *imitation* (every response is good), *random* (as many
responses as the verdicts call good, drawn at random). People are noisy and use phrasings that the
judge was not made for; `hostile`: a fifth of them lie, write for the judge, or are pleased by
length. A share is the gain in true success of the last round's candidate over the oracle's;
intervals are t intervals over seeds (one seed, and no interval, for the arms that are there for
contrast). `--keep`: a file of finished results, which are not computed again. Nothing is read from
DIR.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

import upshot
from upshot import worlds
from upshot.hub.models import open_policy, open_tokenizer
from upshot.hub.sampling import Local
from upshot.loop.config import Config
from upshot.loop.gather import LogRequest
from upshot.loop.state import Loop
from upshot.stats.intervals import t_quantile
from upshot.stats.sampling import draw
from upshot.worlds import mediocre, phrases, talk
from upshot.worlds.people import NOISY, TROUBLED, Truth

ROUNDS, TESTS = 5, 1_000
UNSEEN = files("upshot.worlds").joinpath("phrases_other.toml")
ARMS = ("verdicts", "oracle", "foresight", "thumbs", "imitation", "random")
TRAINER = {
    "learning_rate": 3e-4,
    "per_device_train_batch_size": 32,
    "num_train_epochs": 2,
    "lr_scheduler_type": "constant",
    "save_strategy": "no",
}
Scores = Callable[[str, int], tuple[float, float] | None]


def sampler(policy: str) -> Local:
    """What samples a policy's responses."""
    return Local(open_policy(policy), open_tokenizer(policy))


class World:
    """People who talk with what is in service, half of them with a candidate."""

    def __init__(self, people: int, seed: int, hostile: bool) -> None:
        self.people, self.seed, self.dials = people, seed, TROUBLED if hostile else NOISY
        self.phrases = phrases.load(str(UNSEEN))
        self.truth: dict[tuple[str, int], Truth] = {}

    def collect(self, request: LogRequest, path: Path) -> None:
        """One round's log."""
        trial = round(self.people * request.share) if request.canary else 0
        rows: list[dict[str, Any]] = []
        for number, (policy, count) in enumerate(
            [(request.policy, self.people - trial), (request.canary, trial)]
        ):
            if count:
                found = talk.talk(
                    worlds.get("programs"),
                    sampler(policy),
                    self.phrases,
                    count,
                    self.dials,
                    seed=(self.seed * 100 + request.round) * 2 + number,
                    model=policy,
                )
                rows += found.conversations
                self.truth |= {(one.id, one.index): one for one in found.truths}
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def judge(arm: str, world: World, lake: Path, rate: list[float]) -> Scores | None:
    """What scores the responses; None: the verdicts."""

    def oracle(name: str, index: int) -> tuple[float, float] | None:
        found = world.truth.get((name, index))
        return None if found is None else (float(found.ok), 1.0)

    def thumbs(name: str, index: int) -> tuple[float, float] | None:
        found = world.truth.get((name, index))
        return None if found is None or found.thumb is None else ((1 + found.thumb) / 2, 1.0)

    def foresight(name: str, index: int) -> tuple[float, float] | None:
        if (name, index) not in known:
            known.update({(one.id, one.index): one.foresight for one in upshot.verdicts(lake)})
            least[0] = float(np.quantile(list(known.values()), 1 - rate[-1]))
        return (
            (0.9 if known[name, index] >= least[0] else 0.1, 1.0)
            if (name, index) in known
            else None
        )

    known: dict[tuple[str, int], float] = {}
    least = [0.0]
    some: dict[str, Scores | None] = {
        "verdicts": None,
        "oracle": oracle,
        "thumbs": thumbs,
        "foresight": foresight,
        "imitation": lambda name, index: (1.0, 1.0),
        "random": lambda name, index: (
            (1.0, 1.0) if draw(f"random/{name}/{index}") < rate[-1] else None
        ),
    }
    return some[arm]


def run(job: tuple[str, int, bool, str, int, list[float]]) -> dict[str, Any]:
    """One arm of one seed: true success of the candidate after each round, and the share of
    responses that it learned from as good.
    """
    arm, seed, hostile, base, people, rate = job
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix=f"loop-{arm}-{seed}-"))
    world = World(people, seed, hostile)
    trial = {"splits": [0.9, 0.01, 0.09], "recent": 1, "prompts": 100}
    config = msgspec.convert(
        {
            "lake": str(folder / "lake"),
            "folder": str(folder / "loop"),
            "base": base,
            "seed": seed,
            "gather": {"command": "none"},
            "learn": trial,
            "serve": {"canary": 0.5},
            "policy": {
                "method": "sft",
                "trainer": TRAINER,
                "draw": {"max_tokens": 96},
                "options": {"least": 0.7},
                "kl": {"prompts": 32},
            },
            "gate": {"margins": {"flattery": 1.0, "length": 1.0}, "kl": 100.0},
        },
        Config,
    )
    success, served, good = [], [], []
    for number in range(ROUNDS):
        began = time.monotonic()
        upshot.loop_run(
            config,
            1,
            collect=world.collect,
            scores=judge(arm, world, folder / "lake", [rate[min(number, len(rate) - 1)]]),
        )
        if Loop(folder / "loop").state().waiting:
            upshot.loop_approve(
                config, "bench", refuse=True
            )  # a careful person does not release what may do harm
        here = Loop(folder / "loop").rounds()[-1]
        rows = [
            json.loads(line) for line in (here.folder / "examples.jsonl").read_text().splitlines()
        ]
        answers = sum(
            len([m for m in json.loads(line)["messages"] if m["role"] == "assistant"])
            for line in (here.folder / "logs" / "log.jsonl").read_text().splitlines()
        )
        good.append(sum(row["score"] >= 0.7 for row in rows) / max(1, answers))
        served.append(measured(Loop(folder / "loop").state().serving, world))
        candidate = here.folder / "policy-0"
        success.append(
            measured(str(candidate), world) if (candidate / "policy.json").is_file() else served[-1]
        )  # no verdict was sure enough to teach
        print(
            f"{arm} seed {seed}{' hostile' if hostile else ''} round {number + 1}:"
            f" {success[-1]:.3f}, in service {served[-1]:.3f}, {time.monotonic() - began:.0f} s",
            file=sys.stderr,
            flush=True,
        )
    shutil.rmtree(folder)
    return {
        "arm": arm,
        "seed": seed,
        "hostile": hostile,
        "success": success,
        "served": served,
        "good": good,
    }


def measured(policy: str, world: World) -> float:
    """True success on fresh requests."""
    return talk.measure(worlds.get("programs"), sampler(policy), world.phrases, TESTS).success


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--contrast", type=int, default=1, help="Seeds of the arms that are there for contrast."
    )
    parser.add_argument("--people", type=int, default=800)
    parser.add_argument(
        "--base", default="", help="A policy made before; else one is made (five minutes)."
    )
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    began = time.monotonic()
    base = given.base or str(
        mediocre.make(
            worlds.get("programs"),
            phrases.load(),
            Path(tempfile.mkdtemp(prefix="loop-base-")) / "base",
        )
    )
    arms = given.arms.split(",")
    before = measured(base, World(1, 0, False))
    found = (
        [json.loads(line) for line in given.keep.read_text().splitlines()]
        if given.keep and given.keep.is_file()
        else []
    )
    wanted = [
        (arm, seed, hostile)
        for arm in arms
        for hostile in (False, True)
        if arm == "verdicts" or not hostile
        for seed in range(given.seeds if arm in ("verdicts", "oracle") else given.contrast)
    ]
    with ProcessPoolExecutor(given.workers) as pool:
        for later in (
            False,
            True,
        ):  # those that need the number of responses that the verdicts call good
            rates = {
                one["seed"]: one["good"]
                for one in found
                if one["arm"] == "verdicts" and not one["hostile"]
            }
            known = {(one["arm"], one["seed"], one["hostile"]) for one in found}
            jobs = [
                (*one, base, given.people, rates.get(one[1], [1.0]))
                for one in wanted
                if one not in known and (one[0] in ("random", "foresight")) is later
            ]
            for done in pool.map(run, jobs):
                found.append(done)
                if given.keep:
                    with given.keep.open("a") as handle:
                        handle.write(json.dumps(done) + "\n")

    def gains(arm: str, hostile: bool = False, key: str = "success") -> np.ndarray:
        return np.array(
            [
                one[key][-1] - before
                for one in found
                if one["arm"] == arm and one["hostile"] is hostile
            ]
        )

    metrics: dict[str, float] = {"before": before}
    for arm in arms:
        metrics[f"{arm}.success"] = before + float(gains(arm).mean())
        for number in range(ROUNDS):
            metrics[f"{arm}.round_{number + 1}"] = float(
                np.mean(
                    [
                        one["success"][number]
                        for one in found
                        if one["arm"] == arm and not one["hostile"]
                    ]
                )
            )
    for name, arm, hostile in (
        ("oracle_share", "verdicts", False),
        ("oracle_share.hostile", "verdicts", True),
        *((f"{arm}_share", arm, False) for arm in ("foresight", "imitation", "thumbs", "random")),
    ):
        if arm in arms and "oracle" in arms:
            share = gains(arm, hostile) / gains("oracle").mean()
            half = (
                float(t_quantile(0.975, len(share) - 1) * share.std(ddof=1) / np.sqrt(len(share)))
                if len(share) > 1
                else 0.0
            )
            metrics |= {
                name: float(share.mean()),
                **(
                    {
                        f"{name}.low": float(share.mean()) - half,
                        f"{name}.high": float(share.mean()) + half,
                    }
                    if len(share) > 1
                    else {}
                ),
            }
    metrics["served.success"] = before + float(gains("verdicts", key="served").mean())
    print(
        json.dumps(
            {
                "bench": "loop",
                "metrics": {name: round(value, 4) for name, value in metrics.items()},
                "data": "world: programs",
                "seconds": round(time.monotonic() - began, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
