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

import tomllib
from importlib.metadata import PackageNotFoundError
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from upshot.errors import ConfigError, NotFoundError
from upshot.hub.trainers import cpu_when_alone, quiet

T = TypeVar("T")


class Kl(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far a policy may go from its base, in nats an answer: the sum over its tokens of log
    π(token) − log π_base(token).
    """

    coefficient: float | None = None
    """Of the penalty at the start (`beta`); None: the method's own."""
    target: float | None = None
    """Where the penalty's coefficient is steered to (ppo, rloo, grpo); None: it stays."""
    stop: float | None = None
    """Training ends, and goes back to the last step that was seen within it."""
    every: int = 10
    """Steps between two looks, for methods that do not see it anyway; only where `stop` is set."""
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
    """How answers are drawn, while training and to measure KL."""

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

    def __post_init__(self) -> None:
        if self.method not in methods():
            raise ConfigError(
                f"could not train by {self.method!r}: there are {', '.join(methods())}"
            )


class Method(msgspec.Struct, frozen=True):
    """What is known of a method."""

    name: str
    does: str
    choose: str
    """When."""
    needs: str
    steps: str
    """How it can use step credits."""
    source: str
    options: dict[str, str] = {}


def methods() -> dict[str, Method]:
    """Every method, by its name on the command line."""
    return msgspec.convert(
        tomllib.loads(files("upshot.policy.methods").joinpath("methods.toml").read_text("utf-8")),
        dict[str, Method],
    )


def load_recipe(path: str | Path | None, **more: Any) -> Recipe:
    """Read a recipe; what is given beside the file (and not None) overrides it.

    Without a file these are all there is.

    Raises:
        NotFoundError: the file is not there.
        ConfigError: a key is unknown, a value out of bounds, or base or method missing.
    """
    given = {name: value for name, value in more.items() if value is not None}
    try:
        found = tomllib.loads(Path(path).read_text("utf-8")) if path is not None else {}
        return msgspec.convert({**found, **given}, Recipe)
    except FileNotFoundError as error:
        raise NotFoundError(f"could not read the recipe {path}: there is no such file") from error
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(
            f"could not read the recipe {path or 'of these flags'}: {error}"
        ) from error


def options(recipe: Recipe, kind: type[T]) -> T:
    """The recipe's [options] as the method knows them.

    Raises:
        ConfigError: it does not know one.
    """
    try:
        return msgspec.convert(recipe.options, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"could not use the recipe's [options] for {recipe.method}: {error}"
        ) from error


def arguments(recipe: Recipe, kind: type[T], checkpoints: Path, **usual: Any) -> T:
    """The library's configuration: what is usual, then the recipe's [trainer], then what must be.

    Raises:
        ConfigError: TRL, Transformers or Accelerate refuses a key or a value.
    """
    alone = cpu_when_alone(recipe.trainer)
    calm = {
        "report_to": "none",
        "save_strategy": "steps",
        "save_steps": 100,
        "save_total_limit": 2,
        "logging_steps": 5,
        "disable_tqdm": True,
    }
    fixed = {"output_dir": str(checkpoints), "seed": recipe.seed}
    if alone:
        alone |= {"gradient_checkpointing": False}
    try:
        with quiet():
            return kind(**{**calm, **alone, **usual, **recipe.trainer, **fixed})
    except PackageNotFoundError as error:
        raise ConfigError(
            "could not use the recipe's [trainer]: it needs a package that is not installed:"
            f" {error}"
        ) from error
    except (TypeError, ValueError, ImportError, OSError) as error:
        raise ConfigError(
            f"could not use the recipe's [trainer] for {recipe.method}: {error}"
        ) from error


def adapter(recipe: Recipe) -> Any:
    """The `peft.LoraConfig` of a recipe, or None.

    Raises:
        ConfigError: PEFT refuses a key.
    """
    if recipe.lora is None:
        return None
    from peft import LoraConfig

    try:
        return LoraConfig(
            **{"task_type": "CAUSAL_LM", "target_modules": "all-linear", **recipe.lora}
        )
    except (TypeError, ValueError) as error:
        raise ConfigError(f"could not use the recipe's [lora]: {error}") from error
