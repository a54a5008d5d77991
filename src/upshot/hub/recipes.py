# peft has no full types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportMissingTypeStubs=false
"""Recipes: TOML files whose tables go to the libraries as they are.

A recipe never says that code from a model's folder may run: `trust_remote_code` is refused wherever
it stands and comes from an explicit argument alone.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import msgspec

from upshot.errors import ConfigError, NotFoundError
from upshot.hub.trainers import quiet

T = TypeVar("T")
_WEIGHT_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
"""Bytes per weight."""
_TRAINING_BYTES = 12
"""Bytes per trained weight in single precision: 4 for its gradient, 8 for Adam's two moments."""


class Size(NamedTuple):
    """What a recipe trains, and what it needs."""

    parameters: int
    trained: int
    gigabytes: float
    """Weights, gradients and Adam's moments, and the reference model where there is one; without
    activations. Sharding divides it among devices.
    """


def read_recipe(kind: type[T], path: str | Path | None, **overrides: Any) -> T:
    """Read a recipe file; overrides that are not None replace its keys.

    Without a file the overrides are the whole recipe.

    Raises:
        NotFoundError: the file does not exist.
        ConfigError: a key is unknown, missing, or out of bounds.
    """
    values = {name: value for name, value in overrides.items() if value is not None}
    try:
        table = tomllib.loads(Path(path).read_text("utf-8")) if path is not None else {}
        return msgspec.convert({**table, **values}, kind)
    except FileNotFoundError as error:
        raise NotFoundError(f"could not read the recipe {path}: there is no such file") from error
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(
            f"could not read the recipe {path or 'of these flags'}: {error}"
        ) from error


def refuse_remote_code(tables: Iterable[Mapping[str, Any] | None]) -> None:
    """Refuse `trust_remote_code` anywhere in a recipe's tables.

    Raises:
        ConfigError: a table holds it.

    >>> refuse_remote_code([{"dtype": "bfloat16"}, None])
    """
    for table in tables:
        for name, value in (table or {}).items():
            if name == "trust_remote_code":
                raise ConfigError(
                    "could not use trust_remote_code from a recipe or a model's folder: running a"
                    " model's own code is decided on the command line; leave it out and pass"
                    " --trust-remote-code"
                )
            if isinstance(value, Mapping):
                refuse_remote_code([cast("Mapping[str, Any]", value)])


def make_arguments(kind: Callable[..., T], values: Mapping[str, Any], purpose: str = "") -> T:
    """A library's configuration, of a recipe's [trainer] and what surrounds it.

    Raises:
        ConfigError: TRL, Transformers or Accelerate refuses a key or a value.
    """
    try:
        with quiet():
            return kind(**values)
    except PackageNotFoundError as error:
        raise ConfigError(
            "could not use the recipe's [trainer]: it needs a package that is not installed:"
            f" {error}"
        ) from error
    except (TypeError, ValueError, ImportError, OSError) as error:
        raise ConfigError(f"could not use the recipe's [trainer]{purpose}: {error}") from error


def make_adapter(lora: Mapping[str, Any] | None, **defaults: Any) -> Any:
    """The `peft.LoraConfig` of a recipe's [lora]; None without one.

    Raises:
        ConfigError: PEFT refuses a key.
    """
    if lora is None:
        return None
    from peft import LoraConfig

    options: dict[str, Any] = {"target_modules": "all-linear", **defaults, **lora}
    try:
        return LoraConfig(**options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"could not use the recipe's [lora]: {error}") from error


def measure_size(model: Any, dtype: str, copies: int = 1) -> Size:
    """What training a model takes; `copies`: 2 where a reference model stands beside it."""
    parameters = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    weights = parameters * _WEIGHT_BYTES.get(dtype, 4) * copies
    return Size(parameters, trained, (weights + trained * _TRAINING_BYTES) / 1e9)
