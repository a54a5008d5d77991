"""Credits as training signals: advantages, imitation weights and masks, pairs of steps.

What is safe (`bench/credit_learning.py`): a policy gradient may use the outcome
on every step, or a mixture with centred credit, A_t = (1 − λ)(R − b) + λ T (c_t − mean c), with λ
at most .4; beyond that, a policy learns to please a reviewer that favours performing. Where the
mixture contradicts what outcomes say of some class of actions, λ is lowered. Differences of
cross-fitted prefix values depend on the prefix only and may be used alone (λ = 1, `causal`). For
imitation, harmful steps are masked in successes too. The unexplained remainder (luck, or what the
reviewer does not know) is spread evenly over all steps.
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
_MAX_SHARE = 0.4
"""Of credit in an advantage: with more, `bench/credit_learning.py` shows success falling."""
_MIN_SHARE = 0.01
"""Below it, halving stops: the mixture is the outcome on every step."""
_MIN_STANDARD_ERRORS = 2.0
"""From which outcomes count as saying something of a class of actions (95 %)."""
_MIN_ACTIONS = 30
"""Of a class, for its mean to be nearly normal."""
_TEMPERATURE = 0.05
"""In units of the outcomes' range, like the values of the next two."""
_MAX_WEIGHT = 20.0
"""As in the paper (Peng et al., 2019)."""
_HARM = 0.02
"""Smaller losses are noise of the reviewer."""
_MIN_GAP = 0.1
"""Difference of credits from which a pair of steps is worth learning."""
_MAX_KIND = 80
"""Characters of an action that tell its kind."""


def advantages(
    credits: Sequence[Credit],
    share: float = 0.3,
    classes: Sequence[Sequence[str]] | None = None,
    causal: bool = False,
) -> list[Array]:
    """Step advantages, one array per run, on the scale of "the outcome on every step".

    Their mean over a run is (1 − λ)(R − b). `share`: λ, at most .4. `classes`: the kind of action
    of each step; where given, λ is halved until the mixture contradicts no class for which outcomes
    are clear (by two standard errors). `causal`: the credits are differences of prefix values and
    used alone; the remainder they leave unexplained is on every step.

    Raises:
        InputError: λ is out of bounds.
    """
    if not causal and not 0 <= share <= _MAX_SHARE:
        raise InputError(
            f"could not mix credit with a share of {share}: it may lie between 0 and {_MAX_SHARE},"
            " since with more a policy learns to please a biased reviewer"
        )
    if not credits:
        return []
    if causal:
        return [spread_residual(credit) * len(credit.credits) for credit in credits]
    b = float(np.mean([credit.outcome for credit in credits]))
    plain = [np.full(len(credit.credits), credit.outcome - b) for credit in credits]
    while True:
        mixed = [
            (1 - share) * base + share * len(base) * _center(credit)
            for base, credit in zip(plain, credits, strict=True)
        ]
        if classes is None or share < _MIN_SHARE or not _contradicts(plain, mixed, classes):
            return mixed
        share /= 2


def _center(credit: Credit) -> Array:
    c = np.array(credit.credits)
    return c - c.mean() if len(c) else c


def _contradicts(
    plain: Sequence[Array], mixed: Sequence[Array], classes: Sequence[Sequence[str]]
) -> bool:
    names = np.array([name for run in classes for name in run])
    a, m = np.concatenate(plain), np.concatenate(mixed)
    for name in np.unique(names):
        selected = names == name
        root = np.sqrt(selected.sum())
        if (
            selected.sum() >= _MIN_ACTIONS
            and abs(a[selected].mean()) > _MIN_STANDARD_ERRORS * a[selected].std() / root
            and a[selected].mean() * m[selected].mean() < 0
        ):
            return True
    return False


def spread_residual(credit: Credit) -> Array:
    """Credits plus an equal share of the unexplained remainder, shape (steps,).

    A reviewer that has learned nothing leaves everything unexplained; imitation then is that of
    successes.

    >>> spread_residual(Credit("r", 1.0, (0.5, 0.0), "uniform", luck=0.5)).tolist()
    [0.75, 0.25]
    """
    c = np.array(credit.credits)
    return c + credit.luck / len(c) if len(c) else c


