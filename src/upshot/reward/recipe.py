# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportMissingTypeStubs=false
# for trl, peft and transformers
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

from pathlib import Path
from typing import Any, Literal

import msgspec

from upshot.errors import ConfigError
from upshot.hub.recipes import (
    Size,
    make_adapter,
    make_arguments,
    measure_size,
    read_recipe,
    refuse_remote_code,
)
from upshot.hub.trainers import cpu_settings, quiet


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
        refuse_remote_code([self.init, self.trainer, self.lora])

    @property
    def dtype(self) -> str:
        """Of the weights."""
        return str(self.init.get("dtype", "float32"))


def load_recipe(path: str | Path, base: str = "") -> Recipe:
    """Read a recipe; `base` overrides the file's.

    Raises:
        NotFoundError: the file is not there.
        ConfigError: a key is unknown or a value out of bounds.
    """
    return read_recipe(Recipe, path, base=base or None)


def training_arguments(recipe: Recipe, folder: Path, seed: int, **more: Any) -> Any:
    """The `trl.RewardConfig` of one member.

    Raises:
        ConfigError: TRL, Transformers or Accelerate refuses a key or a value.
    """
    from trl.trainer.reward_config import RewardConfig  # torch: seconds to load

    defaults = {
        "report_to": "none",
        "save_strategy": "epoch",
        "save_total_limit": 1,
        "logging_steps": 10,
        "disable_tqdm": True,
    }
    fixed = {"output_dir": str(folder), "remove_unused_columns": False, "seed": seed}
    return make_arguments(RewardConfig, {**defaults, **more, **recipe.trainer, **fixed})


def has_no_weights(recipe: Recipe) -> bool:
    """Whether the base is a folder with a configuration and no weights."""
    folder = Path(recipe.base)
    return folder.is_dir() and not any(
        path for kind in ("*.safetensors", "*.bin") for path in folder.glob(kind)
    )


def scoring_adapter(recipe: Recipe) -> Any:
    """The `peft.LoraConfig` of a recipe, or None; the scoring head is trained beside it.

    Raises:
        ConfigError: PEFT refuses a key, or the base has no weights to adapt.
    """
    if recipe.lora is not None and has_no_weights(recipe):
        raise ConfigError(
            f"could not adapt {recipe.base}: it has no weights; leave [lora] out to train from"
            " scratch"
        )
    return make_adapter(recipe.lora, task_type="SEQ_CLS", modules_to_save=["score"])


def check(recipe: Recipe, columns: int = 1, *, trust_remote_code: bool = False) -> Size:
    """Validate a recipe without a GPU and without the weights: its arguments, its adapter, and the
    model's shape.

    Raises:
        ConfigError: a library refuses something.
        NotFoundError: the base's configuration cannot be found.
    """
    import torch
    from peft import get_peft_model
    from transformers import AutoModelForSequenceClassification

    with quiet():
        training_arguments(recipe, Path("unused"), 0, **cpu_settings(recipe.trainer))
        config = scoring_config(recipe, columns, trust_remote_code=trust_remote_code)
        with torch.device("meta"):
            model: Any = AutoModelForSequenceClassification.from_config(
                config, trust_remote_code=trust_remote_code
            )
            if (lora := scoring_adapter(recipe)) is not None:
                model = get_peft_model(model, lora)
        return measure_size(model, recipe.dtype)


def scoring_config(recipe: Recipe, columns: int, *, trust_remote_code: bool = False) -> Any:
    """The base's configuration with one logit for each column.

    Raises:
        NotFoundError: it cannot be found.
        ConfigError: it holds code of its own, which may not run.
    """
    from upshot.hub.models import open_config  # torch: seconds to load

    config = open_config(recipe.base, trust_remote_code=trust_remote_code)
    config.num_labels = columns
    return config
