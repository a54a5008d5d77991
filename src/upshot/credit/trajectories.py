"""Runs of an agent as JSON lines: `{"id": "t1", "task": "…", "steps": [{"action": "…",
"observation": "…"} or "text", …], "outcome": 0.0}`.

A step may name its `agent`; the `label` of a run is the index of the step that people blame, for
training reviewers.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from typing import Any, cast

import msgspec

from upshot.errors import InputError
from upshot.io.files import read_objects
from upshot.sources import fields


class Step(msgspec.Struct, frozen=True, gc=False):
    """One action and its observation."""

    action: str
    observation: str = ""
    agent: str = ""

    @property
    def text(self) -> str:
        """Action and observation."""
        return f"{self.action}\n{self.observation}" if self.observation else self.action


class Trajectory(msgspec.Struct, frozen=True):
    """A run of an agent."""

    id: str
    task: str
    steps: tuple[Step, ...]
    outcome: float
    label: int | None = None
    """The step that people blame; -1: none is to blame."""


def read_trajectories(path: str | os.PathLike[str]) -> Iterator[Trajectory]:
    """Read the runs of a file, in order.

    Raises:
        InputError: a row has no steps, or its outcome is not a finite number; says where.
    """
    for number, (place, record) in enumerate(read_objects(path)):
        try:
            yield parse_trajectory(record, f"t{number}")
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"could not read {place}: {error}; a run needs steps and an outcome"
            ) from error


def parse_trajectory(record: Mapping[str, Any], name: str = "") -> Trajectory:
    """Parse a run; `name`: its id if it has none.

    >>> parse_trajectory({"steps": ["look", {"action": "fix"}], "outcome": 1}, "t0").steps[1].text
    'fix'

    Raises:
        KeyError, TypeError, ValueError: something is missing or of the wrong type.
    """
    outcome = float(record["outcome"])
    if not math.isfinite(outcome):
        raise ValueError(f"outcome {outcome} is not finite")
    if not isinstance(record["steps"], list):
        raise TypeError("steps is not a list")
    steps = cast(list[object], record["steps"])
    label = record.get("label")
    return Trajectory(
        str(record.get("id", name)),
        str(record.get("task", "")),
        tuple(map(_parse_step, steps)),
        outcome,
        None if label is None else int(label),
    )


def _parse_step(step: object) -> Step:
    if isinstance(step, str):
        return Step(step)
    if not isinstance(step, Mapping):
        raise TypeError("a step is neither text nor an object")
    value = cast(Mapping[str, Any], step)
    agent = str(value.get("agent") or value.get("name") or value.get("role") or "")
    return Step(
        fields.text(value.get("action", value.get("content", value.get("text", "")))),
        fields.text(value.get("observation", "")),
        agent,
    )
