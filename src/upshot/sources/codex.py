"""Codex CLI's session logs ("rollouts"): JSON lines, one session a file, `response_item` lines hold
the messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from upshot.errors import RecordError
from upshot.io.files import Bad, Input, read_json
from upshot.io.json_values import is_object
from upshot.records import BadRecord, RawConversation, RawMessage
from upshot.sources import fields

NAME = "codex"
_HEAD = re.compile(rb'"type"\s*:\s*"(?:session_meta|response_item)"|"record_type"\s*:\s*"state"')
_INJECTED = re.compile(r"^\s*<(?:environment_context|user_instructions|turn_aborted|permissions)")


def matches(head: bytes) -> bool:
    """Whether the start of a file looks like this format (also that of 2025's first versions)."""
    return _HEAD.search(head) is not None or (
        b'"git"' in head[:4000] and b'"instructions"' in head[:4000] and b'"input_text"' in head
    )


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """One conversation."""
    meta: dict[str, Any] = {}
    messages: list[RawMessage] = []
    for position, value in read_json(source):
        if isinstance(value, Bad) or not is_object(value):
            yield BadRecord(
                source.name, position, value.reason if isinstance(value, Bad) else "not an object"
            )
            continue
        kind, payload = value.get("type"), value.get("payload", value)
        if not is_object(payload):
            yield BadRecord(source.name, position, "`payload` is not an object")
        elif kind == "session_meta" or (kind is None and "id" in value and "timestamp" in value):
            meta.update(payload)
        elif kind == "turn_context":
            meta.setdefault("model", payload.get("model"))
        elif kind in (
            "response_item",
            "message",
            "function_call",
            "function_call_output",
            "local_shell_call",
        ):
            try:
                _add_item(messages, payload, fields.epoch(value.get("timestamp")))
            except RecordError as error:
                yield BadRecord(source.name, position, str(error))
    if messages:
        yield RawConversation(
            tuple(messages),
            str(meta.get("id") or ""),
            f"local:{meta.get('cwd', '')}",
            fields.epoch(meta.get("timestamp")),
            str(meta.get("model") or meta.get("model_provider") or ""),
            NAME,
            {name: meta[name] for name in ("cwd", "git", "cli_version") if meta.get(name)},
        )


def _add_item(messages: list[RawMessage], item: Mapping[str, Any], time: float | None) -> None:
    kind = item.get("type")
    if kind == "message":
        content = fields.text(item.get("content"))
        role = fields.role(item.get("role"))
        if content and not (role == "user" and _INJECTED.match(content)):
            _append_message(messages, RawMessage(role, content, time))
    elif kind in ("function_call", "custom_tool_call", "local_shell_call"):
        _append_message(
            messages,
            RawMessage(
                "assistant",
                fields.tool_call({"arguments": item.get("action") or item.get("input"), **item}),
                time,
            ),
        )
    elif kind in ("function_call_output", "custom_tool_call_output"):
        messages.append(RawMessage("tool", _read_output(item.get("output")), time))


def _append_message(messages: list[RawMessage], message: RawMessage) -> None:
    """Text and the tool calls that follow it are one response."""
    if message.role == "assistant" and messages and messages[-1].role == "assistant":
        old = messages.pop()
        message = RawMessage("assistant", f"{old.content}\n{message.content}", old.time)
    messages.append(message)


def _read_output(value: Any) -> str:
    """The output text; Codex wraps it in JSON with `exit_code` in its metadata."""
    if isinstance(value, str) and value.startswith("{"):
        try:
            value = msgspec.json.decode(value)
        except msgspec.DecodeError:
            return value
    if is_object(value):
        metadata = value.get("metadata")
        code = metadata.get("exit_code") if is_object(metadata) else None
        lead = f"exit code {code}\n" if code is not None else ""
        return lead + fields.text(value.get("output") or value.get("content"))
    return fields.text(value)
