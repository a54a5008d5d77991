"""SWE-agent's trajectories: `.traj` files up to 0.7 and from 1.0 on, and the data sets of them
(`messages` or `trajectory` as lists of turns, with the instance and whether it was resolved).

The first turn of the user's role holds the task in a template; every later one is what a command
printed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from upshot.errors import RecordError
from upshot.io.files import Input, read_json
from upshot.io.json_text import decode
from upshot.io.json_values import is_array, is_object
from upshot.records import BadRecord, RawConversation, RawMessage, Signal, ToolCall
from upshot.sources.agent_lines import (
    list_of,
    make_turn,
    object_of,
    require_object,
    string_of,
    take_each,
)
from upshot.sources.detection import Fit, Sample, fit_records
from upshot.sources.messages import (
    ToolResult,
    drop_thoughts,
    make_tool_message,
    read_call,
    read_content,
    read_message,
    to_json,
)
from upshot.sources.notes import skip
from upshot.sources.reading import read_each

NAME = "swe-agent"
_STEP_FIELDS = ("action", "observation", "response")
_TASKS = (
    re.compile(
        r"<((?:pr|issue|task)_description|issue)>\n?(?:Consider the [\w ]+:\n)?(.*?)</\1>",
        re.DOTALL,
    ),
    re.compile(r"\bISSUE:\n()(.*?)\n+INSTRUCTIONS:", re.DOTALL),
    re.compile(r"()\APlease solve this (?:issue|task): (.*?)\n+You can execute bash", re.DOTALL),
    re.compile(r"()\A(.*?)\n+INSTRUCTIONS:\n", re.DOTALL),
)
"""Where the task stands in the templates that the agents and their data sets ship with."""
_FENCE = "```"
_LANGUAGE = re.compile(r"[\w-]*\n")
_NUDGE = re.compile(
    r"\A\s*(?:Your (?:output|command|last output) was not formatted|Please (?:always|continue)\b"
    r"|Your proposed edit|You (?:did not|must|should) |Exit due to |Tool call error|Format error)"
)
"""What the harness says to an answer without a command."""


def fit(sample: Sample) -> Fit:
    """How many of a file's first records are trajectories, or turns of a history."""
    return fit_records(sample, _find_misfit)


def _find_misfit(record: Any) -> str:
    if not is_object(record):
        return "not an object"
    if is_array(attempts := record.get("attempts")) and attempts:
        record = {**record, **object_of({"a": attempts[0]}, "a")}
    steps = _decode_list(record.get("trajectory"))
    if steps and all(is_object(step) for step in steps[:5]):
        if any(name in step for step in steps[:5] for name in _STEP_FIELDS):
            is_event = any("source" in step or "extras" in step for step in steps[:5])
            return "its `trajectory` holds events" if is_event else ""
        return "" if all(_is_turn(step) for step in steps[:5]) else "no steps in `trajectory`"
    history = list_of(record, "history")
    if history and all(_is_turn(turn) and _is_marked(turn) for turn in history[:5]):
        return ""
    turns = _decode_list(record.get("messages"))
    if turns and "traj_id" in record and all(_is_turn(turn) for turn in turns[:5]):
        return ""
    return "" if _is_turn(record) and _is_marked(record) else "no `trajectory`"


def _is_turn(value: Any) -> bool:
    return is_object(value) and isinstance(value.get("role"), str)


def _is_marked(turn: Any) -> bool:
    """Whether a turn has fields that only SWE-agent's histories have."""
    marks = ("message_type", "is_demo", "thought")
    is_bare = set(turn) == {"role", "content", "agent"}
    if is_bare and turn["agent"] in ("primary", "main"):
        return True
    return "agent" in turn and any(name in turn for name in marks)


