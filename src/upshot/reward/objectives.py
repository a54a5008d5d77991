"""Objectives over users: the mean, the tail, or the worst group.

All read one table of rewards by user (`user_effects`), so a new objective needs no training.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from upshot.errors import InputError

Array = NDArray[np.float64]


def mean(rewards: Array) -> Array:
    """Mean over users. `rewards`: shape (users, responses)."""
    return rewards.mean(axis=0)


def cvar(rewards: Array, alpha: float) -> Array:
    """Mean over the worst-served share `alpha` of users (Rockafellar and Uryasev, 2000); alpha = 1
    is the mean.

    >>> cvar(np.array([[0.0], [1.0], [2.0], [3.0]]), 0.5).tolist()
    [0.5]
    """
    if not 0 < alpha <= 1:
        raise InputError(f"could not take CVaR at {alpha}: alpha lies in (0, 1]")
    ordered = np.sort(rewards, axis=0)
    users = len(ordered)
    share = np.clip(alpha * users - np.arange(users), 0, 1)
    return (share[:, None] * ordered).sum(axis=0) / (alpha * users)


def worst_group(rewards: Array, groups: Sequence[str]) -> Array:
    """Least mean reward of any group of users (max-min fairness, when maximised).

    >>> worst_group(np.array([[0.0, 2.0], [1.0, 2.0], [3.0, 0.0]]), ["a", "a", "b"]).tolist()
    [0.5, 0.0]
    """
    names = np.asarray(groups)
    return np.min([rewards[names == name].mean(axis=0) for name in np.unique(names)], axis=0)
