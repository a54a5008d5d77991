"""opencode's sessions: what `opencode export` and `opencode run --format json` print, and its
storage folder, where a session, each of its messages and each part of a message are files.

The session's file is the main one; its reader reads the others. What `/undo` took back is what the
session says under `revert`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from upshot.errors import RecordError
from upshot.io.files import Bad, Input, read_json
from upshot.io.json_text import decode
from upshot.io.json_values import is_array, is_object
from upshot.io.streams import Folder
from upshot.records import BadRecord, RawConversation, RawMessage, ToolCall
from upshot.sources import fields
from upshot.sources.agent_lines import (
    Trail,
    disown,
    facts_of,
    list_of,
    object_of,
    string_of,
    take_each,
)
from upshot.sources.agent_steps import DENIED, INTERRUPTED, News, Part, join_turn
from upshot.sources.detection import Fit, Sample, fit_records
from upshot.sources.messages import ToolResult, make_tool_message, read_content, to_json
from upshot.sources.notes import skip
from upshot.sources.reading import read_each

NAME = "opencode"
_SILENT = frozenset(
    {"reasoning", "step-start", "step-finish", "snapshot", "patch", "agent", "retry", "compaction"}
)
"""Parts that are no words of anybody."""
_EVENTS = frozenset({"text", "tool_use", "step_start", "step_finish", "error", "reasoning"})
_REFUSED = ("The user rejected permission", "rejected permission to use")


class _Entry(NamedTuple):
    """A message with its parts."""

    info: Mapping[str, Any]
    parts: Sequence[Any]


def fit(sample: Sample) -> Fit:
    """How many of a file's first records are sessions, messages or parts."""
    return fit_records(sample, _find_misfit)


def _find_misfit(record: Any) -> str:
    if not is_object(record):
        return "not an object"
    if is_array(record.get("messages")) and is_object(record.get("info")):
        entries = record["messages"]
        good = sum(map(_is_entry, entries[:20]))
        return "" if good * 2 > len(entries[:20]) else "no `messages` of `info` and `parts`"
    if _is_entry(record) or _is_session(record) or _is_message(record) or _is_part(record):
        return ""
    event = string_of(record, "type") in _EVENTS and "sessionID" in record
    return "" if event and ("part" in record or "error" in record) else "no `sessionID`"


def _is_entry(value: Any) -> bool:
    return (
        is_object(value)
        and is_object(value.get("info"))
        and is_array(value.get("parts"))
        and string_of(value["info"], "role") in ("user", "assistant")
    )


def _is_session(record: Mapping[str, Any]) -> bool:
    times = object_of(record, "time")
    marks = ("projectID", "directory", "version", "slug", "share")
    return (
        "title" in record
        and isinstance(record.get("id"), str)
        and "created" in times
        and any(name in record for name in marks)
    )


def _is_message(record: Mapping[str, Any]) -> bool:
    return (
        "sessionID" in record
        and string_of(record, "role") in ("user", "assistant")
        and is_object(record.get("time"))
    )


def _is_part(record: Mapping[str, Any]) -> bool:
    return all(isinstance(record.get(n), str) for n in ("sessionID", "messageID", "type"))


def is_side_file(sample: Sample, folder: Folder) -> bool:
    """Whether a file lies in a storage folder and is no session's main file."""
    record = sample.records[0] if sample.records else None
    if is_object(record) and _is_session(record) and "sessionID" not in record:
        return False
    places = ("../..", "..", "../../..")  # the nearest for most files first: parts and messages
    return any({"session", "message"} <= set(folder.list_names(p)) for p in places) or any(
        {"info", "message"} <= set(folder.list_names(p)) for p in places
    )


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """The sessions of a file."""

    def parse(record: Any) -> list[RawConversation]:
        return _read_session(record, source.folder)

    loose: list[_Entry] = []
    stream: dict[str, list[Mapping[str, Any]]] = {}
    for position, value in read_json(source):
        if isinstance(value, Bad):
            yield BadRecord(source.name, position, value.reason)
        elif _is_entry(value):
            loose.append(_Entry(value["info"], value["parts"]))
        elif is_object(value) and is_object(value.get("part")):
            stream.setdefault(string_of(value, "sessionID"), []).append(value)
        elif is_object(value) and string_of(value, "type") in _EVENTS and "sessionID" in value:
            skip(NAME, string_of(value, "type"))
        else:
            yield from read_each(source, iter([(position, value)]), parse)
    if loose:
        name = string_of(loose[0].info, "sessionID")
        whole = iter([("whole file", ({"id": name}, loose))])
        yield from read_each(source, whole, lambda pair: _make_session(*pair))
    for name, events in stream.items():
        whole = iter([("whole file", ({"id": name}, _join_stream(events)))])
        yield from read_each(source, whole, lambda pair: _make_session(*pair))