def imitation_masks(credits: Sequence[Credit], harm: float = _HARM) -> list[NDArray[np.bool_]]:
    """Which steps to imitate: harmless ones of successes, and gains within failures.

    `harm`, the credit either way that counts, is in units of the outcomes' range; a success is a
    run of at least the mean outcome.
    """
    if not credits:
        return []
    outcome = np.array([credit.outcome for credit in credits])
    scale = float(np.ptp(outcome)) or 1.0
    thresholds = np.where(outcome >= outcome.mean(), -harm * scale, harm * scale)
    return [
        spread_residual(credit) > threshold
        for credit, threshold in zip(credits, thresholds, strict=True)
    ]


def imitation_weights(
    credits: Sequence[Credit], temperature: float = _TEMPERATURE, cap: float = _MAX_WEIGHT
) -> list[Array]:
    """exp(c / temperature), at most `cap`: advantage-weighted regression (Peng et al., 2019).

    Credits and temperature are in units of the outcomes' range.
    """
    scale = float(np.ptp([credit.outcome for credit in credits])) or 1.0 if credits else 1.0
    return [
        np.exp(np.minimum(spread_residual(credit) / scale / temperature, np.log(cap)))
        for credit in credits
    ]


def step_pairs(
    runs: Sequence[Trajectory], credits: Sequence[Credit], gap: float = _MIN_GAP
) -> Iterator[Preference]:
    """Preferences between steps that different runs took in the same situation.

    The situation is the task and all steps before; the credits must differ by `gap`.
    """
    places: dict[tuple[str, tuple[str, ...]], list[tuple[str, int, str, float]]] = {}
    for run, credit in zip(runs, credits, strict=True):
        for t, (step, c) in enumerate(zip(run.steps, credit.credits, strict=True)):
            key = (run.task, tuple(before.text for before in run.steps[:t]))
            places.setdefault(key, []).append((run.id, t, step.action, c))
    for (task, before), steps in places.items():
        mean: dict[str, list[tuple[str, int, float]]] = {}
        for name, t, action, c in steps:
            mean.setdefault(action, []).append((name, t, c))
        ordered = sorted(mean, key=lambda action: float(np.mean([c for *_, c in mean[action]])))
        if len(ordered) < 2:
            continue
        worst, best = ordered[0], ordered[-1]
        margin = float(np.mean([c for *_, c in mean[best]]) - np.mean([c for *_, c in mean[worst]]))
        if margin >= gap:
            prompt = (Turn("user", task), *(Turn("assistant", text) for text in before))
            compared = Place(*mean[best][0][:2]), Place(*mean[worst][0][:2])
            yield Preference(
                prompt,
                (Turn("assistant", best),),
                (Turn("assistant", worst),),
                round(min(1.0, margin), 4),
                1.0,
                Source("credit", (), "", *compared),
            )


class SampleEfficiency(NamedTuple):
    """How well credit separates kinds of action, compared with the outcome on every step."""

    classes: int
    """Kinds of action that are frequent enough to compare."""
    ratio: float
    """Samples that uniform credit needs to separate the kinds equally well, over those that this
    credit needs; below 1 the credit did not pay off.
    """


def compare_efficiency(
    runs: Sequence[Trajectory], credits: Sequence[Credit], uniform: Sequence[Credit]
) -> SampleEfficiency:
    """Compare how fast two credits separate good kinds of action from bad ones.

    Compared is the signal to noise ratio: variance between kinds over variance within. A kind is a
    step's action with its digits replaced.
    """
    kinds = [
        "".join("0" if c.isdigit() else c for c in step.action.lower())[:_MAX_KIND]
        for run in runs
        for step in run.steps
    ]
    _, kind, count = np.unique(kinds, return_inverse=True, return_counts=True)
    frequent = np.flatnonzero(count >= _MIN_ACTIONS)
    if len(frequent) < 2:
        return SampleEfficiency(len(frequent), float("nan"))
    ratio = [
        _signal_to_noise(np.concatenate([credit.credits for credit in part]), kind, frequent)
        for part in (credits, uniform)
    ]
    return SampleEfficiency(len(frequent), ratio[0] / max(ratio[1], 1e-9))


def _signal_to_noise(c: Array, kind: NDArray[np.int64], frequent: NDArray[np.int64]) -> float:
    groups = [c[kind == k] for k in frequent]
    means, within = np.array([g.mean() for g in groups]), float(np.mean([g.var() for g in groups]))
    error = within * float(np.mean([1 / len(g) for g in groups]))
    return max(0.0, float(means.var()) - error) / max(within, 1e-12)
