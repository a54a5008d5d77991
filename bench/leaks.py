"""How much a reward model reveals of whom it was trained on, with and without differential privacy,
and what privacy costs.

Canaries (made-up users with eight pairs each) are planted in every preference set of `--data`;
`SET.plain.found` is the true-positive rate, at 0.1 % false positives, of an attacker who guesses
which of them were trained on; `SET.eps3.found` is the same with ε = 3. `SET.*.accuracy` is
cross-fitted by prompt.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from preference_sets import sets
from upshot.records import Preference
from upshot.reward import leaks, private
from upshot.reward.batches import answer_text, prompt_texts
from upshot.reward.model import RewardModel, prefers, split_folds, train
from upshot.reward.private import Privacy

Train = Callable[[Sequence[Preference]], RewardModel]


def accuracy(pairs: Sequence[Preference], learn: Train) -> float:
    """Share of pairs ordered rightly by a model that has not seen their prompts."""
    right: list[np.ndarray] = []
    for train_, test in split_folds(["\n".join(prompt_texts(p.prompt)) for p in pairs]):
        model, held = learn([pairs[i] for i in train_]), [pairs[i] for i in test]
        right.append(
            prefers(
                model,
                [prompt_texts(p.prompt) for p in held],
                [answer_text(p.chosen) for p in held],
                [answer_text(p.rejected) for p in held],
            )
            > 0.5
        )
    return float(np.concatenate(right).mean())


def learners(epsilons: Sequence[float]) -> Mapping[str, tuple[Train, float]]:
    """Each way to train, and its δ."""
    out: dict[str, tuple[Train, float]] = {"plain": (lambda rows: train({"all": rows}), 0.0)}
    for epsilon in epsilons:
        privacy = Privacy(epsilon)
        out[f"eps{epsilon:g}"] = (
            lambda rows, p=privacy: private.train({"all": rows}, p),
            privacy.delta,
        )
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--canaries", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--epsilons", type=float, nargs="+", default=[1.0, 3.0, 8.0])
    arguments = parser.parse_args()
    started = time.perf_counter()
    metrics: dict[str, float] = {}
    for name, pairs in sets(arguments.data):
        for kind, (learn, delta) in learners(arguments.epsilons).items():
            leak = leaks.audit(
                pairs, learn, count=arguments.canaries, runs=arguments.runs, delta=delta
            )
            metrics |= {
                f"{name}.{kind}.found": leak.found,
                f"{name}.{kind}.auc": leak.auc,
                f"{name}.{kind}.epsilon": leak.epsilon,
            }
            metrics[f"{name}.{kind}.accuracy"] = accuracy(pairs, learn)
    print(
        json.dumps(
            {
                "bench": "leaks",
                "metrics": {k: round(v, 4) for k, v in metrics.items()},
                "data": str(arguments.data),
                "seconds": round(time.perf_counter() - started, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
