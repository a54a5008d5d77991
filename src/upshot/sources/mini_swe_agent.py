"""mini-swe-agent's trajectories: an object with `info` and `messages`, or the bare list of messages
that early versions wrote.

What a command printed stands in a turn of the user's role (version 1) or of the tool's (version 2),
with its exit code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from upshot.errors import RecordError
from upshot.io.files import Bad, Input, read_json
from upshot.io.json_values import is_array, is_object
from upshot.records import BadRecord, RawConversation, RawMessage, Signal, ToolCall
from upshot.sources import fields
from upshot.sources.agent_lines import (
    list_of,
    make_turn,
    object_of,
    plain_text,
    require_object,
    string_of,
    take_each,
)
from upshot.sources.detection import Fit, Sample, fit_records
from upshot.sources.messages import drop_thoughts, read_call, read_content, to_json
from upshot.sources.notes import skip
from upshot.sources.reading import read_each
from upshot.sources.swe_agent import add_outcome, mark_task

NAME = "mini-swe-agent"
_RETURNED = re.compile(r"<returncode>\s*(-?\d{1,5})\s*</returncode>")
_OUTPUT = re.compile(r"<output(?:_head)?>|<exception>|<warning>")
_FENCE = re.compile(r"```(?:mswea_bash_command|bash|sh)[ \t]*\n(.*?)\n?```", re.DOTALL)
_INTERJECTED = re.compile(
    r"\A(?:Command not executed\. The user rejected your command with the following message: "
    r"|Interrupted by user: |The user added a new task: |Temporary interruption caught: )"
)
"""What stands before the words of a person who steps in."""
_FINAL = re.compile(r"(?:COMPLETE_TASK_AND_SUBMIT|SWE_AGENT)_FINAL_OUTPUT")
_REJECTED = "Command not executed."
_ROLES = frozenset({"system", "user", "assistant", "tool", "exit", "human"})


def fit(sample: Sample) -> Fit:
    """How many of a file's first records are trajectories, or messages of one."""
    bare = [record for record in sample.records if is_object(record) and "role" in record]
    if bare and not any(_is_marked(record) for record in bare):
        return Fit(0, len(sample.records), "no command output with a return code")
    return fit_records(sample, _find_misfit)


def _find_misfit(record: Any) -> str:
    if not is_object(record):
        return "not an object"
    if isinstance(record.get("role"), str):
        return (
            ""
            if string_of(record, "role") in _ROLES and "content" in record
            else "no message of its own"
        )
    if not is_array(record.get("messages")):
        return "no `messages`"
    if str(record.get("trajectory_format", "")).startswith("mini-swe-agent"):
        return ""
    info = object_of(record, "info")
    if "mini_version" in info or ("exit_status" in info and "submission" in info):
        return ""
    return "no `info` of mini-swe-agent"


def _is_marked(record: Mapping[str, Any]) -> bool:
    content = plain_text(record.get("content"))
    if record.get("role") == "assistant":
        return "```mswea_bash_command" in content
    return record.get("role") in ("user", "tool") and bool(_RETURNED.match(content))


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """One conversation a trajectory; bare messages are one."""
    messages: list[Any] = []
    for position, value in read_json(source):
        if isinstance(value, Bad):
            yield BadRecord(source.name, position, value.reason)
        elif is_object(value) and "role" in value:
            messages.append(value)
        else:
            yield from read_each(source, iter([(position, value)]), _read_trajectory)
    if messages:
        whole = iter([("whole file", {"messages": messages})])
        yield from read_each(source, whole, _read_trajectory)


