"""aider's chat history (`.aider.chat.history.md`).

`# aider chat started at` opens a session, `#### ` is the user, `> ` the tool, the rest the
assistant. aider ends the lines of user and tool with two spaces, which tells them from headings and
quotations in an answer; where a formatter took the spaces away, the marks alone must do.

aider writes two blank lines between an answer and what the user types next. A line that only looks
like the user's stands inside an answer and is a part of it; so is one that is missing in the
history of inputs beside the file.

Commits become `commit` events on the response they come from: one that was made before the answer's
edits were applied holds the user's own changes and is an `own_commit` of the response before. An
undo says which commit was removed and where HEAD is; both stand on the tool's message, since the
response they concern may be in an earlier session, and are resolved by hash when the user's history
is judged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import msgspec

from upshot.io.files import Bad, Input, read_lines
from upshot.records import BadRecord, RawConversation, RawMessage, Role, Signal
from upshot.sources import fields
from upshot.sources.detection import NO_FIT, Fit, Sample
from upshot.sources.notes import note

NAME = "aider"
INPUTS = ".aider.input.history"
"""Where aider keeps what was typed, beside the history of the chat."""
_START = re.compile(r"^# aider chat started at ", re.MULTILINE)
_OPENING = re.compile(r"# aider chat started at (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\s*$")
_COMMIT = re.compile(r"Commit ([0-9a-f]{7,40}) ")
_REMOVED = re.compile(r"(?:Removed:|Reverted|Undid commit) ([0-9a-f]{7,40})\b")
_HEAD_IS = re.compile(r"(?:HEAD is|Now at|Current HEAD is):?\s+([0-9a-f]{7,40})\b")
_APPLIED = re.compile(r"Applied edit to ")
_MODEL = re.compile(r"(?:Main model|Models?): (\S+) with ")
_NO_MATCH = re.compile(r"SEARCH/REPLACE block failed to match|did not conform to the edit format")
_LINT = re.compile(r"# Fix any (?:linting )?errors below")
_STOPPED = re.compile(r"^\^C KeyboardInterrupt", re.MULTILINE)
_FENCE = re.compile(r"\s{0,3}(?:```|~~~)")
_THOUGHTS = re.compile(r"(?:^-{5,}\n)?^► \*\*THINKING\*\*\n.*?^► \*\*ANSWER\*\*\n?", re.M | re.S)
"""What aider prints around a model's reasoning."""
_USER, _TOOL = "#### ", ">"


def fit(sample: Sample) -> Fit:
    """One record, where the file holds the opening of a session."""
    is_page = sample.text.lstrip().startswith("<!--")  # which may quote such a log
    return Fit(1, 1) if not is_page and _START.search(sample.text) else NO_FIT


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """One conversation a session; sessions without an answer are kept, since an undo may be all
    they hold.
    """
    inputs = _read_inputs(source)
    started, number, last, body = "", 0, 0, list[str]()
    for place, content in read_lines(source):
        if isinstance(content, Bad):
            yield BadRecord(source.name, f"line {place}", content.reason)
            continue
        line = content.decode("utf-8", "replace").rstrip("\r")
        body += [""] * (place - last - 1)  # blank lines are passed over
        last = place
        if match := _OPENING.match(line):
            yield from _read_session(started, number, body, inputs)
            started, body = match.group(1), []
            number += 1
        else:
            body.append(line)
    yield from _read_session(started, number, body, inputs)


def _read_inputs(source: Input) -> frozenset[str]:
    """The first lines of what was typed; empty where that is not known."""
    content = source.folder.read(INPUTS)
    if not content:
        return frozenset()
    lines = content.decode("utf-8", "replace").splitlines()
    return frozenset(
        line[1:].strip()
        for before, line in zip(["", *lines], lines, strict=False)
        if line.startswith("+") and not before.startswith("+")
    )


def _read_session(
    started: str, number: int, body: list[str], inputs: frozenset[str]
) -> Iterator[RawConversation]:
    messages = _read_messages(body, inputs)
    if not messages:
        return
    model = ""
    for index, message in enumerate(messages):
        if message.role == "tool" and (match := _MODEL.search(message.content)):
            model = match.group(1)
        elif message.role == "assistant" and model:
            messages[index] = msgspec.structs.replace(message, model=model)
    first = next((m.model for m in messages if m.model), model)
    yield RawConversation(
        _attach_signals(messages),
        f"aider-{started.replace(' ', 'T') or '0'}-{number}",
        "",
        fields.epoch(started) if started else None,
        first,
        NAME,
    )


