# pyright: reportPrivateImportUsage=false
# for trl, whose names are exported lazily
"""Every method of `policy/` in a world whose truth is known: its gain, its KL, and its cost beside
calling TRL directly.

`python bench/policies.py [--data DIR] [--methods sft,dpo,…]`. A policy that is mediocre at the
world of short programs is trained by each method, from the same requests; rewards are the world's
truth (tests of the responses' programs). For what the loop makes of text alone see
`bench/loop.py`. `gain`: true success of first responses to 1,000 fresh requests, after less before.
`kl`: nats per response from the base. `overhead`: CPU time of `upshot train policy` over that of
TRL's trainer called directly with the same model, rows and configuration, less 1; for the methods
that TRL has. Nothing is read from DIR.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from upshot import worlds
from upshot.hub.models import open_policy, open_tokenizer
from upshot.hub.sampling import Drawing, Local, Sampler
from upshot.policy.data import Data, Prompt, make_data
from upshot.policy.methods.conditioned import load_condition
from upshot.policy.recipe import Draw, Kl, Recipe
from upshot.policy.rewards import Rewards, wrap_function
from upshot.policy.train import train
from upshot.records import Example, Preference, Source, Turn
from upshot.records.training import turns_to_messages
from upshot.worlds import mediocre, phrases, talk
from upshot.worlds.people import Dials, Person

REQUESTS, ANSWERS, TESTS = 600, 4, 1_000
OFF = {
    "learning_rate": 3e-4,
    "per_device_train_batch_size": 32,
    "num_train_epochs": 2,
    "lr_scheduler_type": "constant",
    "save_strategy": "no",
}
ON = {
    "learning_rate": 3e-4,
    "per_device_train_batch_size": 64,
    "num_generations": 8,
    "max_steps": 25,
    "lr_scheduler_type": "constant",
    "save_strategy": "no",
}
SETTINGS: dict[str, dict[str, Any]] = {
    "sft": {"trainer": OFF},
    "dpo": {"trainer": {**OFF, "learning_rate": 5e-5}},
    "kto": {
        "trainer": {**OFF, "learning_rate": 1e-4, "num_train_epochs": 1},
        "kl": Kl(coefficient=1.0),
    },
    "rrhf": {"trainer": {**OFF, "per_device_train_batch_size": 8}},
    "raft": {"trainer": {**OFF, "num_train_epochs": 1}, "options": {"answers": 4}},
    "star": {"trainer": {**OFF, "num_train_epochs": 1}, "options": {"answers": 4}},
    "rloo": {"trainer": ON, "kl": Kl(coefficient=0.02, target=5.0)},
    "grpo": {"trainer": ON, "kl": Kl(coefficient=0.02, target=5.0)},
    "ppo": {"trainer": ON, "kl": Kl(coefficient=0.02, target=5.0)},
    "sdpo": {"trainer": {**OFF, "learning_rate": 1e-3}},
    "conditioned": {"trainer": {**OFF, "learning_rate": 1e-3, "num_train_epochs": 4}},
}
DIRECT = ("sft", "dpo", "kto", "rloo", "grpo")


class Bench:
    """The world, its requests, and the base's responses to them."""

    def __init__(self, folder: Path, base: str = "") -> None:
        self.folder, self.base = folder, str(folder / "base")
        self.phrases = phrases.load()
        if base:
            shutil.copytree(base, self.base)
        else:
            mediocre.make(worlds.get("programs"), self.phrases, Path(self.base))
        self.people = [
            Person(
                f"r{n}",
                worlds.get("programs"),
                self.phrases,
                Dials(),
                random=Random(f"requests/{n}"),
            )
            for n in range(REQUESTS)
        ]
        self.tasks = {person.prompt[-1].content: person.task for person in self.people}
        self.sampler = Local(open_policy(self.base), open_tokenizer(self.base))
        asked = [tuple(person.prompt) for person in self.people for _ in range(ANSWERS)]
        answers = [text.strip() for text in self.sampler(asked, Drawing(96, seed=3))]
        worth = self.reward()(asked, answers)
        self.examples = [
            Example(p, (Turn("assistant", a),), float(w), 1.0, Source("world"))
            for p, a, w in zip(asked, answers, worth, strict=True)
        ]
        self.pairs = list(self._pairs())
        self.before = self.success(self.sampler)

    def reward(self) -> Rewards:
        """The world's truth, without a cache."""
        world = worlds.get("programs")

        def truth(prompts: Any, answers: Any, facts: Any) -> Any:
            attempts = [
                (self.tasks[prompt[-1].content.partition("\n\n")[0]], [Turn("assistant", answer)])
                for prompt, answer in zip(prompts, answers, strict=True)
            ]
            return np.array([float(one.ok) for one in world.judge(attempts)])

        return wrap_function(truth, "truth")

    def _pairs(self) -> Any:
        for start in range(0, len(self.examples), ANSWERS):
            group = self.examples[start : start + ANSWERS]
            good, bad = (
                [one for one in group if (one.score > 0.5) is side] for side in (True, False)
            )
            if good and bad:
                yield Preference(
                    group[0].prompt,
                    good[0].completion,
                    bad[0].completion,
                    1.0,
                    1.0,
                    Source("world"),
                )

    def followed(self) -> list[Example]:
        """Responses with what the people who asked wrote next, and no score."""
        found = talk.talk(
            worlds.get("programs"),
            self.sampler,
            self.phrases,
            900,
            Dials(silence=0.05, tries=0.95),
            seed=9,
        )
        out: list[Example] = []
        for one in found.conversations:
            turns = [Turn(message["role"], message["content"]) for message in one["messages"]]
            out += [
                Example(
                    tuple(turns[:i]), (turns[i],), 0.5, 1.0, Source("log"), after=(turns[i + 1],)
                )
                for i in range(1, len(turns) - 1)
                if turns[i].role == "assistant"
            ]
        return out

    def data(self, method: str) -> Data:
        """What a method learns from."""
        if method == "dpo":
            return make_data(self.pairs)
        if method == "sdpo":
            return make_data(self.followed())
        return (
            make_data(self.examples)
            if method in ("sft", "kto", "rrhf", "conditioned")
            else make_data([Prompt(tuple(person.prompt)) for person in self.people])
        )

    def success(self, sampler: Any) -> float:
        """True success on fresh requests."""
        return talk.measure(worlds.get("programs"), sampler, self.phrases, TESTS).success

    def recipe(self, method: str) -> Recipe:
        """The recipe of a method."""
        return Recipe(self.base, method, draw=Draw(96), **SETTINGS[method])


