"""Sessions of Copilot CLI (`~/.copilot/session-state/*/events.jsonl`): one event a line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from upshot.errors import RecordError
from upshot.io.files import Input
from upshot.io.json_values import is_array, is_object
from upshot.records import BadRecord, RawConversation, RawMessage
from upshot.sources import fields
from upshot.sources.agent_steps import (
    DENIED,
    INTERRUPTED,
    News,
    Step,
    build_conversations,
    split_denial,
)
from upshot.sources.detection import Fit, Sample, fit_records
from upshot.sources.messages import read_call, read_content
from upshot.sources.notes import skip
from upshot.sources.reading import describe, object_records

NAME = "copilot-cli"
_GROUPS = frozenset(
    {"session", "user", "assistant", "tool", "system", "hook", "subagent", "abort", "skill"}
)
"""First words of an event's type."""


def fit(sample: Sample) -> Fit:
    """How many of a file's first records are events of a session."""
    return fit_records(sample, _find_misfit)


def _find_misfit(record: Any) -> str:
    if not is_object(record):
        return "not an object"
    kind, data = record.get("type"), record.get("data")
    if not isinstance(kind, str) or not is_object(data):
        return "no `type` with `data`"
    group, dot, _ = kind.partition(".")
    if group not in _GROUPS or not (dot or kind == "abort"):
        return "its `type` is none of Copilot CLI's"
    return "" if "timestamp" in record or "parentId" in record else "no `timestamp`"


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """The session of a file, what was rewound in it, and its sub-agents."""
    session = _Session()
    for position, value in object_records(source):
        if isinstance(value, BadRecord):
            yield value
            continue
        try:
            session.add(value)
        except Exception as error:  # noqa: BLE001 - whatever an event holds is one bad record
            yield BadRecord(source.name, position, describe(error))
    yield from session.make_conversations()


