"""ShareGPT exports: `{"conversations": [{"from": "human", "value": "…"}, …]}`, as an array or JSON
lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from upshot.errors import RecordError
from upshot.io.files import Bad, Input, read_json
from upshot.io.json_values import is_array, is_object
from upshot.records import BadRecord, RawConversation, RawMessage
from upshot.sources import fields

NAME = "sharegpt"
_HEAD = re.compile(
    rb'"(?:conversations|items|conversation)"\s*:\s*\[\s*\{[^{}]*"(?:from|value)"\s*:'
)


def matches(head: bytes) -> bool:
    """Whether the start of a file looks like this format."""
    return _HEAD.search(head) is not None


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """Conversations and unreadable records, in order."""
    for position, value in read_json(source):
        try:
            yield _read_conversation(value)
        except RecordError as error:
            yield BadRecord(source.name, position, str(error))


def _read_conversation(record: Any) -> RawConversation:
    if isinstance(record, Bad):
        raise RecordError(record.reason)
    turns = (
        next((record[n] for n in ("conversations", "items", "conversation") if n in record), None)
        if is_object(record)
        else None
    )
    if not is_array(turns) or not turns:
        raise RecordError("needs an object with a list `conversations` of at least one turn")
    messages: list[RawMessage] = []
    if record.get("system"):
        messages.append(RawMessage("system", fields.text(record["system"])))
    for index, turn in enumerate(turns, start=len(messages)):
        if not is_object(turn) or "from" not in turn:
            raise RecordError(f"turn {index} is not an object with `from` and `value`")
        messages.append(
            RawMessage(
                fields.role(turn["from"]),
                fields.text(turn.get("value")),
                None,
                fields.feedback(turn.get("feedback"), index),
            )
        )
    return RawConversation(
        tuple(messages),
        str(record.get("id") or ""),
        str(record.get("user") or ""),
        fields.epoch(record.get("created_at") or record.get("timestamp")),
        str(record.get("model") or ""),
        NAME,
    )
