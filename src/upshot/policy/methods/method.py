"""The protocol of a training method: what one module says of itself in its `METHOD`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import msgspec
from msgspec import inspect

if TYPE_CHECKING:
    from upshot.policy.job import Job

Fit: TypeAlias = "Callable[[Job], Path]"
"""Trains a job's policy into the job's folder, and returns that folder."""


class NoOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The options of a method that has none."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way to train a policy.

    A method's module imports torch, TRL and whatever else is slow inside `fit` and `load_config`
    only, so that every method can be listed and explained in an instant.
    """

    name: str
    """In full, as in the literature."""
    does: str
    """What it does to the policy."""
    choose: str
    """When to choose it."""
    needs: str
    """The data, and whether it needs a reward."""
    steps: str
    """How it uses credit of steps."""
    source: str
    """Papers, and the trainer behind it."""
    load_config: Callable[[], type[Any]]
    """The library's configuration class, which a recipe's [trainer] fills."""
    fit: Fit
    """Trains; raises an `InputError` where the data holds nothing for it."""
    option_type: type[msgspec.Struct] = NoOptions
    """What a recipe's [options] may hold: each field annotated with its description."""
    keeps_reference: bool = False
    """Whether the base stays in memory beside the policy, unless an adapter is trained."""

    @property
    def options(self) -> dict[str, str]:
        """A description of each option, by its name."""
        struct = inspect.type_info(self.option_type)
        fields = struct.fields if isinstance(struct, inspect.StructType) else ()
        return {field.name: _describe(field.type) for field in fields}


def _describe(field: inspect.Type) -> str:
    if not isinstance(field, inspect.Metadata):
        return ""
    schema = cast(
        "dict[str, Any] | None",
        field.extra_json_schema,  # pyright: ignore[reportUnknownMemberType]  # a bare dict
    )
    return str((schema or {}).get("description", ""))
