"""OpenHands' event streams: trajectories (with feedback), results of evaluations, and folders with
one file an event, of versions 0 (`action`, `observation`) and 1 (`kind`).

Of a folder the first event's file is the main one; its reader reads the others.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from upshot.errors import RecordError
from upshot.io.files import Bad, Input, read_json
from upshot.io.json_text import decode
from upshot.io.json_values import is_array, is_object
from upshot.io.streams import Folder
from upshot.records import BadRecord, RawConversation, RawMessage, Signal, ToolCall
from upshot.sources import fields
from upshot.sources.agent_lines import (
    Trail,
    disown,
    facts_of,
    list_of,
    make_turn,
    object_of,
    string_of,
    take_each,
)
from upshot.sources.agent_steps import DENIED, INTERRUPTED, News
from upshot.sources.detection import Fit, Sample, fit_records
from upshot.sources.messages import (
    ToolResult,
    make_tool_message,
    read_content,
    read_output,
    to_json,
)
from upshot.sources.notes import skip
from upshot.sources.reading import describe, read_each

NAME = "openhands"
_EVENT_FILE = re.compile(r"(?:event-)?(\d+)(?:-[\w-]+)?\.json")
_KINDS = frozenset(
    {
        "MessageEvent",
        "ActionEvent",
        "ObservationEvent",
        "SystemPromptEvent",
        "AgentErrorEvent",
        "UserRejectObservation",
        "PauseEvent",
        "InterruptEvent",
        "Condensation",
        "CondensationRequest",
        "CondensationSummaryEvent",
        "ConversationStateUpdateEvent",
        "ConversationErrorEvent",
        "TokenEvent",
        "HookExecutionEvent",
        "LLMCompletionLogEvent",
    }
)
"""Events of version 1."""
_SILENT = frozenset(
    {
        "initialize",
        "change_agent_state",
        "agent_state_changed",
        "recall",
        "null",
        "condensation",
        "condensation_request",
        "think",
        "pause",
        "resume",
        "start",
        "stop",
        "send_pr",
        "push",
        "add_task",
        "modify_task",
        "loop_recovery",
        "server_ready",
    }
)
"""Actions and observations of version 0 that are nobody's words and no tool's."""
_CALL_FIELDS = (
    "command",
    "code",
    "path",
    "content",
    "url",
    "browser_actions",
    "name",
    "arguments",
    "start",
    "end",
    "old_str",
    "new_str",
    "file_text",
    "insert_line",
    "view_range",
    "agent",
    "inputs",
    "task_list",
    "is_input",
    "query",
)
_DRIVER = re.compile(
    r"\s*(?:Please continue (?:working )?on (?:the|whatever)|Please continue\b.{0,80}approach)"
)
"""What the evaluation's driver answers in a person's place."""
_STOPPED = frozenset({"stopped", "paused", "user_rejected"})


def fit(sample: Sample) -> Fit:
    """How many of a file's first records are events, or objects that hold them."""
    return fit_records(sample, _find_misfit)


def _find_misfit(record: Any) -> str:
    if is_array(record):
        return "" if record and not _find_misfit(record[0]) else "no list of events"
    if not is_object(record):
        return "not an object"
    events = _events_of(record)
    if events is not None:
        first = [event for event in _flatten(events)[:5] if is_object(event)]
        return "" if sum(map(_is_event, first)) * 2 > len(first) else "no events in it"
    return "" if _is_event(record) else "no `action`, `observation` or `kind` of OpenHands"


def _events_of(record: Mapping[str, Any]) -> Sequence[Any] | None:
    """The events that an object holds; None where it holds none."""
    for name in ("trajectory", "history", "events"):
        events = record.get(name)
        if is_array(events) and events and "role" not in record:
            return events
    return None


def _flatten(events: Sequence[Any]) -> list[Any]:
    """The events, also where action and observation are pairs."""
    return [e for item in events for e in (item if is_array(item) else (item,))]


def _is_event(event: Any) -> bool:
    if not is_object(event):
        return False
    if event.get("source") not in ("agent", "user", "environment", "hook"):
        return False
    if string_of(event, "kind") in _KINDS:
        return True
    if not ("action" in event or "observation" in event or event.get("content") == "ok"):
        return False
    return any(name in event for name in ("args", "extras", "message", "content"))


def is_side_file(sample: Sample, folder: Folder) -> bool:
    """Whether a file is an event but not the first of its folder, or lies beside the events."""
    names = _list_events(folder)
    name = _base_name(sample.name)
    if name in names:
        return len(sample.records) == 1 and _is_event(sample.records[0]) and name != names[0]
    record = sample.records[0] if sample.records else None
    if is_object(record) and ("conversation_id" in record or "agent" in record):
        return bool(folder.list_names("events"))
    return bool(_list_events(folder, "../events")) and not _find_misfit(record)


