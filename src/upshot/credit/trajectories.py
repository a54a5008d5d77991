"""Runs of an agent as JSON lines: `{"id": "t1", "task": "…", "steps": [{"action": "…",
"observation": "…"} or "text", …], "outcome": 0.0}`.

A step may name its `agent`; `label` on a run is the index of the step that people found to blame
(for training reviewers).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from upshot.errors import InputError
from upshot.io.files import json_objects
from upshot.sources import fields


class Step(msgspec.Struct, frozen=True, gc=False):
    """One action and what came of it."""

    action: str
    observation: str = ""
    agent: str = ""

    @property
    def text(self) -> str:
        """Action and observation."""
        return f"{self.action}\n{self.observation}" if self.observation else self.action


class Trajectory(msgspec.Struct, frozen=True):
    """A run."""

    id: str
    task: str
    steps: tuple[Step, ...]
    outcome: float
    label: int | None = None
    """The step to blame, by people; -1: they found none."""


def read(path: str | os.PathLike[str]) -> Iterator[Trajectory]:
    """The runs of a file, in order.

    Raises:
        InputError: a row has no steps, or its outcome is no finite number; says where.
    """
    for number, (place, record) in enumerate(json_objects(path)):
        try:
            yield of_record(record, f"t{number}")
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"could not read {place}: {error}; a run needs steps and an outcome"
            ) from error


def of_record(record: Mapping[str, Any], name: str = "") -> Trajectory:
    """A run from an object.

    Raises:
        KeyError, TypeError, ValueError: something is missing or of the wrong kind.
    """
    outcome = float(record["outcome"])
    if not math.isfinite(outcome):
        raise ValueError(f"outcome {outcome} is not finite")
    steps = record["steps"]
    if not isinstance(steps, list):
        raise TypeError("steps is no list")
    label = record.get("label")
    return Trajectory(
        str(record.get("id", name)),
        str(record.get("task", "")),
        tuple(map(_step, steps)),
        outcome,
        None if label is None else int(label),
    )


def _step(value: Any) -> Step:
    if isinstance(value, str):
        return Step(value)
    if not isinstance(value, Mapping):
        raise TypeError("a step is neither text nor an object")
    agent = str(value.get("agent") or value.get("name") or value.get("role") or "")
    return Step(
        fields.text(value.get("action", value.get("content", value.get("text", "")))),
        fields.text(value.get("observation", "")),
        agent,
    )
