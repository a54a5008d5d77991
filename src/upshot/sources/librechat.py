"""LibreChat exports: messages as a tree of `children`, or flat with `parentMessageId`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from upshot.errors import RecordError
from upshot.io.files import Input, read_json
from upshot.io.json_values import as_object, is_array, is_object
from upshot.records import BadRecord, RawConversation, RawMessage
from upshot.sources import fields
from upshot.sources.detection import Fit, Sample, fit_records
from upshot.sources.history import Node, make_conversations
from upshot.sources.messages import read_blocks
from upshot.sources.notes import skip
from upshot.sources.reading import read_each

NAME = "librechat"
_MAX_DEPTH = 100_000
"""Messages of one tree."""


def fit(sample: Sample) -> Fit:
    """How many of a file's first records are conversations of LibreChat."""
    return fit_records(sample, misfit)


def misfit(record: Any) -> str:
    """What a value lacks to be a conversation of LibreChat."""
    if not is_object(record):
        return "not an object"
    turns = record.get("messages") or record.get("messagesTree")
    first = turns[0] if is_array(turns) and turns else None
    if not is_object(first):
        return "no list `messages`"
    if "messageId" not in first or "isCreatedByUser" not in first:
        return "its messages have no `messageId` and `isCreatedByUser`"
    return ""


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """Conversations, their branches and unreadable records, in order."""
    return read_each(source, read_json(source), _read_conversation)


def _read_conversation(record: Any) -> list[RawConversation]:
    turns = record.get("messages") or record.get("messagesTree") if is_object(record) else None
    if not is_array(turns) or not turns:
        raise RecordError("needs an object with a list `messages`")
    flat = list(_flatten(turns))
    nodes = [
        Node(name, parent or str(turn.get("parentMessageId") or ""), tuple(_read_turn(turn)))
        for name, turn, parent in flat
    ]
    options = as_object(record.get("options"))
    user = next((str(turn["user"]) for _, turn, _ in flat if turn.get("user")), "")
    base = RawConversation(
        (),
        str(record.get("conversationId") or ""),
        user,
        fields.epoch(flat[0][1].get("createdAt") or record.get("createdAt")),
        str(options.get("model") or record.get("model") or ""),
        NAME,
        {"title": record["title"]} if record.get("title") else {},
    )
    leaf = str(record.get("currentLeafId") or "")
    conversations = make_conversations(base, nodes, leaf)
    prompt = options.get("promptPrefix") or options.get("system")
    if isinstance(prompt, str) and prompt:
        conversations = [_prepend(prompt, conversation) for conversation in conversations]
    return conversations


def _prepend(prompt: str, conversation: RawConversation) -> RawConversation:
    """The conversation behind its system prompt."""
    shifted = tuple(
        msgspec.structs.replace(
            m, signals=tuple(msgspec.structs.replace(s, at=s.at + 1) for s in m.signals)
        )
        if m.signals
        else m
        for m in conversation.messages
    )
    return msgspec.structs.replace(
        conversation,
        messages=(RawMessage("system", prompt), *shifted),
        branch_at=conversation.branch_at + 1 if conversation.branch_of else 0,
        fork=conversation.fork + 1 if conversation.fork >= 0 else -1,
    )


def _flatten(turns: list[Any]) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    """(id, message, id of the one that it stands in) of every message, parents first."""
    waiting: list[tuple[Any, str]] = [(turn, "") for turn in reversed(turns)]
    count = 0
    while waiting:
        turn, parent = waiting.pop()
        count += 1
        if not is_object(turn) or count > _MAX_DEPTH:
            raise RecordError("a message is no object")
        name = str(turn.get("messageId") or f"message {count}")
        yield name, turn, parent
        children = turn.get("children")
        waiting += [(child, name) for child in reversed(children if is_array(children) else [])]


def _read_turn(turn: Mapping[str, Any]) -> Iterator[RawMessage]:
    by_user = bool(turn.get("isCreatedByUser"))
    time = fields.epoch(turn.get("createdAt"))
    refs = {"message": str(turn.get("messageId") or "")}
    model = "" if by_user else str(turn.get("model") or "")
    blocks = turn.get("content")
    if is_array(blocks) and blocks:
        messages = list(
            read_blocks(_unwrap(blocks), role="user" if by_user else "assistant", time=time)
        )
    else:
        text = fields.text(turn.get("text"))
        messages = [RawMessage("user" if by_user else "assistant", text, time)] if text else []
    if not messages and not (by_user and turn.get("files")):
        skip(NAME, "an empty message")
    files = turn.get("files")
    marks = [
        f"<{'image' if str(f.get('type')).startswith('image') else 'file'}: {f['filename']}>"
        for f in (files if by_user and is_array(files) else [])
        if is_object(f) and f.get("filename")
    ]
    if marks:
        first = messages[0] if messages else RawMessage("user", "", time)
        text = "\n".join([*([first.content] if first.content else []), *marks])
        messages = [msgspec.structs.replace(first, content=text), *messages[1:]]
    signals = fields.feedback(turn.get("feedback"), 0) if not by_user else ()
    last = max((i for i, m in enumerate(messages) if m.role == "assistant"), default=-1)
    for place, message in enumerate(messages):
        yield msgspec.structs.replace(
            message,
            model=model if message.role == "assistant" else "",
            refs={**message.refs, **refs},
            signals=signals if place == last else (),
        )


def _unwrap(blocks: list[Any]) -> list[Any]:
    """Blocks with a call and its result in one, as two."""
    out: list[Any] = []
    for block in blocks:
        call = block.get("tool_call") if is_object(block) else None
        if not is_object(call):
            out.append(block)
            continue
        out.append({"type": "tool_call", **call})
        if call.get("output") is not None:
            result = {
                "type": "tool_result",
                "tool_use_id": call.get("id"),
                "name": call.get("name"),
            }
            out.append({**result, "content": call["output"]})
    return out
