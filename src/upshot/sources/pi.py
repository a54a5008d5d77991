"""Sessions of the pi coding agent and of OpenClaw, which is built on it: JSON lines of a header and
entries that are a tree by `parentId` (a straight line in version 1).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from upshot.errors import RecordError
from upshot.io.files import Input
from upshot.io.json_values import is_object
from upshot.records import BadRecord, RawConversation, RawMessage
from upshot.sources import fields
from upshot.sources.agent_lines import (
    build_lines,
    facts_of,
    make_turn,
    object_of,
    read_lines_into,
    require_object,
    string_of,
)
from upshot.sources.agent_steps import INTERRUPTED, News, Step
from upshot.sources.detection import Fit, Sample, fit_records
from upshot.sources.messages import ToolResult, make_tool_message, read_content, read_message
from upshot.sources.notes import skip

NAME = "pi"
SHARED_IDS = True
"""An entry that was copied into another session keeps its id."""
_ENTRIES = frozenset(
    {
        "model_change",
        "thinking_level_change",
        "compaction",
        "branch_summary",
        "custom",
        "custom_message",
        "label",
        "session_info",
        "mode_change",
        "session_state",
        "leaf",
        "leaf_change",
    }
)
"""Entries that are no messages."""
_ADDED = re.compile(
    r"(?:Conversation info|Sender|Replied message|Chat history since last reply|Forwarded message"
    r"|Thread starter|Inbound [\w ]+|Untrusted context)[^\n]{0,80}\(untrusted[^\n]*\):?\n"
    r"(?:```json\n.*?\n```|[^\n]*)\n*"
    r"|\[message_id: [^\]\n]+\]\n?|^System: \[[^\n]*\n?"
    r"|^\[(?:[^\]\n]{0,120} )?(?:\w{3} )?\d{4}-\d\d-\d\d[^\]\n]*\] ?",
    re.DOTALL | re.MULTILINE,
)
"""What OpenClaw's channels put around a person's words."""
_MACHINE = re.compile(
    r"\A\s*(?:Read HEARTBEAT\.md|\[cron:|A new session was started via|Pre-compaction memory flush"
    r"|\[Subagent |An async command you ran|\[Inter-session message\])"
)


def fit(sample: Sample) -> Fit:
    """How many of a file's first records are lines of a session."""
    return fit_records(sample, _find_misfit)


def _find_misfit(record: Any) -> str:
    if not is_object(record):
        return "not an object"
    kind = string_of(record, "type")
    if kind == "session":
        return "" if "id" in record and "timestamp" in record else "no `id`"
    if kind == "message":
        message = record.get("message")
        if not is_object(message) or "role" not in message or "timestamp" not in record:
            return "no `message`"
        return "" if "parentId" in record or "id" not in record else "no `parentId`"
    return "" if kind in _ENTRIES and "timestamp" in record else "no `type` of pi"


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """The session of a file, and what was left of it."""
    session = _Session()
    return read_lines_into(source, session.add, session.finish)


class _Session:
    def __init__(self) -> None:
        self.head: Mapping[str, Any] = {}
        self.steps: list[Step] = []
        self.leaf = ""
        self.model = ""

    def add(self, value: Any) -> None:
        """Take a line in."""
        record = require_object(value)
        kind = record.get("type")
        if kind == "session":
            self.head = record
            return
        if kind == "model_change":
            self.model = self.model or string_of(record, "modelId")
        name = string_of(record, "id") or f"#{len(self.steps)}"
        last = self.steps[-1].name if self.steps else ""
        parent = string_of(record, "parentId") if "parentId" in record else last
        messages, news = _read_entry(record)
        ahead = [one for one in news if one is not INTERRUPTED]
        self.steps.append(Step(name, parent, messages, ahead))
        self.leaf = name
        if len(ahead) < len(news):
            self.steps.append(Step(f"{name}~news", name, (), [INTERRUPTED]))

    def finish(self) -> Iterator[RawConversation]:
        """The session and its branches."""
        if not any(step.messages for step in self.steps):
            return
        name = string_of(self.head, "id")
        refs = {"session": name} if name else {}
        if origin := string_of(self.head, "parentSession", "branchedFrom"):
            stem = os.path.basename(origin).removesuffix(".jsonl")
            refs["forked_from"] = stem.rpartition("_")[2]
        base = RawConversation(
            (),
            name,
            started_at=fields.epoch(self.head.get("timestamp")),
            model=self.model,
            source=NAME,
            metadata=facts_of(self.head, cwd="cwd"),
            refs=refs,
        )
        yield from build_lines(base, self.steps, self.leaf)


