"""Gemini CLI's sessions (`~/.gemini/tmp/*/chats`): one object up to version 0.39, then JSON lines
of a header, messages, changes (`$set`) and rewinds; and what `/chat save` writes.

Lines with one id replace each other. `$set` of `messages` is what a compaction left of a session
that is here in full.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from upshot.errors import RecordError
from upshot.io.files import Input
from upshot.io.json_values import is_array, is_object
from upshot.records import BadRecord, RawConversation, RawMessage
from upshot.sources import fields
from upshot.sources.agent_lines import (
    Trail,
    disown,
    facts_of,
    list_of,
    make_turn,
    object_of,
    read_lines_into,
    require_object,
    string_of,
    take_each,
)
from upshot.sources.agent_steps import DENIED, INTERRUPTED, News
from upshot.sources.detection import Fit, Sample, fit_records
from upshot.sources.messages import (
    ToolResult,
    make_tool_message,
    read_call,
    read_content,
    read_messages,
    read_output,
)
from upshot.sources.notes import skip

NAME = "gemini-cli"
_MODEL_TYPES = frozenset({"gemini", "model", "qwen"})
_ASIDES = frozenset({"info", "warning", "error"})
"""What the program said to the person; the model does not see it."""
_TYPES = frozenset({"user", *_MODEL_TYPES, *_ASIDES})
_CANCELLED = re.compile(r"request cancelled|user cancelled|cancelled by (?:the )?user", re.I)
_DENIED = re.compile(r"user did not allow|user (?:denied|rejected)", re.I)
_EXIT_CODE = re.compile(r"(?:^|\n|\\n)Exit Code: (-?\d{1,5})\b")
_REFERENCED = re.compile(
    r"\s*--- Content from referenced files ---.*?(?:--- End of content ---|\Z)", re.DOTALL
)
"""How files that the person named with @ follow their words."""
_SETUP = re.compile(r"\s*This is the (?:Gemini CLI|Qwen Code)\. We are setting up the context")


def fit(sample: Sample) -> Fit:
    """How many of a file's first records are sessions, or lines of one."""
    if not any(map(_is_mark, sample.records)):
        return Fit(0, len(sample.records), "no `sessionId` of Gemini CLI")
    return fit_records(sample, _find_misfit)


def _is_mark(record: Any) -> bool:
    """Whether a record is one that only these logs have; information and errors are in many."""
    if not is_object(record):
        return False
    if string_of(record, "type") in ("gemini", "qwen") or "$rewindTo" in record:
        return True
    return "type" not in record and ("sessionId" in record or _is_checkpoint(record))


def _find_misfit(record: Any) -> str:
    if not is_object(record):
        return "not an object"
    if "$set" in record or "$rewindTo" in record:
        return ""
    if "type" not in record and isinstance(record.get("sessionId"), str):
        messages = record.get("messages")
        if is_array(messages):
            reasons = [_find_message_misfit(message) for message in messages[:20]]
            is_ours = not reasons or reasons.count("") * 2 > len(reasons)
            return "" if is_ours else next(filter(None, reasons))
        return "" if "projectHash" in record else "no `projectHash`"
    if _is_checkpoint(record):
        return ""
    return _find_message_misfit(record)


def _find_message_misfit(record: Any) -> str:
    if not is_object(record) or string_of(record, "type") not in _TYPES:
        return "no `type` that is user or gemini"
    if any(name in record for name in ("uuid", "message", "role")) or "id" not in record:
        return "it is no message of Gemini CLI"
    if any(name in record for name in ("content", "parts", "toolCalls")):
        return "" if "timestamp" in record else "no `timestamp`"
    return "no `content`"


def _is_checkpoint(record: Mapping[str, Any]) -> bool:
    """Whether an object is what `/chat save` or a checkpoint before an edit writes."""
    turns = record.get("clientHistory", record.get("history"))
    return (
        is_array(turns)
        and bool(turns)
        and all(is_object(turn) and is_array(turn.get("parts")) for turn in turns[:20])
    )


def is_side_file(sample: Sample, folder: object) -> bool:
    """Whether a file only lists what was typed (`logs.json`); the sessions hold it too."""
    del folder
    return bool(sample.records) and all(
        is_object(record) and {"sessionId", "messageId", "type", "message"} == set(record) - _STAMP
        for record in sample.records
    )


