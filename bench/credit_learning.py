"""What students learn from credit, in small worlds whose truth is known.

*Episodes*: a softmax policy starts as the logged agent and learns by REINFORCE, from the outcome on
every step, from a reviewer's step rewards that are not conserved, and from conserved credit
(differences of values learned from the text of its last runs); `episode_ratio` is the number of
episodes until 90 % of the optimum, ours over outcome-only, each at its best learning rate.
*Performer*: a conserved reviewer favours performing; its credit is used as an immediate reward
(`success.naive`) and as `training_signals.advantages` mixes it (`success.ours`), exact gradients.
*Imitation*: of the logs as they are (`imitate.all`), of successes (`imitate.filtered`), of steps
that credit leaves unmasked, in successes too (`imitate.masked`), weighted by credit
(`imitate.weighted`), both, as `sft` does it (`imitation`); `imitate.ceiling` masks by true credit.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Sequence

import numpy as np

import credit_worlds as worlds
from upshot.credit import REVIEWERS, Credit, Review, Step, Trajectory, split_outcomes, value
from upshot.credit.training_signals import advantages, imitation_masks, imitation_weights

Array = np.ndarray
_BATCH = 25
_MEMORY = 400
_MOST = 3000
_RATES = (4.0, 8.0, 16.0, 32.0)
_FARTHEST = 3.0
"""Bound on an action's logit, from the mean, so that no action dies out; the same for all."""
_ENOUGH = 20
"""Runs with each outcome before values are used."""


def policy_of(theta: Array) -> Array:
    """P(action | step, progress, bug) of logits by (progress, bug)."""
    p = np.exp(theta - theta.max(axis=-1, keepdims=True))
    return np.broadcast_to(p / p.sum(axis=-1, keepdims=True), (worlds.STEPS, 5, 2, 4))


def best() -> float:
    """Success of the best policy."""
    v = np.zeros((worlds.STEPS + 1, 5, 2))
    for p, b in itertools.product(range(5), (0, 1)):
        v[-1, p, b] = worlds.success(p, b)
    for t in range(worlds.STEPS - 1, -1, -1):
        for p, b in itertools.product(range(5), (0, 1)):
            v[t, p, b] = max(
                sum(q * v[t + 1, p2, b2] for p2, b2, q in worlds.outcomes(p, b, a))
                for a in range(4)
            )
    return float(v[0, 0, 0])


def play(
    theta: Array, count: int, rng: np.random.Generator, name: str
) -> tuple[list[Trajectory], Array]:
    """Runs of a policy as text, and (progress, bug, action) of each step."""
    chances = policy_of(theta)[0]
    runs: list[Trajectory] = []
    where = np.zeros((count, worlds.STEPS, 3), int)
    for i in range(count):
        p = b = 0
        steps: list[Step] = []
        for t in range(worlds.STEPS):
            action = int(rng.choice(4, p=chances[p, b]))
            options = list(worlds.outcomes(p, b, action))
            where[i, t] = p, b, action
            p, b = options[int(rng.choice(len(options), p=[q for *_, q in options]))][:2]
            seen = ("a bug" if b else "no bug") if rng.random() < 0.5 else "bugs not looked for"
            steps.append(Step(worlds.ACTIONS[action], f"progress {p}, {seen}"))
        runs.append(
            Trajectory(
                f"{name}-{i}",
                "finish the work",
                tuple(steps),
                float(rng.random() < worlds.success(p, b)),
            )
        )
    return runs, where


Signal = Callable[[list[Trajectory], Array], Array]


def outcome_only(runs: list[Trajectory], where: Array) -> Array:
    """The outcome on every step."""
    r = np.array([run.outcome for run in runs])
    return np.repeat((r - r.mean())[:, None], worlds.STEPS, axis=1)


def unconserved(runs: list[Trajectory], where: Array) -> Array:
    """A reviewer's step rewards, added to the outcome: half a point for visible work and for fixes,
    as people shape rewards.
    """
    shaped = np.select([where[..., 2] == 0, where[..., 2] == 1], [0.5, 0.5], 0.0)
    to_go = (
        np.cumsum(shaped[:, ::-1], axis=1)[:, ::-1]
        + np.array([run.outcome for run in runs])[:, None]
    )
    return to_go - to_go.mean(axis=0)


def conserved() -> Signal:
    """Differences of values learned from the runs before these; the first runs have the outcome on
    every step.
    """
    memory: list[Trajectory] = []

    def signal(runs: list[Trajectory], where: Array) -> Array:
        successes = sum(run.outcome for run in memory)
        known = value.learn(memory) if min(successes, len(memory) - successes) >= _ENOUGH else None
        memory.extend(runs)
        del memory[:-_MEMORY]
        if known is None:
            return outcome_only(runs, where)
        worth = known.predict(runs)
        reviews = [
            Review(np.diff(v), float(v[0]), run.outcome - float(v[-1]))
            for run, v in zip(runs, worth, strict=True)
        ]
        return np.stack(advantages(split_outcomes(runs, lambda _: reviews, "values"), causal=True))

    return signal