def direct(bench: Bench, method: str, data: Data, folder: Path) -> None:
    """The same through TRL alone: the model is loaded, the rows are converted, it is trained and
    written.
    """
    from datasets import Dataset
    from trl import (
        DPOConfig,
        DPOTrainer,
        GRPOConfig,
        GRPOTrainer,
        KTOConfig,
        KTOTrainer,
        RLOOConfig,
        RLOOTrainer,
        SFTConfig,
        SFTTrainer,
    )

    trainer = SETTINGS[method]["trainer"]
    kinds: dict[str, Any] = {
        "sft": (SFTConfig, SFTTrainer),
        "dpo": (DPOConfig, DPOTrainer),
        "kto": (KTOConfig, KTOTrainer),
        "rloo": (RLOOConfig, RLOOTrainer),
        "grpo": (GRPOConfig, GRPOTrainer),
    }
    config, kind = kinds[method]
    usual = {
        "output_dir": str(folder),
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
        "logging_steps": 5,
        "seed": 0,
    }
    more: dict[str, Any] = {}
    if method == "sft":
        rows = [
            {
                "prompt": turns_to_messages(row.prompt),
                "completion": turns_to_messages(row.completion),
            }
            for row in data.examples
            if row.score >= 0.5
        ]
    elif method == "dpo":
        rows = [
            {
                "prompt": turns_to_messages(row.prompt),
                "chosen": turns_to_messages(row.chosen),
                "rejected": turns_to_messages(row.rejected),
            }
            for row in data.pairs
        ]
    elif method == "kto":
        rows = [
            {
                "prompt": turns_to_messages(row.prompt),
                "completion": turns_to_messages(row.completion),
                "label": row.score >= 0.5,
            }
            for row in data.examples
        ]
        usual["beta"] = 1.0
    else:
        rows = [{"prompt": turns_to_messages(one.turns)} for one in data.prompts]
        usual |= {"beta": 0.02, "max_completion_length": 96}
        rewards = bench.reward()

        def truth(prompts: Any, completions: Any, **_: Any) -> list[float]:
            return rewards(
                [[Turn(one["role"], one["content"]) for one in prompt] for prompt in prompts],
                [one[0]["content"].strip() for one in completions],
            ).tolist()

        more = {"reward_funcs": [truth]}
    made = kind(
        model=bench.base,
        args=config(**{**usual, **trainer}, model_init_kwargs={"dtype": "float32"}),
        train_dataset=Dataset.from_list(rows),
        processing_class=open_tokenizer(bench.base),
        **more,
    )
    made.train()
    made.save_model(str(folder))


