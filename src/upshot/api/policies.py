"""Training policies."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upshot.api.opening import Progress, quiet
from upshot.errors import ConfigError, InputError

if TYPE_CHECKING:
    from upshot.policy.job import Trained
    from upshot.policy.recipe import Method, Recipe
    from upshot.policy.train import Size

_NEEDED = ("torch", "transformers", "trl", "datasets", "peft", "accelerate")


def explain(method: str) -> Method:
    """When to choose a method, and what it needs.

    Raises:
        InputError: there is none of that name.
    """
    from upshot.policy.recipe import methods

    known = methods()
    if method not in known:
        raise InputError(f"could not explain {method!r}: there are {', '.join(known)}")
    return known[method]


def policy_recipe(path: str | os.PathLike[str] | None = None, **more: Any) -> Recipe:
    """A recipe from a file, from what is given beside it, or both."""
    from upshot.policy.recipe import load_recipe

    return load_recipe(None if path is None else Path(path), **more)


def train_policy(
    data: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    recipe: Recipe,
    rewards: Sequence[str] = (),
    guard: Sequence[str] = (),
    credits: str | os.PathLike[str] | None = None,
    progress: Progress = quiet,
) -> Trained:
    """Train a policy into a folder, which any library opens.

    Killed anywhere, a second call goes on.

    `data`: files of pairs, examples, conversations, runs or prompts; `rewards`: folders of reward
    models, `verify`, `module:function`, each maybe with `=WEIGHT`; `guard`: embedded reward models
    that watch and are not trained on, the first reward must be one too.

    Raises:
        InputError: the data has nothing for this method, or a reward is missing.
        ConfigError: the train extra is missing, or a library refuses something of the recipe.
    """
    need_train_extra()
    from upshot.policy.data import read
    from upshot.policy.guard import open_guard
    from upshot.policy.rewards import open_rewards
    from upshot.policy.train import train

    if guard and not rewards:
        raise InputError(
            "could not guard a training without a reward: name the embedded model that it is"
            " trained on with --reward"
        )
    watching = open_guard(rewards[0].partition("=")[0], guard) if guard else None
    return train(recipe, read(data, credits), Path(out), open_rewards(rewards), watching, progress)


def check_policy(recipe: Recipe) -> Size:
    """Validate a recipe, and say what it needs; trains nothing, needs no GPU and no weights."""
    need_train_extra()
    from upshot.policy.train import check

    return check(recipe)


def need_train_extra() -> None:
    """Raises:
    ConfigError: something of the train extra is not installed."""
    from importlib.util import find_spec

    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise ConfigError(
            f"could not train a policy: {', '.join(missing)} is not installed; pip install"
            " 'upshot[train]'"
        )
