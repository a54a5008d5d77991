"""ChatGPT exports (`conversations.json`, alone, in its folder or in its zip file).

Messages are a tree; `current_node` is what the person saw last: its path is the main line, and the
others are branches. `user.json` says whose export it is, `message_feedback.json` what was rated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from upshot.errors import RecordError
from upshot.io.files import Input, read_json
from upshot.io.json_text import decode
from upshot.io.json_values import as_array, as_object, is_array, is_object
from upshot.records import Author, BadRecord, RawConversation, RawMessage, Signal, ToolCall
from upshot.sources import fields
from upshot.sources.detection import Fit, Sample, fit_records, lacks
from upshot.sources.history import Node, make_conversations
from upshot.sources.messages import read_content
from upshot.sources.notes import note, skip
from upshot.sources.reading import read_each

NAME = "chatgpt-export"
MAIN_FILES = ("conversations.json", "conversations-000.json", "shared_conversations.json")
SIDE_FILES = frozenset(
    [
        "user.json",
        "message_feedback.json",
        "shared_conversations.json",
        "chat.html",
        "model_comparisons.json",
        "user_settings.json",
        "group_chats.json",
        "sora.json",
        "shopping.json",
        "export_manifest.json",
        "library_files.json",
        "conversation_asset_file_names.json",
    ]
)
"""Files of an export that hold no conversations; feedback and user are read from beside them."""
_THOUGHTS = frozenset(
    {"thoughts", "reasoning_recap", "model_editable_context", "app_pairing_content"}
)
_CITATION = re.compile("\ue200[^\ue200\ue201]{0,400}\ue201")
"""Marks that the interface turns into links."""
_MACHINE = frozenset({"user_editable_context", "system_error"})
"""Custom instructions, which the person wrote once and a machine repeats."""


def fit(sample: Sample) -> Fit:
    """How many of a file's first records are conversations of an export."""
    return fit_records(sample, misfit)


def misfit(record: Any) -> str:
    """What a value lacks to be a conversation of an export, or a list of them in an object."""
    if is_object(record) and (inner := as_array(record.get("conversations"))):
        return misfit(inner[0])
    if reason := lacks(record, where={"mapping": dict}):
        return reason
    nodes = [node for node in record["mapping"].values() if is_object(node)]
    if nodes and not any("message" in node or "children" in node for node in nodes):
        return "`mapping` holds no message nodes"
    return ""


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """Conversations, their branches and unreadable records, in order."""
    owner = _read_owner(source)
    feedback = _read_feedback(source)

    def parse(record: Any) -> list[RawConversation]:
        inner = record.get("conversations") if is_object(record) else None
        listed = inner if is_array(inner) else [record]
        return [c for item in listed for c in _read_tree(item, owner, feedback)]

    return read_each(source, read_json(source), parse)


def _read_owner(source: Input) -> str:
    """Id of the account, from `user.json` beside the export."""
    user = _read_beside(source, "user.json")
    if not is_object(user):
        return ""
    return str(user.get("id") or user.get("email") or "")


def _read_beside(source: Input, name: str) -> Any:
    content = source.folder.read(name)
    if content is None:
        return None
    try:
        return decode(content)
    except ValueError:
        note(f"{name} is no JSON")
        return None


def _read_feedback(source: Input) -> dict[str, list[Mapping[str, Any]]]:
    """Ratings by message or conversation, from `message_feedback.json` beside the export."""
    rows = _read_beside(source, "message_feedback.json")
    out: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows if is_array(rows) else []:
        if is_object(row):
            # The id is the message's; older exports repeat the conversation's there.
            for key in {str(row.get("id")), str(row.get("message_id"))}:
                out.setdefault(key, []).append(row)
            out.setdefault(f"conversation {row.get('conversation_id')}", []).append(row)
    return out


def _read_tree(
    record: Any, owner: str, feedback: Mapping[str, list[Mapping[str, Any]]]
) -> list[RawConversation]:
    mapping = record.get("mapping") if is_object(record) else None
    if not is_object(mapping):
        raise RecordError("needs an object with a `mapping` of message nodes")
    name = str(record.get("conversation_id") or record.get("id") or "")
    nodes = [
        Node(
            str(key),
            str(node.get("parent") or ""),
            tuple(_read_message(node.get("message"), str(key), feedback)),
        )
        for key, node in mapping.items()
        if is_object(node)
    ]
    if not any(node.messages for node in nodes):
        skip(NAME, "a conversation without a message")
        return []
    current = record.get("current_node")
    base = RawConversation(
        (),
        name,
        str(record.get("user_id") or record.get("user") or owner),
        fields.epoch(record.get("create_time")),
        str(record.get("default_model_slug") or ""),
        NAME,
        {key: record[key] for key in ("title", "gizmo_id") if record.get(key)},
    )
    conversations = make_conversations(base, nodes, current if isinstance(current, str) else "")
    whole = feedback.get(f"conversation {name}", []) if name else []
    return [_rate_whole(c, whole) for c in conversations]


