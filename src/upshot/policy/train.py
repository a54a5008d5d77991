# transformers and peft have no full types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
"""Train a policy by any method."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model
from transformers import AutoModelForCausalLM

from upshot.errors import ConfigError, InputError, UpshotError
from upshot.hub.models import open_config, open_tokenizer
from upshot.hub.recipes import Size, measure_size
from upshot.hub.trainers import quiet
from upshot.policy.data import Data
from upshot.policy.guard import Guard
from upshot.policy.job import Job, Progress, Trained, read_trained
from upshot.policy.methods import load_method
from upshot.policy.recipe import Recipe, policy_adapter, read_options, training_arguments
from upshot.policy.rewards import Rewards

__all__ = ["Size", "check", "train"]


def train(
    recipe: Recipe,
    data: Data,
    folder: Path,
    rewards: Rewards | None = None,
    *,
    guard: Guard | None = None,
    progress: Progress = lambda stage, done, total: None,
    trust_remote_code: bool = False,
) -> Trained:
    """Train a policy into a folder.

    A killed run goes on where it was; a finished run is left as it is. `trust_remote_code`: the
    base's own code may run.

    Raises:
        InputError: the data has nothing that the method learns from, or a reward is missing; the
            folder holds another run.
        ConfigError: a library refuses something of the recipe, or the base holds code of its own
            that may not run.
    """
    trained = read_trained(folder)
    if trained is not None:
        if trained.recipe != recipe:
            raise InputError(
                f"could not train into {folder}: it holds a policy trained otherwise; name another"
                " folder"
            )
        return trained
    folder.mkdir(parents=True, exist_ok=True)
    method = load_method(recipe.method)
    try:
        with quiet():
            method.fit(Job(recipe, folder, data, rewards, guard, progress, trust_remote_code))
    except UpshotError:
        raise
    except ValueError as error:  # what libraries raise where two settings contradict each other
        raise ConfigError(f"could not train {recipe.base} by {recipe.method}: {error}") from error
    trained = read_trained(folder)
    if trained is None:
        raise InputError(f"could not train by {recipe.method}: it finished no run in {folder}")
    return trained


@quiet()
def check(recipe: Recipe, *, trust_remote_code: bool = False) -> Size:
    """Validate a recipe without a GPU and without weights, and say what it needs.

    Its arguments, its adapter, its options and the model's shape are checked.

    Raises:
        ConfigError: a library refuses something.
        NotFoundError: the base's configuration cannot be read.
    """
    method = load_method(recipe.method)
    read_options(recipe, method.option_type)
    training_arguments(recipe, method.load_config(), Path("unused"))
    trust: Mapping[str, bool] = {"trust_remote_code": trust_remote_code}
    open_tokenizer(recipe.base, **trust)
    with torch.device("meta"):
        config = open_config(recipe.base, **trust)
        model: Any = AutoModelForCausalLM.from_config(config, **trust)
        if (lora := policy_adapter(recipe)) is not None:
            model = get_peft_model(model, lora)
    copies = 2 if method.keeps_reference and recipe.lora is None else 1
    return measure_size(model, recipe.dtype, copies)
