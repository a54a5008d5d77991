"""Hash-based random draws, and folds that keep groups whole."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def draw(name: str) -> float:
    """Uniform in [0, 1), always the same for the same name.

    >>> draw("a") == draw("a") != draw("b")
    True
    """
    return (
        int.from_bytes(
            hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=7).digest(), "big"
        )
        / 2**56
    )


def assign_folds(
    groups: Sequence[object] | NDArray[np.object_], folds: int = 5, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each row the fold of its group (thread, user), and the group's number.

    No group is split between folds.

    >>> fold, group = assign_folds(["a", "b", "a"], 2)
    >>> bool(fold[0] == fold[2] != fold[1]), group.tolist()
    (True, [0, 1, 0])
    """
    names, group = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    return (np.random.default_rng(seed).permutation(len(names)) % folds)[group], group