def _join_stream(events: Iterable[Mapping[str, Any]]) -> list[_Entry]:
    """The parts that a run printed, by message; the request is not printed."""
    parts: dict[str, list[Any]] = {}
    for event in events:
        part = object_of(event, "part")
        parts.setdefault(string_of(part, "messageID"), []).append(part)
    return [_Entry({"id": name, "role": "assistant"}, own) for name, own in parts.items()]


def _read_session(record: Any, folder: Folder) -> list[RawConversation]:
    if not is_object(record):
        raise RecordError("not an object")
    if "messages" in record:
        entries = [_Entry(e["info"], e["parts"]) for e in record["messages"] if _is_entry(e)]
        if len(entries) < len(record["messages"]):
            skip(NAME, "messages of another shape", len(record["messages"]) - len(entries))
        return _make_session(object_of(record, "info"), entries)
    if not _is_session(record):
        raise RecordError("it is a part of a session whose main file is not here")
    entries = _load_entries(folder, string_of(record, "id"))
    place = _find_place(folder, string_of(record, "parentID"), string_of(record, "id"))
    return _make_session(record, entries, place)


_LAYOUTS = (("../../message/{s}", "../../part/{m}"), ("../message/{s}", "../part/{s}/{m}"))
"""Where messages and parts lie beside a session's file: since 0.6, and before."""


def _load_entries(folder: Folder, session: str) -> list[_Entry]:
    if not session or "/" in session or ".." in session:
        raise RecordError("its `id` is no name of a file")
    for messages, parts in _LAYOUTS:
        infos = _load_all(folder, messages.format(s=session))
        if infos:
            return [
                _Entry(info, list_of(info, "parts") or _load_parts(folder, parts, session, info))
                for info in sorted(infos, key=_order_of)
            ]
    return []


def _load_parts(
    folder: Folder, place: str, session: str, info: Mapping[str, Any]
) -> list[Mapping[str, Any]]:
    name = string_of(info, "id")
    return [] if "/" in name or ".." in name else _load_all(folder, place.format(s=session, m=name))


def _load_all(folder: Folder, place: str) -> list[Mapping[str, Any]]:
    """The objects in the files of a folder, in the order of their names."""
    records: list[Mapping[str, Any]] = []
    for name in folder.list_names(place):
        try:
            value = decode(folder.read(f"{place}/{name}") or b"null")
        except ValueError:
            value = None
        if is_object(value):
            records.append(value)
        elif name.endswith(".json"):
            skip(NAME, "files that are no JSON objects")
    return records


def _order_of(info: Mapping[str, Any]) -> tuple[float, str]:
    times = object_of(info, "time") or object_of(info, "metadata", "time")
    return fields.epoch(times.get("created")) or 0.0, string_of(info, "id")


def _find_place(folder: Folder, parent: str, child: str) -> int:
    """Index of the parent's message that started a sub-agent; -1: it is not there."""
    if not parent or "/" in parent or ".." in parent:
        return -1
    trail = Trail()
    for entry in _load_entries(folder, parent):
        started = [
            part
            for part in entry.parts
            if child in _sessions_of(object_of(part, "state", "metadata"))
        ]
        before = sum(len(step.messages) for step in trail.steps)
        messages = [m for group in _read_entry(entry) for m in group.messages]
        if started:
            call = string_of(started[0], "callID")
            for offset, message in enumerate(messages):
                if any(c.id == call for c in message.tool_calls):
                    return before + offset
        trail.add(messages)
    return -1


