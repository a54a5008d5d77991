"""Training policies."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from upshot.api.opening import Progress, quiet
from upshot.errors import InputError
from upshot.policy.data import read_data
from upshot.policy.guard import open_guard
from upshot.policy.job import Trained
from upshot.policy.recipe import Recipe
from upshot.policy.rewards import open_rewards
from upshot.policy.train import Size, check, train


def train_policy(
    data: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    recipe: Recipe,
    *,
    rewards: Sequence[str] = (),
    guard: Sequence[str] = (),
    credits: str | os.PathLike[str] | None = None,
    trust_remote_code: bool = False,
    progress: Progress = quiet,
) -> Trained:
    """Train a policy into a folder, which any library opens.

    Killed at any point, a second call goes on. `data`: files of pairs, examples, conversations,
    runs or prompts; `rewards`: folders of reward
    models, `verify`, `module:function`, each maybe with `=WEIGHT`; `guard`: embedded reward models
    that watch and are not trained on (the first reward must be one too); `trust_remote_code`: code
    that comes with the base may run; nothing but this argument allows it.

    Raises:
        InputError: the data has nothing for this method, or a reward is missing.
        ConfigError: the train extra is missing, or a library refuses something of the recipe.
    """
    if guard and not rewards:
        raise InputError(
            "could not guard a training without a reward: name the embedded model that it is"
            " trained on with --reward"
        )
    watching = open_guard(rewards[0].partition("=")[0], guard) if guard else None
    return train(
        recipe,
        read_data(data, credits),
        Path(out),
        open_rewards(rewards, trust_remote_code=trust_remote_code),
        guard=watching,
        progress=progress,
        trust_remote_code=trust_remote_code,
    )


def check_policy_recipe(recipe: Recipe, *, trust_remote_code: bool = False) -> Size:
    """Validate a recipe, and say what it needs; trains nothing, needs no GPU and no weights."""
    return check(recipe, trust_remote_code=trust_remote_code)
