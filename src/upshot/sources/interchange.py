"""Conversations in the interchange form of DESIGN.md, as `upshot read` writes them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from upshot.records import AuthorSpan, RawConversation, RawMessage, Signal


def format_conversation(conversation: RawConversation) -> dict[str, Any]:
    """A conversation as an object; fields that are empty are left out."""
    c = conversation
    return _without_empty(
        {
            "id": c.id,
            "user": c.user,
            "started_at": format_time(
                c.started_at
                if c.started_at is not None
                else next((m.time for m in c.messages if m.time is not None), None)
            ),
            "model": c.model,
            "source": c.source,
            "branch_of": c.branch_of,
            "branch_at": c.branch_at if c.branch_of else None,
            "fork": c.fork if c.fork >= 0 else None,
            "parent": c.parent,
            "parent_at": c.parent_at if c.parent and c.parent_at >= 0 else None,
            "messages": [format_message(message) for message in c.messages],
            "metadata": dict(c.metadata),
            "refs": dict(c.refs),
        }
    )


def format_message(message: RawMessage) -> dict[str, Any]:
    """A message as an object."""
    return {
        "role": message.role,
        "author": message.written_by,
        "content": message.content,
        **_without_empty(
            {
                "time": format_time(message.time),
                "name": message.name,
                "model": message.model,
                "spans": [msgspec.to_builtins(span) for span in cover_spans(message)],
                "tool_calls": [
                    _without_empty(msgspec.to_builtins(call)) for call in message.tool_calls
                ],
                "signals": [format_signal(signal) for signal in message.signals],
                "refs": dict(message.refs),
                "status": message.status,
            }
        ),
    }


def cover_spans(message: RawMessage) -> list[AuthorSpan]:
    """The spans of a message that several wrote, those of its main author included.

    >>> spans = (AuthorSpan(0, 2, "machine"),)
    >>> [(s.start, s.author) for s in cover_spans(RawMessage("user", "> why", spans=spans))]
    [(0, 'machine'), (2, 'person')]
    """
    if not message.spans:
        return []
    covered: list[AuthorSpan] = []
    last = 0
    for span in (*message.spans, AuthorSpan(len(message.content), len(message.content), "machine")):
        if message.content[last : span.start].strip():
            covered.append(AuthorSpan(last, span.start, message.written_by))
        if span.start < span.end:
            covered.append(span)
        last = span.end
    return covered


def format_signal(signal: Signal) -> dict[str, Any]:
    """A signal as an object: `value` in [`low`, `high`], above 0 for good news; `scale` is that of
    a rating as it was given.
    """
    return {
        "kind": signal.kind,
        "value": signal.value,
        "low": -1.0,
        "high": 1.0,
        "at": signal.at,
        **_without_empty(
            {
                "time": format_time(signal.time),
                "detail": signal.detail,
                "scale": list(signal.range or ()),
            }
        ),
    }


def format_time(seconds: float | None) -> str | None:
    """ISO 8601 in UTC; None where there is no time."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _without_empty(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in fields.items()
        if value is not None and (value or value == 0) and value not in ("", [], {})
    }
