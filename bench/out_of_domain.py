"""The out-of-domain flag and calibration inside the domain.

`auroc`: a domain is learned on two thirds of one corpus's dialogues; the others against every other
corpus of `--data` (preference sets, rated dialogues, programmers' chats), mean over all ordered
pairs of corpora. `ece`: expected calibration error of P(chosen over rejected) on held-out pairs,
five-fold by prompt, order of the two drawn at random, mean over preference sets, ten bins of equal
size.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from corpora import real_human_eval, satisfaction
from preference_sets import sets
from upshot.records import Preference, RawConversation
from upshot.reward import prefers, train
from upshot.reward.batches import answer_text, prompt_texts
from upshot.reward.domain import learn, unfamiliarity
from upshot.reward.features import features, surface_features
from upshot.reward.model import split_folds
from upshot.stats.calibration import ece
from upshot.stats.sampling import draw

_MOST = 1_500
Items = list[tuple[list[str], str]]


def of_chats(chats: list[RawConversation]) -> Items:
    """Each response with the texts before it."""
    return [
        ([m.content for m in chat.messages[:i]], message.content)
        for chat in chats
        for i, message in enumerate(chat.messages)
        if message.role == "assistant" and i
    ]


def of_pairs(pairs: list[Preference]) -> Items:
    """Both responses of each pair."""
    return [
        (prompt_texts(p.prompt), answer_text(turns))
        for p in pairs
        for turns in (p.chosen, p.rejected)
    ]


def corpora(data: Path, pairs: dict[str, list[Preference]]) -> dict[str, Items]:
    """Every corpus of `data`, at most 1,500 responses of each."""
    found = {name: of_pairs(rows) for name, rows in pairs.items()}
    found |= {corpus.name: of_chats(list(corpus.conversations)) for corpus in satisfaction(data)}
    if (data / "coding-chats" / "realhumaneval-chat.csv").is_file():
        found["realhumaneval"] = of_chats(real_human_eval(data)[0])
    rng = np.random.default_rng(0)
    return {
        name: [items[i] for i in rng.permutation(len(items))[:_MOST]]
        for name, items in found.items()
        if len(items) >= 100
    }


def calibration_error(pairs: list[Preference], seed: int = 0) -> float:
    """Expected calibration error over held-out pairs, each shown in a random order."""
    rng = np.random.default_rng(seed)
    probability, right = [], []
    for train_, test in split_folds(["\n".join(prompt_texts(p.prompt)) for p in pairs], seed=seed):
        model = train({"helpful": [pairs[i] for i in train_]})
        turned = rng.random(len(test)) < 0.5
        sides = [(answer_text(pairs[i].chosen), answer_text(pairs[i].rejected)) for i in test]
        first, second = zip(
            *((b, a) if t else (a, b) for (a, b), t in zip(sides, turned, strict=True)), strict=True
        )
        probability.append(
            prefers(model, [prompt_texts(pairs[i].prompt) for i in test], first, second)
        )
        right.append(~turned)
    return ece(np.concatenate(probability), np.concatenate(right).astype(float))


def seen(items: Items) -> tuple[list[list[str]], list[str], np.ndarray]:
    """Prompts, responses and their features."""
    prompts, responses = [p for p, _ in items], [r for _, r in items]
    return prompts, responses, surface_features(features(prompts, responses))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args()
    started = time.perf_counter()
    pairs = dict(sets(arguments.data))
    found = corpora(arguments.data, pairs)
    areas, alarms, metrics = [], [], {}
    for name, items in found.items():
        known, held = (
            [item for item in items if (draw(item[0][0]) < 2 / 3) == side] for side in (True, False)
        )
        domain = learn(*seen(known))
        inside = unfamiliarity(domain, *seen(held))
        alarms.append(float((inside > domain.threshold).mean()))
        own = []
        for other, strangers in found.items():
            if other != name:
                outside = unfamiliarity(domain, *seen(strangers))
                own.append(
                    roc_auc_score(
                        np.repeat([0, 1], [len(inside), len(outside)]),
                        np.concatenate([inside, outside]),
                    )
                )
        metrics[f"auroc.{name}"] = float(np.mean(own))
        areas += own
    errors = {f"ece.{name}": calibration_error(rows) for name, rows in pairs.items()}
    metrics = {
        "auroc": float(np.mean(areas)),
        "ece": float(np.mean(list(errors.values()))),
        "false_alarms": float(np.mean(alarms)),
        **metrics,
        **errors,
    }
    metrics = {name: round(value, 4) for name, value in metrics.items()}
    print(
        json.dumps(
            {
                "bench": "out_of_domain",
                "metrics": metrics,
                "data": str(arguments.data),
                "seconds": round(time.perf_counter() - started, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