def _base_name(path: str) -> str:
    return os.path.basename(path.rpartition("!")[2])


def _list_events(folder: Folder, place: str = "") -> list[str]:
    """Files of a folder that are named as events are, in their order."""
    return list(_sort_events(tuple(folder.list_names(place))))


@lru_cache(maxsize=4)
def _sort_events(names: tuple[str, ...]) -> tuple[str, ...]:
    numbers = {
        name: int(match.group(1)) for name in names if (match := _EVENT_FILE.fullmatch(name))
    }
    return tuple(sorted(numbers, key=lambda name: numbers[name]))


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """The conversations of a file or of a folder of events."""
    events: list[tuple[str, Any]] = []

    def parse(record: Any) -> list[RawConversation]:
        return _read_record(record)

    for position, value in read_json(source):
        if isinstance(value, Bad):
            yield BadRecord(source.name, position, value.reason)
        elif is_object(value) and _events_of(value) is None:
            events.append((position, value))
        else:
            yield from read_each(source, iter([(position, value)]), parse)
    facts: Mapping[str, Any] = {}
    if len(events) == 1:
        facts = _read_facts(source.folder)
        events += _read_folder(source, _base_name(source.name))
    stream = _Stream()
    for position, event in events:
        try:
            stream.add(event)
        except Exception as error:  # noqa: BLE001 - one bad event is one bad record
            yield BadRecord(source.name, position, describe(error))
    if events:
        base = _make_base(facts, {})
        yield from read_each(source, iter([("whole file", base)]), stream.build)


def _read_facts(folder: Folder) -> Mapping[str, Any]:
    """What lies beside a folder of events: whose it is, and of which conversation."""
    for name in ("../metadata.json", "../base_state.json"):
        try:
            value = decode(folder.read(name) or b"null")
        except ValueError:
            continue
        if is_object(value):
            return value
    return {}


def _read_folder(source: Input, own: str) -> Iterator[tuple[str, Any]]:
    for name in _list_events(source.folder):
        if name == own:
            continue
        try:
            yield name, decode(source.folder.read(name) or b"null")
        except ValueError:
            yield name, None


def _make_base(facts: Mapping[str, Any], record: Mapping[str, Any]) -> RawConversation:
    model = string_of(object_of(record, "metadata", "llm_config"), "model")
    model = model or string_of(object_of(facts, "agent", "llm"), "model")
    metadata = facts_of(facts, repository="selected_repository", gitBranch="selected_branch")
    metadata.update(facts_of(record, version="version", instance_id="instance_id"))
    account = next((facts[n] for n in ("github_user_id", "user_id") if facts.get(n)), "")
    return RawConversation(
        (),
        string_of(facts, "conversation_id", "id") or string_of(record, "conversation_id"),
        str(account) if isinstance(account, (str, int)) else "",
        fields.epoch(facts.get("created_at")),
        model or string_of(facts, "llm_model"),
        NAME,
        metadata,
    )


def _read_record(record: Any) -> list[RawConversation]:
    """The conversation of an object with events, or of a list of them."""
    holder: Mapping[str, Any] = record if is_object(record) else {}
    events = record if is_array(record) else _events_of(holder)
    if events is None:
        raise RecordError("it holds no events")
    stream = _Stream()
    take_each(NAME, _flatten(events), stream.add)
    conversations = stream.build(_make_base({}, holder))
    if conversations:
        main = conversations[0]
        messages = _add_feedback(main.messages, holder)
        conversations[0] = msgspec.structs.replace(main, messages=messages)
    return conversations


def _add_feedback(
    messages: tuple[RawMessage, ...], record: Mapping[str, Any]
) -> tuple[RawMessage, ...]:
    """What is said of the whole run goes to its last response."""
    last = max((i for i, m in enumerate(messages) if m.role == "assistant"), default=-1)
    if last < 0:
        return messages
    signals = list(messages[last].signals)
    word = record.get("feedback", record.get("polarity"))
    if isinstance(word, str):
        signals += fields.feedback(word, last)
    resolved = object_of(record, "report").get("resolved", record.get("resolved"))
    if isinstance(resolved, bool):
        signals.append(Signal("outcome", 1.0 if resolved else -1.0, last, "resolved"))
    final = msgspec.structs.replace(messages[last], signals=tuple(signals))
    return (*messages[:last], final, *messages[last + 1 :])


