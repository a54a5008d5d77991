"""Sessions of Kimi's command line: `wire.jsonl` of Kimi Code (records like
`context.append_message`) and of kimi-cli (`TurnBegin`, `ContentPart`, …), and kimi-cli's
`context.jsonl`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from upshot.errors import RecordError
from upshot.io.files import Input
from upshot.io.json_values import is_object
from upshot.io.streams import Folder
from upshot.records import BadRecord, RawConversation, RawMessage, ToolCall
from upshot.sources import fields
from upshot.sources.agent_lines import (
    Trail,
    disown,
    list_of,
    object_of,
    read_lines_into,
    require_object,
    string_of,
)
from upshot.sources.agent_steps import DENIED, INTERRUPTED
from upshot.sources.detection import Fit, Sample, fit_records
from upshot.sources.messages import (
    ToolResult,
    make_tool_message,
    read_call,
    read_content,
    read_message,
    read_output,
    to_json,
)
from upshot.sources.notes import skip

NAME = "kimi"
_GROUPS = (
    "config.",
    "context.",
    "cron.",
    "file_history.",
    "full_compaction.",
    "goal.",
    "interaction.",
    "interruptionReminder.",
    "llm.",
    "mcp.",
    "micro_compaction.",
    "permission.",
    "plan_mode.",
    "plan.",
    "plugin.",
    "profile.",
    "prompt.",
    "runtime.",
    "staleGuard.",
    "swarm_mode.",
    "task.",
    "token_counting.",
    "tools.",
    "tower_mode.",
    "turn.",
    "usage.",
)
"""How the records of Kimi Code are named."""
_WIRE = frozenset(
    {
        "TurnBegin",
        "TurnEnd",
        "StepBegin",
        "StepInterrupted",
        "StepRetry",
        "ContentPart",
        "ToolCall",
        "ToolCallPart",
        "ToolResult",
        "StatusUpdate",
        "CompactionBegin",
        "CompactionEnd",
        "SteerInput",
        "SubagentEvent",
        "ApprovalRequest",
        "ApprovalResponse",
        "ApprovalRequestResolved",
        "ToolCallRequest",
        "QuestionRequest",
        "PlanDisplay",
        "HookTriggered",
        "HookResolved",
        "MCPLoadingBegin",
        "MCPLoadingEnd",
        "TurnCancel",
        "Notification",
    }
)
"""Messages on the wire of kimi-cli."""
_MARKS = frozenset({"_checkpoint", "_usage", "_system_prompt"})


def fit(sample: Sample) -> Fit:
    """How many of a file's first records are lines of a wire or of a context."""
    roles = {string_of(record, "role") for record in sample.records}
    is_context = bool(roles & _MARKS)
    if not is_context and not any(map(_is_mark, sample.records)):
        return Fit(0, len(sample.records), "no `protocol_version`")
    return fit_records(sample, lambda record: _find_misfit(record, is_context))


def _is_mark(record: Any) -> bool:
    """Whether a record is one that only these logs have."""
    kind = string_of(record, "type")
    message = object_of(record, "message")
    return (
        kind.startswith(("context.append_", "turn.prompt"))
        or (kind == "metadata" and "protocol_version" in record)
        or ("payload" in message and string_of(message, "type") in _WIRE)
    )


def _find_misfit(record: Any, is_context: bool) -> str:
    if not is_object(record):
        return "not an object"
    kind, message = record.get("type"), record.get("message")
    if isinstance(kind, str) and kind.startswith(_GROUPS):
        return ""
    if kind in ("metadata", "forked"):
        return "" if "protocol_version" in record or kind == "forked" else "no `protocol_version`"
    if is_object(message) and "payload" in message:
        return "" if string_of(message, "type") in _WIRE else "no message of the wire"
    return "" if is_context and "role" in record else "no `type` of Kimi"


def is_side_file(sample: Sample, folder: Folder) -> bool:
    """Whether a file is what a session's wire holds too, or its state."""
    record = sample.records[0] if sample.records else None
    names = folder.list_names()
    if is_object(record) and "agents" in record and "agents" in names:
        return True
    roles = {string_of(record, "role") for record in sample.records}
    return bool(roles & _MARKS) and "wire.jsonl" in names


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """The session of a file, sub-agents apart."""
    session = _Session(source.name)
    return read_lines_into(source, session.add, session.finish)


