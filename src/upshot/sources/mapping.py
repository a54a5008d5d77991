"""Logs of any shape, read by a mapping of what lies where.

`messages=turns[*],role=who,content=text,user=customer.id` gives JSONPaths: those of `role`,
`content`, `time`, `name`, `author` and `feedback` start at a message, the others at the record.
Without `messages` every record is one message, and those of one `id` are a conversation; with
`prompt` and `response` a record is an exchange. Rows of CSV and Parquet files are records too;
`records` says where they lie inside of a larger value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jsonpath

from upshot.errors import InputError, RecordError
from upshot.io.files import Input
from upshot.io.json_text import Bad
from upshot.io.json_values import is_array, is_object
from upshot.records import BadRecord, RawConversation, RawMessage
from upshot.sources import fields
from upshot.sources.messages import read_call, read_content, read_message
from upshot.sources.rows import decode_cells, group_rows, read_rows

NAME = "map"
_OF_MESSAGE = ("role", "content", "time", "name", "feedback", "tool_calls", "index")
_OF_RECORD = ("messages", "id", "user", "started_at", "model", "prompt", "response", "metadata")
_OF_FILE = ("records",)
_MAX_SHOWN = 12
"""Fields that a message names."""


class Paths:
    """A mapping, its paths compiled.

    Raises:
        InputError: a name is none that a mapping may give, or a path is none.
    """

    def __init__(self, mapping: Mapping[str, str]) -> None:
        unknown = sorted(set(mapping) - {*_OF_MESSAGE, *_OF_RECORD, *_OF_FILE})
        if unknown:
            raise InputError(
                f"could not use --map: {', '.join(unknown)} is none of"
                f" {', '.join((*_OF_FILE, *_OF_RECORD, *_OF_MESSAGE))}"
            )
        if not {"messages", "content", "response"} & set(mapping):
            raise InputError(
                "could not use --map: it names no messages (messages=turns[*]), no content (a"
                " message a record), and no response (an exchange a record)"
            )
        self._paths: dict[str, Any] = {}
        self._plain: dict[str, str] = dict(mapping)
        for name, path in mapping.items():
            try:
                self._paths[name] = jsonpath.compile(path if path.startswith("$") else f"$.{path}")
            except jsonpath.JSONPathError as error:
                raise InputError(f"could not use --map: {name}={path}: {error}") from error

    def __contains__(self, name: str) -> bool:
        return name in self._paths

    def all(self, name: str, record: Any) -> list[Any]:
        """Everything at a path."""
        if name not in self._paths:
            return []
        plain = self._plain[name]
        if is_object(record) and plain in record:  # a column whose name has dots or spaces
            return [record[plain]]
        return self._paths[name].findall(record)

    def one(self, name: str, record: Any) -> Any:
        """The first at a path; None where there is none."""
        return next((value for value in self.all(name, record) if value is not None), None)


def read(source: Input, mapping: Mapping[str, str]) -> Iterator[RawConversation | BadRecord]:
    """Conversations of a file by a mapping.

    Raises:
        InputError: the mapping is none.
    """
    paths = Paths(mapping)
    records = (
        (position, decode_cells(row) if is_object(row) else row)
        for position, row in read_rows(source)
    )
    if "records" in paths:
        records = _find_records(records, paths)
    rows_are_messages = "messages" not in paths and "content" in paths
    if rows_are_messages:
        keyed = (
            (position, {"key": paths.one("id", row), "row": row} if is_object(row) else row)
            for position, row in records
        )
        records = (
            (position, group if isinstance(group, Bad) else [item["row"] for item in group])
            for position, group in group_rows(keyed, "key")
        )
    for position, record in records:
        if isinstance(record, Bad):
            yield BadRecord(source.name, position, record.reason)
            continue
        try:
            yield read_mapped(record, paths, position)
        except (RecordError, TypeError, ValueError) as error:
            yield BadRecord(source.name, position, str(error))


def _find_records(values: Iterable[tuple[str, Any]], paths: Paths) -> Iterator[tuple[str, Any]]:
    """The records that lie inside of larger values."""
    for position, value in values:
        if isinstance(value, Bad):
            yield position, value
            continue
        records = paths.all("records", value)
        if len(records) == 1 and is_array(records[0]):
            records = list(records[0])
        if not records:
            yield position, Bad("it has nothing at records")
        for number, record in enumerate(records, 1):
            yield f"{position}, record {number}", record


def read_mapped(record: Any, paths: Paths, place: str = "") -> RawConversation:
    """One conversation: of a record, or of the records that are its messages.

    Raises:
        RecordError: the record has no messages where the mapping says that they are.
    """
    first = record[0] if is_array(record) else record
    if is_array(record):
        items: Sequence[Any] = record
        order = [paths.one("index", item) for item in items]
        if all(isinstance(place, (int, float)) for place in order):
            items = [item for _, item in sorted(zip(order, items, strict=True), key=_place)]
    elif "messages" in paths:
        items = paths.all("messages", record)
        if len(items) == 1 and is_array(items[0]):
            items = items[0]
    else:
        items = [
            {"role": "user", "content": paths.one("prompt", record)},
            {"role": "assistant", "content": paths.one("response", record)},
        ]
        items = [item for item in items if item["content"] not in (None, "")]
        paths = Paths({"messages": "messages"})
    if not items:
        raise RecordError(
            "it has nothing at "
            + ", ".join(name for name in ("messages", "prompt", "response") if name in paths)
        )
    messages: list[RawMessage] = []
    for item in items:
        messages += _read_item(item, paths, len(messages))
    metadata = paths.one("metadata", first)
    return RawConversation(
        tuple(messages),
        _name_of(paths.one("id", first)),
        _name_of(paths.one("user", first)),
        fields.epoch(paths.one("started_at", first)),
        _name_of(paths.one("model", first)),
        NAME,
        metadata if is_object(metadata) else {},
        place=place,
    )


def _place(pair: tuple[Any, Any]) -> float:
    return float(pair[0])


def _read_item(item: Any, paths: Paths, index: int) -> Iterator[RawMessage]:
    if "content" not in paths and "role" not in paths:
        yield from read_message(item)
        return
    role = (
        fields.role(paths.one("role", item))
        if "role" in paths
        else ("user", "assistant")[index % 2]
    )
    parts = read_content(paths.one("content", item))
    calls = [read_call(call) for call in paths.all("tool_calls", item) if is_object(call)]
    yield RawMessage(
        role,
        parts.text,
        fields.epoch(paths.one("time", item)),
        fields.feedback(paths.one("feedback", item), index) if role == "assistant" else (),
        _name_of(paths.one("name", item)),
        tool_calls=(*parts.calls, *calls),
    )


def _name_of(value: Any) -> str:
    return "" if value is None or is_object(value) or is_array(value) else str(value)


def suggest(records: Sequence[Any]) -> tuple[str, str] | None:
    """The fields that records hold, and a mapping to start from; None where they are no objects."""
    objects = [record for record in records if is_object(record)]
    if not objects:
        return None
    names = Counter(name for record in objects for name in record)
    shown = ", ".join(f"`{name}`" for name, _ in names.most_common(_MAX_SHOWN))
    lists = [name for name in names if any(_is_turns(record.get(name)) for record in objects)]
    if not lists:
        role = _pick(names, ("role", "sender", "speaker", "from", "author", "who"))
        content = _pick(names, ("content", "text", "message", "body"))
        parts = [f"id={_pick(names, ('conversation_id', 'session_id', 'thread_id', 'id'))}"]
        return shown, ",".join([*parts, f"role={role}", f"content={content}"])
    turns = next(record[lists[0]] for record in objects if _is_turns(record.get(lists[0])))
    inner = [turn for turn in turns if is_object(turn)]
    nested = next((n for turn in inner for n in turn if _is_turns(turn[n])), "")
    if nested and not _has_words(inner):
        within = suggest(inner)
        return shown, f"records={lists[0]}[*],{within[1]}" if within else ""
    counts = Counter(name for turn in inner for name in turn)
    return (
        shown,
        f"messages={lists[0]}[*],role={_pick(counts, _ROLES)},content={_pick(counts, _WORDS)}",
    )


_ROLES = ("role", "who", "from", "sender", "speaker", "author", "type")
_WORDS = ("content", "text", "value", "message", "body", "utterance")


def _has_words(turns: Iterable[Mapping[str, Any]]) -> bool:
    return any(isinstance(turn.get(name), str) for turn in turns for name in _WORDS)


def _is_turns(value: Any) -> bool:
    return is_array(value) and bool(value) and all(map(is_object, value))


def _pick(names: Iterable[str], wanted: Sequence[str]) -> str:
    return next((name for name in wanted if name in names), "FIELD")
