"""What a world is: tasks whose truth is known, an assistant's moves in it, and what happens when an
answer is tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import NamedTuple, Protocol

from upshot.records import Turn


class Task(NamedTuple):
    """Something that a person wants."""

    key: tuple[str, ...]
    """Which task it is; equal keys are the same task in other words."""
    words: str
    hints: tuple[str, ...]
    """The parts of it that an answer may miss."""


class Attempt(NamedTuple):
    """What happened when an answer was tried in the world."""

    ok: bool
    kind: str
    """worked, error, wrong, question, refusal, or nothing (there was nothing to try)."""
    input: str = ""
    got: str = ""
    want: str = ""
    error: str = ""


class World(Protocol):
    """Tasks with a checkable answer. Every method depends on its arguments only."""

    name: str
    max_tokens: int
    """Of one assistant message."""
    max_messages: int
    """Assistant messages that one attempt at a task may take."""

    def task(self, random: Random) -> Task:
        """A task, in one of its wordings."""
        ...

    def demonstrate(self, task: Task, random: Random, skill: float) -> list[Turn]:
        """Messages with which somebody attempts the task, and with probability `skill` rightly: the
        assistant's, and the tools' between them.
        """
        ...

    def observe(self, task: Task, moves: Sequence[Turn], random: Random) -> str | None:
        """What a tool answers to the last assistant message of an attempt; None: it called none."""
        ...

    def over(self, moves: Sequence[Turn]) -> bool:
        """Is the attempt at its end with its last assistant message?"""
        ...

    def judge(self, attempts: Sequence[tuple[Task, Sequence[Turn]]]) -> list[Attempt]:
        """Try finished attempts."""
        ...


def as_turns(*texts: str) -> list[Turn]:
    """One assistant message each."""
    return [Turn("assistant", text) for text in texts]
