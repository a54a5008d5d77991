"""Qwen Code's sessions (`~/.qwen/projects/*/chats/*.jsonl`): a tree by `parentUuid` of records
whose message has Gemini's parts.

A rewind or an edit leaves a branch; `/branch` copies records under a new session with their ids.
"""

from __future__ import annotations

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
    disown,
    facts_of,
    make_turn,
    object_of,
    read_lines_into,
    require_object,
    string_of,
)
from upshot.sources.agent_steps import DENIED, News, Step
from upshot.sources.detection import Fit, Sample, fit_records
from upshot.sources.gemini_cli import read_typed
from upshot.sources.messages import make_tool_message, read_content
from upshot.sources.notes import skip

NAME = "qwen-code"
SHARED_IDS = True
"""A message that was copied into another session keeps its id."""
_TYPES = frozenset({"user", "assistant", "tool_result", "system"})
_TYPED = frozenset({"", "mid_turn_user_message", "user_prompt", "user_text_elements"})
"""Subtypes of what a person typed; every other turn was started by a machine."""
_DENIED = re.compile(r"user did not allow|user (?:denied|rejected|declined)", re.I)
_EXIT_CODE = re.compile(r"(?:^|\n)Exit Code: (-?\d{1,5})\b")


def fit(sample: Sample) -> Fit:
    """How many of a file's first records are records of a session."""
    return fit_records(sample, _find_misfit)


def _find_misfit(record: Any) -> str:
    if not is_object(record) or string_of(record, "type") not in _TYPES:
        return "no `type` of Qwen Code"
    if not isinstance(record.get("uuid"), str) or "sessionId" not in record:
        return "no `uuid` or `sessionId`"
    if record["type"] == "system":
        return "" if "subtype" in record else "no `subtype`"
    message = record.get("message")
    return "" if is_object(message) and "parts" in message else "no `message.parts`"


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """The sessions of a file."""
    log = _Log()
    return read_lines_into(source, log.add, log.finish)


class _Log:
    """The records of a file by session and sub-agent."""

    def __init__(self) -> None:
        self.steps: dict[tuple[str, str], list[Step]] = {}
        self.facts: dict[tuple[str, str], dict[str, Any]] = {}
        self.names: set[tuple[str, str]] = set()

    def add(self, value: Any) -> None:
        record = require_object(value)
        session = string_of(record, "sessionId")
        agent = string_of(record, "agentId") or ("agent" if record.get("isSidechain") else "")
        key = (session, agent)
        facts = self.facts.setdefault(key, {})
        for name, fact in facts_of(
            record, cwd="cwd", gitBranch="gitBranch", version="version"
        ).items():
            facts.setdefault(name, fact)
        payload = object_of(record, "systemPayload")
        if string_of(record, "subtype") == "parent_session":
            facts.setdefault("\0parent", string_of(payload, "parentSessionId"))
        origin = string_of(object_of(record, "forkedFrom"), "sessionId")
        if origin:
            facts.setdefault("\0origin", origin)
        name = string_of(record, "uuid")
        if (session, name) in self.names and name:
            skip(NAME, "copies of records")
            return
        self.names.add((session, name))
        messages, news = _read_record(record)
        steps = self.steps.setdefault(key, [])
        parent = string_of(record, "parentUuid")
        steps.append(Step(name or f"#{len(steps)}", parent, messages, news))

    def finish(self) -> Iterator[RawConversation]:
        for (session, agent), steps in self.steps.items():
            if not any(step.messages for step in steps):
                continue
            facts = dict(self.facts[session, agent])
            parent, origin = facts.pop("\0parent", ""), facts.pop("\0origin", "")
            refs = {"session": session} if session else {}
            if origin:
                refs["forked_from"] = origin
            base = RawConversation(
                (), session, source=NAME, metadata=facts, parent=parent, refs=refs
            )
            if agent:
                for step in steps:
                    step.messages = disown(step.messages)
                base = msgspec.structs.replace(
                    base, id=f"{session}~{agent}", parent=session, refs={**refs, "agent": agent}
                )
            yield from build_lines(base, steps, steps[-1].name)


def _read_record(record: Mapping[str, Any]) -> tuple[list[RawMessage], list[News]]:
    kind = string_of(record, "type")
    if kind == "system":
        return _read_system(record), []
    if kind not in _TYPES:
        if not kind:
            raise RecordError("it has no `type`")
        skip(NAME, kind)
        return [], []
    message = record.get("message")
    if not is_object(message):
        raise RecordError("it has no `message`")
    parts = read_content(message.get("parts", message.get("content")))
    time = fields.epoch(record.get("timestamp"))
    name = string_of(record, "uuid")
    if kind == "assistant":
        if not parts.text and not parts.calls:
            skip(NAME, "answers without content")
            return [], []
        model = string_of(record, "model")
        refs = {"message": name} if name else {}
        return [
            RawMessage(
                "assistant", parts.text, time, model=model, tool_calls=parts.calls, refs=refs
            )
        ], []
    results = [make_tool_message(result, time=time) for result in parts.results]
    outcome = object_of(record, "toolCallResult")
    messages = [_add_status(result, outcome) for result in results]
    if kind == "user" and parts.text.strip():
        messages.append(_read_turn(record, parts.text, time))
    denied = outcome.get("status") == "cancelled" and any(
        _DENIED.search(m.content) for m in messages
    )
    return messages, [DENIED] if denied else []


def _add_status(message: RawMessage, outcome: Mapping[str, Any]) -> RawMessage:
    if match := _EXIT_CODE.search(message.content):
        return msgspec.structs.replace(message, status=int(match.group(1)))
    status = outcome.get("status")
    code = {"success": 0, "error": 1}.get(status) if isinstance(status, str) else None
    return msgspec.structs.replace(message, status=code)


def _read_turn(record: Mapping[str, Any], text: str, time: float | None) -> RawMessage:
    """A person's turn, or what a machine puts in its place."""
    name = string_of(record, "uuid")
    typed = string_of(record, "subtype") in _TYPED
    if not typed or string_of(record, "provenance") in ("system", "goal_control", "goal_runtime"):
        return make_turn(text, (), time, name)
    shown = string_of(object_of(record, "systemPayload"), "displayText").strip()
    return read_typed(text, shown, time, name)


def _read_system(record: Mapping[str, Any]) -> list[RawMessage]:
    """What the person typed in a command that did not go to the model; the rest is counted."""
    subtype = string_of(record, "subtype")
    payload = object_of(record, "systemPayload")
    command = string_of(payload, "rawCommand").strip()
    _, _, words = command.partition(" ")
    is_typed = subtype == "slash_command" and payload.get("phase") == "invocation"
    if is_typed and words.strip() and payload.get("sentToModel") is not True:
        time = fields.epoch(record.get("timestamp"))
        typed = (len(command) - len(words), len(command))
        return [make_turn(command, [typed], time, string_of(record, "uuid"))]
    skip(NAME, subtype or "system")
    return []