class _Stream:
    """The events of a conversation, sub-agents apart."""

    def __init__(self) -> None:
        self.trails = [Trail()]
        """The main agent's, and those of the sub-agents at work."""
        self.agents: list[tuple[int, Trail]] = []
        self.model = ""

    def add(self, event: Any) -> None:
        """Take an event in."""
        if not is_object(event):
            raise RecordError("an event is no object")
        if string_of(event, "kind") in _KINDS:
            messages, news = _read_new_event(event)
        else:
            self.model = self.model or _find_model(event)
            messages, news = self._read_old_event(event)
        trail = self.trails[-1]
        trail.tell(news)
        if messages:
            trail.add(messages)

    def _read_old_event(self, event: Mapping[str, Any]) -> tuple[list[RawMessage], list[News]]:
        action, observation = string_of(event, "action"), string_of(event, "observation")
        if action == "delegate":
            messages = [_read_call(event, action)]
            self.trails[-1].add(messages)
            place = sum(len(step.messages) for step in self.trails[-1].live_steps()) - 1
            self.trails.append(Trail())
            self.agents.append((place if len(self.trails) == 2 else -1, self.trails[-1]))
            return [], []
        if observation == "delegate" and len(self.trails) > 1:
            self.trails.pop()
        return _read_action(event, action) if action else _read_observation(event, observation)

    def build(self, base: RawConversation) -> list[RawConversation]:
        """The conversation and those of its sub-agents."""
        base = msgspec.structs.replace(base, model=base.model or self.model)
        if self.agents and not base.id:
            base = msgspec.structs.replace(base, id=self.trails[0].make_name())
        conversations = self.trails[0].build(base)
        if not conversations:
            raise RecordError("its events hold no messages")
        for number, (place, trail) in enumerate(self.agents, 1):
            for step in trail.steps:
                step.messages = disown(step.messages)
            child = msgspec.structs.replace(
                base,
                id=f"{base.id}~agent{number}",
                parent=base.id,
                parent_at=place,
            )
            conversations += trail.build(child)
        return conversations


def _find_model(event: Mapping[str, Any]) -> str:
    if model := string_of(object_of(event, "extras"), "LLM_MODEL"):
        return model
    return string_of(object_of(event, "tool_call_metadata", "model_response"), "model")


def _read_action(event: Mapping[str, Any], action: str) -> tuple[list[RawMessage], list[News]]:
    """An event of version 0 that is something done."""
    args = object_of(event, "args") or object_of(event, "extras")
    time = fields.epoch(event.get("timestamp"))
    by_person = event.get("source") == "user"
    denied = [DENIED] if args.get("confirmation_state") == "rejected" else []
    if action in ("message", "system"):
        text = _add_pictures(_words_of(event, args), args)
        if not text.strip():
            skip(NAME, f"{action} without content")
            return [], []
        if action == "system":
            return [RawMessage("system", text, time)], []
        return [_make_turn(text, time) if by_person else RawMessage("assistant", text, time)], []
    if action in ("finish", "reject"):
        names = ("final_thought", "thought", "reason", "message")
        text = next((t for n in names if (t := string_of(args, n).strip())), "")
        text = text or string_of(object_of(args, "outputs"), "content", "reason")
        return ([RawMessage("assistant", text, time)] if text else []), denied
    if action in _SILENT:
        skip(NAME, action)
        is_stop = action == "change_agent_state" and string_of(args, "agent_state") in _STOPPED
        return [], [INTERRUPTED] if is_stop and by_person else []
    if by_person and action == "run":
        return [RawMessage("user", string_of(args, "command"), time)], []
    return [_read_call(event, action)], denied


def _words_of(event: Mapping[str, Any], args: Mapping[str, Any]) -> str:
    for value in (args.get("content"), event.get("content"), event.get("message")):
        if text := read_content(value).text:
            return text
    return ""


def _add_pictures(text: str, args: Mapping[str, Any]) -> str:
    pictures = [read_content({"type": "image"}).text] * len(list_of(args, "image_urls"))
    return "\n".join([*([text] if text else []), *pictures])


def _make_turn(text: str, time: float | None) -> RawMessage:
    if _DRIVER.match(text):
        return make_turn(text, (), time)
    return RawMessage("user", text, time)


def _read_call(event: Mapping[str, Any], action: str) -> RawMessage:
    args = object_of(event, "args") or object_of(event, "extras")
    call = object_of(event, "tool_call_metadata")
    arguments = {n: args[n] for n in _CALL_FIELDS if args.get(n) not in (None, "", [], False)}
    return RawMessage(
        "assistant",
        string_of(args, "thought"),
        fields.epoch(event.get("timestamp")),
        model=string_of(object_of(call, "model_response"), "model"),
        tool_calls=(
            ToolCall(
                string_of(call, "function_name") or action,
                to_json(arguments),
                string_of(call, "tool_call_id") or string_of(event, "id"),
            ),
        ),
    )


