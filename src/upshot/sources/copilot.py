"""Chats of VS Code's Copilot: "Chat: Export" and session files (`chatSessions/*.json`), one object;
since 1.109 a journal of JSON lines: a state, then what was set, appended and deleted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import msgspec

from upshot.errors import RecordError
from upshot.io.files import Input
from upshot.io.json_values import is_array, is_object
from upshot.records import BadRecord, RawConversation, RawMessage, ToolCall
from upshot.sources import fields
from upshot.sources.agent_steps import (
    DENIED,
    INTERRUPTED,
    News,
    Step,
    build_conversations,
    merge_answer,
)
from upshot.sources.detection import Fit, Sample, fit_records
from upshot.sources.messages import to_json
from upshot.sources.notes import skip
from upshot.sources.reading import describe, object_records

NAME = "copilot-chat"
_INITIAL, _SET, _PUSH, _DELETE = range(4)
"""`kind` of a journal's lines (`EntryKind` of VS Code's object mutation log)."""
_CALLS = frozenset({"toolInvocationSerialized", "toolInvocation"})
_DENIED_KIND = 0
"""`ToolConfirmKind.Denied`."""
_CANCELLED, _FAILED = 2, 3
"""`ResponseModelState`."""
_VOTES = {0: -1.0, 1: 1.0}
"""`ChatAgentVoteDirection`: down, up."""
_UNDONE = 2
"""`ChatRequestEditedFileEventKind.Undo`."""


def fit(sample: Sample) -> Fit:
    """How many of a file's first records are sessions, or lines of a journal."""
    return fit_records(sample, _find_misfit)


def _find_misfit(record: Any) -> str:
    if not is_object(record):
        return "not an object"
    if "kind" in record and "requests" not in record:
        if record["kind"] == _INITIAL:
            return _find_misfit(record.get("v"))
        is_patch = record["kind"] in (_SET, _PUSH, _DELETE) and is_array(record.get("k"))
        return "" if is_patch else "no journal of a chat"
    requests = record.get("requests")
    if not is_array(requests):
        return "no `requests`"
    if not requests:
        is_chat = "responderUsername" in record or "initialLocation" in record
        return "" if is_chat else "no requests"
    first = requests[0]
    if not is_object(first) or "message" not in first:
        return "no `requests[].message`"
    return "" if "response" in first or "requestId" in first else "no `requests[].response`"


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """The sessions of a file, each with what was taken back in it."""
    journal: Any = None
    for position, value in object_records(source):
        if isinstance(value, BadRecord):
            yield value
            continue
        try:
            if "kind" in value and "requests" not in value:
                if value["kind"] == _INITIAL and journal is not None:
                    yield from read_session(journal)
                journal = _replay(journal, value)
            else:
                yield from read_session(value)
        except Exception as error:  # noqa: BLE001 - whatever a record holds is one bad record
            yield BadRecord(source.name, position, describe(error))
    if journal is not None:
        try:
            yield from read_session(journal)
        except Exception as error:  # noqa: BLE001
            yield BadRecord(source.name, "the journal", describe(error))


def _replay(state: Any, entry: Mapping[str, Any]) -> Any:
    """The state after a line of a journal.

    >>> _replay({"a": [1]}, {"kind": 2, "k": ["a"], "v": [2]})
    {'a': [1, 2]}
    """
    kind, path, value = entry["kind"], entry.get("k"), entry.get("v")
    if kind == _INITIAL:
        return value
    if not is_array(path) or not path:
        raise RecordError("a line of the journal has no path")
    holder = state
    for key in path[:-1]:
        holder = _look_up(holder, key)
    last = path[-1]
    if kind == _DELETE:
        if isinstance(holder, dict):
            cast(dict[str, Any], holder).pop(last, None)
    elif kind == _SET:
        _look_up(holder, last, or_new=True)
        holder[last] = value
    elif kind == _PUSH:
        items = _look_up(holder, last, or_new=True)
        before = list(items) if is_array(items) else []
        size = entry.get("i")
        if isinstance(size, int) and not isinstance(size, bool):
            before = before[: max(size, 0)]
        holder[last] = [*before, *(value if is_array(value) else ())]
    else:
        raise RecordError("a line of the journal is of an unknown kind")
    return state


def _look_up(holder: Any, key: Any, *, or_new: bool = False) -> Any:
    """What a container holds under a key; a new place at its end is made where that is wanted."""
    if is_object(holder) and isinstance(key, str) and (key in holder or or_new):
        return holder.get(key)
    if isinstance(holder, list) and isinstance(key, int) and not isinstance(key, bool):
        items = cast(list[Any], holder)
        if 0 <= key < len(items):
            return items[key]
        if or_new and key == len(items):
            items.append(None)
            return None
    raise RecordError("a line of the journal names what is not there")


