"""ChatGPT's data export (`conversations.json`): each conversation is a tree.

The path to `current_node` is the conversation. Where a message was regenerated or edited the tree
forks; every other leaf becomes a *branch*: a conversation of its own that shares the prefix, with
the index at which it departs. The replaced response gets a `regenerate` event: its user asked for
another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from upshot.errors import RecordError
from upshot.io.files import Bad, Input, json_records
from upshot.records import BadRecord, RawConversation, RawMessage, Signal
from upshot.sources import fields

NAME = "chatgpt-export"
_HEAD = re.compile(rb'"mapping"\s*:\s*\{')
_REGENERATED, _EDITED = -0.6, -0.4


def matches(head: bytes) -> bool:
    """Whether the start of a file looks like this format."""
    return _HEAD.search(head) is not None and b'"parent"' in head


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """Conversations, their branches and unreadable records, in order."""
    for position, value in json_records(source):
        try:
            yield from _conversations(value)
        except RecordError as error:
            yield BadRecord(source.name, position, str(error))


def _conversations(record: Any) -> list[RawConversation]:
    if isinstance(record, Bad):
        raise RecordError(record.reason)
    mapping = record.get("mapping") if isinstance(record, Mapping) else None
    if not isinstance(mapping, Mapping) or not mapping:
        raise RecordError("needs an object with a `mapping` of message nodes")
    name = str(record.get("conversation_id") or record.get("id") or "")
    leaves = [
        key
        for key, node in mapping.items()
        if isinstance(node, Mapping) and not node.get("children")
    ]
    current = record.get("current_node")
    main = current if current in mapping else leaves[-1] if leaves else None
    if main is None:
        raise RecordError("`mapping` has no leaf: its nodes form a circle")
    paths = {
        leaf: _path(mapping, leaf) for leaf in [main, *(leaf for leaf in leaves if leaf != main)]
    }
    main_path = paths.pop(main)
    shared_fields = {
        "user": str(record.get("user_id") or record.get("user") or "owner of this export"),
        "started_at": fields.epoch(record.get("create_time")),
        "model": str(record.get("default_model_slug") or ""),
        "source": NAME,
    }
    metadata = {"title": record["title"]} if record.get("title") else {}
    made: list[RawConversation] = []
    fork = -1
    for leaf, path in paths.items():
        shared = next(
            (i for i, (a, b) in enumerate(zip(path, main_path, strict=False)) if a != b),
            min(len(path), len(main_path)),
        )
        if shared >= len(path):
            continue
        fork = shared if fork < 0 else min(fork, shared)
        later = _time(mapping, main_path[shared]) if shared < len(main_path) else None
        messages = _messages(mapping, path, shared, later)
        if messages:
            made.append(
                RawConversation(
                    messages,
                    f"{name}~{leaf[:12]}",
                    metadata=metadata,
                    branch_of=name,
                    branch_at=shared,
                    **shared_fields,
                )
            )  # pyright: ignore[reportArgumentType]
    messages = _messages(mapping, main_path)
    if not messages:
        raise RecordError("no message of the current path has text")
    return [
        RawConversation(messages, name, metadata=metadata, fork=fork, **shared_fields),
        *made,
    ]  # pyright: ignore[reportArgumentType]


def _path(mapping: Mapping[str, Any], leaf: str) -> list[str]:
    """Node ids from the root to a leaf, only those that hold a message worth keeping."""
    path: list[str] = []
    seen: set[str] = set()
    node: str | None = leaf
    while node is not None and node in mapping:
        if node in seen:
            raise RecordError(f"node {node!r} is its own ancestor")
        seen.add(node)
        if _kept(mapping[node].get("message")):
            path.append(node)
        node = mapping[node].get("parent")
    return path[::-1]


def _kept(message: Any) -> bool:
    if not isinstance(message, Mapping):
        return False
    hidden = (message.get("metadata") or {}).get("is_visually_hidden_from_conversation")
    return not hidden and bool(_text(message)) and isinstance(message.get("author"), Mapping)


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if not isinstance(content, Mapping):
        return fields.text(content)
    if "parts" in content:
        return fields.text(content["parts"])
    return fields.text(content.get("text") or content.get("result") or "")


def _time(mapping: Mapping[str, Any], node: str) -> float | None:
    return fields.epoch(mapping[node]["message"].get("create_time"))


def _messages(
    mapping: Mapping[str, Any], path: list[str], shared: int = -1, replaced_at: float | None = None
) -> tuple[RawMessage, ...]:
    messages: list[RawMessage] = []
    for index, node in enumerate(path):
        message = mapping[node]["message"]
        metadata = message.get("metadata") or {}
        author = message["author"]
        role = fields.role(author.get("role", ""))
        signals = fields.feedback(message.get("feedback") or metadata.get("feedback"), index)
        if shared >= 0 and role == "assistant":
            if index == shared:
                signals = (*signals, Signal("regenerate", _REGENERATED, index, "", replaced_at))
            elif index == shared + 1 and messages and messages[-1].role == "user":
                signals = (*signals, Signal("regenerate", _EDITED, index, "", replaced_at))
        messages.append(
            RawMessage(
                role,
                _text(message),
                fields.epoch(message.get("create_time")),
                signals,
                str(author.get("name") or ""),
                str(metadata.get("model_slug") or ""),
            )
        )
    return tuple(messages)