def _decode_list(value: Any) -> Sequence[Any]:
    """A list, also where it is JSON in a text."""
    if isinstance(value, str) and value[:1] == "[":
        try:
            value = decode(value.encode())
        except ValueError:
            return ()
    return value if is_array(value) else ()


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """One conversation a trajectory; the turns of a bare history are one."""
    turns: list[Mapping[str, Any]] = []

    def parse(value: Any) -> list[RawConversation]:
        if _is_turn(value):
            turns.append(value)
            return []
        return list(_read_record(value))

    yield from read_each(source, read_json(source), parse)
    if turns:
        whole = iter([("whole file", {"history": turns})])
        yield from read_each(source, whole, _read_record)


def _read_record(record: Any) -> Iterator[RawConversation]:
    if not is_object(record):
        raise RecordError("not an object")
    attempts = [a for a in list_of(record, "attempts") if is_object(a)]
    for attempt in attempts or [record]:
        yield _read_trajectory(attempt, record)


def _read_trajectory(attempt: Mapping[str, Any], record: Mapping[str, Any]) -> RawConversation:
    steps = _decode_list(attempt.get("trajectory"))
    turns = _decode_list(attempt.get("messages")) or list_of(attempt, "history")
    if steps and all(_is_turn(step) for step in steps):
        messages = read_turns(steps)
    elif steps:
        messages = [*_read_opening(list_of(attempt, "history")), *_read_steps(steps)]
    else:
        messages = read_turns(turns)
    if not any(message.role == "assistant" for message in messages):
        raise RecordError("it holds no step of the agent")
    info = object_of(attempt, "info")
    messages = add_outcome(messages, {**attempt, **info})
    names = ("instance_id", "exit_status", "environment")
    metadata: dict[str, Any] = {
        name: value for name in names if (value := _find_fact(name, attempt, info, record))
    }
    if stats := object_of(info, "model_stats"):
        metadata["model_stats"] = dict(stats)
    return RawConversation(
        tuple(messages),
        string_of(record, "traj_id", "run_id"),
        model=_find_model(attempt, info, record),
        source=NAME,
        metadata=metadata,
    )


def _find_fact(name: str, *records: Mapping[str, Any]) -> str:
    return next((value for record in records if (value := string_of(record, name))), "")


def _find_model(*records: Mapping[str, Any]) -> str:
    """The model, also where only the configuration for a replay says it."""
    for record in records:
        if name := string_of(record, "model_name", "model"):
            return name
        replay = record.get("replay_config")
        if isinstance(replay, str):
            try:
                replay = decode(replay.encode())
            except ValueError:
                continue
        if name := string_of(object_of(replay, "agent", "model"), "name"):
            return name
    return ""


def _read_opening(history: Sequence[Any]) -> list[RawMessage]:
    """The turns before the first step; demonstrations are left out."""
    opening: list[Any] = []
    for turn in history:
        if _is_turn(turn) and (turn.get("is_demo") is True or _is_demonstration(turn)):
            skip(NAME, "demonstrations")
        elif _is_turn(turn) and turn["role"] not in ("", "system", "user"):
            break
        else:
            opening.append(turn)
    return read_turns(opening)


def _is_demonstration(turn: Mapping[str, Any]) -> bool:
    return turn.get("message_type") == "demonstration"


def _read_steps(steps: Sequence[Any]) -> list[RawMessage]:
    messages: list[RawMessage] = []
    take_each(NAME, steps, lambda step: messages.extend(_read_step(require_object(step))))
    return messages


def _read_step(step: Mapping[str, Any]) -> Iterator[RawMessage]:
    text = read_content(step.get("response")).text
    thought = read_content(step.get("thought")).text
    action = read_content(step.get("action")).text
    calls = tuple(read_call(call) for call in list_of(step, "tool_calls") if is_object(call))
    if not calls and action.strip():
        calls = (ToolCall("bash", to_json({"command": action.strip()})),)
        text = thought.strip() or cut_command(text, action)
    text = drop_thoughts(text or thought)
    if text or calls:
        yield RawMessage("assistant", text, tool_calls=calls)
    observation = read_content(step.get("observation")).text
    if observation.strip():
        names = [str(n) for n in list_of(step, "tool_call_ids")] or [c.id for c in calls]
        yield make_tool_message(ToolResult(observation, names[0] if names else ""))


