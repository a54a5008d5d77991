"""Open WebUI exports: chats whose messages are a tree, `history.currentId` its chosen leaf."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from upshot.errors import RecordError
from upshot.io.files import Input, read_json
from upshot.io.json_values import as_array, as_object, is_array, is_object
from upshot.records import BadRecord, RawConversation, RawMessage, Signal, ToolCall
from upshot.sources import fields
from upshot.sources.detection import Fit, Sample, fit_records
from upshot.sources.history import Node, make_conversations
from upshot.sources.messages import ToolResult, make_tool_message, read_blocks, read_content
from upshot.sources.reading import read_each

NAME = "open-webui"
_DETAILS = re.compile(r"<details\b([^>]*)>(.*?)</details>\s*", re.DOTALL)
_CODE = re.compile(r"```\w*\n(.*?)```", re.DOTALL)
_ATTRIBUTE = re.compile(r'(\w+)="([^"]*)"')


def fit(sample: Sample) -> Fit:
    """How many of a file's first records are chats of Open WebUI."""
    return fit_records(sample, misfit)


def misfit(record: Any) -> str:
    """What a value lacks to be a chat of Open WebUI."""
    if not is_object(record):
        return "not an object"
    chat = as_object(record.get("chat")) or record
    history = chat.get("history")
    if is_object(record.get("chat")) and is_array(chat.get("messages")) and "models" in chat:
        return ""  # before messages were a tree
    if not is_object(history) or "currentId" not in history:
        return "no `chat.history.currentId`"
    return ""


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """Conversations, their branches and unreadable records, in order."""
    return read_each(source, read_json(source), _read_chat)


def _read_chat(record: Any) -> list[RawConversation]:
    if not is_object(record):
        raise RecordError("not an object")
    chat = as_object(record.get("chat")) or record
    history = as_object(chat.get("history"))
    turns = history.get("messages") or chat.get("messages")
    listed: list[Any] = list(turns.values()) if is_object(turns) else as_array(turns)
    if not listed:
        raise RecordError("needs `chat.history.messages`")
    nodes: list[Node] = []
    is_tree = any(is_object(turn) and turn.get("parentId") for turn in listed)
    for turn in listed:
        if not is_object(turn):
            raise RecordError("a message is no object")
        before = "" if is_tree or not nodes else nodes[-1].id
        nodes.append(
            Node(
                str(turn.get("id") or len(nodes)),
                str(turn.get("parentId") or before),
                tuple(_read_turn(turn)),
            )
        )
    models = chat.get("models")
    meta = record.get("meta")
    base = RawConversation(
        (),
        str(record.get("id") or chat.get("id") or ""),
        str(record.get("user_id") or ""),
        fields.epoch(record.get("created_at") or chat.get("timestamp")),
        str(models[0]) if is_array(models) and models else "",
        NAME,
        {
            **({"title": record["title"]} if record.get("title") else {}),
            **({"tags": meta["tags"]} if is_object(meta) and meta.get("tags") else {}),
        },
    )
    beside = {str(t.get("id")) for t in listed if is_object(t) and t.get("modelIdx")}
    beside |= {str(t.get("id")) for t in listed if is_object(t) and t.get("modelIdx") == 0}
    conversations = make_conversations(base, nodes, str(history.get("currentId") or ""))
    return [_keep_beside(c, beside) for c in conversations]


def _keep_beside(branch: RawConversation, beside: set[str]) -> RawConversation:
    """A branch whose answer another model gave at the same time: nobody took it back."""
    at = branch.branch_at
    if not branch.branch_of or branch.messages[at].refs.get("message") not in beside:
        return branch
    messages = list(branch.messages)
    others = tuple(s for s in messages[at].signals if s.kind != "regenerate")
    messages[at] = msgspec.structs.replace(messages[at], signals=others)
    return msgspec.structs.replace(branch, messages=tuple(messages))


def _read_turn(turn: Mapping[str, Any]) -> Iterator[RawMessage]:
    role = fields.role(turn.get("role"))
    time = fields.epoch(turn.get("timestamp"))
    model = str(turn.get("model") or "") if role == "assistant" else ""
    output = turn.get("output")
    if role == "assistant" and is_array(output) and output:
        messages = list(read_blocks(output, time=time, model=model))
    elif role == "assistant":
        messages = list(_read_details(str(turn.get("content") or ""), time, model))
    else:
        parts = read_content(turn.get("content"))
        marks = [
            f"<{'image' if item.get('type') == 'image' else 'file'}: {item['name']}>"
            for item in turn.get("files") or ()
            if is_object(item) and item.get("name")
        ]
        messages = [RawMessage(role, "\n".join([parts.text, *marks]).strip("\n"), time)]
    if not messages and turn.get("error"):
        messages = [RawMessage(role, "<error>", time, model=model)]
    last = max((i for i, m in enumerate(messages) if m.role == role), default=-1)
    signals = tuple(_read_annotation(turn.get("annotation")))
    for place, message in enumerate(messages):
        refs = {**message.refs, "message": str(turn.get("id") or "")}
        yield msgspec.structs.replace(
            message, refs=refs, signals=signals if place == last and role == "assistant" else ()
        )


def _read_details(content: str, time: float | None, model: str) -> Iterator[RawMessage]:
    """A response whose thoughts, calls and results stand in `<details>` blocks of its text."""
    position = 0
    for match in _DETAILS.finditer(content):
        attributes = dict(_ATTRIBUTE.findall(match.group(1)))
        kind = attributes.get("type", "")
        if kind not in ("reasoning", "tool_calls", "code_interpreter"):
            continue
        words = content[position : match.start()].strip()
        position = match.end()
        if kind == "tool_calls":
            call = ToolCall(
                html.unescape(attributes.get("name", "")),
                html.unescape(attributes.get("arguments", "")),
                attributes.get("id", ""),
            )
            yield RawMessage("assistant", words, time, model=model, tool_calls=(call,))
            result = attributes.get("result")
            inner = re.sub(r"<summary>.*?</summary>", "", match.group(2), flags=re.DOTALL)
            text = html.unescape(result) if result is not None else inner.strip()
            if text:
                yield make_tool_message(ToolResult(text, call.id, call.name), time=time)
        elif kind == "code_interpreter":
            code = "\n".join(match.group(1) for match in _CODE.finditer(match.group(2)))
            call = ToolCall(kind, html.unescape(code))
            yield RawMessage("assistant", words, time, model=model, tool_calls=(call,))
            if output := html.unescape(attributes.get("output", "")):
                yield make_tool_message(ToolResult(output, name=kind), time=time)
        elif words:
            yield RawMessage("assistant", words, time, model=model)
    rest = content[position:].strip()
    if rest:
        yield RawMessage("assistant", rest, time, model=model)


def _read_annotation(value: Any) -> Iterator[Signal]:
    """A thumb (1 or -1), with its reason; a rating of 1 to 10 where one was given."""
    if not is_object(value):
        return
    thumb = value.get("rating")
    if isinstance(thumb, (int, float)) and not isinstance(thumb, bool) and thumb:
        yield Signal("thumb", 1.0 if thumb > 0 else -1.0, 0)
    details = value.get("details")
    number = details.get("rating") if is_object(details) else None
    if isinstance(number, (int, float)) and 1 <= number <= 10:
        yield from fields.feedback({"rating": number, "range": [1, 10]}, 0)
    text = "\n".join(str(value[n]) for n in ("reason", "comment") if value.get(n))
    if text:
        yield Signal("comment", 0.0, 0, text)
