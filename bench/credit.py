"""Whether credit goes to the right steps.

*truth*: a small world whose true credits are known, 2,000 logs as text: rank correlation, root mean
square error, and whether the worst step of a failed run is found (`truth.*`), for every reviewer
(`REVIEWER.*`). *bbm*: BIG-Bench-Mistake, runs with a wrong answer: the share whose most blamed step
is the labelled one, with labels of the other tasks only (`bbm.TASK.accuracy`), of the task itself,
five-fold (`bbm.TASK.own`), and without labels, from outcomes alone (`bbm.TASK.outcomes`);
`bbm.TASK.prior` blames the most common place. *who*: Who & When, five-fold by run over seeds, step
and agent, beside the most common step and the first speaker. No language model.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

import credit_sets
import credit_worlds
from bbm_checks import BBM_CHECKS
from measure import spearman
from upshot.credit import (
    REVIEWERS,
    Credit,
    Trajectory,
    blame,
    review_with_trained_models,
    split_outcomes,
)
from upshot.credit.features import extract_hindsight_features
from upshot.stats.sampling import assign_folds


def truth(logs: int, seed: int) -> dict[str, float]:
    """Every reviewer against true credits."""
    runs, true, _ = credit_worlds.logs(logs, seed)
    wanted = np.concatenate(true)
    failed = [i for i, run in enumerate(runs) if run.outcome == 0]
    out: dict[str, float] = {}
    for name, reviewer in REVIEWERS.items():
        found = [np.array(one.credits) for one in split_outcomes(runs, reviewer, name)]
        flat = np.concatenate(found)
        key = "truth" if name == "trained" else name
        out[f"{key}.rank"] = spearman(flat, wanted)
        out[f"{key}.rmse"] = float(np.sqrt(np.mean((flat - wanted) ** 2)))
        out[f"{key}.worst_step"] = float(
            np.mean([found[i].argmin() == true[i].argmin() for i in failed])
        )
    return out


def found(runs: Sequence[Trajectory], credits: Sequence[Credit]) -> float:
    """Share of wrong, labelled runs whose least credit is the labelled step's."""
    asked = [
        (run, one)
        for run, one in zip(runs, credits, strict=True)
        if run.outcome == 0 and run.label is not None and run.label >= 0
    ]
    return float(np.mean([int(np.argmin(one.credits)) == run.label for run, one in asked]))


def bbm(data: Path) -> dict[str, float]:
    """BIG-Bench-Mistake."""
    tasks = dict(credit_sets.mistakes(data))
    trained = partial(review_with_trained_models, checks=BBM_CHECKS)
    out: dict[str, float] = {}
    for name, runs in tasks.items():
        others = [
            run
            for other, part in tasks.items()
            if other != name
            for run in part
            if run.outcome == 0
        ]
        out[f"bbm.{name}.accuracy"] = found(
            runs, split_outcomes(runs, partial(trained, labelled=others), "others")
        )
        out[f"bbm.{name}.own"] = found(runs, split_outcomes(runs, trained, "own"))
        blind = [Trajectory(run.id, run.task, run.steps, run.outcome) for run in runs]
        out[f"bbm.{name}.outcomes"] = found(runs, split_outcomes(blind, trained, "outcomes"))
        labels = Counter(run.label for run in runs if run.outcome == 0 and (run.label or 0) >= 0)
        out[f"bbm.{name}.prior"] = max(labels.values()) / sum(labels.values())
    for kind, key in (
        ("accuracy", "mean"),
        ("own", "mean_own"),
        ("outcomes", "mean_outcomes"),
        ("prior", "mean_prior"),
    ):
        out[f"bbm.{key}"] = float(np.mean([out[f"bbm.{name}.{kind}"] for name in tasks]))
    return out


def who(data: Path, seeds: int) -> dict[str, float]:
    """Who & When."""
    rows = credit_sets.who_and_when(data)
    runs, features = (
        [run for run, _ in rows],
        [extract_hindsight_features(run, BBM_CHECKS) for run, _ in rows],
    )
    steps: list[bool] = []
    agents: list[bool] = []
    for seed in range(seeds):
        fold, _ = assign_folds([run.id for run in runs], 5, seed)
        for k in range(5):
            of = np.flatnonzero(fold != k)
            model = blame.learn([runs[i] for i in of], [features[i] for i in of])
            for i in np.flatnonzero(fold == k):
                shares = model.predict(features[i])
                blamed = blame.blame_by_agent(runs[i], shares)
                steps.append(int(shares.argmax()) == runs[i].label)
                agents.append(max(blamed, key=lambda name: blamed[name]) == rows[i][1])
    common = Counter(run.label for run in runs).most_common(1)[0]
    return {
        "who.step": float(np.mean(steps)),
        "who.agent": float(np.mean(agents)),
        "prior.who.step": common[1] / len(runs),
        "prior.who.agent": float(np.mean([run.steps[0].agent == agent for run, agent in rows])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--logs", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=4)
    arguments = parser.parse_args()
    started = time.perf_counter()
    metrics = truth(arguments.logs, 1) | bbm(arguments.data) | who(arguments.data, arguments.seeds)
    print(
        json.dumps(
            {
                "bench": "credit",
                "metrics": {k: round(v, 4) for k, v in metrics.items()},
                "data": str(arguments.data),
                "seconds": round(time.perf_counter() - started, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