def read_session(session: Any) -> list[RawConversation]:
    """The conversation of a session object, and the requests that were taken back.

    Raises:
        RecordError: it is no session.
    """
    if not is_object(session) or not is_array(session.get("requests")):
        raise RecordError("it has no list `requests`")
    steps: list[Step] = []
    tail = undone = ""
    for number, request in enumerate(session["requests"]):
        if not is_object(request):
            skip(NAME, "requests that are no object")
            continue
        is_undone = bool(request.get("shouldBeRemovedOnSend")) or request.get("isHidden") is True
        parent = (undone or tail) if is_undone else tail
        for messages, news in _read_request(request):
            steps.append(Step(f"{number}.{len(steps)}", parent, messages, news))
            parent = steps[-1].name
        if is_undone:
            undone = parent
        else:
            tail, undone = parent, ""
    messages = [message for step in steps for message in step.messages]
    if not messages:
        skip(NAME, "sessions without a request")
        return []
    if not tail:  # all of it was taken back
        tail = steps[-1].name
    elif undone:
        steps.append(Step("end", tail))
        tail = "end"
    name = session.get("sessionId")
    user = session.get("requesterUsername")
    created = session.get("creationDate")
    base = RawConversation(
        (),
        name if isinstance(name, str) else "",
        user if isinstance(user, str) else "",
        fields.epoch(created) or next((m.time for m in messages if m.time is not None), None),
        next((m.model for m in messages if m.model), ""),
        NAME,
        refs={"session": name} if isinstance(name, str) and name else {},
    )
    return build_conversations(base, steps, tail)


def _read_request(
    request: Mapping[str, Any],
) -> Iterator[tuple[list[RawMessage], list[News]]]:
    time = fields.epoch(request.get("timestamp"))
    refs = {"request": request["requestId"]} if isinstance(request.get("requestId"), str) else {}
    text = _read_prompt(request.get("message"))
    if text.strip():
        yield [RawMessage("user", text, time, refs=refs)], []
    model = request.get("modelId")
    answers, news = _read_response(request, model if isinstance(model, str) else "")
    if answers:
        yield answers, []
    if _is_stopped(request):
        news.append(INTERRUPTED)
    if news:
        yield [], news


def _read_prompt(message: Any) -> str:
    if isinstance(message, str):
        return message
    if not is_object(message):
        raise RecordError("a request has no `message`")
    if isinstance(message.get("text"), str):
        return message["text"]
    parts = message.get("parts")
    texts = (
        [p["text"] for p in parts if is_object(p) and isinstance(p.get("text"), str)]
        if (is_array(parts))
        else []
    )
    return "".join(texts)


def _is_stopped(request: Mapping[str, Any]) -> bool:
    state = request.get("modelState")
    value = state.get("value") if is_object(state) else None
    return request.get("isCanceled") is True or value == _CANCELLED


def _read_response(request: Mapping[str, Any], model: str) -> tuple[list[RawMessage], list[News]]:
    """The answer with its calls, what tools showed, and what the person said of it by buttons."""
    response = request.get("response")
    parts = response if is_array(response) else [response]
    answer = _Answer(model, _list_arguments(request), parts)
    for part in parts:
        answer.add(part)
    messages = answer.finish()
    result = request.get("result")
    details = result.get("errorDetails") if is_object(result) else None
    if is_object(details) and isinstance(details.get("message"), str) and not messages:
        return [RawMessage("system", details["message"])], answer.news
    vote, name = request.get("vote"), request.get("responseId")
    if isinstance(vote, int) and not isinstance(vote, bool) and vote in _VOTES:
        answer.news.append(News("thumb", _VOTES[vote]))
    events = request.get("editedFileEvents")
    if any(
        is_object(event) and event.get("eventKind") == _UNDONE
        for event in (events if is_array(events) else ())
    ):
        answer.news.append(News("undo", -1.0))
    last = max((i for i, m in enumerate(messages) if m.role == "assistant"), default=-1)
    if last >= 0 and isinstance(name, str):
        messages[last] = msgspec.structs.replace(messages[last], refs={"response": name})
    return messages, answer.news


def _list_arguments(request: Mapping[str, Any]) -> list[ToolCall]:
    """The calls of the rounds with the model, which hold the arguments."""
    result = request.get("result")
    metadata = result.get("metadata") if is_object(result) else None
    rounds = metadata.get("toolCallRounds") if is_object(metadata) else None
    calls: list[ToolCall] = []
    for item in rounds if is_array(rounds) else ():
        inner = item.get("toolCalls") if is_object(item) else None
        for call in inner if is_array(inner) else ():
            if is_object(call) and isinstance(call.get("name"), str):
                value = call.get("arguments")
                arguments = value if isinstance(value, str) else to_json(value)
                calls.append(ToolCall(call["name"], arguments, str(call.get("id") or "")))
    return calls