def _read_observation(
    event: Mapping[str, Any], observation: str
) -> tuple[list[RawMessage], list[News]]:
    """An event of version 0 that is something that came back."""
    extras = object_of(event, "extras")
    if not observation or observation in _SILENT:
        skip(NAME, observation or "without action or observation")
        stopped = extras.get("agent_state") == "stopped" and event.get("source") == "user"
        return [], [INTERRUPTED] if stopped else []
    text = read_content(event.get("content")).text
    code = object_of(extras, "metadata").get("exit_code", extras.get("exit_code"))
    failed = True if observation == "error" else None
    call = string_of(object_of(event, "tool_call_metadata"), "tool_call_id")
    result = ToolResult(text, call or string_of(event, "cause"), observation, failed)
    message = make_tool_message(result, time=fields.epoch(event.get("timestamp")))
    news = [DENIED] if observation in ("user_rejected", "user_reject") else []
    if isinstance(code, int) and not isinstance(code, bool) and code >= 0:
        message = msgspec.structs.replace(message, status=code)
    if not text and message.status is None:
        skip(NAME, f"{observation} without content")
        return [], news
    return [message], news


def _read_new_event(event: Mapping[str, Any]) -> tuple[list[RawMessage], list[News]]:
    """An event of version 1."""
    kind = event["kind"]
    time = fields.epoch(event.get("timestamp"))
    if kind == "MessageEvent":
        return _read_new_message(event, time), []
    if kind == "SystemPromptEvent":
        text = read_content(event.get("system_prompt")).text
        return ([RawMessage("system", text, time)] if text else []), []
    if kind == "ActionEvent":
        return _read_new_action(event, time), []
    if kind in ("ObservationEvent", "AgentErrorEvent", "UserRejectObservation"):
        return _read_new_observation(event, kind, time)
    skip(NAME, kind)
    is_stop = kind == "InterruptEvent" or (kind == "PauseEvent" and event.get("source") == "user")
    return [], [INTERRUPTED] if is_stop else []


def _read_new_message(event: Mapping[str, Any], time: float | None) -> list[RawMessage]:
    message = object_of(event, "llm_message")
    text = read_content(message.get("content")).text
    if not text.strip():
        skip(NAME, "MessageEvent without content")
        return []
    if event.get("source") == "agent" or message.get("role") == "assistant":
        return [RawMessage("assistant", text, time)]
    added = read_content(event.get("extended_content")).text
    turn = _make_turn(text, time)
    if not added or turn.author == "machine":
        return [turn]
    return [make_turn(f"{text}\n{added}", [(0, len(text))], time)]


def _read_new_action(event: Mapping[str, Any], time: float | None) -> list[RawMessage]:
    call = object_of(event, "tool_call")
    name = string_of(event, "tool_name") or string_of(call, "name")
    name = name or string_of(object_of(call, "function"), "name")
    action = object_of(event, "action")
    text = read_content(event.get("thought")).text
    if name == "finish":
        final = string_of(action, "message")
        text = "\n".join(filter(None, [text, final]))
        return [RawMessage("assistant", text, time)] if text else []
    if name == "think":
        skip(NAME, "think")
        return [RawMessage("assistant", text, time)] if text else []
    arguments = call.get("arguments", object_of(call, "function").get("arguments"))
    if not isinstance(arguments, str):
        arguments = to_json({n: v for n, v in action.items() if n != "kind" and v is not None})
    name_of_call = string_of(event, "tool_call_id") or string_of(call, "id")
    return [
        RawMessage("assistant", text, time, tool_calls=(ToolCall(name, arguments, name_of_call),))
    ]


def _read_new_observation(
    event: Mapping[str, Any], kind: str, time: float | None
) -> tuple[list[RawMessage], list[News]]:
    observation = object_of(event, "observation")
    name = string_of(event, "tool_name")
    if name in ("think", "finish"):
        skip(NAME, name)
        return [], []
    text = next(
        (
            t
            for value in (
                observation.get("content"),
                observation.get("output"),
                event.get("error"),
                event.get("rejection_reason"),
                observation.get("error"),
            )
            if value and (t := read_output(value))
        ),
        "",
    )
    failed = observation.get("is_error")
    if kind == "AgentErrorEvent" or isinstance(observation.get("error"), str):
        failed = True
    result = ToolResult(
        text, string_of(event, "tool_call_id"), name, failed if isinstance(failed, bool) else None
    )
    message = make_tool_message(result, time=time)
    news = [DENIED] if kind == "UserRejectObservation" else []
    code = observation.get("exit_code", object_of(observation, "metadata").get("exit_code"))
    if isinstance(code, int) and not isinstance(code, bool) and code >= 0:
        message = msgspec.structs.replace(message, status=code)
    if not text and message.status is None:
        return [], news
    return [message], news
