"""Readings of single fields that many formats spell differently."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import msgspec

from upshot.errors import RecordError
from upshot.io.json_values import is_array, is_object
from upshot.records import Role, Signal
from upshot.records.signals import SIGNALS, make_rating, make_signal

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
    name = _ROLES.get(str(value).lower())
    if name is None:
        raise RecordError(f"role {value!r} is none of {', '.join(sorted(set(_ROLES)))}")
    return name


def text(content: Any) -> str:
    """The text of a message: a string, a list of parts, or a part.

    >>> text([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}])
    'a\\n[image_url]'
    """
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if is_object(content):
        return _read_part(content)
    if isinstance(content, Sequence):
        parts = (text(item) for item in cast(Sequence[Any], content))
        return "\n".join(part for part in parts if part)
    return str(content)


def _read_part(part: Mapping[str, Any]) -> str:
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
    inner = call.get("function")
    function = inner if is_object(inner) else call
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

    A rating counts on the range that the log states (`range`, `scale`, or `min` and `max`), or that
    its name states (stars: 1 to 5). On an unknown range nothing is claimed: it stays as a comment.

    Raises:
        RecordError: a kind that is not in the table of signals; a rating outside its range.

    >>> [(s.kind, s.value) for s in feedback({"stars": 5, "thumb": "down"}, 1)]
    [('rating', 1.0), ('thumb', -1.0)]
    >>> [(s.kind, s.value, s.range) for s in feedback({"rating": 3, "max": 4, "min": 0}, 1)]
    [('rating', 0.5, (0.0, 4.0))]
    >>> [(s.kind, s.detail) for s in feedback({"rating": 3}, 1)]
    [('comment', 'rating 3')]
    """
    if value is None or value == "" or value == {}:
        return ()
    if isinstance(value, bool):
        return (Signal("thumb", 1.0 if value else -1.0, at),)
    if isinstance(value, (int, float)):
        return (read_rating("", float(value), {}, at, None),)
    if isinstance(value, str):
        return (_read_word(value, at),)
    if isinstance(value, Sequence):
        return tuple(signal for item in cast(Sequence[Any], value) for signal in feedback(item, at))
    if is_object(value):
        return tuple(_read_object(value, at))
    raise RecordError(f"feedback {value!r} is not a word, a number or an object")


def _read_word(value: str, at: int) -> Signal:
    word = value.lower().strip()
    if word in _GOOD or word in _BAD:
        return Signal("thumb", 1.0 if word in _GOOD else -1.0, at)
    if word in ("regenerate", "regenerated", "retry"):
        return make_signal("regenerate", at)
    return Signal("comment", 0.0, at, value)


_RANGES = {"star": (1.0, 5.0)}
"""Ranges that a word in the name of a rating states."""
_NOT_KINDS = frozenset(
    {"time", "timestamp", "created_at", "kind", "value", "range", "scale", "min", "max", "type"}
)


def _read_object(value: Mapping[str, Any], at: int) -> Iterator[Signal]:
    time = epoch(value.get("time") or value.get("timestamp") or value.get("created_at"))
    kind = str(value.get("kind") or value.get("type") or "")
    if kind and "value" in value:
        if kind not in _FIELDS and kind not in SIGNALS:
            raise RecordError(f"feedback kind {kind!r} is not one of {', '.join(sorted(_FIELDS))}")
        value = {**value, kind: value["value"]}
    elif kind:
        value = {**value, "thumb": kind}
    for name, content in value.items():
        if content is None or name in _NOT_KINDS:
            continue
        field = _FIELDS.get(name, "")
        if field == "rating" and isinstance(content, (int, float)) and content is not True:
            yield read_rating(name, float(content), value, at, time)
        elif field in ("rating", "thumb"):
            word = _read_word(str(content), at)
            if word.kind != "comment":
                yield msgspec.structs.replace(word, time=time)
        elif field == "comment" and content:
            yield Signal("comment", 0.0, at, text(content), time)
        elif field == "edit" and isinstance(content, str):
            yield make_signal("edit", at, detail=content, time=time)
        elif field in ("regenerate", "copy") and content:
            yield make_signal(field, at, time=time)
        elif not field and name in SIGNALS and "log" in SIGNALS[name].emitters and content:
            number = content if isinstance(content, (int, float)) and content is not True else None
            yield make_signal(name, at, value=number, time=time)


_FIELDS = {
    **dict.fromkeys(("rating", "score", "stars", "star_rating"), "rating"),
    **dict.fromkeys(("thumb", "thumbs", "reaction", "vote"), "thumb"),
    **dict.fromkeys(("regenerate", "regenerated", "retry"), "regenerate"),
    **dict.fromkeys(("edit", "edited", "edited_text"), "edit"),
    **dict.fromkeys(("copied", "copy", "kept", "accepted"), "copy"),
    **dict.fromkeys(("comment", "text", "content", "tags"), "comment"),
}
"""Kind of signal that each field of a feedback object is."""


def read_range(record: Mapping[str, Any]) -> tuple[float, float] | None:
    """The range of a rating as a record states it: `range` or `scale` as `[low, high]`, or `min`
    and `max`; None where it does not.

    >>> read_range({"range": [1, 5]}), read_range({"max": 10, "min": 0}), read_range({})
    ((1.0, 5.0), (0.0, 10.0), None)
    """
    limits = record.get("range", record.get("scale"))
    if limits is None and "min" in record and "max" in record:
        limits = [record["min"], record["max"]]
    if is_array(limits) and len(limits) == 2:
        return float(limits[0]), float(limits[1])
    return None


def read_rating(
    name: str, number: float, record: Mapping[str, Any], at: int, time: float | None
) -> Signal:
    """A rating on the range that its record or its name states; else a comment that claims nothing.

    Raises:
        RecordError: the number is outside the range.
    """
    limits = read_range(record) or next(
        (limits for word, limits in _RANGES.items() if word in name.lower()), None
    )
    if limits is None:
        return Signal("comment", 0.0, at, f"{name or 'rating'} {number:g}", time)
    return make_rating(number, *limits, at, time=time)
