"""Train a policy by any method."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from upshot.errors import ConfigError, InputError, UpshotError
from upshot.hub.loss_masks import open_tokenizer
from upshot.hub.trainers import quiet
from upshot.policy.data import Data
from upshot.policy.guard import Guard
from upshot.policy.job import Job, Progress, Trained, read_trained
from upshot.policy.recipe import Recipe
from upshot.policy.rewards import Rewards


def train(
    recipe: Recipe,
    data: Data,
    folder: Path,
    rewards: Rewards | None = None,
    guard: Guard | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> Trained:
    """Train a policy into a folder; what a killed run has done is not done again, and a finished
    run is left as it is.

    Raises:
        InputError: the data has nothing that the method learns from, or a reward is missing; the
            folder holds another run.
        ConfigError: a library refuses something of the recipe.
    """
    done = read_trained(folder)
    if done is not None:
        if done.recipe != recipe:
            raise InputError(
                f"could not train into {folder}: it holds a policy trained otherwise; name another"
                " folder"
            )
        return done
    folder.mkdir(parents=True, exist_ok=True)
    fit: Callable[[Job], Path] = import_module(f"upshot.policy.methods.{recipe.method}").fit
    try:
        with quiet():
            fit(Job(recipe, folder, data, rewards, guard, progress))
    except UpshotError:
        raise
    except ValueError as error:  # what libraries raise where two settings contradict each other
        raise ConfigError(f"could not train {recipe.base} by {recipe.method}: {error}") from error
    found = read_trained(folder)
    assert found is not None
    return found


class Size(NamedTuple):
    """What a recipe trains, and what it needs."""

    parameters: int
    trained: int
    gigabytes: float
    """Weights, gradients and Adam's moments, and the reference where one is kept; without
    activations. Sharding divides it among devices.
    """


_REFERENCE = frozenset({"dpo", "kto", "rloo", "grpo", "ppo", "sdpo"})
_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
_ADAM_AND_GRADIENT = 12


@quiet()
def check(recipe: Recipe) -> Size:
    """Validate a recipe without a GPU and without the weights: its arguments, its adapter, its
    options, the model's shape.

    Raises:
        ConfigError: a library refuses something.
        NotFoundError: the base's configuration cannot be had.
    """
    import torch
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    from upshot.hub.models import config_of
    from upshot.policy.recipe import adapter, arguments, options

    module = import_module(f"upshot.policy.methods.{recipe.method}")
    if hasattr(module, "Options"):
        options(recipe, module.Options)
    arguments(recipe, module.CONFIG, Path("unused"))
    open_tokenizer(recipe.base)
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config_of(recipe.base, recipe.init))
        if (lora := adapter(recipe)) is not None:
            model = get_peft_model(model, lora)
    every = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    width = _BYTES.get(str(recipe.init.get("dtype", "float32")), 4)
    copies = 2 if recipe.method in _REFERENCE and recipe.lora is None else 1
    return Size(every, trained, (every * width * copies + trained * _ADAM_AND_GRADIENT) / 1e9)