def _sessions_of(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    return (string_of(metadata, "sessionID"), string_of(metadata, "sessionId"))


def _make_session(
    info: Mapping[str, Any], entries: Sequence[_Entry], parent_at: int = -1
) -> list[RawConversation]:
    trail = Trail()

    def take(entry: _Entry) -> None:
        name = string_of(entry.info, "id")
        for number, group in enumerate(_read_entry(entry)):
            trail.add(group.messages, name=f"{name}.{number}" if number else name)
            trail.tell(group.news, f"{name}.{number} news")

    take_each(NAME, entries, take)
    reverted = string_of(object_of(info, "revert"), "messageID")
    if reverted and reverted in trail:
        trail.take_back(reverted)
    parent = string_of(info, "parentID")
    if parent:
        for step in trail.steps:
            step.messages = disown(step.messages)
    name = string_of(info, "id")
    base = RawConversation(
        (),
        name,
        started_at=fields.epoch(object_of(info, "time").get("created")),
        source=NAME,
        metadata=facts_of(info, cwd="directory", version="version"),
        parent=parent,
        parent_at=parent_at,
        refs={"session": name} if name else {},
    )
    conversations = trail.build(base)
    if not conversations:
        raise RecordError("the session holds no messages")
    return conversations


class _Group(NamedTuple):
    """Words and calls with their results, and what they say of the response."""

    messages: list[RawMessage]
    news: list[News]


def _read_entry(entry: _Entry) -> list[_Group]:
    """What one message of opencode holds: an answer goes on after each of its calls."""
    info = entry.info
    times = object_of(info, "time") or object_of(info, "metadata", "time")
    time = fields.epoch(times.get("created"))
    parts = [part for part in entry.parts if is_object(part)]
    if info.get("role") == "user":
        return [_Group(_read_turn(parts, time, string_of(info, "id")), [])]
    model = string_of(info, "modelID") or string_of(object_of(info, "model"), "modelID")
    model = model or string_of(object_of(info, "metadata", "assistant"), "modelID")
    groups: list[_Group] = []
    is_summary = info.get("summary") is True or info.get("mode") == "compaction"
    reply = _Reply(time, model, string_of(info, "id"), is_summary)
    for part in parts:
        groups += reply.read(part)
    groups += reply.flush()
    if string_of(object_of(info, "error"), "name") == "MessageAbortedError":
        groups.append(_Group([], [INTERRUPTED]))
    return groups


def _read_turn(
    parts: Sequence[Mapping[str, Any]], time: float | None, name: str
) -> list[RawMessage]:
    pieces: list[Part] = []
    for part in parts:
        kind = string_of(part, "type")
        if kind == "text":
            added = part.get("synthetic") is True or part.get("ignored") is True
            pieces.append(Part(string_of(part, "text"), "machine" if added else "person"))
        elif kind == "subtask":
            pieces.append(Part(string_of(part, "prompt"), "machine"))
        elif kind == "file":
            pieces += _read_file(part)
        else:
            skip(NAME, kind)
    if not any(piece.text.strip() for piece in pieces):
        skip(NAME, "turns without words")
        return []
    return [join_turn(pieces, time, name)]


def _read_file(part: Mapping[str, Any]) -> list[Part]:
    """A picture counts; another file is named in the words, and its text is a part of its own."""
    mime = string_of(part, "mime")
    if not mime.startswith(("image/", "audio/", "video/", "application/pdf")):
        skip(NAME, "file")
        return []
    data = string_of(part, "url").partition(";base64,")[2]
    return [Part(read_content({"type": mime, "data": data}).text)]


def _renew(call: Mapping[str, Any]) -> Mapping[str, Any]:
    """A call of the first versions as later ones write it."""
    is_done = call.get("state") == "result"
    state = {
        "status": "completed" if is_done else "running",
        "input": call.get("args"),
        "output": call.get("result"),
    }
    return {"tool": call.get("toolName"), "callID": call.get("toolCallId"), "state": state}


class _Reply:
    """The parts of an answer on their way to messages: words and calls up to the results."""

    def __init__(self, time: float | None, model: str, name: str, is_summary: bool) -> None:
        self.time, self.model, self.name = time, model, name
        self.is_summary = is_summary
        self.is_denied = False
        self.texts: list[str] = []
        self.calls: list[ToolCall] = []
        self.results: list[RawMessage] = []

    def read(self, part: Mapping[str, Any]) -> Iterator[_Group]:
        """Take a part in; gives what is complete before it."""
        kind = string_of(part, "type")
        if kind == "text":
            text = string_of(part, "text")
            if not text.strip():
                return
            if part.get("synthetic") is True or self.is_summary:
                yield from self.flush()
                yield _Group([RawMessage("user", text, self.time, author="machine")], [])
                return
            if self.results:
                yield from self.flush()
            self.texts.append(text)
        elif kind == "tool":
            self._read_call(part)
        elif kind == "tool-invocation":  # up to 0.3
            self._read_call(_renew(object_of(part, "toolInvocation")))
        elif kind == "step-start" and self.results:
            yield from self.flush()
        elif kind == "file":
            self.texts += [piece.text for piece in _read_file(part)]
        elif kind not in _SILENT:
            skip(NAME, kind)

    def _read_call(self, part: Mapping[str, Any]) -> None:
        state = object_of(part, "state")
        name, call = string_of(part, "tool"), string_of(part, "callID", "id")
        given = state.get("input")
        arguments = given if isinstance(given, str) else to_json(given or {})
        self.calls.append(ToolCall(name, arguments, call))
        status = state.get("status")
        if status not in ("completed", "error"):
            return
        text = read_content(state.get("output" if status == "completed" else "error")).text
        time = fields.epoch(object_of(state, "time").get("end"))
        result = ToolResult(text, call, name, True if status == "error" else None)
        message = make_tool_message(result, time=time)
        code = object_of(state, "metadata").get("exit")
        if isinstance(code, int) and not isinstance(code, bool):
            message = msgspec.structs.replace(message, status=code)
        self.is_denied = self.is_denied or any(words in text for words in _REFUSED)
        self.results.append(message)

    def flush(self) -> Iterator[_Group]:
        """What is complete."""
        if self.texts or self.calls:
            answer = RawMessage(
                "assistant",
                "\n".join(self.texts),
                self.time,
                model=self.model,
                tool_calls=tuple(self.calls),
                refs={"message": self.name} if self.name else {},
            )
            yield _Group([answer, *self.results], [DENIED] if self.is_denied else [])
        self.texts, self.calls, self.results, self.is_denied = [], [], [], False
