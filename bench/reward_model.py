"""Accuracy on held-out pairs, five-fold by prompt, for every preference set of `--data`; folds over
three seeds.

`SET.accuracy` is the embedded model without MiniLM, `SET.minilm` with it; `SET.plain` is logistic
regression (C = 1) on the difference of MiniLM sentence embeddings of the responses, `SET.longer`
the share where the longer was chosen. Without the `minilm` extra `SET.minilm` and `SET.plain` are
left out. `seconds` is the time to train on the largest set, features included.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

from preference_sets import sets
from upshot.records import Preference
from upshot.reward.batches import answer_text, prompt_texts
from upshot.reward.features import features
from upshot.reward.fit import fit
from upshot.reward.model import FLOORS, split_folds, train

Array = np.ndarray


def crossed(
    pairs: list[Preference], learn: Callable[[Array], Array], rows: Array, seeds: int
) -> float:
    """Share ordered rightly by weights learned without the row's prompt."""
    right: list[Array] = []
    for seed in range(seeds):
        for train_, test in split_folds(
            ["\n".join(prompt_texts(p.prompt)) for p in pairs], seed=seed
        ):
            logits = rows[test] @ learn(rows[train_])
            right.append((logits > 0) + 0.5 * (logits == 0))
    return float(np.concatenate(right).mean())


def scaled(a: Array, b: Array) -> Array:
    """Differences as the model sees them."""
    both = np.concatenate([a, b])
    centre, spread = both.mean(axis=0), both.std(axis=0) + 1e-3
    first, second = (np.clip((part - centre) / spread, -5, 5) for part in (a, b))
    return np.clip(first - second, -5, 5).astype(np.float64)


def plain(rows: Array) -> Array:
    """Logistic regression as scikit-learn ships it."""
    both = np.concatenate([rows, -rows])
    return (
        LogisticRegression(fit_intercept=False, max_iter=1000)
        .fit(both, np.repeat([1, 0], len(rows)))
        .coef_[0]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    started = time.perf_counter()
    try:
        from upshot.reward.minilm import embed
    except ImportError:
        embed = None
    metrics: dict[str, float] = {}
    largest: list[Preference] = []
    for name, pairs in sets(arguments.data):
        prompts = [prompt_texts(p.prompt) for p in pairs]
        chosen, rejected = (
            [answer_text(p.chosen) for p in pairs],
            [answer_text(p.rejected) for p in pairs],
        )
        a, b = (
            features(prompts, chosen, embed is not None),
            features(prompts, rejected, embed is not None),
        )
        rows, narrow = (
            scaled(a.values, b.values),
            ~(a.in_group("embedding") | np.char.startswith(a.names, "cosine")),
        )
        metrics[f"{name}.accuracy"] = crossed(
            pairs,
            lambda r, g=a.group[narrow]: fit(r, g, FLOORS).mean,
            rows[:, narrow],
            arguments.seeds,
        )
        metrics[f"{name}.longer"] = float(
            np.mean([len(x) > len(y) for x, y in zip(chosen, rejected, strict=True)])
        )
        if embed is not None:
            metrics[f"{name}.minilm"] = crossed(
                pairs, lambda r, g=a.group: fit(r, g, FLOORS).mean, rows, arguments.seeds
            )
            from upshot.reward.minilm import sentences

            metrics[f"{name}.plain"] = crossed(
                pairs, plain, sentences(chosen) - sentences(rejected), arguments.seeds
            )
        largest = max(largest, pairs, key=len)
    for kind in ("accuracy", "minilm", "plain", "longer"):
        if found := [value for key, value in metrics.items() if key.endswith("." + kind)]:
            metrics[f"mean.{kind}"] = float(np.mean(found))
    if largest:
        begun = time.perf_counter()
        train({"helpful": largest})
        metrics["seconds"] = time.perf_counter() - begun
    metrics = {key: round(value, 4) for key, value in metrics.items()}
    print(
        json.dumps(
            {
                "bench": "reward_model",
                "metrics": metrics,
                "data": str(arguments.data),
                "seconds": round(time.perf_counter() - started, 1),
            }
        )
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
