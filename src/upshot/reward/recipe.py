"""What a transformer is trained with: a TOML file, whose tables go to the libraries as they are.

```
base = "Qwen/Qwen3-8B"          # a name on a hub, or a folder; a folder with a config and no
                                # weights is trained from scratch
members = 3                     # models of the ensemble
vary = "bootstrap"              # how members differ: "seed", or users resampled as well
held_out = 0.1                  # share of users held out for calibration
[init]                          # from_pretrained: dtype, attn_implementation, …
dtype = "bfloat16"
[trainer]                       # trl.RewardConfig: learning_rate, fsdp, deepspeed, …
max_length = 4096
[lora]                          # peft.LoraConfig; without this table all weights are trained
r = 16
```
"""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from upshot.errors import ConfigError, NotFoundError
from upshot.hub.models import config_of
from upshot.hub.trainers import cpu_when_alone, quiet

_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
_ADAM = 8
"""Bytes a trained weight has for the two moments of Adam, in single precision."""
_MASTER = 4
"""Bytes a trained weight has for its gradient, in single precision."""


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to train a transformer."""

    base: str
    members: int = 1
    vary: Literal["seed", "bootstrap"] = "bootstrap"
    held_out: float = 0.1
    init: dict[str, Any] = {}
    trainer: dict[str, Any] = {}
    lora: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.members < 1:
            raise ConfigError(f"could not train {self.members} members: at least 1")
        if not 0 < self.held_out < 1:
            raise ConfigError(f"could not hold out {self.held_out}: a share between 0 and 1")

    @property
    def dtype(self) -> str:
        """Of the weights."""
        return str(self.init.get("dtype", "float32"))


class Size(NamedTuple):
    """What a recipe trains, and what it needs."""

    parameters: int
    trained: int
    gigabytes: float
    """Weights, gradients and Adam's moments of one member, without activations; sharding divides it
    among devices.
    """


def load_recipe(path: str | Path, base: str = "") -> Recipe:
    """Read a recipe; `base` overrides the file's.

    Raises:
        NotFoundError: the file is not there.
        ConfigError: a key is unknown or a value out of bounds.
    """
    try:
        found = tomllib.loads(Path(path).read_text("utf-8"))
        return msgspec.convert({**found, **({"base": base} if base else {})}, Recipe)
    except FileNotFoundError as error:
        raise NotFoundError(f"could not read the recipe {path}: there is no such file") from error
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"could not read the recipe {path}: {error}") from error


def arguments(recipe: Recipe, folder: Path, seed: int, **more: Any) -> Any:
    """The `trl.RewardConfig` of one member.

    Raises:
        ConfigError: TRL, Transformers or Accelerate refuses a key or a value.
    """
    from trl.trainer.reward_config import RewardConfig

    usual = {
        "report_to": "none",
        "save_strategy": "epoch",
        "save_total_limit": 1,
        "logging_steps": 10,
        "disable_tqdm": True,
    }
    fixed = {"output_dir": str(folder), "remove_unused_columns": False, "seed": seed}
    try:
        with quiet():
            return RewardConfig(**{**usual, **more, **recipe.trainer, **fixed})
    except PackageNotFoundError as error:
        raise ConfigError(
            "could not use the recipe's [trainer]: it needs a package that is not installed:"
            f" {error}"
        ) from error
    except (TypeError, ValueError, ImportError, OSError) as error:
        raise ConfigError(f"could not use the recipe's [trainer]: {error}") from error


def from_nothing(recipe: Recipe) -> bool:
    """Does the base have a configuration and no weights?"""
    folder = Path(recipe.base)
    return folder.is_dir() and not any(
        path for kind in ("*.safetensors", "*.bin") for path in folder.glob(kind)
    )


def adapter(recipe: Recipe) -> Any:
    """The `peft.LoraConfig` of a recipe, or None; the scoring head is trained beside it.

    Raises:
        ConfigError: PEFT refuses a key, or the base has no weights to adapt.
    """
    if recipe.lora is None:
        return None
    if from_nothing(recipe):
        raise ConfigError(
            f"could not adapt {recipe.base}: it has no weights; leave [lora] out to train from"
            " nothing"
        )
    from peft import LoraConfig

    try:
        return LoraConfig(
            **{
                "task_type": "SEQ_CLS",
                "target_modules": "all-linear",
                "modules_to_save": ["score"],
                **recipe.lora,
            }
        )
    except (TypeError, ValueError) as error:
        raise ConfigError(f"could not use the recipe's [lora]: {error}") from error


@quiet()
def check(recipe: Recipe, columns: int = 1) -> Size:
    """Validate a recipe without a GPU and without the weights: its arguments, its adapter, and the
    model's shape.

    Raises:
        ConfigError: a library refuses something.
        NotFoundError: the base's configuration cannot be had.
    """
    import torch
    from peft import get_peft_model
    from transformers import AutoModelForSequenceClassification

    arguments(recipe, Path("unused"), 0, **cpu_when_alone(recipe.trainer))
    with torch.device("meta"):
        model: Any = AutoModelForSequenceClassification.from_config(base_config(recipe, columns))
        if (lora := adapter(recipe)) is not None:
            model = get_peft_model(model, lora)
    every = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    width = _BYTES.get(recipe.dtype, 4)
    return Size(every, trained, (every * width + trained * (_ADAM + _MASTER)) / 1e9)


def base_config(recipe: Recipe, columns: int) -> Any:
    """The base's configuration with one logit for each column.

    Raises:
        NotFoundError: it cannot be had.
    """
    config = config_of(recipe.base, recipe.init)
    config.num_labels = columns
    return config