def _read_messages(body: Sequence[str], inputs: frozenset[str]) -> list[RawMessage]:
    """Runs of lines of one speaker."""
    messages: list[RawMessage] = []
    speaker: Role = "assistant"
    run: list[str] = []
    blanks = 0
    for role, text in _assign_lines(body, inputs):
        if role is None:
            blanks += 1
            continue
        starts = role != speaker or (role == "user" and blanks)
        if starts and run:
            _close_run(messages, speaker, run)
        elif run and blanks:
            run += [""] * blanks
        speaker, blanks = role, 0
        run.append(text)
    _close_run(messages, speaker, run)
    return messages


def _close_run(messages: list[RawMessage], speaker: Role, run: list[str]) -> None:
    text = "\n".join(run).strip()
    if speaker == "assistant" and "► **ANSWER**" in text:
        text = _THOUGHTS.sub("", text).strip()
    if text and not (speaker == "user" and text == "<blank>"):
        messages.append(RawMessage(speaker, text))
    run.clear()


def _assign_lines(body: Sequence[str], inputs: frozenset[str]) -> Iterator[tuple[Role | None, str]]:
    """Who wrote each line, and the line without its mark; None: a blank line between."""
    intact = next((i for i, line in enumerate(body) if _is_intact(line)), len(body))
    spaced = _has_gaps(body)
    speaker: Role | None = None
    blanks, in_fence, in_output = 2, False, False
    for place, line in enumerate(body):
        if not line.strip() and not (speaker == "tool" and in_output):
            blanks += 1
            yield None, ""
            continue
        role = _detect_speaker(body, place, intact, in_fence)
        if in_output:  # a message of several lines, of which only the last ends in two spaces
            role, in_output = "tool", not line.endswith("  ")
        elif role == "tool" and place >= intact and not line.endswith("  "):
            in_output = line.strip() != _TOOL
        elif role == "user" and speaker == "assistant" and not blanks:
            role = "assistant"
        elif (
            role == "user" and speaker == "assistant" and blanks < 2 and (place >= intact or spaced)
        ):
            note("aider: lines in an answer that look like the user's")
            role = "assistant"
        if role == "user" and speaker != "user" and _is_forged(line, inputs):
            note("aider: lines that look like the user's and were not typed")
            role = "assistant"
        if role == "assistant" and _FENCE.match(line):
            in_fence = not in_fence
        elif role != "assistant":
            in_fence = False
        speaker, blanks = role, 0
        yield role, _strip_mark(role, line)


def _is_intact(line: str) -> bool:
    """Whether a line has its mark and its two spaces."""
    return line.endswith("  ") and line.startswith((_USER, _TOOL)) and line.strip() != _TOOL


def _has_gaps(body: Sequence[str]) -> bool:
    """Whether there are two blank lines between an answer and a user's line somewhere."""
    return any(
        line.startswith(_USER)
        and not body[i - 1].strip()
        and not body[i - 2].strip()
        and not body[i - 3].startswith((_USER, _TOOL))
        for i, line in enumerate(body)
        if i > 3
    )


def _detect_speaker(body: Sequence[str], place: int, intact: int, in_fence: bool) -> Role:
    line = body[place]
    if place < intact:  # a formatter took the spaces away
        if in_fence:
            return "assistant"
        if line.startswith(_USER) or line.rstrip() == _USER.strip():
            return "user"
        return "tool" if line.startswith(_TOOL) else "assistant"
    if line.startswith(_USER) and line.endswith("  "):
        return "user"
    if line.startswith(_TOOL) and (line.endswith("  ") or line.strip() == _TOOL):
        return "tool"
    if line.startswith(_TOOL + " ") and not in_fence and _ends_output(body, place):
        return "tool"
    return "assistant"


def _ends_output(body: Sequence[str], place: int) -> bool:
    """Whether the lines from here on, up to a blank one, end with two spaces."""
    for line in body[place + 1 : place + 200]:
        if not line.strip() or line.startswith((_USER, _TOOL)):
            return False
        if line.endswith("  "):
            return True
    return False


def _is_forged(line: str, inputs: frozenset[str]) -> bool:
    return bool(inputs) and line[len(_USER) :].strip() not in inputs


def _strip_mark(role: Role, line: str) -> str:
    if role == "user":
        return line[len(_USER) :].rstrip()
    if role == "tool":
        return line[1:].removeprefix(" ").rstrip() if line.startswith(_TOOL) else line.rstrip()
    return line


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
        msgspec.structs.replace(m, signals=tuple(signals[i])) if i in signals else m
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
    if response >= 0 and _STOPPED.search(text):
        yield response, Signal("interrupt", -0.5, index)
    if response >= 0 and _LINT.search(text):
        yield response, Signal("lint", -0.3, index)
