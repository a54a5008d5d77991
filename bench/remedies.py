"""A hotfix and a skill library in a world whose truth is known.

`python bench/remedies.py [--data DIR] [--base POLICY] [--people 800]`. *Hotfix*: eight requests for
the ability that a mediocre policy at the world of short programs lacks most, which it answers
wrongly, with what was wanted. `fixed`: how many it answers rightly afterwards. Also true success on
fresh requests for that ability before and after, and on 500 requests that were answered rightly
(`rest`; `margin` is what may be lost). *Skills*: people talk with the policy, and the library keeps
what the log says worked. `skills.right`: how often the best skill's response is right for a fresh
request that it is offered for (`skills.offered` of them), beside the policy's own responses to the
same requests. Nothing is read from DIR.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

import upshot
from upshot import worlds
from upshot.api import judging
from upshot.hub.models import open_policy, open_tokenizer
from upshot.hub.sampling import Drawing, Local
from upshot.loop.hotfix import Case, hotfix
from upshot.policy.data import Prompt
from upshot.records import Turn
from upshot.worlds import mediocre, phrases, talk
from upshot.worlds.people import NOISY, Dials, Person
from upshot.worlds.world import Task

CASES, REST, FRESH, ALIKE = 8, 500, 2_000, 0.9
GREEDY = Drawing(96, 0.0)


class World:
    """Requests, and which responses to them are right."""

    def __init__(self, base: str) -> None:
        self.world, self.phrases, self.base = worlds.get("programs"), phrases.load(), base
        self.tasks: dict[str, Task] = {}

    def requests(self, count: int, name: str, ability: str = "") -> list[tuple[Turn, ...]]:
        """A number of tasks that need this ability; empty: of all tasks."""
        out: list[tuple[Turn, ...]] = []
        number = 0
        while len(out) < count:
            person = Person(
                f"{name}{number}",
                self.world,
                self.phrases,
                Dials(),
                random=Random(f"{name}/{number}"),
            )
            number += 1
            if not ability or ability in person.task.key:
                self.tasks[person.prompt[-1].content] = person.task
                out.append(tuple(person.prompt))
        return out

    def say(self, policy: str, prompts: Sequence[Sequence[Turn]]) -> list[str]:
        """A policy's responses."""
        return [
            text.strip()
            for text in Local(open_policy(policy), open_tokenizer(policy))(prompts, GREEDY)
        ]

    def right(self, prompts: Sequence[Sequence[Turn]], answers: Sequence[str]) -> np.ndarray:
        """Whether each is right, 0 or 1."""
        return np.array(
            [
                float(one.ok)
                for one in self.world.judge(
                    [
                        (self.tasks[p[-1].content], [Turn("assistant", a)])
                        for p, a in zip(prompts, answers, strict=True)
                    ]
                )
            ]
        )


def hotfixed(world: World, folder: Path) -> dict[str, float]:
    """The effect of a hotfix on its cases, on requests like them, and on the rest."""
    prompts = world.requests(2 * REST, "rest")
    right = world.right(prompts, world.say(world.base, prompts)) > 0
    tasks = [world.tasks[prompt[-1].content] for prompt in prompts]
    shares = {
        name: float(
            np.mean([ok for ok, task in zip(right, tasks, strict=True) if name in task.key])
        )
        for name in sorted({part for task in tasks for part in task.key})
    }
    worst = min(shares, key=lambda name: shares[name])
    asked = world.requests(FRESH // 4, "cases", worst)
    failed = [
        prompt
        for prompt, ok in zip(asked, world.right(asked, world.say(world.base, asked)), strict=True)
        if not ok
    ][:CASES]
    cases: list[Case] = []
    for prompt in failed:
        task, answer, number = world.tasks[prompt[-1].content], "", 0
        while not answer or not world.right([prompt], [answer])[0]:
            answer = world.world.demonstrate(task, Random(f"wanted/{number}"), 10.0)[-1].content
            number += 1
        cases.append(Case(prompt, answer))
    rest = [Prompt(prompt) for prompt, ok in zip(prompts, right, strict=True) if ok][:REST]
    done = hotfix(
        world.base,
        cases,
        rest,
        folder / "fix",
        drawing=GREEDY,
        score=lambda asked_, answers: world.right(asked_, answers),
    )
    fresh = world.requests(FRESH // 4, "fresh", worst)
    before, after = (
        float(world.right(fresh, world.say(policy, fresh)).mean())
        for policy in (world.base, done.policy)
    )
    print(f"hotfix of {worst!r}: {done}")
    return {
        "hotfix.cases": len(cases),
        "hotfix.fixed": done.fixed,
        "hotfix.like_before": before,
        "hotfix.like_after": after,
        "hotfix.seconds": done.seconds,
        "hotfix.kl": done.kl or 0.0,
        "hotfix.rest_lost": 1
        - float(
            world.right(
                [one.turns for one in rest], world.say(done.policy, [one.turns for one in rest])
            ).mean()
        ),
        "hotfix.said_to_hold": float(done.kept),
    }


def skilled(world: World, folder: Path, people: int) -> dict[str, float]:
    """The value of a library of confirmed responses for fresh requests."""
    sampler: Any = Local(open_policy(world.base), open_tokenizer(world.base))
    log = folder / "log.jsonl"
    log.write_text(
        "".join(
            json.dumps(row) + "\n"
            for row in talk.talk(
                world.world, sampler, world.phrases, people, NOISY, seed=4
            ).conversations
        )
    )
    lake = folder / "lake"
    upshot.ingest([log], lake)
    judging.link_lake(lake)
    judging.judge_lake(lake)
    library = upshot.skills(lake)
    prompts = world.requests(FRESH, "new")
    best = [
        found[0][0].how if (found := library.find(prompt[-1].content, 1, ALIKE)) else ""
        for prompt in prompts
    ]
    own = world.right(prompts, world.say(world.base, prompts))
    offered = np.array([bool(answer) for answer in best])
    right = world.right(
        [p for p, has in zip(prompts, offered, strict=True) if has],
        [answer for answer in best if answer],
    )
    return {
        "skills.count": len(library.skills),
        "skills.offered": float(offered.mean()),
        "skills.right": float(right.mean()),
        "skills.policy_right": float(own[offered].mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="")
    parser.add_argument("--base", default="", help="A policy made before; else one is made.")
    parser.add_argument("--people", type=int, default=800)
    given = parser.parse_args()
    torch.set_num_threads(1)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="remedies-") as name:
        folder = Path(name)
        world = World(
            given.base
            or str(mediocre.make(worlds.get("programs"), phrases.load(), folder / "base"))
        )
        metrics = hotfixed(world, folder) | skilled(world, folder, given.people)
    print(
        json.dumps(
            {
                "bench": "remedies",
                "metrics": {name: round(value, 4) for name, value in metrics.items()},
                "data": "world: programs",
                "seconds": round(time.monotonic() - began, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