class _Answer:
    """The parts of a response as they come."""

    def __init__(self, model: str, rounds: Sequence[ToolCall], parts: Sequence[Any]) -> None:
        self.model = model
        self.rounds = list(rounds)
        shown = sum(is_object(part) and part.get("kind") in _CALLS for part in parts)
        self.is_complete = shown == len(rounds)
        self.messages: list[RawMessage] = []
        self.texts: list[str] = []
        self.news: list[News] = []

    def add(self, part: Any) -> None:
        """Take one part in."""
        if isinstance(part, str):
            self.texts.append(part)
            return
        if not is_object(part):
            return
        kind = part.get("kind")
        if kind in (None, "markdownContent", "markdownVuln"):
            value = part.get("value", part.get("content"))
            value = value.get("value") if is_object(value) else value
            if isinstance(value, str) and value.strip() != "```":  # the fence of an edit
                self.texts.append(value)
        elif kind == "inlineReference":
            self.texts.append(_name_reference(part))
        elif kind in _CALLS:
            self._add_call(part)
        elif kind == "textEditGroup":
            self._add_edit(part)
        else:
            skip(NAME, f"parts of a response: {kind}")

    def _close(self) -> None:
        text = "".join(self.texts).strip()
        self.texts.clear()
        if text:
            merge_answer(self.messages, RawMessage("assistant", text, model=self.model))

    def _add_call(self, part: Mapping[str, Any]) -> None:
        self._close()
        details, data = part.get("resultDetails"), part.get("toolSpecificData")
        arguments = ""
        if is_object(details) and details.get("input"):
            value = details["input"]
            arguments = value if isinstance(value, str) else to_json(value)
        elif is_object(data):
            arguments = _read_command(data)
        name = str(part.get("toolId") or part.get("toolName") or "tool")
        call = ToolCall(name, arguments, str(part.get("toolCallId") or ""))
        if not arguments and (match := self._take_round(name)) is not None:
            call = ToolCall(name, match.arguments, call.id)
        merge_answer(
            self.messages, RawMessage("assistant", "", model=self.model, tool_calls=(call,))
        )
        if _is_denied(part):
            self.news.append(DENIED)
        output, status = _read_result(details, data)
        if output or status is not None:
            refs = {"call": call.id} if call.id else {}
            self.messages.append(RawMessage("tool", output, name=name, refs=refs, status=status))

    def _take_round(self, name: str) -> ToolCall | None:
        """The next call of the rounds that has a like name: `copilot_replaceString` is
        `replace_string_in_file`.
        """
        if self.is_complete:
            return self.rounds.pop(0) if self.rounds else None
        key = _letters_of(name.removeprefix("copilot_"))
        for index, call in enumerate(self.rounds):
            other = _letters_of(call.name)
            if key and (key in other or other in key):
                return self.rounds.pop(index)
        return None

    def _add_edit(self, part: Mapping[str, Any]) -> None:
        """Edits of a file that the editor shows; the call before may hold them already."""
        self._close()
        calls = self.messages[-1].tool_calls if self.messages else ()
        if calls and calls[-1].arguments:
            return
        groups = part.get("edits")
        texts = [
            edit["text"]
            for group in (groups if is_array(groups) else ())
            for edit in (group if is_array(group) else ())
            if is_object(edit) and isinstance(edit.get("text"), str)
        ]
        arguments = to_json({"path": _path_of(part.get("uri")), "edits": texts})
        call = ToolCall("edit", arguments)
        merge_answer(
            self.messages, RawMessage("assistant", "", model=self.model, tool_calls=(call,))
        )

    def finish(self) -> list[RawMessage]:
        """The messages of the answer."""
        self._close()
        return self.messages


def _letters_of(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())


def _path_of(uri: Any) -> str:
    if not is_object(uri):
        return ""
    return str(uri.get("fsPath") or uri.get("path") or "")


def _name_reference(part: Mapping[str, Any]) -> str:
    """The name of a file or symbol, as the editor shows it."""
    inner = part.get("inlineReference")
    for name in (part.get("name"), inner.get("name") if is_object(inner) else None):
        if isinstance(name, str) and name:
            return name
    if is_object(inner) and is_object(inner.get("uri")):
        inner = inner["uri"]
    return _path_of(inner).rpartition("/")[2]


def _read_command(data: Mapping[str, Any]) -> str:
    """What a terminal was given, or the raw input of a tool."""
    line = data.get("commandLine")
    if is_object(line):
        line = next((line[n] for n in ("original", "toolEdited", "userEdited") if line.get(n)), "")
    command = line or data.get("command") or data.get("rawInput")
    if command is None:
        return ""
    return command if isinstance(command, str) else to_json(command)


def _is_denied(part: Mapping[str, Any]) -> bool:
    confirmed = part.get("isConfirmed")
    if is_object(confirmed):
        return confirmed.get("type") == _DENIED_KIND
    return confirmed is False


def _read_result(details: Any, data: Any) -> tuple[str, int | None]:
    """What a call showed, and its exit code."""
    texts: list[str] = []
    status: int | None = None
    if is_object(details) and "output" in details:
        output = details["output"]
        for item in output if is_array(output) else [output]:
            value = item.get("value") if is_object(item) else item
            if isinstance(value, str):
                texts.append(value)
        if isinstance(details.get("isError"), bool):
            status = int(details["isError"])
    if is_object(data):
        shown = data.get("terminalCommandOutput")
        if is_object(shown) and isinstance(shown.get("text"), str):
            texts.append(shown["text"])
        state = data.get("terminalCommandState")
        code = state.get("exitCode") if is_object(state) else None
        if isinstance(code, int) and not isinstance(code, bool):
            status = code
    return "\n".join(texts), status
