"""RealHumanEval's chat table (CSV): a row a request with the history it was sent with, and what was
copied from the answer.

Rows of one programmer whose history grows by the answer before are one conversation. Times count
from the start of each programmer's work and name no day, so they are left out; the order stays.
"""

from __future__ import annotations

import ast
import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from upshot.errors import RecordError
from upshot.io.files import Input
from upshot.records import BadRecord, RawConversation, RawMessage, Signal
from upshot.sources import fields

NAME = "realhumaneval"
_COLUMNS = frozenset({"request", "response", "copy_events", "programmer_id"})
_LONGEST = 1 << 27
"""Characters of one field."""


def matches(head: bytes) -> bool:
    """Whether the first line names the table's columns."""
    first = head.partition(b"\n")[0].decode("utf-8", "replace").strip()
    return {column.strip('"') for column in first.split(",")} >= _COLUMNS


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """Conversations and unreadable rows, in order."""
    csv.field_size_limit(_LONGEST)
    rows = csv.DictReader(io.TextIOWrapper(source.stream, "utf-8", "replace", newline=""))
    current: list[RawMessage] = []
    row: Mapping[str, Any] = {}
    began = 0
    number = 0
    while True:
        number += 1
        try:
            following = next(rows, None)
            if following is None:
                break
            request = _request(following)
        except (RecordError, csv.Error) as error:
            yield BadRecord(source.name, f"row {number}", str(error))
            continue
        goes_on = following["programmer_id"] == row.get("programmer_id") and _said(
            request[: len(current)]
        ) == _said(current)
        if not goes_on:
            if current:
                yield _conversation(current, row, began)
            current, began = [], number
        current += request[len(current) :]
        current.append(
            RawMessage(
                "assistant", following["response"] or "", None, _copies(following, len(current))
            )
        )
        row = following
    if current:
        yield _conversation(current, row, began)


def _request(row: Mapping[str, Any]) -> list[RawMessage]:
    messages = _literal(row, "request")
    if not isinstance(messages, list) or not all(
        isinstance(message, Mapping) and "role" in message for message in messages
    ):
        raise RecordError("`request` is not a list of messages with `role` and `content`")
    return [
        RawMessage(fields.role(message["role"]), fields.text(message.get("content")))
        for message in messages
    ]


def _literal(row: Mapping[str, Any], column: str) -> Any:
    try:
        return ast.literal_eval(row.get(column) or "[]")
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise RecordError(f"`{column}` is not a list: {error}") from error


def _said(messages: list[RawMessage]) -> list[tuple[str, str]]:
    return [(message.role, message.content.strip()) for message in messages]


def _copies(row: Mapping[str, Any], index: int) -> tuple[Signal, ...]:
    """One event however often it was copied, with the first piece of code."""
    copies = _literal(row, "copy_events")
    texts = [str(copy.get("copied", "")) for copy in copies if isinstance(copy, Mapping)]
    return (Signal("copy", 1.0, index, texts[0]),) if texts else ()


def _conversation(
    messages: list[RawMessage], row: Mapping[str, Any], number: int
) -> RawConversation:
    programmer = str(row["programmer_id"] or "")
    return RawConversation(
        tuple(messages),
        f"{NAME}-{programmer}-{number:05d}",
        f"programmer {programmer}",
        None,
        str(row.get("model") or ""),
        NAME,
        {"task": row.get("task_name") or ""},
    )
