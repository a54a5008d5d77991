"""Training examples: preferences, scored responses, and where they came from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from upshot.records.conversations import Role, ToolCall


class Turn(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One message of a training example, as trainers read it."""

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    """Of a response."""
    name: str = ""
    """Of the tool that answers."""


def turns_to_messages(turns: Iterable[Turn]) -> list[dict[str, Any]]:
    """Messages as trainers and chat templates read them, tool calls as OpenAI's interface has them.

    >>> turns_to_messages([Turn("user", "hi")])
    [{'role': 'user', 'content': 'hi'}]
    """
    messages: list[dict[str, Any]] = []
    for turn in turns:
        message: dict[str, Any] = {"role": turn.role, "content": turn.content}
        if turn.tool_calls:
            message["tool_calls"] = [
                {
                    "id": call.id or f"call_{number}",
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for number, call in enumerate(turn.tool_calls)
            ]
        if turn.name:
            message["name"] = turn.name
        messages.append(message)
    return messages


class Place(msgspec.Struct, frozen=True, gc=False):
    """A response of the lake."""

    id: str
    index: int


class Source(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Where a training example came from."""

    kind: str
    """sibling, edit, thread, across, rewrite, verdict; or the name of an imported data set."""
    users: tuple[str, ...] = ()
    """Pseudonyms of everyone whose text or verdict is in it."""
    thread: str = ""
    chosen: Place | None = None
    """None for what was not logged as a response: an edit, a rewrite."""
    rejected: Place | None = None
    split: str = ""
    """train or test."""
    note: str = ""


class Preference(msgspec.Struct, frozen=True, gc=False):
    """Chosen over rejected for one prompt."""

    prompt: tuple[Turn, ...]
    chosen: tuple[Turn, ...]
    rejected: tuple[Turn, ...]
    margin: float
    """How much better, in [0, 1]: the difference of scores, or of votes."""
    weight: float
    """How sure, in [0, 1]."""
    source: Source


class Example(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A response and how good it was, for trainers that need no pair."""

    prompt: tuple[Turn, ...]
    completion: tuple[Turn, ...]
    score: float
    """In [0, 1]."""
    weight: float
    source: Source
    tags: Mapping[str, str | float] = {}
    """score, tokens, style, date, model: what a policy can be conditioned on."""
    train: tuple[bool, ...] = ()
    """For each message of prompt and completion: is it imitated? Empty: the completion alone."""
    after: tuple[Turn, ...] = ()
    """What was said next: hindsight for those who learn from it directly."""