def _read_entry(record: Mapping[str, Any]) -> tuple[list[RawMessage], list[News]]:
    kind = record.get("type")
    time = fields.epoch(record.get("timestamp"))
    if kind in ("compaction", "branch_summary", "custom_message"):
        text = string_of(record, "summary") or read_content(record.get("content")).text
        return [RawMessage("user", text, time, author="machine")] if text.strip() else [], []
    if kind != "message":
        if not isinstance(kind, str):
            raise RecordError("it has no `type`")
        skip(NAME, kind)
        return [], []
    message = record.get("message")
    if not is_object(message):
        raise RecordError("its `message` is no object")
    return _read_message(message, time, string_of(record, "id"))


def _read_message(
    message: Mapping[str, Any], time: float | None, name: str
) -> tuple[list[RawMessage], list[News]]:
    role = message.get("role")
    refs = {"message": name} if name else {}
    content = read_content(message.get("content"))
    if role == "toolResult":
        failed = message.get("isError")
        result = ToolResult(
            content.text,
            string_of(message, "toolCallId"),
            string_of(message, "toolName"),
            failed if isinstance(failed, bool) else None,
        )
        own = make_tool_message(result, time=time)
        code = object_of(message, "details").get("exitCode")
        if isinstance(code, int) and not isinstance(code, bool):
            own = msgspec.structs.replace(own, status=code)
        return [own], []
    if role == "bashExecution":
        return _read_command(message, time, refs), []
    if role in ("branchSummary", "compactionSummary", "custom", "hookMessage"):
        text = string_of(message, "summary") or content.text
        return [RawMessage("user", text, time, author="machine")] if text.strip() else [], []
    if role == "user":
        return [_read_turn(content.text, time, name)] if content.text.strip() else [], []
    if message.get("model") == "delivery-mirror":
        skip(NAME, "copies of answers that were delivered")
        return [], []
    value = {**message, "id": name or None, "timestamp": None}
    messages = [m for m in read_message(value, time=time) if m.content or m.tool_calls]
    return messages, [INTERRUPTED] if message.get("stopReason") == "aborted" else []


def _read_command(
    message: Mapping[str, Any], time: float | None, refs: Mapping[str, str]
) -> list[RawMessage]:
    """A command that the person ran, and what it printed."""
    command, output = string_of(message, "command"), string_of(message, "output")
    turn = RawMessage("user", command, time, refs=refs)
    result = make_tool_message(ToolResult(output, "", "bash"), time=time)
    code = message.get("exitCode")
    if isinstance(code, int) and not isinstance(code, bool):
        result = msgspec.structs.replace(result, status=code)
    return [*([turn] if command else []), *([result] if output else [])]


def _read_turn(text: str, time: float | None, name: str) -> RawMessage:
    """A person's turn, what a channel put around their words as the machine's."""
    if _MACHINE.match(text):
        return make_turn(text, (), time, name)
    typed: list[tuple[int, int]] = []
    last = 0
    for match in _ADDED.finditer(text):
        typed.append((last, match.start()))
        last = match.end()
    if not typed:
        return RawMessage("user", text, time, refs={"message": name} if name else {})
    typed.append((last, len(text)))
    return make_turn(text, [(a, b) for a, b in typed if text[a:b].strip()], time, name)