def open_local(folder: Path) -> Sampler:
    """A trained policy as it is."""
    return Local(open_policy(str(folder)), open_tokenizer(str(folder)))


def open_conditioned(folder: Path) -> Sampler:
    """A score-conditioned policy, with its condition in every prompt."""
    policy, condition = open_local(folder), load_condition(folder)

    def sample(prompts: Sequence[Sequence[Turn]], drawing: Drawing = Drawing()) -> list[str]:
        return policy([condition.ask(prompt) for prompt in prompts], drawing)

    return sample


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="")
    parser.add_argument("--methods", default=",".join(SETTINGS))
    parser.add_argument(
        "--base", default="", help="A policy made before; else one is made (three minutes)."
    )
    parser.add_argument("--repeat", type=int, default=2, help="Timings of each; the least counts.")
    given = parser.parse_args()
    torch.set_num_threads(1)  # two threads on two cores wait for each other
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="policies-"))
    bench = Bench(folder, given.base)
    print(f"before: {bench.before:.3f}", file=sys.stderr, flush=True)
    metrics: dict[str, float] = {"before": bench.before}
    for method in given.methods.split(","):
        data, times, bare = bench.data(method), [], []
        out, done = folder, None
        for number in range(given.repeat if method in DIRECT else 1):
            out = folder / f"{method}-{number}"
            start = time.process_time()
            done = train(bench.recipe(method), data, out, bench.reward())
            times.append(time.process_time() - start)
            if method in DIRECT:
                start = time.process_time()
                direct(bench, method, data, folder / f"{method}-direct-{number}")
                bare.append(time.process_time() - start)
        sampler = open_conditioned(out) if method == "conditioned" else open_local(out)
        if done is None:
            raise SystemExit("--repeat must be at least 1")
        metrics |= {
            f"{method}.gain": bench.success(sampler) - bench.before,
            f"{method}.kl": done.kl or 0.0,
            f"{method}.seconds": done.seconds,
            f"{method}.memory_gb": done.memory_gb,
        }
        if bare:
            metrics[f"{method}.overhead"] = min(times) / min(bare) - 1
        print(
            method,
            {
                name.partition(".")[2]: round(value, 3)
                for name, value in metrics.items()
                if name.startswith(method + ".")
            },
            file=sys.stderr,
            flush=True,
        )
    shutil.rmtree(folder)
    print(
        json.dumps(
            {
                "bench": "policies",
                "metrics": {name: round(value, 4) for name, value in metrics.items()},
                "data": "world: programs",
                "seconds": round(time.monotonic() - began, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
