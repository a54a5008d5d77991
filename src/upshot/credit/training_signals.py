"""Credits as training signals: advantages, imitation weights, masks, step pairs.

What is safe (METHODS, "Credit"; `bench/credit_learning.py`): a policy gradient may use the outcome
on every step, or a mixture with centred credit, A_t = (1 − λ)(R − b) + λ T (c_t − mean c), while λ
is at most .4; beyond that a reviewer who likes performers is obeyed. Where the mixture tells some
class of actions the opposite of what outcomes tell it, λ is lowered. Differences of cross-fitted
prefix values depend on the prefix only and may be used alone (λ = 1, `causal`). For imitation,
steps that did harm are masked inside successes too; what no step explains (luck, or what the
reviewer does not know) all steps share.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from upshot.credit.conserve import Credit
from upshot.credit.trajectories import Trajectory
from upshot.errors import InputError
from upshot.records import Place, Preference, Source, Turn

Array = NDArray[np.float64]
MOST = 0.4
_SURE = 2.0
_LEAST = 30
_TEMPERATURE = 0.05
_CAP = 20.0
_HARM = 0.02
_LEAST_GAP = 0.1


def advantages(
    credits: Sequence[Credit],
    share: float = 0.3,
    classes: Sequence[Sequence[str]] | None = None,
    causal: bool = False,
) -> list[Array]:
    """Step advantages, one array a run, in the scale of "the outcome on every step": their mean
    over a run is (1 − λ)(R − b).

    `share`: λ, at most .4. `classes`: the kind of action of each step; where given, λ is halved
    until no kind that outcomes speak for (by two standard errors) is spoken against. `causal`:
    credits are differences of prefix values, used alone; what they leave unexplained is on every
    step.

    Raises:
        InputError: λ is out of bounds.
    """
    if not causal and not 0 <= share <= MOST:
        raise InputError(
            f"could not mix credit with a share of {share}: between 0 and {MOST}, beyond which a"
            " biased reviewer is obeyed"
        )
    if not credits:
        return []
    if causal:
        return [shared(one) * len(one.credits) for one in credits]
    b = float(np.mean([one.outcome for one in credits]))
    plain = [np.full(len(one.credits), one.outcome - b) for one in credits]
    while True:
        mixed = [
            (1 - share) * base + share * len(base) * _centred(one)
            for base, one in zip(plain, credits, strict=True)
        ]
        if classes is None or share < 0.01 or not _contradicts(plain, mixed, classes):
            return mixed
        share /= 2


def _centred(one: Credit) -> Array:
    c = np.array(one.credits)
    return c - c.mean() if len(c) else c


def _contradicts(
    plain: Sequence[Array], mixed: Sequence[Array], classes: Sequence[Sequence[str]]
) -> bool:
    names = np.array([name for run in classes for name in run])
    a, m = np.concatenate(plain), np.concatenate(mixed)
    for name in np.unique(names):
        of = names == name
        if (
            of.sum() >= _LEAST
            and abs(a[of].mean()) > _SURE * a[of].std() / np.sqrt(of.sum())
            and a[of].mean() * m[of].mean() < 0
        ):
            return True
    return False


def per_token(values: Array, tokens: Sequence[int]) -> Array:
    """Each step's value on each of its tokens. `tokens`: how many tokens each step has.

    >>> per_token(np.array([1.0, -1.0]), [2, 1]).tolist()
    [1.0, 1.0, -1.0]
    """
    return np.repeat(values, tokens)


def shared(one: Credit) -> Array:
    """Credits with an equal share of what no step explains, shape (steps,).

    A reviewer that has learned nothing yet leaves everything there, and then imitation is that of
    successes.
    """
    c = np.array(one.credits)
    return c + one.luck / len(c) if len(c) else c


def masks(credits: Sequence[Credit], harm: float = _HARM) -> list[NDArray[np.bool_]]:
    """Which steps are imitated: all that did not cost more than `harm` of the outcomes' range, in
    successes too; nothing of what stayed below b.
    """
    if not credits:
        return []
    outcome = np.array([one.outcome for one in credits])
    scale = float(np.ptp(outcome)) or 1.0
    return [
        shared(one) > -harm * scale if one.outcome >= outcome.mean() else shared(one) > harm * scale
        for one in credits
    ]


def imitation_weights(
    credits: Sequence[Credit], temperature: float = _TEMPERATURE, cap: float = _CAP
) -> list[Array]:
    """exp(c / temperature), at most `cap` (advantage-weighted regression; Peng et al., 2019);
    credits in units of the outcomes' range.
    """
    scale = float(np.ptp([one.outcome for one in credits])) or 1.0 if credits else 1.0
    return [np.exp(np.minimum(shared(one) / scale / temperature, np.log(cap))) for one in credits]


def step_pairs(
    runs: Sequence[Trajectory], credits: Sequence[Credit], gap: float = _LEAST_GAP
) -> Iterator[Preference]:
    """Preferences between steps that different runs took at one place: the same task, the same
    steps before, and credits that differ by `gap`.
    """
    places: dict[tuple[str, tuple[str, ...]], list[tuple[str, int, str, float]]] = {}
    for run, one in zip(runs, credits, strict=True):
        for t, (step, c) in enumerate(zip(run.steps, one.credits, strict=True)):
            key = (run.task, tuple(before.text for before in run.steps[:t]))
            places.setdefault(key, []).append((run.id, t, step.action, c))
    for (task, before), found in places.items():
        mean: dict[str, list[tuple[str, int, float]]] = {}
        for name, t, action, c in found:
            mean.setdefault(action, []).append((name, t, c))
        ordered = sorted(mean, key=lambda action: float(np.mean([c for *_, c in mean[action]])))
        if len(ordered) < 2:
            continue
        worst, best = ordered[0], ordered[-1]
        margin = float(np.mean([c for *_, c in mean[best]]) - np.mean([c for *_, c in mean[worst]]))
        if margin >= gap:
            prompt = (Turn("user", task), *(Turn("assistant", text) for text in before))
            places_ = Place(*mean[best][0][:2]), Place(*mean[worst][0][:2])
            yield Preference(
                prompt,
                (Turn("assistant", best),),
                (Turn("assistant", worst),),
                round(min(1.0, margin), 4),
                1.0,
                Source("credit", (), "", *places_),
            )


def should_have_gone(run: Trajectory, one: Credit, harm: float = _HARM) -> Trajectory:
    """The run without the steps that did harm or led nowhere: an example of how it should have
    gone, where what is left still holds together.
    """
    kept = tuple(step for step, c in zip(run.steps, one.credits, strict=True) if c > -harm)
    return Trajectory(run.id, run.task, kept, run.outcome)


class Worth(NamedTuple):
    """What deliberate credit told, beside the outcome on every step."""

    classes: int
    """Kinds of action that are frequent enough to be told apart."""
    ratio: float
    """Samples that uniform credit would take to tell the kinds apart as well, over those of this
    credit; below 1 it was not worth it.
    """


def worth(
    runs: Sequence[Trajectory], credits: Sequence[Credit], uniform: Sequence[Credit]
) -> Worth:
    """How much sooner credit tells good kinds of action from bad ones: the ratio of their signal to
    noise, variance between kinds over variance within. A kind is a step's action, numbers aside.
    """
    kinds = [
        "".join("0" if c.isdigit() else c for c in step.action.lower())[:80]
        for run in runs
        for step in run.steps
    ]
    _, kind, count = np.unique(kinds, return_inverse=True, return_counts=True)
    frequent = np.flatnonzero(count >= _LEAST)
    if len(frequent) < 2:
        return Worth(len(frequent), float("nan"))
    ratio = [
        _signal(np.concatenate([one.credits for one in part]), kind, frequent)
        for part in (credits, uniform)
    ]
    return Worth(len(frequent), ratio[0] / max(ratio[1], 1e-9))


def _signal(c: Array, kind: NDArray[np.int64], frequent: NDArray[np.int64]) -> float:
    groups = [c[kind == k] for k in frequent]
    means, within = np.array([g.mean() for g in groups]), float(np.mean([g.var() for g in groups]))
    error = within * float(np.mean([1 / len(g) for g in groups]))
    return max(0.0, float(means.var()) - error) / max(within, 1e-12)
