# scipy.stats has no full types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportMissingTypeStubs=false
"""How much a reward model reveals of whose data it was trained on: an audit with canaries.

Canaries are made-up users whose pairs are random words. A coin decides which of them are trained
on; an attacker who holds the model then guesses, from how much it favours a canary's chosen
answers compared with a model that was trained on no canary (membership inference). The
true-positive rate at 0.1 % false positives is what counts for privacy (Carlini et al., 2022); a
lower bound on ε follows from it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, rankdata

from upshot.errors import InputError
from upshot.records import Preference, Source, Turn
from upshot.reward.rows import Scorer

Array = NDArray[np.float64]
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_FALSE_POSITIVES = 0.001
"""Rate at which the attack is read (Carlini et al., 2022)."""
_CONFIDENCE = 0.95
"""Of the bounds."""
_MIN_CANARIES = 100
"""Per run: with fewer a rate of 0.1 % cannot be read at all."""


class Leak(msgspec.Struct, frozen=True):
    """The result of an audit."""

    canaries: int
    """Made-up users, over all runs; half of them were trained on."""
    found: float
    """True-positive rate at 0.1 % false positives."""
    low: float
    """Lower end of its 95 % interval."""
    auc: float
    """P(a canary that was trained on scores above one that was not); 0.5 is no leak."""
    epsilon: float
    """Lower bound on ε, with 95 % confidence; 0 where the audit cannot tell."""


def canaries(count: int, pairs: int, seed: int) -> list[list[Preference]]:
    """Made-up users with `pairs` pairs each, of words that nobody uses."""
    rng = random.Random(seed)

    def text() -> str:
        return " ".join("".join(rng.choices(_LETTERS, k=rng.randint(4, 9))) for _ in range(12))

    out: list[list[Preference]] = []
    for number in range(count):
        prompt, chosen, rejected = (
            (Turn("user", text()),),
            (Turn("assistant", text()),),
            (Turn("assistant", text()),),
        )
        row = Preference(
            prompt, chosen, rejected, 0.0, 1.0, Source("canary", (f"canary-{seed}-{number}",))
        )
        out.append([row] * pairs)
    return out


def audit(
    rows: Sequence[Preference],
    train: Callable[[list[Preference]], Scorer],
    *,
    count: int = 1000,
    runs: int = 2,
    pairs: int = 8,
    seed: int = 0,
    delta: float = 0.0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Leak:
    """Train with and without canaries, and try to tell which were trained on.

    `count`: canaries per run; `pairs`: rows of each; `delta`: of the differential privacy that is
    audited.

    Raises:
        InputError: too few canaries to speak of 0.1 %.
    """
    if count < _MIN_CANARIES or runs < 1:
        raise InputError(
            f"could not audit with {count} canaries in {runs} runs: at least {_MIN_CANARIES} and 1"
        )
    inside: list[Array] = []
    outside: list[Array] = []
    plain = train(list(rows))
    for run in range(runs):
        planted = canaries(count, pairs, seed + run)
        members = np.random.default_rng(seed + run).random(count) < 0.5
        taught = train(
            [
                *rows,
                *(
                    row
                    for canary, yes in zip(planted, members, strict=True)
                    if yes
                    for row in canary
                ),
            ]
        )
        gain = _margins(taught, planted) - _margins(plain, planted)
        inside.append(gain[members])
        outside.append(gain[~members])
        progress(run + 1, runs)
    return measure(np.concatenate(inside), np.concatenate(outside), delta)


def _margins(model: Scorer, planted: Sequence[Sequence[Preference]]) -> Array:
    firsts = [canary[0] for canary in planted]
    prompts = [row.prompt for row in firsts]
    a, b = (
        model.score(prompts, [row.chosen for row in firsts]),
        model.score(prompts, [row.rejected for row in firsts]),
    )
    return np.array(
        [
            x.reward + x.parts.get("form", 0.0) - y.reward - y.parts.get("form", 0.0)
            for x, y in zip(a, b, strict=True)
        ]
    )


def measure(inside: Array, outside: Array, delta: float = 0.0) -> Leak:
    """From how much each canary's answers gained, for those that were trained on and those that
    were not.

    >>> rng = np.random.default_rng(0)
    >>> measure(rng.normal(4, 1, 1000), rng.normal(0, 1, 1000)).found > 0.7
    True
    >>> measure(rng.normal(0, 1, 1000), rng.normal(0, 1, 1000)).epsilon
    0.0
    """
    allowed = int(_FALSE_POSITIVES * len(outside))
    threshold = np.sort(outside)[::-1][allowed]
    hits = int((inside > threshold).sum())
    ranks = rankdata(np.concatenate([inside, outside]))[: len(inside)]
    auc = (ranks.mean() - (len(inside) + 1) / 2) / len(outside)
    low = float(beta.ppf(1 - _CONFIDENCE, hits, len(inside) - hits + 1)) if hits else 0.0
    return Leak(
        len(inside) + len(outside),
        hits / len(inside),
        low,
        float(auc),
        _bound(inside, outside, delta),
    )


def _bound(inside: Array, outside: Array, delta: float) -> float:
    """The best of a few thresholds fixed in advance as shares of all; the confidence is divided
    among them.
    """
    everything = np.concatenate([inside, outside])
    shares = (0.5, 0.2, 0.1, 0.05, 0.02)
    level = (1 - _CONFIDENCE) / len(shares) / 2
    best = 0.0
    for share in shares:
        threshold = np.quantile(everything, 1 - share)
        true, false = int((inside > threshold).sum()), int((outside > threshold).sum())
        low = float(beta.ppf(level, true, len(inside) - true + 1)) if true else 0.0
        high = float(beta.ppf(1 - level, false + 1, len(outside) - false))
        if low > delta:
            best = max(best, float(np.log((low - delta) / high)))
    return best