class _Session:
    """A session as it is replayed."""

    def __init__(self, path: str) -> None:
        self.agent, self.name = _read_place(path)
        self.trail = Trail()
        self.agents: dict[str, Trail] = {}
        self.starts: dict[str, int] = {}
        self.reply = _Reply()
        self.replies: dict[str, _Reply] = {}
        self.waiting: list[RawMessage] = []
        """What was typed and did not reach the context yet."""
        self.model = ""

    def add(self, value: Any) -> None:
        """Take a line in."""
        record = require_object(value)
        kind = record.get("type")
        message = record.get("message")
        if isinstance(record.get("role"), str):
            self._add_row(record)
        elif is_object(message) and "payload" in message and not isinstance(kind, str):
            time = fields.epoch(record.get("timestamp"))
            self._add_wire(string_of(message, "type"), object_of(message, "payload"), time)
        elif isinstance(kind, str):
            self._add_record(record, kind, fields.epoch(record.get("time")))
        else:
            raise RecordError("it has no `type`")

    def _add_row(self, record: Mapping[str, Any]) -> None:
        """A line of `context.jsonl`."""
        if record["role"].startswith("_"):
            skip(NAME, record["role"])
            return
        messages = [m for m in read_message(record) if m.content or m.tool_calls]
        if messages:
            self.trail.add(messages)

    def _add_record(self, record: Mapping[str, Any], kind: str, time: float | None) -> None:
        """A record of Kimi Code."""
        if kind in ("turn.prompt", "turn.steer"):
            self._note_prompt(record, time)
        elif kind == "context.append_message":
            self._append(object_of(record, "message"), time)
        elif kind == "context.append_loop_event":
            self._add_event(object_of(record, "event"), time)
        elif kind in ("turn.cancel", "prompt.aborted", "turn.step.interrupted"):
            self._flush()
            self.trail.tell([INTERRUPTED])
        elif kind == "context.undo":
            self._flush()
            count = record.get("count")
            self.trail.take_back_turns(count if isinstance(count, int) and count > 0 else 1)
        elif kind == "context.apply_compaction":
            self._flush()
            summary = string_of(record, "contextSummary", "summary")
            summary = summary or read_content(object_of(record, "summary").get("content")).text
            if summary:
                self.trail.add([RawMessage("user", summary, time, author="machine")])
        else:
            if kind == "llm.request":
                self.model = self.model or string_of(record, "model")
            skip(NAME, kind)

    def _note_prompt(self, record: Mapping[str, Any], time: float | None) -> None:
        text = read_content(record.get("input")).text
        if object_of(record, "origin").get("kind", "user") == "user" and text.strip():
            self.waiting.append(RawMessage("user", text, time))

    def _append(self, message: Mapping[str, Any], time: float | None) -> None:
        """A message that came into the context."""
        self._flush()
        origin = object_of(message, "origin").get("kind", "user")
        calls = tuple(read_call(c) for c in list_of(message, "toolCalls") if is_object(c))
        value = {**message, "tool_call_id": string_of(message, "toolCallId"), "toolCalls": ()}
        messages: list[RawMessage] = []
        for one in read_message(value, time=time):
            if one.role == "assistant":
                one = msgspec.structs.replace(one, tool_calls=(*one.tool_calls, *calls))
            elif one.role == "user" and origin != "user":
                one = msgspec.structs.replace(one, author="machine")
            if one.content or one.tool_calls:
                messages.append(one)
            if one.role == "user" and origin == "user":
                self._settle(one.content)
        if messages:
            self.trail.add(messages)

    def _settle(self, text: str) -> None:
        """Something typed came into the context: it waits no longer."""
        same = [w for w in self.waiting if w.content.strip() in text]
        for waiting in (same or self.waiting)[:1]:
            self.waiting.remove(waiting)

    def _add_event(self, event: Mapping[str, Any], time: float | None) -> None:
        """An event of the loop."""
        kind = event.get("type")
        if kind in ("step.begin", "step.end"):
            self._flush()
        elif kind == "content.part":
            self.reply.add_part(event.get("part"), time)
        elif kind == "tool.call":
            given = event.get("args")
            arguments = given if isinstance(given, str) else to_json({} if given is None else given)
            self.reply.calls.append(
                ToolCall(string_of(event, "name"), arguments, string_of(event, "toolCallId"))
            )
            self.reply.time = self.reply.time or time
        elif kind == "tool.result":
            result = object_of(event, "result")
            self._add_result(self.trail, self.reply, string_of(event, "toolCallId"), result, time)
        else:
            skip(NAME, kind if isinstance(kind, str) else "events without a type")

    def _add_result(
        self, trail: Trail, reply: _Reply, call: str, result: Mapping[str, Any], time: float | None
    ) -> None:
        names = {c.id: c.name for c in reply.calls}
        names.update(
            {c.id: c.name for s in trail.steps[-4:] for m in s.messages for c in m.tool_calls}
        )
        reply.flush(trail, self.model)
        text = read_output(result.get("output")) or string_of(result, "message", "note")
        failed = result.get("isError", result.get("is_error"))
        if not text:
            skip(NAME, "results without content")
            return
        if "rejected by the user" in text[:300]:
            trail.tell([DENIED])
        failed = failed if isinstance(failed, bool) else None
        answer = ToolResult(text, call, names.get(call, ""), failed)
        trail.add([make_tool_message(answer, time=time)])

    def _add_wire(self, kind: str, payload: Mapping[str, Any], time: float | None) -> None:
        """A message on the wire of kimi-cli."""
        if kind == "SubagentEvent":
            self._add_subagent(payload, time)
        elif kind == "ApprovalResponse" and payload.get("response") == "reject":
            self._flush()
            self.trail.tell([DENIED])
        elif not self._replay(self.trail, self.reply, kind, payload, time):
            skip(NAME, kind)

    def _replay(
        self, trail: Trail, reply: _Reply, kind: str, payload: Mapping[str, Any], time: float | None
    ) -> bool:
        """Take a message in that belongs to an agent's talk; false where it is none of it."""
        if kind in ("TurnBegin", "SteerInput"):
            reply.flush(trail, self.model)
            text = read_content(payload.get("user_input")).text
            if text.strip():
                trail.add([RawMessage("user", text, time)])
        elif kind == "ContentPart":
            reply.add_part(payload, time)
        elif kind == "ToolCall":
            reply.calls.append(read_call(payload))
            reply.time = reply.time or time
        elif kind == "ToolCallPart" and reply.calls:
            more = string_of(payload, "arguments_part")
            last = reply.calls[-1]
            reply.calls[-1] = msgspec.structs.replace(last, arguments=last.arguments + more)
        elif kind == "ToolResult":
            result = object_of(payload, "return_value") or object_of(payload, "result")
            self._add_result(trail, reply, string_of(payload, "tool_call_id"), result, time)
        elif kind == "StepInterrupted":
            reply.flush(trail, self.model)
            trail.tell([INTERRUPTED])
        elif kind in ("StepBegin", "TurnEnd"):
            reply.flush(trail, self.model)
        else:
            return False
        return True

    def _add_subagent(self, payload: Mapping[str, Any], time: float | None) -> None:
        call = string_of(payload, "task_tool_call_id", "parent_tool_call_id", "agent_id")
        event = object_of(payload, "event")
        if call not in self.agents:
            self._flush()
            self.agents[call] = Trail()
            self.replies[call] = _Reply()
            self.starts[call] = _find_call(self.trail, call)
        trail, reply = self.agents[call], self.replies[call]
        kind = string_of(event, "type")
        if not self._replay(trail, reply, kind, object_of(event, "payload"), time):
            skip(NAME, kind)

    def _flush(self) -> None:
        self.reply.flush(self.trail, self.model)

    def finish(self) -> Iterator[RawConversation]:
        """The session, and its sub-agents'."""
        self._flush()
        if self.waiting:
            self.trail.add(self.waiting)
        parent = ""
        name = self.name
        if self.agent:
            parent, name = self.name, f"{self.name}~{self.agent}" if self.name else ""
            for step in self.trail.steps:
                step.messages = disown(step.messages)
        if self.agents and not name:
            name = self.trail.make_name()
        base = RawConversation((), name, model=self.model, source=NAME, parent=parent)
        yield from self.trail.build(base)
        for number, (call, trail) in enumerate(self.agents.items(), 1):
            self.replies[call].flush(trail, self.model)
            for step in trail.steps:
                step.messages = disown(step.messages)
            child = msgspec.structs.replace(
                base,
                id=f"{name}~{call or number}",
                parent=name,
                parent_at=self.starts[call],
            )
            yield from trail.build(child)


