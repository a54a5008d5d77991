"""Claude's data export (`conversations.json` with `chat_messages`); forks by `parent_message_uuid`
become branches.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from upshot.errors import RecordError
from upshot.io.files import Bad, Input, read_json
from upshot.io.json_values import is_array, is_object
from upshot.records import BadRecord, RawConversation, RawMessage, Signal
from upshot.sources import fields

NAME = "claude-export"
_HEAD = re.compile(rb'"chat_messages"\s*:\s*\[')
_REPLACED = -0.6


def matches(head: bytes) -> bool:
    """Whether the start of a file looks like this format."""
    return _HEAD.search(head) is not None


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """Conversations, their branches and unreadable records, in order."""
    for position, value in read_json(source):
        try:
            yield from _read_tree(value)
        except RecordError as error:
            yield BadRecord(source.name, position, str(error))


def _read_tree(record: Any) -> list[RawConversation]:
    if isinstance(record, Bad):
        raise RecordError(record.reason)
    turns = record.get("chat_messages") if is_object(record) else None
    if not is_array(turns):
        raise RecordError("needs an object with a list `chat_messages`")
    if not turns:
        raise RecordError("`chat_messages` is empty")
    account = record.get("account")
    user = str(account.get("uuid") or "") if is_object(account) else ""
    name = str(record.get("uuid") or "")
    conversations: list[RawConversation] = []
    paths = _trace_paths(turns)
    fork = min((shared for _, shared in paths[1:]), default=-1)
    for number, (path, shared) in enumerate(paths):
        conversations.append(
            RawConversation(
                tuple(
                    _read_message(turn, index, number > 0 and index == shared)
                    for index, turn in enumerate(path)
                ),
                name if number == 0 else f"{name}~{number}",
                user or "owner of this export",
                fields.epoch(record.get("created_at")),
                str(record.get("model") or ""),
                NAME,
                {"title": record["name"]} if record.get("name") else {},
                branch_of=name if number else "",
                branch_at=shared if number else 0,
                fork=-1 if number else fork,
            )
        )
    return conversations


def _trace_paths(turns: list[Any]) -> list[tuple[list[Any], int]]:
    """Paths from root to leaf, the newest leaf first, each with the index at which it leaves the
    first path.
    """
    if not all(is_object(turn) for turn in turns):
        raise RecordError("`chat_messages` holds something that is not an object")
    by_id = {turn["uuid"]: turn for turn in turns if turn.get("uuid")}
    parents = {turn.get("parent_message_uuid") for turn in turns}
    if len(by_id) < len(turns) or not parents & set(by_id):
        return [(turns, 0)]
    leaves = [turn for turn in turns if turn["uuid"] not in parents]
    paths: list[list[Any]] = []
    for leaf in reversed(leaves):
        path: list[Any] = []
        node: Any = leaf
        while node is not None and len(path) <= len(turns):
            path.append(node)
            node = by_id.get(node.get("parent_message_uuid"))
        paths.append(path[::-1])
    if not paths:
        raise RecordError("`chat_messages` form a circle")
    main = paths[0]
    return [
        (
            path,
            next(
                (i for i, (a, b) in enumerate(zip(path, main, strict=False)) if a is not b),
                len(main),
            ),
        )
        for path in paths
    ]


def _read_message(turn: Mapping[str, Any], index: int, replaced: bool) -> RawMessage:
    role = fields.role(turn.get("sender") or turn.get("role") or "")
    content = fields.text(turn.get("content")) or fields.text(turn.get("text"))
    for attachment in turn.get("attachments") or ():
        if is_object(attachment) and attachment.get("extracted_content"):
            content += "\n" + fields.text(attachment["extracted_content"])
    time = fields.epoch(turn.get("created_at"))
    signals = fields.feedback(turn.get("feedback"), index)
    if replaced and role == "assistant":
        signals = (*signals, Signal("regenerate", _REPLACED, index))
    return RawMessage(role, content, time, signals)
