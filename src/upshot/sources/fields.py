"""Readings of single fields that many formats spell differently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from upshot.errors import RecordError
from upshot.records import Role, Signal

_ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "instructions": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "customer": "user",
    "student": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "ai": "assistant",
    "agent": "assistant",
    "claude": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "ipython": "tool",
    "environment": "tool",
    "function_response": "tool",
    "tool_result": "tool",
}
_LATEST = 253_402_300_800.0
"""The year 10000; larger numbers are milliseconds, microseconds or nanoseconds."""


def role(value: Any) -> Role:
    """One of the four roles.

    Raises:
        RecordError: the name is not one that any format uses.

    >>> role("human")
    'user'
    """
    found = _ROLES.get(str(value).lower())
    if found is None:
        raise RecordError(f"role {value!r} is none of {', '.join(sorted(set(_ROLES)))}")
    return found


def text(content: Any) -> str:
    """The text of a message: a string, a list of parts, or a part.

    >>> text([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}])
    'a\\n[image_url]'
    """
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping):
        return _part(content)
    if isinstance(content, Sequence):
        return "\n".join(part for part in (text(item) for item in content) if part)
    return str(content)


def _part(part: Mapping[str, Any]) -> str:
    kind = str(part.get("type", ""))
    if kind in ("tool_use", "tool_call", "function_call"):
        return tool_call(part)
    if kind == "tool_result":
        return text(part.get("content"))
    if kind in ("thinking", "reasoning"):
        return ""
    for name in ("text", "content", "value", "output_text", "input_text"):
        if isinstance(part.get(name), (str, list)):
            return text(part[name])
    return f"[{kind}]" if kind else msgspec.json.encode(part, enc_hook=str).decode()


def tool_call(call: Mapping[str, Any]) -> str:
    """One line for a tool call: its name and arguments."""
    function = call.get("function") if isinstance(call.get("function"), Mapping) else call
    assert isinstance(function, Mapping)
    arguments = function.get("arguments", function.get("input", function.get("args", "")))
    if not isinstance(arguments, str):
        arguments = msgspec.json.encode(arguments, enc_hook=str).decode()
    return f"[tool call] {function.get('name', '')}({arguments})"


def epoch(value: Any) -> float | None:
    """Seconds since the epoch of an ISO string, a datetime or a number of any grain; None where
    there is none.

    >>> epoch("1970-01-01T00:01:00Z"), epoch(1_700_000_000_000)
    (60.0, 1700000000.0)
    """
    if value is None or value == "" or isinstance(value, bool):
        return None
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, str):
        try:
            return epoch(float(value))
        except ValueError:
            pass
        try:
            return epoch(
                datetime.fromisoformat(
                    value.strip().replace("Z", "+00:00").replace(" UTC", "+00:00")
                )
            )
        except ValueError:
            raise RecordError(
                f"time {value[:40]!r} is neither ISO 8601 nor a number of seconds"
            ) from None
    if isinstance(value, (int, float)):
        seconds = float(value)
        if seconds != seconds or seconds < 0:
            return None
        while seconds > 1e10:
            seconds /= 1000.0
        return seconds
    raise RecordError(f"time {value!r} is neither ISO 8601 nor a number of seconds")


_GOOD = frozenset(
    {
        "up",
        "thumbs_up",
        "thumbsup",
        "thumb_up",
        "like",
        "liked",
        "positive",
        "good",
        "upvote",
        "accept",
        "accepted",
        "1",
        "true",
        "👍",
    }
)
_BAD = frozenset(
    {
        "down",
        "thumbs_down",
        "thumbsdown",
        "thumb_down",
        "dislike",
        "disliked",
        "negative",
        "bad",
        "downvote",
        "flag",
        "flagged",
        "reject",
        "rejected",
        "-1",
        "0",
        "false",
        "👎",
    }
)


def feedback(value: Any, at: int) -> tuple[Signal, ...]:
    """Signals of an explicit `feedback` field: a word, a number, or an object with `thumb`,
    `rating`, `edit` and so on.

    Ratings are read as 1 to 5 where above 1, else as -1 to 1.

    >>> [(s.kind, s.value) for s in feedback({"rating": 5, "thumb": "down"}, 1)]
    [('rating', 1.0), ('thumb', -1.0)]
    """
    if value is None or value == "" or value == {}:
        return ()
    if isinstance(value, bool):
        return (Signal("thumb", 1.0 if value else -1.0, at),)
    if isinstance(value, (int, float)):
        return (Signal("rating", _rating(float(value)), at),)
    if isinstance(value, str):
        word = value.lower().strip()
        if word in _GOOD or word in _BAD:
            return (Signal("thumb", 1.0 if word in _GOOD else -1.0, at),)
        if word in ("regenerate", "regenerated", "retry"):
            return (Signal("regenerate", -0.6, at),)
        return (Signal("comment", 0.0, at, value),)
    if isinstance(value, Sequence):
        return tuple(signal for item in value for signal in feedback(item, at))
    if isinstance(value, Mapping):
        return tuple(_feedback_object(value, at))
    raise RecordError(f"feedback {value!r} is not a word, a number or an object")


def _feedback_object(value: Mapping[str, Any], at: int):
    time = epoch(value.get("time") or value.get("timestamp") or value.get("created_at"))
    kind = str(value.get("kind") or value.get("type") or "")
    if kind in ("thumb", "rating", "edit", "regenerate") and "value" in value:
        value = {**value, kind: value["value"]}
    for name, content in value.items():
        if content is None or name in ("time", "timestamp", "created_at", "kind", "value"):
            continue
        if (
            name in ("rating", "score", "stars")
            and isinstance(content, (int, float))
            and not isinstance(content, bool)
        ):
            yield Signal("rating", _rating(float(content)), at, "", time)
        elif name in ("rating", "thumb", "thumbs", "reaction", "vote", "type"):
            yield from (
                Signal(s.kind, s.value, at, s.detail, time)
                for s in feedback(str(content), at)
                if s.kind != "comment"
            )
        elif name in ("regenerate", "regenerated", "retry") and content:
            yield Signal("regenerate", -0.6, at, "", time)
        elif name in ("edit", "edited", "edited_text") and isinstance(content, str):
            yield Signal("edit", -0.3, at, content, time)
        elif name in ("copied", "copy", "kept", "accepted") and content:
            yield Signal("copy", 0.6, at, "", time)
        elif name in ("comment", "text", "content", "tags") and content:
            yield Signal("comment", 0.0, at, text(content), time)


def _rating(number: float) -> float:
    return max(-1.0, min(1.0, (number - 3.0) / 2.0 if number > 1.0 else number))
