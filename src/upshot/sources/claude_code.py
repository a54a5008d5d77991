"""Claude Code's session logs: JSON lines, one session a file (`~/.claude/projects/*/*.jsonl`).

Tool results come as user lines; they are tool messages here. A tool result that is an error is a
`trace` or `exit` event on the response that called the tool; an interrupt by the user is an
`interrupt`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from upshot.errors import RecordError
from upshot.io.files import Bad, Input, read_json
from upshot.io.json_values import is_array, is_object
from upshot.records import BadRecord, RawConversation, RawMessage, Signal
from upshot.sources import fields

NAME = "claude-code"
_HEAD = re.compile(rb'"sessionId"\s*:')
_INTERRUPTED = re.compile(
    r"\[Request interrupted by user|The user doesn't want to (?:proceed|take this action)"
)
_INJECTED = re.compile(
    r"^\s*<(?:command-name|command-message|local-command-stdout|system-reminder)>"
)


def matches(head: bytes) -> bool:
    """Whether the start of a file looks like this format."""
    return _HEAD.search(head) is not None and (b'"uuid"' in head or b'"parentUuid"' in head)


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """One conversation for each session in the file, when the next begins."""
    session = ""
    turns: list[Mapping[str, Any]] = []
    for position, value in read_json(source):
        if isinstance(value, Bad) or not is_object(value):
            yield BadRecord(
                source.name, position, value.reason if isinstance(value, Bad) else "not an object"
            )
            continue
        if value.get("type") not in ("user", "assistant") or value.get("isMeta"):
            continue
        if turns and value.get("sessionId") != session:
            yield from _read_session(source.name, session, turns)
            turns = []
        session = str(value.get("sessionId") or "")
        turns.append({**value, "_position": position})
    if turns:
        yield from _read_session(source.name, session, turns)


def _read_session(
    name: str, session: str, turns: list[Mapping[str, Any]]
) -> Iterator[RawConversation | BadRecord]:
    messages: list[RawMessage] = []
    interrupts: dict[int, int] = {}
    for turn in turns:
        try:
            for message in _read_turn(turn, messages):
                if message.role != "assistant" and _INTERRUPTED.search(message.content):
                    last = max(
                        (i for i, m in enumerate(messages) if m.role == "assistant"), default=-1
                    )
                    if last >= 0:
                        interrupts[last] = len(messages)
                messages.append(message)
        except RecordError as error:
            yield BadRecord(name, turn["_position"], str(error))
    for index, at in interrupts.items():
        old = messages[index]
        signals = (*old.signals, Signal("interrupt", -0.5, at, "", messages[at].time))
        messages[index] = RawMessage(old.role, old.content, old.time, signals, old.name, old.model)
    if messages:
        first = turns[0]
        metadata = {key: first[key] for key in ("cwd", "gitBranch", "version") if first.get(key)}
        model = next((message.model for message in messages if message.model), "")
        yield RawConversation(
            tuple(messages),
            session,
            str(first.get("userId") or f"local:{first.get('cwd', '')}"),
            messages[0].time,
            model,
            NAME,
            metadata,
        )


def _read_turn(turn: Mapping[str, Any], before: list[RawMessage]) -> Iterator[RawMessage]:
    message = turn.get("message")
    if not is_object(message):
        raise RecordError("needs an object `message`")
    time = fields.epoch(turn.get("timestamp"))
    content = message.get("content")
    if turn["type"] == "assistant":
        text = fields.text(content)
        if text and before and before[-1].role == "assistant" and not before[-1].signals:
            old = before.pop()
            yield RawMessage("assistant", f"{old.content}\n{text}", old.time, (), "", old.model)
        elif text:
            yield RawMessage("assistant", text, time, (), "", str(message.get("model") or ""))
        return
    parts = content if is_array(content) else [content]
    results = [part for part in parts if is_object(part) and part.get("type") == "tool_result"]
    for part in results:
        text = fields.text(part.get("content"))
        yield RawMessage(
            "tool", f"{'exit code 1' + chr(10) if part.get('is_error') else ''}{text}", time
        )
    typed = fields.text([part for part in parts if part not in results])
    if typed and not _INJECTED.match(typed):
        yield RawMessage("user", typed, time)