class _Line:
    """The steps of the session, or of one sub-agent."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.tail = ""
        self.messages: dict[str, Step] = {}
        self.before: dict[str, str] = {}
        """What stood last before each event."""

    def append(self, event: str, messages: Sequence[RawMessage], news: Sequence[News] = ()) -> Step:
        """Add a step behind the last."""
        step = Step(f"{len(self.steps)} {event}", self.tail, messages, news)
        self.before.setdefault(event, self.tail)
        self.steps.append(step)
        self.tail = step.name
        return step

    def rewind(self, event: str) -> None:
        """Go on from what stood before an event."""
        if event in self.before:
            self.tail = self.before[event]
            self.append(f"rewound to {event}", ())


class _Session:
    """The events of a session as they come."""

    def __init__(self) -> None:
        self.id = ""
        self.model = ""
        self.metadata: dict[str, Any] = {}
        self.main = _Line()
        self.agents: dict[str, _Line] = {}

    def add(self, record: Mapping[str, Any]) -> None:
        """Take one event in."""
        kind, data = str(record.get("type") or ""), record.get("data")
        if not is_object(data):
            raise RecordError("needs an object `data`")
        name = record.get("id")
        event = name if isinstance(name, str) else ""
        time = fields.epoch(record.get("timestamp"))
        agent = data.get("parentToolCallId")
        line = self.main
        if isinstance(agent, str) and agent:
            line = self.agents.setdefault(agent, _Line())
        if kind in ("session.start", "session.resume", "session.model_change"):
            self._note_facts(data)
        elif kind == "user.message":
            self._add_prompt(line, event, data, time)
        elif kind == "assistant.message":
            self._add_answer(line, event, data, time)
        elif kind == "tool.execution_complete":
            self._add_result(line, event, data, time)
        elif kind in ("system.message", "system.notification", "session.compaction_complete"):
            content = data.get("content", data.get("summaryContent"))
            if isinstance(content, str) and content.strip():
                role = "system" if kind == "system.message" else "user"
                line.append(event, [RawMessage(role, content, time, author="machine")])
            else:
                skip(NAME, f"{kind} without text")
        elif kind == "abort":
            line.append(event, (), [INTERRUPTED])
        elif kind == "session.snapshot_rewind" and isinstance(data.get("upToEventId"), str):
            self.main.rewind(data["upToEventId"])
        else:
            skip(NAME, kind)

    def _note_facts(self, data: Mapping[str, Any]) -> None:
        context = data.get("context")
        if isinstance(data.get("sessionId"), str) and not self.id:
            self.id = data["sessionId"]
        model = data.get("newModel", data.get("selectedModel"))
        if isinstance(model, str):
            self.model = model
        if is_object(context):
            for name, other in (("cwd", "cwd"), ("branch", "gitBranch"), ("repository",) * 2):
                if isinstance(context.get(name), str):
                    self.metadata.setdefault(other, context[name])
        if isinstance(data.get("copilotVersion"), str):
            self.metadata.setdefault("version", data["copilotVersion"])

    def _add_prompt(
        self, line: _Line, event: str, data: Mapping[str, Any], time: float | None
    ) -> None:
        text = read_content(data.get("content")).text
        if not text.strip():
            skip(NAME, "user.message without text")
            return
        source = data.get("source")
        is_person = source in (None, "", "user", "cli") and line is self.main
        refs = {"message": event} if event else {}
        message = RawMessage("user", text, time, refs=refs)
        if not is_person:
            message = msgspec.structs.replace(message, author="machine")
        line.append(event, [message])

    def _add_answer(
        self, line: _Line, event: str, data: Mapping[str, Any], time: float | None
    ) -> None:
        text = read_content(data.get("content")).text
        requests = data.get("toolRequests")
        calls = tuple(
            read_call(request)
            for request in (requests if is_array(requests) else ())
            if is_object(request)
        )
        if not text.strip() and not calls:
            skip(NAME, "assistant.message without text")
            return
        model = data.get("model")
        message = RawMessage(
            "assistant",
            text,
            time,
            model=model if isinstance(model, str) else self.model,
            tool_calls=calls,
            refs={"message": event} if event else {},
        )
        name = data.get("messageId")
        earlier = line.messages.get(name) if isinstance(name, str) else None
        if earlier is not None and earlier is line.steps[-1]:  # as it grows
            earlier.messages[0] = message
            return
        step = line.append(event, [message])
        if isinstance(name, str):
            line.messages[name] = step

    def _add_result(
        self, line: _Line, event: str, data: Mapping[str, Any], time: float | None
    ) -> None:
        result, error, success = data.get("result"), data.get("error"), data.get("success")
        text = read_content(result.get("content") if is_object(result) else result).text
        if not text and is_object(error):
            text = str(error.get("message") or "")
        call = data.get("toolCallId")
        refs = {"call": call} if isinstance(call, str) and call else {}
        code = error.get("code") if is_object(error) else None
        status = int(not success) if isinstance(success, bool) else None
        name = data.get("toolName")
        denial = split_denial(text, is_denied=code in ("rejected", "denied"))
        messages = [
            RawMessage(
                "tool",
                denial[0] if denial else text,
                time,
                name=name if isinstance(name, str) else "",
                refs=refs,
                status=None if denial else status,
            )
        ]
        if denial and denial[1]:
            messages.append(RawMessage("user", denial[1], time))
        line.append(event, messages, [DENIED] if denial else [])

    def make_conversations(self) -> Iterator[RawConversation]:
        """The session, its branches and its sub-agents."""
        base = RawConversation(
            (),
            self.id,
            source=NAME,
            metadata=self.metadata,
            refs={"session": self.id} if self.id else {},
        )
        trunk: Sequence[RawMessage] = ()
        if any(step.messages for step in self.main.steps):
            conversations = _build(base, self.main)
            trunk = conversations[0].messages
            yield from conversations
        for agent, line in self.agents.items():
            if not any(step.messages for step in line.steps):
                continue
            at = next(
                (i for i, m in enumerate(trunk) if any(c.id == agent for c in m.tool_calls)), -1
            )
            child = msgspec.structs.replace(
                base, id=f"{self.id}~{agent}", parent=self.id, parent_at=at
            )
            yield from _build(child, line)


def _build(base: RawConversation, line: _Line) -> list[RawConversation]:
    messages = [message for step in line.steps for message in step.messages]
    base = msgspec.structs.replace(
        base,
        started_at=next((m.time for m in messages if m.time is not None), None),
        model=next((m.model for m in messages if m.model), ""),
    )
    return build_conversations(base, line.steps, line.tail)