def _read_trajectory(record: Any) -> RawConversation:
    if not is_object(record):
        raise RecordError("not an object")
    info = object_of(record, "info")
    messages: list[RawMessage] = []
    take_each(
        NAME,
        list_of(record, "messages"),
        lambda value: _read_message(require_object(value), messages),
    )
    if not any(message.role == "assistant" for message in messages):
        raise RecordError("it holds no answer of the agent")
    messages = add_outcome(messages, {**record, **info})
    model = string_of(object_of(info, "config", "model"), "model_name")
    names = {"instance_id": record, "exit_status": info, "mini_version": info}
    return RawConversation(
        tuple(messages),
        string_of(record, "run_id", "traj_id"),
        model=model or next((m.model for m in messages if m.model), ""),
        source=NAME,
        metadata={n: value for n, place in names.items() if (value := string_of(place, n))},
    )


def _read_message(value: Mapping[str, Any], messages: list[RawMessage]) -> None:
    """Add what a message of the log holds."""
    role = string_of(value, "role")
    extra = object_of(value, "extra")
    content = read_content(value.get("content"))
    time = fields.epoch(extra.get("timestamp", value.get("timestamp")))
    if role == "assistant":
        messages.append(_read_response(value, extra, time))
    elif role == "exit":
        skip(NAME, "exit")
    elif role == "system":
        messages.append(RawMessage("system", content.text, time))
    elif (
        role == "tool"
        or _RETURNED.search(content.text)
        or _OUTPUT.match(content.text)
        or (role in ("user", "human") and messages and _is_final(messages[-1]))
    ):
        messages.append(_read_output(value, content.text, time))
    elif role in ("user", "human"):
        answered = any(message.role == "assistant" for message in messages)
        turn = RawMessage("user", content.text, time)
        messages.append(_read_turn(turn, extra, messages) if answered else mark_task(turn))
    else:
        raise RecordError("a message has no role of mini-swe-agent")


def _is_final(message: RawMessage) -> bool:
    """Whether an answer's command ends the run: what it printed comes back without its code."""
    return any(_FINAL.search(call.arguments) for call in message.tool_calls)


def _read_response(
    value: Mapping[str, Any], extra: Mapping[str, Any], time: float | None
) -> RawMessage:
    text = drop_thoughts(read_content(value.get("content")).text)
    calls = tuple(read_call(call) for call in list_of(value, "tool_calls") if is_object(call))
    if not calls:
        blocks = list(_FENCE.finditer(text))
        if len(blocks) == 1:
            start, end = blocks[0].span()
            calls = (ToolCall("bash", to_json({"command": blocks[0].group(1).strip()})),)
            text = f"{text[:start].rstrip()}\n{text[end:].lstrip()}".strip()
    model = string_of(object_of(extra, "response"), "model")
    return RawMessage("assistant", text, time, model=model, tool_calls=calls)


def _read_output(value: Mapping[str, Any], text: str, time: float | None) -> RawMessage:
    extra = object_of(value, "extra")
    code = extra.get("returncode")
    if match := _RETURNED.search(text):
        code = int(match.group(1))
    call = string_of(value, "tool_call_id")
    return RawMessage(
        "tool",
        text,
        time,
        refs={"call": call} if call else {},
        status=code if isinstance(code, int) and not isinstance(code, bool) else None,
    )


def _read_turn(
    turn: RawMessage, extra: Mapping[str, Any], messages: list[RawMessage]
) -> RawMessage:
    """A turn behind an answer: a person who stepped in, or the harness."""
    text = turn.content
    kind = string_of(extra, "interrupt_type")
    match = _INTERJECTED.match(text)
    if text.startswith(_REJECTED) or kind in ("UserRejection", "UserInterruption"):
        _reject_last(messages)
    if match:
        return make_turn(text, [(match.end(), len(text))], turn.time)
    if kind in ("UserInterruption", "UserNewTask") and not text.startswith(_REJECTED):
        return turn
    return msgspec.structs.replace(turn, author="machine")


def _reject_last(messages: list[RawMessage]) -> None:
    """Say on the last answer that its command was not let run."""
    at = len(messages)
    last = max((i for i, m in enumerate(messages) if m.role == "assistant"), default=-1)
    if last >= 0:
        signal = Signal("reject", -0.5, at, "", None)
        message = messages[last]
        messages[last] = msgspec.structs.replace(message, signals=(*message.signals, signal))
