"""Lists of parts that can be extended: names of what ships, and what other packages add.

A part that ships is one line, `name = "module:attribute"`; a package adds its own through an entry
point of the same shape. Nothing is imported until it is used, so lists stay cheap to show.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from upshot.errors import ConfigError, InputError, UpshotError


class Registry:
    """Named parts of one kind: log formats, exporters, training methods.

    >>> Registry("upshot.demo", "demo", {"json": "json:loads"}).load("json")("[1]")
    [1]
    """

    def __init__(self, group: str, noun: str, shipped: Mapping[str, str]) -> None:
        self.group = group
        """Entry-point group through which other packages add parts."""
        self.noun = noun
        """What one part is called in messages."""
        self._shipped = shipped

    @cached_property
    def _targets(self) -> dict[str, str]:
        added = {entry.name: entry.value for entry in entry_points(group=self.group)}
        return {**added, **self._shipped}  # what ships cannot be replaced from outside

    @property
    def names(self) -> tuple[str, ...]:
        """Every name: what ships, in its order, then what other packages add."""
        return (*self._shipped, *sorted(set(self._targets) - set(self._shipped)))

    def load(self, name: str) -> Any:
        """The part of a name.

        Raises:
            InputError: there is none of that name.
            ConfigError: another package's part cannot be imported.
        """
        target = self._targets.get(name)
        if target is None:
            raise InputError(f"unknown {self.noun} {name!r}; there are {', '.join(self.names)}")
        module, _, attribute = target.partition(":")
        try:
            part = import_module(module)
        except (ModuleNotFoundError, UpshotError):
            raise
        except Exception as error:  # a stranger's package may raise anything
            raise ConfigError(
                f"could not load the {self.noun} {name!r} from {target}: {error}"
            ) from error
        return getattr(part, attribute) if attribute else part
