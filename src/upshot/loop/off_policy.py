"""What another policy would have earned, from logs of one whose choices were random and whose
propensities were kept.

For a small logged knob only (which model, which prompt variant, which temperature): weights of
whole answers of language models say nothing. Estimators as in Dudík et al.
(2014) and Swaminathan and Joachims (2015); equal to Open Bandit Pipeline's.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from upshot.errors import InputError
from upshot.hindsight.trust.compare import fit_ridge
from upshot.stats.intervals import t_quantile
from upshot.stats.sampling import assign_folds

Array = NDArray[np.float64]
Kind = Literal["ips", "snips", "dm", "dr"]
_FOLDS = 5
"""Of cross-fitting, whole users each."""
_MIN_FIT = 20
"""Decisions of an action from which its rewards are predicted by the context, not by their mean."""
FLOOR = 0.01
"""Smallest propensity of a logged choice: below it one decision outweighs a hundred."""


class Logged(NamedTuple):
    """Decisions as they were logged; all of one length."""

    action: NDArray[np.int64]
    """Which value of the knob, from 0."""
    reward: Array
    propensity: Array
    """P(this action), as it was when it was taken."""
    user: NDArray[np.object_]


class Estimate(NamedTuple):
    """Value of a policy."""

    value: float
    low: float
    """Of a t interval over users at the level asked for."""
    high: float
    effective: float
    """Effective sample size, (Σw)² / Σw²."""


def rewards_by_round(
    logged: Logged, policy: Array, kind: Kind, expected: Array | None = None
) -> Array:
    """What each decision contributes; the estimate is their mean, shape (decisions,).

    `policy`: P(action) of the policy to be evaluated, shape (decisions, actions). `expected`:
    predicted reward of every action, same shape, for `dm` and `dr`.

    Raises:
        InputError: shapes differ, a propensity is below the floor, or the policy takes actions that
            were never possible.
    """
    _check(logged, policy, kind, expected)
    rows = np.arange(len(logged.action))
    weight = policy[rows, logged.action] / logged.propensity
    if kind == "ips":
        return weight * logged.reward
    if kind == "snips":
        return weight * logged.reward / weight.mean()
    if expected is None:
        raise InputError(
            f"could not evaluate by {kind}: it needs the expected reward of every action"
        )
    direct = (policy * expected).sum(axis=1)
    return (
        direct
        if kind == "dm"
        else weight * (logged.reward - expected[rows, logged.action]) + direct
    )


def estimate(
    logged: Logged,
    policy: Array,
    kind: Kind = "snips",
    *,
    expected: Array | None = None,
    level: float = 0.95,
) -> Estimate:
    """The value of a policy with an interval over users.

    The interval of `snips` is that of a ratio (delta method); of the others, of a mean of users'
    sums.
    """
    each = rewards_by_round(logged, policy, kind, expected)
    weight = policy[np.arange(len(each)), logged.action] / logged.propensity
    value = float(each.mean())
    centred = weight * (logged.reward - value) / weight.mean() if kind == "snips" else each - value
    _, user = np.unique(logged.user.astype(str), return_inverse=True)
    sums = np.bincount(user, centred)
    error = float(np.sqrt((sums**2).sum() * len(sums) / max(1, len(sums) - 1))) / len(each)
    reach = t_quantile(0.5 + level / 2, max(1, len(sums) - 1)) * error
    return Estimate(
        value,
        value - reach,
        value + reach,
        float(weight.sum() ** 2 / max((weight**2).sum(), 1e-12)),
    )


def predict_rewards(logged: Logged, context: Array, actions: int) -> Array:
    """The expected reward of every action, for `dm` and `dr`: a ridge regression for each, shape
    (decisions, actions), cross-fitted by user.

    `context`: what was known before the decision, shape (decisions, features).
    """
    fold, _ = assign_folds(logged.user, _FOLDS, 0)
    expected = np.zeros((len(context), actions))
    for action in range(actions):
        chosen = logged.action == action
        expected[:, action] = logged.reward[chosen].mean() if chosen.any() else logged.reward.mean()
        for k in range(_FOLDS):
            rest, held_out = chosen & (fold != k), fold == k
            if rest.sum() >= _MIN_FIT:
                expected[held_out, action] = fit_ridge(
                    context[rest], logged.reward[rest], context[held_out]
                )
    return expected


def _check(logged: Logged, policy: Array, kind: Kind, expected: Array | None) -> None:
    count = len(logged.action)
    if (
        policy.ndim != 2
        or len(policy) != count
        or len(logged.reward) != count
        or len(logged.propensity) != count
    ):
        raise InputError(
            f"could not evaluate a policy: {count} actions, {len(logged.reward)} rewards,"
            f" {len(logged.propensity)} propensities, policy of shape {policy.shape}"
        )
    if not count:
        raise InputError("could not evaluate a policy: nothing was logged")
    if (logged.propensity < FLOOR).any():
        raise InputError(
            f"could not evaluate a policy: propensities down to {logged.propensity.min():g}; they"
            f" must be at least {FLOOR}, or one decision is all that counts"
        )
    if not np.allclose(policy.sum(axis=1), 1.0):
        raise InputError("could not evaluate a policy: its probabilities do not sum to 1")
    logged_actions = np.bincount(logged.action, minlength=policy.shape[1]) > 0
    if policy[:, ~logged_actions].any():
        missing = np.flatnonzero(~logged_actions & (policy.sum(axis=0) > 0))
        raise InputError(
            f"could not evaluate a policy: it takes actions {missing.tolist()} that were never"
            " logged"
        )
    if kind in ("dm", "dr") and (expected is None or expected.shape != policy.shape):
        raise InputError(
            f"could not evaluate by {kind}: it needs the expected reward of every action, shape"
            f" {policy.shape}"
        )
