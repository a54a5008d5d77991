"""OpenAssistant: trees of `replies`, or flat rows with a parent, as JSON, JSON lines or Parquet.

Every path is a conversation. The best ranked reply (rank 0) is the main line's; a worse rank is a
rating of its siblings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from upshot.errors import RecordError
from upshot.io.files import Bad, Input
from upshot.io.json_values import is_array, is_object
from upshot.records import BadRecord, RawConversation, RawMessage, Signal
from upshot.sources import fields
from upshot.sources.detection import Fit, Sample, fit_records
from upshot.sources.history import Node, point_signals, unfold
from upshot.sources.reading import describe, read_each
from upshot.sources.rows import read_rows

NAME = "oasst"


def fit(sample: Sample) -> Fit:
    """How many of a file's first records are of OpenAssistant."""
    return fit_records(sample, misfit)


def misfit(record: Any) -> str:
    """What a value lacks to be a tree or a row of OpenAssistant."""
    if not is_object(record):
        return "not an object"
    if is_object(record.get("prompt")) and "text" in record["prompt"]:
        return ""
    if "text" in record and "role" in record and _parent_key(record) is not None:
        return ""
    return "no `prompt` with `replies`, and no `parent_id`"


def _parent_key(record: Mapping[str, Any]) -> str | None:
    if "message_tree_id" in record:
        return "parent_id"
    return next((name for name in ("parent_message_id", "parent_id") if name in record), None)


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """Conversations and unreadable records, in order."""
    flat: list[tuple[str, Mapping[str, Any]]] = []
    for position, record in read_rows(source):
        if is_object(record) and not is_object(record.get("prompt")) and "text" in record:
            flat.append((position, record))
        else:
            yield from read_each(source, iter([(position, record)]), _read_tree)
    if flat:
        yield from _read_flat(source, flat)


def _read_tree(record: Any) -> list[RawConversation]:
    prompt = record.get("prompt") if is_object(record) else None
    if isinstance(record, Bad) or not is_object(prompt):
        raise RecordError("needs an object with a `prompt` and its `replies`")
    nodes: list[Node] = []
    waiting: list[tuple[Any, str]] = [(prompt, "")]
    while waiting:
        item, parent = waiting.pop(0)
        if not is_object(item):
            raise RecordError("a message is no object")
        name = str(item.get("message_id") or len(nodes))
        nodes.append(Node(name, parent, (_read_message(item),)))
        replies = item.get("replies")
        waiting += [(reply, name) for reply in (replies if is_array(replies) else [])]
    return _make(str(record.get("message_tree_id") or nodes[0].id), nodes)


def _read_flat(
    source: Input, rows: list[tuple[str, Mapping[str, Any]]]
) -> Iterator[RawConversation | BadRecord]:
    parents: dict[str, str] = {}
    nodes: dict[str, Node] = {}
    for position, row in rows:
        try:
            name = str(
                row.get("user_message_id") or row.get("message_id") or row.get("id") or position
            )
            parent = str(row.get(_parent_key(row) or "") or "")
            parents[name] = parent
            nodes[name] = Node(name, parent, (_read_message(row),))
        except Exception as error:  # noqa: BLE001  # one bad row is one bad record
            yield BadRecord(source.name, position, describe(error))
    trees: dict[str, list[Node]] = {}
    for name, node in nodes.items():
        root, visited = name, {name}
        while (parent := parents.get(root, "")) in nodes and parent not in visited:
            visited.add(parent)
            root = parent
        trees.setdefault(root, []).append(node)
    for root, members in trees.items():
        yield from _make(root, members)


def _make(name: str, nodes: list[Node]) -> list[RawConversation]:
    line, branches, fork = unfold(nodes, _best_leaf(nodes))
    main = RawConversation(point_signals(line.messages), name, source=NAME, fork=fork)
    conversations = [main]
    names = {"": name, **{branch.leaf: f"{name}~{branch.leaf[:12]}" for branch in branches}}
    if len(set(names.values())) < len(names):
        names = {leaf: f"{name}~{leaf}" if leaf else name for leaf in names}
    for branch in branches:
        # Siblings were not taken back by anybody: their ranks say what people thought of them.
        messages = tuple(
            msgspec.structs.replace(
                m, signals=tuple(s for s in m.signals if s.kind != "regenerate")
            )
            for m in branch.messages
        )
        conversations.append(
            RawConversation(
                point_signals(messages),
                names[branch.leaf],
                source=NAME,
                branch_of=names[branch.origin],
                branch_at=branch.branch_at,
            )
        )
    return conversations


def _best_leaf(nodes: list[Node]) -> str:
    """The leaf that is reached by taking the best ranked reply each time."""
    children: dict[str, list[Node]] = {}
    names = {node.id for node in nodes}
    for node in nodes:
        children.setdefault(node.parent if node.parent in names else "", []).append(node)
    leaf, place = "", children.get("", [])
    while place:
        best = min(place, key=lambda node: float(node.messages[0].refs.get("rank") or 99))
        leaf, place = best.id, children.pop(best.id, [])
    return leaf


def _read_message(item: Mapping[str, Any]) -> RawMessage:
    role = fields.role(item.get("role"))
    rank = item.get("rank")
    refs = {"message": str(item.get("message_id") or "")} if item.get("message_id") else {}
    signals: tuple[Signal, ...] = ()
    if role == "assistant" and isinstance(rank, (int, float)) and not isinstance(rank, bool):
        refs["rank"] = str(int(rank))
        signals = (Signal("comment", 0.0, 0, f"rank {int(rank)}"),)
    text = item.get("text")
    if not isinstance(text, str):
        raise RecordError("a message has no text")
    return RawMessage(
        role,
        text,
        fields.epoch(item.get("created_date")),
        signals,
        model=str(item.get("model_name") or "") if role == "assistant" else "",
        refs=refs,
    )
