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
from upshot.io.files import Bad, Input, read_json
from upshot.io.json_values import is_object
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
    for position, value in read_json(source):
        try:
            yield from _read_tree(value)
        except RecordError as error:
            yield BadRecord(source.name, position, str(error))


def _read_tree(record: Any) -> list[RawConversation]:
    if isinstance(record, Bad):
        raise RecordError(record.reason)
    mapping = record.get("mapping") if is_object(record) else None
    if not is_object(mapping) or not mapping:
        raise RecordError("needs an object with a `mapping` of message nodes")
    name = str(record.get("conversation_id") or record.get("id") or "")
    leaves = [key for key, node in mapping.items() if is_object(node) and not node.get("children")]
    current = record.get("current_node")
    main = current if current in mapping else leaves[-1] if leaves else None
    if main is None:
        raise RecordError("`mapping` has no leaf: its nodes form a circle")
    paths = {
        leaf: _trace_path(mapping, leaf)
        for leaf in [main, *(leaf for leaf in leaves if leaf != main)]
    }
    main_path = paths.pop(main)
    user = str(record.get("user_id") or record.get("user") or "owner of this export")
    started_at = fields.epoch(record.get("create_time"))
    model = str(record.get("default_model_slug") or "")
    metadata = {"title": record["title"]} if record.get("title") else {}
    branches: list[RawConversation] = []
    fork = -1
    for leaf, path in paths.items():
        shared = next(
            (i for i, (a, b) in enumerate(zip(path, main_path, strict=False)) if a != b),
            min(len(path), len(main_path)),
        )
        if shared >= len(path):
            continue
        fork = shared if fork < 0 else min(fork, shared)
        replaced_at = _get_time(mapping, main_path[shared]) if shared < len(main_path) else None
        messages = _read_messages(mapping, path, shared, replaced_at)
        if messages:
            branches.append(
                RawConversation(
                    messages,
                    f"{name}~{leaf[:12]}",
                    user,
                    started_at,
                    model,
                    NAME,
                    metadata,
                    branch_of=name,
                    branch_at=shared,
                )
            )
    messages = _read_messages(mapping, main_path)
    if not messages:
        raise RecordError("no message of the current path has text")
    main_line = RawConversation(messages, name, user, started_at, model, NAME, metadata, fork=fork)
    return [main_line, *branches]


def _trace_path(mapping: Mapping[str, Any], leaf: str) -> list[str]:
    """Node ids from the root to a leaf, only those that hold a message worth keeping."""
    path: list[str] = []
    ancestors: set[str] = set()
    node: str | None = leaf
    while node is not None and node in mapping:
        if node in ancestors:
            raise RecordError(f"node {node!r} is its own ancestor")
        ancestors.add(node)
        if _is_shown(mapping[node].get("message")):
            path.append(node)
        node = mapping[node].get("parent")
    return path[::-1]


def _is_shown(message: Any) -> bool:
    if not is_object(message):
        return False
    hidden = _get_metadata(message).get("is_visually_hidden_from_conversation")
    return not hidden and bool(_get_text(message)) and is_object(message.get("author"))


def _get_metadata(message: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = message.get("metadata")
    return metadata if is_object(metadata) else {}


def _get_text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if not is_object(content):
        return fields.text(content)
    if "parts" in content:
        return fields.text(content["parts"])
    return fields.text(content.get("text") or content.get("result") or "")


def _get_time(mapping: Mapping[str, Any], node: str) -> float | None:
    return fields.epoch(mapping[node]["message"].get("create_time"))


def _read_messages(
    mapping: Mapping[str, Any], path: list[str], shared: int = -1, replaced_at: float | None = None
) -> tuple[RawMessage, ...]:
    messages: list[RawMessage] = []
    for index, node in enumerate(path):
        message = mapping[node]["message"]
        metadata = _get_metadata(message)
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
                _get_text(message),
                fields.epoch(message.get("create_time")),
                signals,
                str(author.get("name") or ""),
                str(metadata.get("model_slug") or ""),
            )
        )
    return tuple(messages)
