"""Claude.ai exports (`conversations.json`, alone, in its folder or in its zip file).

Messages name their parents where the person edited or retried; the newest path is the main line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from upshot.errors import RecordError
from upshot.io.files import Input, read_json
from upshot.io.json_values import as_array, is_array, is_object
from upshot.records import AuthorSpan, BadRecord, RawConversation, RawMessage
from upshot.sources import fields
from upshot.sources.detection import Fit, Sample, fit_records, lacks
from upshot.sources.history import Node, make_conversations
from upshot.sources.messages import read_blocks
from upshot.sources.notes import skip
from upshot.sources.reading import read_each
from upshot.sources.speakers import join_authored

NAME = "claude-export"
MAIN_FILES = ("conversations.json",)
SIDE_FILES = frozenset(["users.json", "projects.json", "memories.json", "login_history.json"])


def fit(sample: Sample) -> Fit:
    """How many of a file's first records are conversations of an export."""
    return fit_records(sample, misfit)


def misfit(record: Any) -> str:
    """What a value lacks to be a conversation of an export."""
    return lacks(record, where={"chat_messages": list})


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """Conversations, their branches and unreadable records, in order."""
    return read_each(source, read_json(source), _read_tree)


def _read_tree(record: Any) -> list[RawConversation]:
    turns = record.get("chat_messages") if is_object(record) else None
    if not is_array(turns):
        raise RecordError("needs an object with a list `chat_messages`")
    if not turns:
        skip(NAME, "a conversation without a message")
        return []
    account = record.get("account")
    base = RawConversation(
        (),
        str(record.get("uuid") or record.get("id") or ""),
        str(account.get("uuid") or account.get("email_address") or "")
        if is_object(account)
        else "",
        fields.epoch(record.get("created_at")),
        str(record.get("model") or ""),
        NAME,
        {"title": record["name"]} if record.get("name") else {},
    )
    return make_conversations(
        base, _make_nodes(turns), str(record.get("current_leaf_message_uuid") or "")
    )


def _make_nodes(turns: list[Any]) -> list[Node]:
    """The messages as a tree; a straight line where they do not all name a parent that is there."""
    objects = [turn for turn in turns if is_object(turn)]
    if len(objects) < len(turns):
        raise RecordError("`chat_messages` holds something that is not an object")
    names = [str(turn.get("uuid") or "") for turn in objects]
    parents = [str(turn.get("parent_message_uuid") or "") for turn in objects]
    is_tree = len(set(names)) == len(names) and "" not in names and bool(set(parents) & set(names))
    nodes: list[Node] = []
    before = ""
    for number, turn in enumerate(objects):
        name = names[number] if is_tree else str(number)
        nodes.append(Node(name, parents[number] if is_tree else before, tuple(_read_turn(turn))))
        before = name
    return nodes


def _read_turn(turn: Mapping[str, Any]) -> Iterator[RawMessage]:
    role = fields.role(turn.get("sender") or turn.get("role"))
    time = fields.epoch(turn.get("created_at"))
    blocks = as_array(turn.get("content"))
    messages = list(read_blocks(blocks, role=role, time=time))
    if not any(message.content for message in messages) and isinstance(turn.get("text"), str):
        messages += [RawMessage(role, turn["text"], time)] if turn["text"] else []
    refs = {"message": str(turn["uuid"])} if turn.get("uuid") else {}
    if role == "user":
        yield from _join_attachments(turn, messages, time, refs)
        return
    last = max((i for i, m in enumerate(messages) if m.role == "assistant"), default=-1)
    signals = fields.feedback(turn.get("feedback") or turn.get("chat_feedback"), 0)
    for place, message in enumerate(messages):
        yield msgspec.structs.replace(
            message, refs={**message.refs, **refs}, signals=signals if place == last else ()
        )


def _join_attachments(
    turn: Mapping[str, Any], messages: list[RawMessage], time: float | None, refs: dict[str, str]
) -> Iterator[RawMessage]:
    """The person's words and, behind them, what they attached, which somebody else wrote."""
    words = "\n".join(message.content for message in messages if message.role == "user")
    attached: list[str] = []
    for item in turn.get("attachments") or ():
        if is_object(item):
            text = fields.text(item.get("extracted_content"))
            attached.append(text or f"<file: {item.get('file_name') or 'unnamed'}>")
    for item in (*(turn.get("files") or ()), *(turn.get("files_v2") or ())):
        if is_object(item) and item.get("file_name"):
            mark = f"<file: {item['file_name']}>"
            if mark not in attached:
                attached.append(mark)
    yield from (message for message in messages if message.role != "user")
    joined = join_authored([(words, "person"), *((text, "machine") for text in attached)])
    if joined.content:
        if not words and any(not text.startswith("<file: ") for text in attached):
            spans = (
                AuthorSpan(0, len(joined.content), "machine"),
            )  # sent, but not written by them
            joined = msgspec.structs.replace(joined, spans=spans)
        elif not words:
            joined = msgspec.structs.replace(joined, author="")
        yield msgspec.structs.replace(joined, time=time, refs=refs)
    else:
        skip(NAME, "an empty message")