class _Reply:
    """An answer on its way to a message."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.calls: list[ToolCall] = []
        self.time: float | None = None

    def add_part(self, part: Any, time: float | None) -> None:
        """Take a part in; thoughts are left out."""
        if object_of({"part": part}, "part").get("type") == "think":
            return
        if text := read_content(part).text:
            self.texts.append(text)
            self.time = self.time or time

    def flush(self, trail: Trail, model: str) -> None:
        """Put what is complete on a trail."""
        text = "".join(self.texts)
        if text.strip() or self.calls:
            calls = tuple(self.calls)
            trail.add([RawMessage("assistant", text, self.time, model=model, tool_calls=calls)])
        self.texts, self.calls, self.time = [], [], None


def _find_call(trail: Trail, call: str) -> int:
    messages = [m for step in trail.live_steps() for m in step.messages]
    places = (i for i, m in enumerate(messages) if any(c.id == call for c in m.tool_calls))
    return next(places, -1)


def _read_place(path: str) -> tuple[str, str]:
    """The sub-agent and the session of a file, as the folders around it say.

    >>> _read_place("sessions/wd/ses_1/agents/main/wire.jsonl")
    ('', 'ses_1')
    """
    parts: Iterable[str] = os.path.dirname(path).replace("\\", "/").split("/")
    folders = [part for part in parts if part]
    if len(folders) >= 3 and folders[-2] == "agents":
        agent = "" if folders[-1] == "main" else folders[-1]
        return agent, folders[-3]
    name = folders[-1] if folders else ""
    return "", name if len(name) >= 30 and name.count("-") >= 4 else ""
