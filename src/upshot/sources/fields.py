"""Readings of single fields that many formats spell differently."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
from dateutil.parser import parse as parse_date

from upshot.errors import RecordError
from upshot.io.json_values import is_array, is_number, is_object
from upshot.records import Role, Signal
from upshot.records.signals import SIGNALS, make_rating, make_signal
from upshot.sources.notes import note

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
    "chatbot": "assistant",
    "ai_bot": "assistant",
    "ai_agent": "assistant",
    "virtual_agent": "assistant",
    "virtual_assistant": "assistant",
    "llm": "assistant",
    "ai": "assistant",
    "agent": "assistant",
    "claude": "assistant",
    "ai_assistant": "assistant",
    "copilot": "assistant",
    "tool_call": "assistant",
    "function_call": "assistant",
    "aimessage": "assistant",
    "aimessagechunk": "assistant",
    "humanmessage": "user",
    "systemmessage": "system",
    "toolmessage": "tool",
    "functionmessage": "tool",
    "member": "user",
    "end_user": "user",
    "visitor": "user",
    "requester": "user",
    "caller": "user",
    "guest": "user",
    "patient": "user",
    "consumer": "user",
    "client": "user",
    "tool": "tool",
    "function": "tool",
    "tool_response": "tool",
    "toolresult": "tool",
    "tool_output": "tool",
    "observation": "tool",
    "ipython": "tool",
    "environment": "tool",
    "function_response": "tool",
    "tool_result": "tool",
}
_LATEST = 253_402_300_800.0
"""The year 10000; larger numbers are milliseconds, microseconds or nanoseconds."""


def role(value: Any) -> Role:
    """One of the four roles. A name that no format uses is read as system, and noted.

    Raises:
        RecordError: there is none.

    >>> role("human")
    'user'
    """
    name = str(value or "").strip().lower()
    if not name:
        raise RecordError("a message has no role")
    role_name = _ROLES.get(name) or _ROLES.get(name.replace("-", "_").replace(" ", "_"))
    if role_name is None:
        note(f"role {name[:40]!r} is none that Upshot knows: read as system")
    return role_name or "system"


def first_of(record: Mapping[str, Any], names: Iterable[str]) -> Any:
    """The first of the fields that holds something; None where none does.

    >>> first_of({"id": "", "uuid": "u1"}, ("id", "uuid"))
    'u1'
    """
    return next((record[name] for name in names if record.get(name) not in (None, "")), None)


def is_role(name: str) -> bool:
    """Whether a name is one that formats use for a role.

    >>> is_role("Human"), is_role("jane")
    (True, False)
    """
    folded = name.strip().lower()
    return folded in _ROLES or folded.replace("-", "_").replace(" ", "_") in _ROLES


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


TIMES = (
    "time",
    "timestamp",
    "created_at",
    "createdAt",
    "create_time",
    "created",
    "ts",
    "date",
    "datetime",
    "sent_at",
    "sentAt",
    "posted_at",
    "inserted_at",
    "occurred_at",
    "event_time",
    "message_time",
    "timestamp_ms",
)
"""Fields in which a message's time stands."""
_LAST = 4_102_444_800.0
"""The year 2100: later times, and those up to the epoch itself, are defaults or mistakes."""


def is_count(value: Any) -> bool:
    """Whether a value is a whole number above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def epoch(value: Any) -> float | None:
    """Seconds since the epoch of an ISO string, a datetime or a number of any grain.

    None where there is none; what cannot be read is noted, since a message is worth more than its
    time.

    >>> epoch("2023-11-14T22:13:20Z"), epoch(1_700_000_000_000), epoch("soon")
    (1700000000.0, 1700000000.0, None)
    """
    if value is None or value == "" or isinstance(value, bool):
        return None
    try:
        seconds = _read_time(value)
    except (ValueError, OverflowError, TypeError):
        seconds = math.nan
    if 0 < seconds < _LAST:
        return seconds
    note("a time that is none")
    return None


def _read_time(value: Any) -> float:
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if is_object(value):  # MongoDB, Firestore, protobuf
        inner = value.get("$date", value.get("seconds", value.get("_seconds")))
        if is_object(inner):
            inner = inner.get("$numberLong")
        return _read_time(inner) if inner is not None else math.nan
    if isinstance(value, str):
        text = value.strip()
        try:
            return _scale_time(float(text))
        except ValueError:
            pass
        try:
            return _read_time(
                datetime.fromisoformat(text.replace("Z", "+00:00").replace(" UTC", "+00:00"))
            )
        except ValueError:
            return _read_time(parse_date(text))
    return _scale_time(float(value))


def _scale_time(number: float) -> float:
    if not math.isfinite(number):
        return math.nan
    while number > 1e11:  # milliseconds, microseconds, nanoseconds
        number /= 1000.0
    return number


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
    if is_array(limits) and len(limits) == 2 and all(map(is_number, limits)):
        return float(limits[0]), float(limits[1])
    return None


_SCALES = ((-1.0, 1.0), (0.0, 1.0), (1.0, 5.0), (0.0, 5.0), (1.0, 10.0), (0.0, 10.0), (0.0, 100.0))
"""Scales in use, the narrowest first."""
_MIN_VALUES = 3
"""Different ratings of a name from which its scale can be told; two may be the ends of any."""
_inferred: ContextVar[Mapping[str, tuple[float, float]]] = ContextVar("ranges")


def infer_ranges(records: Iterable[Any]) -> dict[str, tuple[float, float]]:
    """Scales of ratings whose records state none, by the name of the field: the narrowest scale in
    use that holds all that a file's beginning has, or else from the lowest to the highest of them.

    >>> infer_ranges([{"rating": 5}, {"rating": 3}, {"rating": 4}])
    {'rating': (1.0, 5.0)}
    """
    values: dict[str, set[float]] = {}
    waiting: list[Any] = list(records)
    while waiting:
        value = waiting.pop()
        if is_array(value):
            waiting += value
        elif is_object(value):
            states = read_range(value) is not None
            for name, inner in value.items():
                if is_object(inner) or is_array(inner):
                    waiting.append(inner)
                elif (
                    _FIELDS.get(name) == "rating"
                    and is_number(inner)
                    and abs(inner) <= _SCALES[-1][1]
                    and not states
                ):
                    values.setdefault(name, set()).add(float(inner))
    return {
        name: next(
            (s for s in _SCALES if s[0] <= min(have) and max(have) <= s[1]), (min(have), max(have))
        )
        for name, have in values.items()
        if len(have) >= _MIN_VALUES
    }


@contextmanager
def assume_ranges(ranges: Mapping[str, tuple[float, float]]) -> Generator[None]:
    """Ratings of these names count on these ranges inside, where their records state none."""
    token = _inferred.set(ranges)
    try:
        yield
    finally:
        _inferred.reset(token)


def read_rating(
    name: str, number: float, record: Mapping[str, Any], at: int, time: float | None
) -> Signal:
    """A rating on the range that its record or its name states; else a comment that claims nothing.

    Raises:
        RecordError: the number is outside the range.
    """
    limits = (
        read_range(record)
        or next((limits for word, limits in _RANGES.items() if word in name.lower()), None)
        or _inferred.get({}).get(name or "rating")
    )
    if limits is None:
        return Signal("comment", 0.0, at, f"{name or 'rating'} {number:g}", time)
    return make_rating(number, *limits, at, time=time)
