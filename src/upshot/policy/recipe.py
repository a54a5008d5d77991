"""What a policy is trained with: a TOML file, whose tables go to the libraries as they are.

```
base = "Qwen/Qwen3-8B"          # a name on a hub, or a folder
method = "dpo"                  # see `upshot train policy --explain METHOD`
[init]                          # from_pretrained: dtype, attn_implementation, …
dtype = "bfloat16"
[trainer]                       # TRL's configuration of the method: learning_rate,
max_length = 4096               # num_generations, use_vllm, fsdp, deepspeed, …
[lora]                          # peft.LoraConfig; without this table all weights are trained
r = 16
[kl]
stop = 20.0                     # nats per answer: training stops within this distance of the base
[draw]
max_tokens = 512                # of a sampled answer
[options]                       # of the method, ours: see --explain
```
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from upshot.errors import ConfigError
from upshot.hub.recipes import make_adapter, make_arguments, read_recipe, refuse_remote_code
from upshot.hub.trainers import cpu_settings
from upshot.policy.methods import method_names

T = TypeVar("T")


class Kl(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far a policy may go from its base, in nats per answer.

    The sum over an answer's tokens of log π(token) − log π_base(token).
    """

    coefficient: float | None = None
    """The penalty's coefficient at the start (`beta`); None: the method's own."""
    target: float | None = None
    """KL that the coefficient is steered to (ppo, rloo, grpo); None: it stays as it is."""
    stop: float | None = None
    """Bound beyond which training ends and goes back to the last step within it."""
    every: int = 10
    """Steps between two measurements where `stop` is set and the method has none of its own."""
    prompts: int = 32
    """Prompts that it is measured on."""

    def __post_init__(self) -> None:
        for name in ("coefficient", "target", "stop"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ConfigError(f"could not use kl.{name} = {value}: nats, not negative")
        if self.every < 1 or self.prompts < 1:
            raise ConfigError("could not use [kl]: every and prompts are at least 1")


class Draw(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How answers are sampled, for training and to measure KL."""

    max_tokens: int = 256
    temperature: float = 1.0


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to train a policy."""

    base: str
    method: str
    seed: int = 0
    init: dict[str, Any] = {}
    trainer: dict[str, Any] = {}
    lora: dict[str, Any] | None = None
    kl: Kl = Kl()
    draw: Draw = Draw()
    options: dict[str, Any] = {}

    @property
    def max_length(self) -> int:
        """Tokens of a conversation; of a longer one the beginning is lost."""
        return int(self.trainer.get("max_length") or 1024)

    @property
    def dtype(self) -> str:
        """Of the weights."""
        return str(self.init.get("dtype", "float32"))

    def __post_init__(self) -> None:
        refuse_remote_code([self.init, self.trainer, self.lora])
        if self.method not in method_names():
            raise ConfigError(
                f"could not train by {self.method!r}: there are {', '.join(method_names())}"
            )


def load_recipe(path: str | Path | None, **overrides: Any) -> Recipe:
    """Read a recipe; overrides that are not None replace the file's keys.

    Without a file they are the whole recipe.

    Raises:
        NotFoundError: the file does not exist.
        ConfigError: a key is unknown, a value out of bounds, or base or method missing.
    """
    return read_recipe(Recipe, path, **overrides)


def read_options(recipe: Recipe, kind: type[T]) -> T:
    """The recipe's [options] as its method takes them.

    Raises:
        ConfigError: the method has no such option, or of another type.
    """
    try:
        return msgspec.convert(recipe.options, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"could not use the recipe's [options] for {recipe.method}: {error}"
        ) from error


def training_arguments(recipe: Recipe, kind: type[T], checkpoints: Path, **defaults: Any) -> T:
    """The library's configuration: defaults, then the recipe's [trainer], then what must be.

    Raises:
        ConfigError: TRL, Transformers or Accelerate refuses a key or a value.
    """
    cpu = cpu_settings(recipe.trainer)
    if cpu:
        cpu |= {"gradient_checkpointing": False}
    calm = {
        "report_to": "none",
        "save_strategy": "steps",
        "save_steps": 100,
        "save_total_limit": 2,
        "logging_steps": 5,
        "disable_tqdm": True,
    }
    fixed = {"output_dir": str(checkpoints), "seed": recipe.seed}
    values = {**calm, **cpu, **defaults, **recipe.trainer, **fixed}
    return make_arguments(kind, values, f" for {recipe.method}")


def policy_adapter(recipe: Recipe) -> Any:
    """The `peft.LoraConfig` of a recipe, or None.

    Raises:
        ConfigError: PEFT refuses a key.
    """
    return make_adapter(recipe.lora, task_type="CAUSAL_LM")