_STAMP = frozenset({"timestamp"})


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """The sessions of a file."""
    folder = os.path.basename(os.path.dirname(source.name))
    log = _Log(folder)
    return read_lines_into(source, log.add, log.finish)


class _Log:
    """The sessions of a file, one after the other."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.sessions = [_Session()]

    def add(self, value: Any) -> None:
        record = require_object(value)
        session = self.sessions[-1]
        if _is_checkpoint(record):
            self.sessions += [_read_checkpoint(record), _Session()]
        elif "$rewindTo" in record:
            session.trail.take_back(string_of(record, "$rewindTo"))
        elif "$set" in record:
            session.change(object_of(record, "$set"))
        elif "type" not in record and ("sessionId" in record or "messages" in record):
            name = string_of(record, "sessionId")
            if session.facts and session.facts.get("sessionId") != name:
                session = _Session()
                self.sessions.append(session)
            session.change(record)
        else:
            session.add(record)

    def finish(self) -> Iterator[RawConversation]:
        for session in self.sessions:
            yield from session.build(self.folder)


class _Session:
    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.trail = Trail()
        self.answered: set[str] = set()
        """Ids of the calls whose results are here."""
        self.texts: set[str] = set()

    def change(self, record: Mapping[str, Any]) -> None:
        """Take a header or a change in."""
        for name in ("sessionId", "startTime", "kind", "directories"):
            if record.get(name):
                self.facts[name] = record[name]
        messages = list_of(record, "messages")
        if not self.trail.steps:
            take_each(NAME, messages, self.add)
        elif messages:
            skip(NAME, "histories after a compaction")
            take_each(NAME, messages, self._add_compacted)

    def _add_compacted(self, value: Any) -> None:
        """A message that only the compacted history holds: the summary; nobody typed it."""
        record = require_object(value)
        if string_of(record, "id") in self.trail:
            return
        for message in _read_record(record)[0]:
            text = message.content.strip()
            if message.role == "user" and text and text not in self.texts:
                summary = msgspec.structs.replace(message, author="machine", spans=())
                self.trail.add([summary], name=string_of(record, "id"))
                self.texts.add(text)

    def add(self, value: Any) -> None:
        """Take a message in."""
        record = require_object(value)
        kind = string_of(record, "type")
        if kind not in _TYPES:
            if not kind:
                raise RecordError("a message has no `type`")
            skip(NAME, kind)
            return
        messages, news = _read_record(record)
        if kind in _ASIDES:
            skip(NAME, kind)
        elif not messages:
            skip(NAME, "messages without content")
        if kind == "user":  # a history may hold the results of calls once more
            messages = [m for m in messages if m.refs.get("call", "") not in self.answered]
        answered = {m.refs.get("call", "") for m in messages if m.role == "tool"}
        self.answered.update(answered - {""})
        self.texts.update(m.content.strip() for m in messages)
        name = string_of(record, "id")
        self.trail.add(messages, name=name)
        self.trail.tell(news, f"{name}~news")

    def build(self, folder: str) -> Iterator[RawConversation]:
        is_agent = self.facts.get("kind") == "subagent"
        if is_agent:
            for step in self.trail.steps:
                step.messages = disown(step.messages)
        name = string_of(self.facts, "sessionId")
        directories = [d for d in list_of(self.facts, "directories") if isinstance(d, str)]
        base = RawConversation(
            (),
            name,
            started_at=fields.epoch(self.facts.get("startTime")),
            source=NAME,
            metadata={"cwd": directories[0]} if directories else {},
            parent=folder if is_agent and folder not in ("", "chats", name) else "",
            refs={"session": name} if name else {},
        )
        yield from self.trail.build(base)


def _read_record(record: Mapping[str, Any]) -> tuple[list[RawMessage], list[News]]:
    """The messages of a record, and what it says of the last response."""
    kind = string_of(record, "type")
    time = fields.epoch(record.get("timestamp"))
    content = record.get("content")
    if content in (None, "", []):
        content = record.get("parts")
    if kind in _ASIDES:
        text = read_content(content).text
        return [], [INTERRUPTED] if _CANCELLED.search(text) else []
    if kind == "user":
        return _read_turn(record, content, time), []
    return _read_response(record, content, time)


def _read_turn(record: Mapping[str, Any], content: Any, time: float | None) -> list[RawMessage]:
    parts = read_content(content)
    messages = [make_tool_message(result, time=time) for result in parts.results]
    shown = read_content(record.get("displayContent")).text.strip()
    if parts.text.strip() or shown:
        messages.append(read_typed(parts.text, shown, time, string_of(record, "id")))
    return messages


def find_typed(text: str, shown: str = "") -> list[tuple[int, int]]:
    """The stretches of a turn that the person typed: what the log says was shown to them as theirs,
    else what is no file that was put behind their words, nor the program's own setting out.

    >>> find_typed("see @a\\n--- Content from referenced files ---\\nx")
    [(0, 6)]
    """
    if shown and (start := text.find(shown)) >= 0:
        return [(start, start + len(shown))]
    if _SETUP.match(text):
        return []
    stretches: list[tuple[int, int]] = []
    last = 0
    for match in _REFERENCED.finditer(text):
        stretches.append((last, match.start()))
        last = match.end()
    stretches.append((last, len(text)))
    return [(start, end) for start, end in stretches if text[start:end].strip()]


def read_typed(text: str, shown: str, time: float | None, name: str) -> RawMessage:
    """A person's turn; `shown`: their words, where the log says them."""
    if shown and shown not in text:
        text = f"{shown}\n{text}" if text else shown
    typed = find_typed(text, shown)
    if typed == [(0, len(text))]:
        return RawMessage("user", text, time, refs={"message": name} if name else {})
    return make_turn(text, typed, time, name)


