"""Conversations as their sources wrote them, before anything is redacted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import msgspec

from upshot.records.signals import Signal

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")

Author: TypeAlias = Literal["person", "machine", "model", "tool"]
"""Who wrote a text: a person; a machine on their behalf (a harness, hook or notification, a plan
handed back, a summary, an injected file, a pasted log, diff or document, a quotation); the model;
or a tool.
"""
AUTHORS: tuple[Author, ...] = ("person", "machine", "model", "tool")
AUTHOR_OF_ROLE: Mapping[Role, Author] = {
    "system": "machine",
    "user": "person",
    "assistant": "model",
    "tool": "tool",
}
"""Who writes a role's messages, where nothing says otherwise."""


class AuthorSpan(msgspec.Struct, frozen=True, gc=False):
    """A part of a message that somebody else wrote than the rest."""

    start: int
    """First character."""
    end: int
    """Behind the last character."""
    author: Author


class ToolCall(msgspec.Struct, frozen=True, gc=False):
    """A call that a response makes."""

    name: str
    arguments: str = ""
    """JSON where the log has an object, else the text as it was written."""
    id: str = ""
    """By which its result names it."""

    def __str__(self) -> str:
        return f"[tool call] {self.name}({self.arguments})"


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
    author: Author | Literal[""] = ""
    """Empty: whoever writes the role's messages (`AUTHOR_OF_ROLE`)."""
    spans: tuple[AuthorSpan, ...] = ()
    """Parts by another author than the message's, in order, without overlap."""
    tool_calls: tuple[ToolCall, ...] = ()
    refs: Mapping[str, str] = {}
    """Ids by which other systems know it: span, observation, request, response, message, call, …"""
    status: int | None = None
    """Of a tool's message: the exit code as the log states it; 0 or 1 where it says only whether
    the call failed; None where it says nothing.
    """

    @property
    def written_by(self) -> Author:
        """The author of what no span names."""
        return self.author or AUTHOR_OF_ROLE[self.role]


class RawConversation(msgspec.Struct, frozen=True, gc=False):
    """One session's messages in order, as its source wrote them."""

    messages: tuple[RawMessage, ...]
    id: str = ""
    """Empty: made from the content and the place in the file when it is ingested."""
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
    parent: str = ""
    """Of a sub-agent's conversation: the id of the conversation that started it."""
    parent_at: int = -1
    """Index of the parent's message that started it; -1: the log does not say."""
    refs: Mapping[str, str] = {}
    """Ids by which other systems know it: trace, session, request, …"""
    place: str = ""
    """Where in its file it stands; names a conversation that has no id."""


class BadRecord(msgspec.Struct, frozen=True, gc=False):
    """A record that could not be read."""

    file: str
    position: str
    """`line 12`, `item 3`, `byte 1024`."""
    reason: str
    user: str = ""
    """Whose it is, where that is known: it is erased with them."""