def _read_message(
    message: Any, node: str, feedback: Mapping[str, list[Mapping[str, Any]]]
) -> Iterator[RawMessage]:
    if not is_object(message):
        return
    metadata = as_object(message.get("metadata"))
    author = message.get("author")
    role = fields.role(author.get("role") if is_object(author) else author)
    content = message.get("content")
    kind = str(content.get("content_type") or "") if is_object(content) else ""
    if metadata.get("is_visually_hidden_from_conversation") or kind in _THOUGHTS:
        skip(NAME, kind if kind in _THOUGHTS else "a hidden message")
        return
    text, calls = _read_body(content, kind, str(message.get("recipient") or "all"))
    text = _CITATION.sub("", text)
    if role == "user":
        text = "\n".join(filter(None, [text, *_name_attachments(metadata)]))
    signals = [*fields.feedback(message.get("feedback") or metadata.get("feedback"), 0)]
    for row in {
        id(r): r for key in (node, str(message.get("id"))) for r in feedback.get(key, [])
    }.values():
        signals += _read_rating(row)
    if not text and not calls and (role in ("system", "assistant") or not signals):
        skip(NAME, f"an empty message of {role}")
        return
    machine: Author | None = "machine" if kind in _MACHINE else None
    name = author.get("name") if is_object(author) else None
    yield RawMessage(
        role,
        text,
        fields.epoch(message.get("create_time")),
        tuple(signals) if role == "assistant" else (),
        str(name or ""),
        str(metadata.get("model_slug") or "") if role == "assistant" else "",
        machine or "",
        tool_calls=tuple(calls),
        refs={"message": str(message.get("id") or node)},
    )


def _name_attachments(metadata: Mapping[str, Any]) -> Iterator[str]:
    """Files that a message names; pictures stand among its parts."""
    for item in as_array(metadata.get("attachments")):
        kind = str(item.get("mime_type") or item.get("mimeType") or "") if is_object(item) else ""
        if is_object(item) and item.get("name") and not kind.startswith("image/"):
            yield f"<file: {item['name']}>"


def _read_body(content: Any, kind: str, recipient: str) -> tuple[str, list[ToolCall]]:
    if not is_object(content):
        return fields.text(content), []
    if kind == "code" or (kind == "text" and recipient not in ("all", "")):
        text = fields.text(content.get("text") or content.get("parts"))
        return ("", [ToolCall(recipient, text)]) if recipient not in ("all", "") else (text, [])
    if kind == "user_editable_context":
        parts = [content.get("user_profile"), content.get("user_instructions")]
        return "\n".join(str(part) for part in parts if part), []
    if "parts" in content:
        parts_of = read_content([_plain_part(part) for part in as_array(content["parts"])])
        return parts_of.text.lstrip("\n"), list(parts_of.calls)
    if kind == "tether_quote":
        return "\n".join(str(content[n]) for n in ("title", "text") if content.get(n)), []
    return fields.text(content.get("text") or content.get("result") or content.get("content")), []


def _plain_part(part: Any) -> Any:
    """A part with a type by which it is told: ChatGPT calls that `content_type`."""
    if not is_object(part) or "content_type" not in part:
        return part
    kind = str(part["content_type"])
    if kind == "audio_transcription":
        return str(part.get("text") or "")
    if "pointer" in kind or "asset" in kind:
        inner = part.get("audio_asset_pointer")
        size = part.get("size_bytes") or (inner.get("size_bytes") if is_object(inner) else None)
        if "real_time_user_audio_video" in kind:
            kind = "audio"
        return {"type": kind.replace("_asset_pointer", ""), "size_bytes": size}
    return {**part, "type": kind}


def _read_rating(row: Mapping[str, Any]) -> list[Signal]:
    time = fields.epoch(row.get("create_time") or row.get("update_time"))
    signals = [*fields.feedback(row.get("rating"), 0)]
    content = row.get("content")
    if isinstance(content, str) and content.lstrip()[:1] == "{":
        with suppress(ValueError):
            content = decode(content.encode())
    text = content.get("text") if is_object(content) else content
    if isinstance(text, str) and text:
        signals.append(Signal("comment", 0.0, 0, text))
    return [msgspec.structs.replace(signal, time=time) for signal in signals]


def _rate_whole(conversation: RawConversation, rows: list[Mapping[str, Any]]) -> RawConversation:
    """Ratings that name no message of the conversation, on its last response."""
    own = {m.refs.get("message") for m in conversation.messages}
    loose = [r for r in rows if str(r.get("id")) not in own and str(r.get("message_id")) not in own]
    last = max(
        (i for i, m in enumerate(conversation.messages) if m.role == "assistant"), default=-1
    )
    if not loose or last < 0 or conversation.branch_of:
        return conversation
    messages = list(conversation.messages)
    added = tuple(
        msgspec.structs.replace(signal, at=last) for row in loose for signal in _read_rating(row)
    )
    messages[last] = msgspec.structs.replace(
        messages[last], signals=(*messages[last].signals, *added)
    )
    return msgspec.structs.replace(conversation, messages=tuple(messages))
