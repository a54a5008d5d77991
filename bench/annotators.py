"""Merit of responses, separated from who rated them: rank correlation with the true merit, on
synthetic raters.

500 raters rate 20 of 800 responses each on a scale of 1 to 5, with leniency, scale and a taste for
length of their own (most like it), and a fifth of the ratings is noise. `rank.plain` is
Bradley-Terry on every pair of responses that one rater rated differently (leniency cancels);
`rank.coordinated` is ours where 10 % of the raters push 40 responses up and the rest down.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
from scipy.optimize import minimize

from measure import spearman
from upshot.reward.rater_model import separate

_ITEMS, _RATERS, _EACH = 800, 500, 20


def world(seed: int, coordinated: float) -> tuple[np.ndarray, ...]:
    """rater, item, rating, length, true merit."""
    rng = np.random.default_rng(seed)
    merit, length = rng.normal(size=_ITEMS), rng.normal(size=_ITEMS)
    leniency, scale = rng.normal(0, 0.8, _RATERS), np.exp(rng.normal(0, 0.4, _RATERS))
    taste = rng.normal(0.5, 0.5, _RATERS)
    rater = np.repeat(np.arange(_RATERS), _EACH)
    item = np.concatenate([rng.choice(_ITEMS, _EACH, replace=False) for _ in range(_RATERS)])
    felt = (
        3
        + leniency[rater]
        + 0.7 * scale[rater] * (merit[item] + taste[rater] * length[item])
        + rng.normal(0, 0.5, len(rater))
    )
    noise = rng.random(len(rater)) < 0.2
    felt[noise] = rng.uniform(0.5, 5.5, noise.sum())
    planned = rng.permutation(_RATERS)[: int(coordinated * _RATERS)]
    target = rng.permutation(_ITEMS)[:40]
    plan = np.isin(rater, planned)
    pushed = rng.random(plan.sum()) < 0.5
    item[plan] = np.where(pushed, rng.choice(target, plan.sum()), item[plan])
    felt[plan] = np.where(np.isin(item[plan], target), 5, 1)
    return rater, item, np.clip(np.round(felt), 1, 5), length, merit


def plain(rater: np.ndarray, item: np.ndarray, rating: np.ndarray) -> np.ndarray:
    """Bradley-Terry over all pairs of one rater's ratings that differ."""
    better, worse = [], []
    for u in range(rater.max() + 1):
        mine = np.flatnonzero(rater == u)
        a, b = np.meshgrid(mine, mine)
        above = rating[a] > rating[b]
        better.append(item[a[above]])
        worse.append(item[b[above]])
    chosen, rejected = np.concatenate(better), np.concatenate(worse)

    def loss(q: np.ndarray) -> tuple[float, np.ndarray]:
        d = q[chosen] - q[rejected]
        p = 1 / (1 + np.exp(d))
        grad = np.bincount(rejected, p, _ITEMS) - np.bincount(chosen, p, _ITEMS) + 0.1 * q
        return float(np.logaddexp(0, -d).sum() + 0.05 * q @ q), grad

    return minimize(loss, np.zeros(_ITEMS), jac=True, method="L-BFGS-B").x


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data")
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    started = time.perf_counter()
    found: dict[str, list[float]] = {}
    for seed in range(arguments.seeds):
        for name, share in (("", 0.0), ("_coordinated", 0.1)):
            rater, item, rating, length, merit = world(seed, share)
            ours = separate(rater, item, rating, length)
            found.setdefault("ours" + name, []).append(spearman(ours.merit, merit))
            found.setdefault("plain" + name, []).append(spearman(plain(rater, item, rating), merit))
            found.setdefault("without_style" + name, []).append(
                spearman(separate(rater, item, rating).merit, merit)
            )
    mean = {name: round(float(np.mean(values)), 4) for name, values in found.items()}
    metrics = {
        "rank.plain": mean["plain"],
        "rank.ours": mean["ours"],
        "rank.coordinated": mean["ours_coordinated"],
        "rank.plain_coordinated": mean["plain_coordinated"],
        "rank.without_style": mean["without_style"],
    }
    print(
        json.dumps(
            {
                "bench": "annotators",
                "metrics": metrics,
                "data": "simulated",
                "seconds": round(time.perf_counter() - started, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
