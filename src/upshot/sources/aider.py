"""aider's chat history (`.aider.chat.history.md`).

`# aider chat started at` opens a session, `#### ` is the user, `> ` the tool, the rest the
assistant. aider ends the lines of user and tool with two spaces, which tells them from headings and
quotations in an answer.

Commits become `commit` events on the response they come from: one that was made before the answer's
edits were applied holds the user's own changes and is an `own_commit` of the response before. An
undo says which commit was removed and where HEAD is; both stand on the tool's message, since the
response they concern may be in an earlier session, and are resolved by hash when the user's history
is judged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from upshot.io.files import Input
from upshot.records import BadRecord, RawConversation, RawMessage, Role, Signal
from upshot.sources import fields

NAME = "aider"
_START = re.compile(rb"^# aider chat started at ", re.MULTILINE)
_OPENING = re.compile(r"# aider chat started at (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\s*$")
_COMMIT = re.compile(r"Commit ([0-9a-f]{7,40}) ")
_REMOVED = re.compile(r"(?:Removed:|Reverted|Undid commit) ([0-9a-f]{7,40})\b")
_HEAD_IS = re.compile(r"(?:HEAD is|Now at|Current HEAD is):?\s+([0-9a-f]{7,40})\b")
_APPLIED = re.compile(r"Applied edit to ")
_MODEL = re.compile(r"(?:Main model|Models?): (\S+) with ")
_NO_MATCH = re.compile(r"SEARCH/REPLACE block failed to match|did not conform to the edit format")
_LINT = re.compile(r"# Fix any (?:linting )?errors below")
_COMMAND = re.compile(r"/(?:undo|git reset|git revert|git checkout)\b")


def matches(head: bytes) -> bool:
    """Whether the start of a file looks like this format."""
    return _START.search(head) is not None


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """One conversation a session; sessions without an answer are kept, since an undo may be all
    they hold.
    """
    path = Path(source.name).absolute()
    user = f"local:{path.parent.name}/{path.name}"
    started, number, body = "", 0, list[str]()
    for line in _decode_lines(source.stream):
        if match := _OPENING.match(line):
            if body:
                yield from _read_session(user, started, number, body)
            started, body = match.group(1), []
            number += 1
        else:
            body.append(line)
    if body:
        yield from _read_session(user, started, number, body)


def _decode_lines(stream: BinaryIO) -> Iterator[str]:
    for line in stream:
        yield line.decode("utf-8", "replace").rstrip("\r\n")


def _read_session(
    user: str, started: str, number: int, body: list[str]
) -> Iterator[RawConversation]:
    messages = _read_messages(body)
    if not messages:
        return
    when = fields.epoch(started) if started else None
    model = next(
        (
            m.group(1)
            for message in messages
            if message.role == "tool" and (m := _MODEL.search(message.content))
        ),
        "",
    )
    yield RawConversation(
        _attach_signals(messages),
        f"aider-{started.replace(' ', 'T') or '0'}-{number}",
        user,
        when,
        model,
        NAME,
    )


def _read_messages(body: list[str]) -> list[RawMessage]:
    """Runs of lines of one speaker."""
    messages: list[RawMessage] = []
    speaker: Role = "assistant"
    run: list[str] = []

    def close() -> None:
        text = "\n".join(run).strip()
        if text:
            messages.append(RawMessage(speaker, text))
        run.clear()

    for line in body:
        role, text = _detect_speaker(line)
        if role is None and not line.strip():
            if speaker == "user":  # a blank line inside what the user typed is written as `####   `
                close()
            run.append("")
            continue
        if (role or "assistant") != speaker:
            close()
            speaker = role or "assistant"
        run.append(text)
    close()
    return messages


def _detect_speaker(line: str) -> tuple[Role | None, str]:
    if line.startswith("#### ") and line.endswith("  "):
        return "user", line[5:].rstrip()
    if line.startswith(">") and (line.endswith("  ") or line.strip() == ">"):
        return "tool", line[1:].strip()
    return None, line


def _attach_signals(messages: list[RawMessage]) -> tuple[RawMessage, ...]:
    signals: dict[int, list[Signal]] = {}
    response = earlier = -1
    for index, message in enumerate(messages):
        if message.role == "assistant":
            earlier, response = response, index
        elif message.role == "tool":
            for target, signal in _read_tool_signals(message.content, index, response, earlier):
                signals.setdefault(target, []).append(signal)
    return tuple(
        RawMessage(m.role, m.content, None, tuple(signals.get(i, ()))) if i in signals else m
        for i, m in enumerate(messages)
    )


def _read_tool_signals(
    text: str, index: int, response: int, earlier: int
) -> Iterator[tuple[int, Signal]]:
    applied_at = match.start() if (match := _APPLIED.search(text)) else len(text)
    for match in _COMMIT.finditer(text):
        own = match.start() < applied_at < len(text)
        target = earlier if own else response
        if target >= 0:
            yield (
                target,
                Signal(
                    "own_commit" if own else "commit", 0.3 if own else 0.5, index, match.group(1)
                ),
            )
        else:
            yield index, Signal("own_commit", 0.3, index, match.group(1))
    for match in _REMOVED.finditer(text):
        yield index, Signal("undo", -1.0, index, match.group(1))
    for match in _HEAD_IS.finditer(text):
        yield index, Signal("head", 0.0, index, match.group(1))
    if response >= 0 and _NO_MATCH.search(text):
        yield response, Signal("build", -0.6, index)
    if response >= 0 and _LINT.search(text):
        yield response, Signal("lint", -0.3, index)