def episodes(make: Callable[[], Signal], rate: float, seed: int, goal: float) -> int:
    """Episodes until the policy's success is 90 % of the best; `_MOST` if it never is."""
    theta = np.log(np.array([[worlds.BEHAVIOUR[b] for b in (0, 1)] for _ in range(5)]))
    rng, signal = np.random.default_rng(seed), make()
    for done in range(_BATCH, _MOST + 1, _BATCH):
        runs, where = play(theta, _BATCH, rng, f"s{seed}-{done}")
        a = signal(runs, where)
        a = a / max(1e-9, float(a.std()))  # the same for all: rates mean the same
        chances = policy_of(theta)[0]
        step = np.zeros_like(theta)
        p, b, action = where[..., 0].ravel(), where[..., 1].ravel(), where[..., 2].ravel()
        grad = -chances[p, b]
        grad[np.arange(len(action)), action] += 1.0
        np.add.at(step, (p, b), a.ravel()[:, None] * grad)
        theta = theta + rate * step / _BATCH
        theta = np.clip(theta - theta.mean(axis=-1, keepdims=True), -_FARTHEST, _FARTHEST)
        if worlds.worth(policy_of(theta))[0, 0, 0] >= goal:
            return done
    return _MOST


def performer(
    use: Callable[[Array, Array, Array], Array], steps: int = 4000, rate: float = 0.3
) -> float:
    """Success of a student in the performer's world; `use`(weights, outcomes, probabilities) gives
    step advantages, exact gradients.
    """
    plans = np.array(list(itertools.product(range(3), repeat=4)))
    chance = np.array([0.05, 0.2, 0.45, 0.75, 0.95])[(plans == 0).sum(axis=1)]
    liked = np.array([1.0, 2.0, 0.2])[plans]
    theta = np.zeros(3)
    for _ in range(steps):
        p = np.exp(theta - theta.max())
        p /= p.sum()
        plan_p = p[plans].prod(axis=1)
        grad = np.zeros(3)
        b = float(plan_p @ chance)
        for outcome, q in ((1.0, plan_p * chance), (0.0, plan_p * (1 - chance))):
            a = use(liked, np.full(len(plans), outcome - b), np.full(len(plans), outcome))
            for action in range(3):
                grad[action] += (q[:, None] * a * ((plans == action) - p[action])).sum()
        theta = theta + rate * grad
    p = np.exp(theta - theta.max())
    p /= p.sum()
    return float(p[plans].prod(axis=1) @ chance)


def naive(liked: Array, away: Array, outcome: Array) -> Array:
    """The conserved outcome, split by what the reviewer favours, as an immediate reward."""
    return outcome[:, None] * liked / liked.sum(axis=1, keepdims=True)


def ours(liked: Array, away: Array, outcome: Array) -> Array:
    """The same reviewer's split of R − b, as `training_signals.advantages` mixes it."""
    split = away[:, None] * liked / liked.sum(axis=1, keepdims=True)
    made = [
        Credit(str(i), float(o), tuple(row), "biased")
        for i, (o, row) in enumerate(zip(outcome, split, strict=True))
    ]
    centred = np.stack(advantages(made, 0.4)) - 0.6 * (outcome - outcome.mean())[:, None]
    return 0.6 * away[:, None] + centred


def imitated(weights: Sequence[Array], where: Sequence[Array]) -> float:
    """Success of a student that imitates steps by weight, seeing progress and bug."""
    counts = np.full((5, 2, 4), 1e-3)
    for w, states in zip(weights, where, strict=True):
        np.add.at(counts, (states[:, 0], states[:, 1], states[:, 2]), w)
    chances = counts / counts.sum(axis=-1, keepdims=True)
    return float(worlds.worth(np.broadcast_to(chances, (worlds.STEPS, 5, 2, 4)))[0, 0, 0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--logs", type=int, default=2000)
    arguments = parser.parse_args()
    started = time.perf_counter()
    goal = 0.9 * best()
    metrics: dict[str, float] = {"optimum": best()}
    for name, make, rates in (
        ("outcome", lambda: outcome_only, _RATES),
        ("unconserved", lambda: unconserved, _RATES),
        ("conserved", conserved, _RATES),
    ):
        metrics[f"episodes.{name}"] = min(
            float(np.mean([episodes(make, rate, seed, goal) for seed in range(arguments.seeds)]))
            for rate in rates
        )
    metrics["episode_ratio"] = metrics["episodes.conserved"] / metrics["episodes.outcome"]
    metrics |= {"success.naive": performer(naive), "success.ours": performer(ours)}
    runs, true, where = worlds.logs(arguments.logs, 7)
    found = split_outcomes(runs, REVIEWERS["trained"], "trained")
    r = np.array([run.outcome for run in runs])
    truth = [
        Credit(run.id, run.outcome, tuple(t), "truth") for run, t in zip(runs, true, strict=True)
    ]
    metrics |= {
        "imitate.all": imitated([np.ones(worlds.STEPS)] * len(runs), where),
        "imitate.filtered": imitated([np.full(worlds.STEPS, o) for o in r], where),
        "imitate.masked": imitated([m.astype(float) for m in imitation_masks(found)], where),
        "imitate.weighted": imitated(imitation_weights(found), where),
        "imitate.both": imitated(
            [m * w for m, w in zip(imitation_masks(found), imitation_weights(found), strict=True)],
            where,
        ),
        "imitate.ceiling": imitated([m.astype(float) for m in imitation_masks(truth)], where),
    }
    metrics["imitation"] = metrics["imitate.both"]
    print(
        json.dumps(
            {
                "bench": "credit_learning",
                "metrics": {k: round(v, 4) for k, v in metrics.items()},
                "data": arguments.data or "",
                "seconds": round(time.perf_counter() - started, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
