"""Sessions of Factory's Droid (`~/.factory/sessions/*/*.jsonl`), and what `droid exec
--output-format stream-json` prints.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from upshot.errors import RecordError
from upshot.io.files import Input
from upshot.io.json_text import decode
from upshot.io.json_values import is_array, is_object
from upshot.io.streams import Folder
from upshot.records import BadRecord, RawConversation, RawMessage, ToolCall
from upshot.sources import fields
from upshot.sources.agent_lines import (
    Trail,
    disown,
    facts_of,
    read_lines_into,
    require_object,
    string_of,
)
from upshot.sources.agent_steps import DENIED, INTERRUPTED, Part, join_turn
from upshot.sources.detection import Fit, Sample, fit_records
from upshot.sources.messages import (
    ToolResult,
    make_tool_message,
    read_content,
    read_message,
    read_output,
    to_json,
)
from upshot.sources.notes import skip

NAME = "droid"
_LINES = frozenset(
    {
        "session_start",
        "todo_state",
        "compaction_state",
        "session_end",
        "session_settings",
        "agent_turn_outcome",
        "session_title_updated",
    }
)
"""Lines of a session that are no messages."""
_STREAM = frozenset(
    {
        "system",
        "message",
        "tool_call",
        "tool_result",
        "completion",
        "error",
        "reasoning",
    }
)
_ADDED = re.compile(
    r"\A\s*(?:Contents of (?:/|[A-Za-z]:|~)\S.{0,500} \(lines \d|# Task Tool Invocation"
    r"|<system-reminder>|<system-notification>|Directory structure of )"
)
"""How text that the program puts beside the person's words begins."""
_DENIED = re.compile(
    r"(?:rejected|declined|denied) by (?:the )?user|user (?:rejected|declined|denied|chose not)",
    re.IGNORECASE,
)
_STOPPED = re.compile(r"Request (?:was )?(?:cancelled|interrupted) by user", re.I)


def fit(sample: Sample) -> Fit:
    """How many of a file's first records are lines of a session or of a run's output."""
    return fit_records(sample, _find_misfit)


def _find_misfit(record: Any) -> str:
    if not is_object(record):
        return "not an object"
    kind = string_of(record, "type")
    if kind == "session_start":
        return "" if "id" in record else "no `id`"
    if kind in _LINES:
        return "" if any(n in record for n in ("id", "timestamp", "sessionId")) else "no `id`"
    if kind == "message" and is_object(record.get("message")):
        message = record["message"]
        marked = "id" in record and "timestamp" in record and "sessionId" not in record
        return "" if marked and "role" in message and "content" in message else "no `message`"
    if kind in _STREAM and "session_id" in record:
        names = ("text", "toolName", "finalText", "subtype", "value", "toolId", "message")
        return "" if any(n in record for n in names) and "uuid" not in record else "no `text`"
    return "no `type` of Droid"


def is_side_file(sample: Sample, folder: Folder) -> bool:
    """Whether a file holds the settings of the session beside it."""
    name = os.path.basename(sample.name.rpartition("!")[2])
    stem = name.removesuffix(".settings.json")
    return stem != name and folder.read(f"{stem}.jsonl") is not None


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """The session of a file."""
    session = _Session(source.name, source.folder)
    return read_lines_into(source, session.add, session.finish)


