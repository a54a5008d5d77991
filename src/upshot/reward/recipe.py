"""What a transformer is trained with: a TOML file, whose tables go to the libraries as they are.

```
base = "Qwen/Qwen3-8B"          # a name on a hub, or a folder; one with a config and no weights
starts from nothing members = 3                     # models of the ensemble vary = "bootstrap"
# what tells them apart: "seed", or users drawn with replacement as well held_out = 0.1
# share of users kept for calibration [init]                          # from_pretrained: dtype,
attn_implementation, … dtype = "bfloat16" [trainer]                       # trl.RewardConfig:
learning_rate, fsdp, deepspeed, gradient_checkpointing, … max_length = 4096 [lora]
# peft.LoraConfig; without this table all weights are trained r = 16
```
"""

from __future__ import annotations

import json
import os
import tomllib
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from upshot.errors import ConfigError, NotFoundError

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


@contextmanager
def quiet() -> Iterator[None]:
    """Without the libraries' own bars, reports of what was loaded, and complaints of each other."""
    import datasets
    from transformers.utils import logging as loudness

    mapping = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    level, bars = loudness.get_verbosity(), loudness.is_progress_bar_enabled()
    loudness.set_verbosity_error()
    loudness.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        loudness.set_verbosity(level)
        if not mapping:
            datasets.enable_progress_bars()
        if bars:
            loudness.enable_progress_bar()


def last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that is whole; what a kill left half written is passed over."""
    found = sorted(
        (int(path.name.rpartition("-")[2]), path)
        for path in folder.glob("checkpoint-*")
        if path.name.rpartition("-")[2].isdigit()
    )
    return next((str(path) for _, path in reversed(found) if _is_whole(path)), None)


def _is_whole(checkpoint: Path) -> bool:
    try:  # the trainer writes its state last
        return isinstance(json.loads((checkpoint / "trainer_state.json").read_bytes()), dict)
    except (OSError, ValueError):
        return False


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


def cpu_when_alone(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Where there is no GPU, say so, or TRL refuses what it sets by default."""
    import torch

    return (
        {}
        if torch.cuda.is_available() or "use_cpu" in trainer
        else {"use_cpu": True, "bf16": False}
    )


def base_config(recipe: Recipe, columns: int) -> Any:
    """The base's configuration with one logit for each column.

    Raises:
        NotFoundError: it cannot be had.
    """
    config = config_of(recipe.base, recipe.init)
    config.num_labels = columns
    return config


def config_of(base: str, init: Mapping[str, Any]) -> Any:
    """A base's configuration.

    Raises:
        NotFoundError: it cannot be had.
    """
    from transformers import AutoConfig

    trust = {"trust_remote_code": True} if init.get("trust_remote_code") else {}
    try:
        return AutoConfig.from_pretrained(base, **trust)
    except (OSError, ValueError) as error:
        raise NotFoundError(
            f"could not find the base model {base!r}: {str(error).splitlines()[0]}"
        ) from error


def is_main() -> bool:
    """Is this the process that writes? `accelerate launch` starts several."""
    return int(os.environ.get("RANK", "0")) == 0
