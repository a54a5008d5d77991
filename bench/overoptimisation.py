"""True reward against KL while a reward model is optimised, on a world whose truth is known.

Responses have 16 features with heavy tails (t with 5 degrees of freedom) and a length; the true
reward is linear with a turn in the tail and does not depend on length. Raters give 400 pairs:
*clean*, *flips* (a quarter reversed), *length* (the same, and half of the raters love length).
Optimisers: best-of-n to 1,024, and a Gaussian policy pushed by the reward's gradient. Models: one
for all pairs, mean, minimum and mean − 2 variances of five on disjoint raters, each as trained and
with length held fixed. *guarded* is mean − 2 variances with length held fixed, stopped by a panel
of five more groups of raters (`reward.panel.Watch`) and taken back to its best checkpoint.
`loss` is the share of a run's own best true reward that is lost at its end, `end` the true reward
at its end, mean over 12 seeds and all conditions; `guarded.worst` is the worst condition. A run's
own best is over every checkpoint it reached, including those it went back from.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import NamedTuple

import numpy as np

from upshot.reward.fit import fit
from upshot.reward.panel import Watch

Array = np.ndarray
_FEATURES, _PAIRS, _MEMBERS, _SEEDS = 16, 400, 5, 12
_STEPS = np.unique(np.round(2 ** np.arange(0, 10.25, 0.5)).astype(int))


class World(NamedTuple):
    weights: Array

    def draw(self, rng: np.random.Generator, size: int) -> Array:
        """Responses: features, then length."""
        return np.concatenate(
            [rng.standard_t(5, (size, _FEATURES)), rng.standard_t(5, (size, 1))], axis=1
        )

    def truth(self, x: Array) -> Array:
        along = x[..., :_FEATURES] @ self.weights
        return (
            along
            - 0.15 * (np.maximum(np.abs(x[..., :_FEATURES]) - 2.5, 0) ** 2).sum(axis=-1)
            - 0.15 * np.maximum(along - 2.5, 0) ** 2
        )


def rated(world: World, rng: np.random.Generator, raters: str, pairs: int) -> Array:
    """Chosen less rejected, shape (pairs, features)."""
    a, b = world.draw(rng, pairs), world.draw(rng, pairs)
    love = np.where(rng.random(pairs) < 0.5, 1.5, 0.0) if raters == "length" else np.zeros(pairs)
    gap = world.truth(a) - world.truth(b) + love * (a[:, -1] - b[:, -1])
    first = rng.random(pairs) < 1 / (1 + np.exp(-2 * gap))
    if raters != "clean":
        first ^= rng.random(pairs) < 0.25
    return np.where(first[:, None], a - b, b - a)


def members(rows: Array, count: int) -> Array:
    """Weights of models on disjoint parts, shape (count, features)."""
    group, floors = np.zeros(rows.shape[1], np.int64), np.array([1.0])
    return np.array([fit(part, group, floors).mean for part in np.array_split(rows, count)])


def reward(weights: Array, x: Array, how: str, fixed: bool) -> Array:
    """Rewards of x, shape (...): `one`, `mean`, `min`, `safe`."""
    weights = weights * np.append(np.ones(_FEATURES), 0.0 if fixed else 1.0)
    by = x @ weights.T
    return {
        "one": by[..., 0],
        "mean": by.mean(axis=-1),
        "min": by.min(axis=-1),
        "safe": by.mean(axis=-1) - 2 * by.var(axis=-1),
    }[how]


def best_of_n(weights: Array, how: str, fixed: bool, pool: Array) -> list[Array]:
    """The chosen responses at each n; `pool`: shape (tries, 1,024, features)."""
    scores = reward(weights, pool, how, fixed)
    return [pool[np.arange(len(pool)), scores[:, :n].argmax(axis=1)] for n in _STEPS]


def pushed(weights: Array, how: str, fixed: bool, base: Array) -> list[Array]:
    """A policy that is its start shifted along the reward's gradient at its mean, checkpoint by
    checkpoint.
    """
    shift, out = np.zeros(base.shape[1]), []
    for _ in range(len(_STEPS)):
        out.append(base + shift)
        here = base + shift
        gradient = np.array(
            [
                (
                    reward(weights, here + e, how, fixed) - reward(weights, here - e, how, fixed)
                ).mean()
                / 0.02
                for e in 0.01 * np.eye(len(shift))
            ]
        )
        shift = shift + 0.22 * gradient / max(float(np.linalg.norm(gradient)), 1e-9)
    return out


def stopped(path: list[Array], trained: Array, guard: Array, known: Array) -> tuple[int, int]:
    """The checkpoint that the guard goes back to, and the last one that it allowed."""
    usual = np.quantile((known**2).sum(axis=1), 0.95)
    watch = Watch()
    fixed = np.append(np.ones(_FEATURES), 0.0)
    for number, checkpoint in enumerate(path):
        strange = (checkpoint**2).sum(axis=1) > usual
        if (
            alarm := watch.add(
                reward(trained, checkpoint, "safe", True), guard * fixed @ checkpoint.T, strange
            )
        ) is not None:
            return alarm.checkpoint, number
    return watch.best, len(path) - 1


def lost(truths: list[float], end: int, last: int) -> float:
    """Share of the best true reward of all checkpoints up to the last that is lost at the end."""
    best = max(truths[: last + 1])
    return (best - truths[end]) / max(best, 1e-9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data")
    arguments = parser.parse_args()
    del arguments
    started = time.perf_counter()
    found: dict[str, list[float]] = {}
    for raters in ("clean", "flips", "length"):
        for seed in range(_SEEDS):
            rng = np.random.default_rng(seed)
            direction = rng.normal(size=_FEATURES)
            world = World(direction / np.linalg.norm(direction))
            rows, other = rated(world, rng, raters, _PAIRS), rated(world, rng, raters, _PAIRS)
            models = {
                "one": members(rows, 1),
                **dict.fromkeys(("mean", "min", "safe"), members(rows, _MEMBERS)),
            }
            guard, known = members(other, _MEMBERS), world.draw(rng, 2_000)
            pool, base = world.draw(rng, 200 * 1024).reshape(200, 1024, -1), world.draw(rng, 2_000)
            for name, optimise, start in (("bon", best_of_n, pool), ("policy", pushed, base)):
                for how, weights in models.items():
                    for fixed in (False, True):
                        path = optimise(weights, how, fixed, start)
                        truths = [float(world.truth(x).mean()) for x in path]
                        label = f"{name}.{raters}.{how}{'.fixed' if fixed else ''}"
                        found.setdefault(f"{label}.loss", []).append(
                            lost(truths, len(truths) - 1, len(truths) - 1)
                        )
                        found.setdefault(f"{label}.end", []).append(truths[-1])
                        if how == "safe" and fixed:
                            end, last = stopped(path, weights, guard, known)
                            found.setdefault(f"{name}.{raters}.guarded.loss", []).append(
                                lost(truths, end, last)
                            )
                            found.setdefault(f"{name}.{raters}.guarded.end", []).append(truths[end])
    mean = {name: round(float(np.mean(values)), 4) for name, values in found.items()}

    def of(part: str, what: str) -> list[float]:
        return [value for name, value in mean.items() if name.endswith(f".{part}.{what}")]

    metrics = {
        "guarded.loss": round(float(np.mean(of("guarded", "loss"))), 4),
        "guarded.worst": max(of("guarded", "loss")),
        "plain.loss": round(float(np.mean(of("one", "loss"))), 4),
        "guarded.end": round(float(np.mean(of("guarded", "end"))), 4),
        "plain.end": round(float(np.mean(of("one", "end"))), 4),
        **mean,
    }
    print(
        json.dumps(
            {
                "bench": "overoptimisation",
                "metrics": metrics,
                "data": "simulated",
                "seconds": round(time.perf_counter() - started, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
