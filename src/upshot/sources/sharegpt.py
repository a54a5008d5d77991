"""ShareGPT exports: `{"conversations": [{"from": "human", "value": "…"}, …]}`, as an array or JSON
lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from upshot.errors import RecordError
from upshot.io.files import Bad, Input, json_records
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
    for position, value in json_records(source):
        try:
            yield _conversation(value)
        except RecordError as error:
            yield BadRecord(source.name, position, str(error))


def _conversation(record: Any) -> RawConversation:
    if isinstance(record, Bad):
        raise RecordError(record.reason)
    turns = (
        next((record[n] for n in ("conversations", "items", "conversation") if n in record), None)
        if isinstance(record, Mapping)
        else None
    )
    if not isinstance(turns, list) or not turns:
        raise RecordError("needs an object with a list `conversations` of at least one turn")
    messages: list[RawMessage] = []
    if record.get("system"):
        messages.append(RawMessage("system", fields.text(record["system"])))
    for index, turn in enumerate(turns, start=len(messages)):
        if not isinstance(turn, Mapping) or "from" not in turn:
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