def _read_response(
    record: Mapping[str, Any], content: Any, time: float | None
) -> tuple[list[RawMessage], list[News]]:
    parts = read_content(content)
    records = [call for call in list_of(record, "toolCalls") if is_object(call)]
    names = {string_of(call, "id") for call in records} - {""}
    own = [call for call in parts.calls if call.id not in names]
    calls = (*own, *(read_call(call) for call in records))
    if not parts.text and not calls:
        return [], []
    refs = {"message": name} if (name := string_of(record, "id")) else {}
    response = RawMessage(
        "assistant",
        parts.text,
        time,
        model=string_of(record, "model"),
        tool_calls=tuple(calls),
        refs=refs,
    )
    tools = [result for call in records if (result := _read_result(call, time)) is not None]
    return [response, *tools], [DENIED] if any(map(_is_denied, records)) else []


def _is_denied(call: Mapping[str, Any]) -> bool:
    if call.get("status") != "cancelled":
        return False
    return bool(_DENIED.search(_result_text(call)))


def _result_text(call: Mapping[str, Any]) -> str:
    result = call.get("result")
    texts: list[str] = []
    for part in result if is_array(result) else [result]:
        response = object_of(part, "functionResponse", "response")
        if set(response) == {"error"}:
            texts.append(read_output(response["error"]))
        elif response:
            texts.append(read_output(response))
        elif part is not None:
            texts.append(read_content(part).text)
    text = "\n".join(filter(None, texts))
    shown = call.get("resultDisplay")
    return text or (shown if isinstance(shown, str) else "")


def _read_result(call: Mapping[str, Any], time: float | None) -> RawMessage | None:
    text = _result_text(call)
    status = call.get("status")
    if not text and status not in ("success", "error", "cancelled"):
        return None
    failed = {"success": False, "error": True}.get(status) if isinstance(status, str) else None
    message = make_tool_message(
        ToolResult(text, string_of(call, "id"), string_of(call, "name"), failed),
        time=fields.epoch(call.get("timestamp")) or time,
    )
    if exit_code := _EXIT_CODE.search(text):
        message = msgspec.structs.replace(message, status=int(exit_code.group(1)))
    return message


def _read_checkpoint(record: Mapping[str, Any]) -> _Session:
    session = _Session()
    turns: Sequence[Any] = record.get("clientHistory") or record.get("history") or ()
    for message in read_messages(turns):
        if message.role == "user" and not message.spans:
            message = read_typed(message.content, "", message.time, "")
        session.trail.add([message])
    session.facts.update(facts_of(record, tag="tag"))
    return session
