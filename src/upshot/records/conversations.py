"""Conversations as their sources wrote them, before anything is redacted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import msgspec

from upshot.records.signals import Signal

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]


ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")


class RawMessage(msgspec.Struct, frozen=True, gc=False):
    """One message as its source wrote it."""

    role: Role
    content: str
    time: float | None = None
    """Seconds since the epoch."""
    signals: tuple[Signal, ...] = ()
    """What the log says of this message, where it is a response."""
    name: str = ""
    """The speaker or tool, where the source names one."""
    model: str = ""
    """The model that wrote it, where it differs from the conversation's."""


class RawConversation(msgspec.Struct, frozen=True, gc=False):
    """One session's messages in order, as its source wrote them."""

    messages: tuple[RawMessage, ...]
    id: str = ""
    """Empty: made from the content when the conversation is ingested."""
    user: str = ""
    """Empty: nobody is named, and the conversation is its own user."""
    started_at: float | None = None
    """Seconds since the epoch."""
    model: str = ""
    source: str = ""
    """Name of the format that it was read from."""
    metadata: Mapping[str, Any] = {}
    branch_of: str = ""
    """Id of the conversation whose prefix this branch shares."""
    branch_at: int = 0
    """Index of the first message that this branch does not share; siblings stand at the same index.
    """
    fork: int = -1
    """Index of the first message that a sibling branch replaced in this conversation; -1: none did.
    """


class BadRecord(msgspec.Struct, frozen=True, gc=False):
    """A record that could not be read."""

    file: str
    position: str
    """`line 12`, `item 3`, `byte 1024`."""
    reason: str