class _Session:
    def __init__(self, path: str, folder: Folder) -> None:
        self.trail = Trail()
        self.head: Mapping[str, Any] = {}
        self.model = ""
        stem = os.path.basename(path.rpartition("!")[2]).removesuffix(".jsonl")
        try:
            settings = decode(folder.read(f"{stem}.settings.json") or b"null")
        except ValueError:
            settings = None
        self.model = string_of(settings, "model")
        self.last = ""

    def add(self, value: Any) -> None:
        record = require_object(value)
        kind = string_of(record, "type")
        if "session_id" in record and not self.head:
            self.head = {"id": record["session_id"]}
        if kind == "session_start" or (kind == "system" and "session_id" in record):
            self.head = {**record, "id": record.get("id", record.get("session_id"))}
            self.model = self.model or string_of(record, "model")
        elif kind == "message" and "message" in record:
            self._add_message(record)
        elif kind in _STREAM:
            self._add_event(record, kind)
        elif kind:
            self._add_other(record, kind)
        else:
            raise RecordError("it has no `type`")

    def _add_other(self, record: Mapping[str, Any], kind: str) -> None:
        summary = string_of(record, "summaryText", "summary")
        if kind == "compaction_state" and summary:
            time = fields.epoch(record.get("timestamp"))
            self.trail.add([RawMessage("user", summary, time, author="machine")])
        else:
            skip(NAME, kind)

    def _add_message(self, record: Mapping[str, Any]) -> None:
        message = record["message"]
        if not is_object(message):
            raise RecordError("its `message` is no object")
        time = fields.epoch(record.get("timestamp"))
        name, parent = string_of(record, "id"), string_of(record, "parentId")
        if message.get("role") == "user":
            messages = _read_turn(message.get("content"), time, name)
            if string_of(message, "visibility").startswith("llm"):
                messages = disown(messages)
        else:
            value = {**message, "id": record.get("id")}
            messages = [m for m in read_message(value, time=time) if m.content or m.tool_calls]
        if any(m.role == "tool" and _DENIED.search(m.content[:400]) for m in messages):
            self.trail.tell([DENIED])
        elif any(m.role == "user" and _STOPPED.match(m.content) for m in messages):
            self.trail.tell([INTERRUPTED])
        if parent and parent in self.trail and name not in self.trail:
            self._go_on_from(parent)
        self.trail.add(messages, name=name)
        self.last = name

    def _go_on_from(self, parent: str) -> None:
        if parent != self.last:
            self.trail.go_on_from(parent)

    def _add_event(self, record: Mapping[str, Any], kind: str) -> None:
        """A line that a run prints."""
        time = fields.epoch(record.get("timestamp"))
        call = string_of(record, "id", "toolCallId", "toolId")
        if kind == "message":
            text = string_of(record, "text")
            role = "user" if record.get("role") == "user" else "assistant"
            messages = [RawMessage(role, text, time)] if text else []
        elif kind == "tool_call":
            given = record.get("parameters", record.get("input"))
            name = string_of(record, "toolName", "toolId")
            own = ToolCall(name, to_json(given or {}), call)
            messages = [RawMessage("assistant", "", time, tool_calls=(own,))]
        elif kind == "tool_result":
            failed = record.get("isError")
            text = read_output(record.get("value", record.get("error")))
            failed = failed if isinstance(failed, bool) else None
            name = string_of(record, "toolName", "toolId")
            messages = [make_tool_message(ToolResult(text, call, name, failed), time=time)]
        elif kind == "completion" and not self._holds(text := string_of(record, "finalText")):
            messages = [RawMessage("assistant", text, time)]
        else:
            skip(NAME, kind)
            return
        self.trail.add(messages)

    def _holds(self, text: str) -> bool:
        return not text or any(
            m.content.strip() == text.strip() for step in self.trail.steps for m in step.messages
        )

    def finish(self) -> Iterator[RawConversation]:
        name = string_of(self.head, "id")
        parent = string_of(self.head, "callingSessionId", "parentSessionId")
        if parent:
            for step in self.trail.steps:
                step.messages = disown(step.messages)
        base = RawConversation(
            (),
            name,
            model=self.model,
            source=NAME,
            metadata=facts_of(self.head, cwd="cwd"),
            parent=parent,
            refs={"session": name} if name else {},
        )
        yield from self.trail.build(base)


def _read_turn(content: Any, time: float | None, name: str) -> list[RawMessage]:
    blocks = content if is_array(content) else [content]
    messages: list[RawMessage] = []
    parts: list[Part] = []
    for block in blocks:
        inner = read_content(block)
        messages += [make_tool_message(result, time=time) for result in inner.results]
        added = _ADDED.match(inner.text) and not inner.text.startswith("<")
        parts.append(Part(inner.text, "machine" if added else "person"))
    if any(part.text.strip() for part in parts):
        messages.append(join_turn(parts, time, name))
    return [msgspec.structs.replace(m, time=m.time or time) for m in messages]