def cut_command(text: str, command: str = "") -> str:
    """An answer without the fenced command that ends it.

    >>> cut_command("Look first.\\n```bash\\nls\\n```", "ls")
    'Look first.'
    """
    start, own = find_command(text)
    if start >= 0 and (not command or own == command.strip()):
        return text[:start].rstrip()
    return text


def find_command(text: str) -> tuple[int, str]:
    """Where the fenced command that ends an answer begins, and the command; -1 where none does."""
    whole = text.rstrip()
    if not whole.endswith(_FENCE):
        return -1, ""
    start = whole.rfind(_FENCE, 0, len(whole) - len(_FENCE))
    if start < 0:
        return -1, ""
    inside = whole[start + len(_FENCE) : len(whole) - len(_FENCE)]
    language = _LANGUAGE.match(inside)
    return start, inside[language.end() :].strip() if language else inside.strip()


def read_turns(turns: Sequence[Any]) -> list[RawMessage]:
    """The messages of a list of turns: the first of the user's role is the task, those behind an
    answer are what commands printed.
    """
    messages: list[RawMessage] = []
    answered = False

    def take(value: Any) -> None:
        nonlocal answered
        turn = require_object(value)
        if turn.get("is_demo") is True or _is_demonstration(turn):
            skip(NAME, "demonstrations")
            return
        if turn.get("role") == "system" and turn.get("text") is None and "system_prompt" in turn:
            turn = {**turn, "content": turn["system_prompt"]}
        for message in read_message(turn):
            if message.role == "assistant":
                answered = True
                message = _structure(message, turn)
            elif message.role == "user":
                message = _place_turn(message, answered)
            messages.append(message)

    take_each(NAME, turns, take)
    return messages


def _structure(message: RawMessage, turn: Mapping[str, Any]) -> RawMessage:
    """An answer whose command stands in its text, the command as a call."""
    if message.tool_calls:
        return message
    action = read_content(turn.get("action")).text.strip()
    command = action or find_command(message.content)[1]
    if not command:
        return message
    call = ToolCall("bash", to_json({"command": command}))
    text = cut_command(message.content, command)
    return msgspec.structs.replace(message, content=text, tool_calls=(call,))


def _place_turn(message: RawMessage, answered: bool) -> RawMessage:
    if not answered:
        return mark_task(message)
    if _NUDGE.match(message.content):
        return msgspec.structs.replace(message, author="machine")
    return RawMessage("tool", message.content, message.time)


def mark_task(message: RawMessage) -> RawMessage:
    """The turn with the task; what the template puts around the task is a machine's."""
    for pattern in _TASKS:
        if (match := pattern.search(message.content)) and match.group(2).strip():
            marked = make_turn(message.content, [match.span(2)], message.time)
            return marked if marked.author != "machine" else message
    return message


def add_outcome(messages: Sequence[RawMessage], record: Mapping[str, Any]) -> list[RawMessage]:
    """The messages, with what came of the run on the last response: whether the instance was
    resolved, or why the run ended before its time.
    """
    last = max(i for i, message in enumerate(messages) if message.role == "assistant")
    signals: list[Signal] = []
    status = string_of(record, "exit_status")
    if status and not status.lower().startswith("submitted"):
        signals.append(Signal("exit", -0.3, last, status))
    resolved = record.get("resolved", record.get("target"))
    if isinstance(resolved, bool):
        signals.append(Signal("outcome", 1.0 if resolved else -1.0, last, "resolved"))
    if not signals:
        return list(messages)
    final = messages[last]
    final = msgspec.structs.replace(final, signals=(*final.signals, *signals))
    return [*messages[:last], final, *messages[last + 1 :]]
