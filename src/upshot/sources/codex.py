"""Codex CLI's session logs ("rollouts"): JSON lines, one session a file; older versions wrote bare
items, the first ones a single object.

What model and person exchanged stands in `response_item`. Events repeat it; they count where a
rollout holds nothing else. `thread_rolled_back` leaves a branch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

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
    Part,
    Step,
    build_conversations,
    find_exit_code,
    join_turn,
    merge_answer,
    split_denial,
)
from upshot.sources.detection import Fit, Sample, fit_records
from upshot.sources.messages import read_call, read_content, to_json
from upshot.sources.notes import skip
from upshot.sources.reading import describe, object_records
from upshot.sources.speakers import mark_author

NAME = "codex"
SHARED_IDS = True
"""A fork repeats the messages of the session that it was forked from."""
_LINES = frozenset(
    {
        "session_meta",
        "response_item",
        "event_msg",
        "turn_context",
        "compacted",
        "world_state",
        "inter_agent_communication_metadata",
        "inter_agent_communication",
    }
)
"""`type` of the lines of a rollout since August 2025."""
_CALLS = frozenset(
    {
        "function_call",
        "custom_tool_call",
        "local_shell_call",
        "web_search_call",
        "tool_search_call",
        "image_generation_call",
    }
)
_OUTPUTS = frozenset(
    {
        "function_call_output",
        "custom_tool_call_output",
        "local_shell_call_output",
        "tool_search_output",
    }
)
_AGENTS_FILE = re.compile(
    r"\s*# AGENTS\.md instructions[^\n]*\n\s*(?:<INSTRUCTIONS>.*?</INSTRUCTIONS>|.*)", re.DOTALL
)
_EDITOR_CONTEXT = re.compile(
    r"\s*# (?:Context from my IDE setup|Files mentioned by the user|In app browser)\b"
    r".*?^## My request for Codex:?[ \t]*\n?",
    re.DOTALL | re.MULTILINE,
)
_HANDOFF = re.compile(
    r"\s*(?:Another language model started to solve this problem and produced a summary"
    r"|You were originally given instructions from a user over one or more turns)"
)
_SHELL_COMMAND = "user_shell_command"
_IMAGE_TAG = re.compile(r"\s*</?image(?: name=[^<>]*)?>\s*")
"""What the newest versions write around a picture."""
_ABORTED = re.compile(r"\s*<turn_aborted>")
_STOPPED = re.compile(r"(?:command )?aborted by (?:the )?user", re.I)


def fit(sample: Sample) -> Fit:
    """How many of a file's first records are lines of a rollout."""
    return fit_records(sample, _find_misfit)


def _find_misfit(record: Any) -> str:
    if not is_object(record):
        return "not an object"
    kind = record.get("type")
    if kind in _LINES:
        return "" if is_object(record.get("payload")) else "no `payload`"
    if kind is None:
        if record.get("record_type") == "state":
            return ""
        if is_object(record.get("session")) and is_array(record.get("items")):
            return ""
        is_head = "id" in record and "timestamp" in record
        return "" if is_head and ("instructions" in record or "git" in record) else "no `type`"
    if kind == "message":
        content = record.get("content")
        blocks = [part for part in content if is_object(part)] if is_array(content) else []
        kinds = {part.get("type") for part in blocks}
        return "" if kinds & {"input_text", "output_text"} and "id" not in record else "no rollout"
    return "" if kind in _CALLS | _OUTPUTS | {"reasoning"} and "call_id" in record else "no rollout"


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """The session of a file, and the branches that were rolled back."""
    rollout = _Rollout()
    for position, value in object_records(source):
        if isinstance(value, BadRecord):
            yield value
            continue
        items = value.get("items")
        records = [value]
        if is_object(value.get("session")) and is_array(items):
            records = [{"type": "session_meta", "payload": value["session"]}, *items]
        for number, record in enumerate(records):
            try:
                rollout.add(record)
            except Exception as error:  # noqa: BLE001 - whatever a line holds is one bad record
                place = position if len(records) == 1 else f"{position}, item {number}"
                yield BadRecord(source.name, place, describe(error))
    yield from rollout.make_conversations()


class _Entry(NamedTuple):
    """What one line adds."""

    kind: str
    """`item`, or of what only events say: `user`, `assistant`, `tool`; `rollback`, `news`."""
    messages: tuple[RawMessage, ...] = ()
    news: tuple[News, ...] = ()
    turns: int = 0
    """Of a roll-back."""


class _Rollout:
    """The lines of a file as they come."""

    def __init__(self) -> None:
        self.meta: dict[str, Any] = {}
        self.entries: list[_Entry] = []
        self.model = ""
        self.codes: dict[str, int] = {}
        """Exit codes that events state, by call."""

    def add(self, record: Any) -> None:
        """Take one line in."""
        if not is_object(record):
            raise RecordError("not an object")
        kind, payload = record.get("type"), record.get("payload", record)
        if not is_object(payload):
            raise RecordError("`payload` is not an object")
        time = fields.epoch(record.get("timestamp"))
        if kind == "session_meta" or (kind is None and "id" in record):
            if self.meta:
                skip(NAME, "session_meta of another session")
            self.meta = self.meta or dict(payload)
        elif kind == "turn_context":
            model = payload.get("model")
            self.model = model if isinstance(model, str) else self.model
        elif kind == "event_msg":
            self._add_event(payload, time)
        elif kind == "compacted":
            self._add_summary(payload, time)
        elif kind in _LINES and kind != "response_item":
            skip(NAME, kind)
        elif kind is None:
            skip(NAME, record.get("record_type") or "")
        else:
            self._add_item(payload, time)

    def _add_item(self, item: Mapping[str, Any], time: float | None) -> None:
        """An item of what model and person exchanged."""
        kind = str(item.get("type") or "")
        if kind == "message":
            self._add_message(item, time)
        elif kind in _CALLS:
            call = read_call({**item, "name": item.get("name") or kind.removesuffix("_call")})
            self._append("item", self._answer("", time, (_fill(call, item),)))
        elif kind in _OUTPUTS:
            message, news = _read_output(item, time)
            self.entries.append(_Entry("item", (message,), news))
        elif kind == "agent_message":
            text = read_content(_visible(item.get("content"))).text
            if text:
                self._append("item", RawMessage("user", text, time, author="machine"))
        else:
            skip(NAME, f"response_item: {kind}")

    def _add_message(self, item: Mapping[str, Any], time: float | None) -> None:
        role = fields.role(item.get("role"))
        if role == "assistant":
            text = read_content(item.get("content")).text
            if text:
                self._append("item", self._answer(text, time))
        elif role == "user":
            content = item.get("content")
            blocks = content if is_array(content) else [content]
            messages, news = _read_turn([read_content(block).text for block in blocks], time)
            if self._is_child():
                messages = [_hand_over(message) for message in messages]
            self.entries.append(_Entry("item", tuple(messages), tuple(news)))
        elif text := read_content(item.get("content")).text:
            self._append("item", RawMessage(role, text, time))

    def _answer(
        self, text: str, time: float | None, calls: tuple[ToolCall, ...] = ()
    ) -> RawMessage:
        return RawMessage("assistant", text, time, model=self.model, tool_calls=calls)

    def _append(self, kind: str, *messages: RawMessage) -> None:
        self.entries.append(_Entry(kind, messages))

    def _is_child(self) -> bool:
        """Whether the session is a sub-agent's."""
        source = self.meta.get("source")
        return is_object(source) and "subagent" in source

    def _add_event(self, event: Mapping[str, Any], time: float | None) -> None:
        kind = str(event.get("type") or "")
        text = event.get("message")
        if kind == "user_message" and isinstance(text, str) and text.strip():
            messages, news = _read_turn([text], time)
            self.entries.append(_Entry("user", tuple(messages), tuple(news)))
        elif kind == "agent_message" and isinstance(text, str) and text.strip():
            self._append("assistant", self._answer(text, time))
        elif kind == "item_completed" and is_object(event.get("item")):
            self._add_completed(event["item"], time)
        elif kind == "turn_aborted" and event.get("reason") in (None, "interrupted"):
            self.entries.append(_Entry("news", (), (INTERRUPTED,)))
        elif kind == "thread_rolled_back" and fields.is_count(event.get("num_turns")):
            self.entries.append(_Entry("rollback", turns=int(event["num_turns"])))
        elif kind == "undo_completed" and event.get("success") is True:
            self.entries.append(_Entry("news", (), (News("undo", -1.0),)))
        elif kind in ("exec_command_end", "patch_apply_end", "mcp_tool_call_end"):
            self._add_execution(event, time)
        else:
            skip(NAME, f"event_msg: {kind}")

    def _add_execution(self, event: Mapping[str, Any], time: float | None) -> None:
        """A command, patch or call that ended: its exit code, and what it was where no item is."""
        code, call_id = event.get("exit_code"), str(event.get("call_id") or "")
        if not isinstance(code, int) and isinstance(event.get("success"), bool):
            code = int(not event["success"])
        if isinstance(code, int) and not isinstance(code, bool) and call_id:
            self.codes[call_id] = code
        self.entries.append(
            _Entry("tool", _read_execution(event, self._answer("", time), code, call_id))
        )

    def _add_completed(self, item: Mapping[str, Any], time: float | None) -> None:
        kind = str(item.get("type") or "").lower().replace("_", "")
        content = item.get("content") if "content" in item else item.get("text")
        if kind == "usermessage":
            messages, news = _read_turn([read_content(content).text], time)
            self.entries.append(_Entry("user", tuple(messages), tuple(news)))
        elif kind == "agentmessage":
            text = read_content(_lower_kinds(content)).text
            if text:
                self._append("assistant", self._answer(text, time))
        elif kind in ("commandexecution", "mcptoolcall", "filechange"):
            self._add_execution({**item, "call_id": item.get("id")}, time)
        else:
            skip(NAME, f"item_completed: {item.get('type')}")

    def _add_summary(self, record: Mapping[str, Any], time: float | None) -> None:
        """A compaction: what it replaces counts where the file does not hold it itself."""
        history = record.get("replacement_history")
        if is_array(history) and not any(entry.kind == "item" for entry in self.entries):
            for item in history:
                if is_object(item):
                    self._add_item(item, time)
        elif is_array(history):
            skip(NAME, "compacted: items that stand before", len(history))
        text = record.get("message")
        if isinstance(text, str) and text.strip():
            self._append("item", RawMessage("user", text, time, author="machine"))

    def make_conversations(self) -> Iterator[RawConversation]:
        """The session, if it holds a message."""
        steps, leaf = _grow(self._choose_entries())
        messages = [m for step in steps for m in step.messages]
        if not messages:
            return
        meta = self.meta
        name = str(meta.get("id") or meta.get("session_id") or "")
        git = meta.get("git")
        branch = git.get("branch") if is_object(git) else None
        metadata = {
            **{key: meta[key] for key in ("cwd", "cli_version") if isinstance(meta.get(key), str)},
            **({"gitBranch": branch} if isinstance(branch, str) else {}),
        }
        refs = {"session": name} if name else {}
        if isinstance(meta.get("forked_from_id"), str) and not self._is_child():
            refs["forked_from"] = meta["forked_from_id"]
        started = fields.epoch(meta.get("timestamp"))
        yield from build_conversations(
            RawConversation(
                (),
                name,
                "",
                started or messages[0].time,
                next((m.model for m in messages if m.model), ""),
                NAME,
                metadata,
                parent=self._find_parent(),
                refs=refs,
            ),
            steps,
            leaf,
        )

    def _find_parent(self) -> str:
        """Id of the session that started this one as a sub-agent."""
        if not self._is_child():
            return ""
        spawn = self.meta["source"]["subagent"]
        spawn = spawn.get("thread_spawn") if is_object(spawn) else None
        parent = self.meta.get("parent_thread_id")
        if not isinstance(parent, str) and is_object(spawn):
            parent = spawn.get("parent_thread_id")
        return parent if isinstance(parent, str) else ""

    def _choose_entries(self) -> list[_Entry]:
        """What counts: items, and of events what no item says."""
        roles = {
            message.role
            for entry in self.entries
            if entry.kind == "item"
            for message in entry.messages
            if message.role != "user" or mark_author(message).author != "machine"
        }
        chosen: list[_Entry] = []
        latest: dict[str, tuple[RawMessage, ...]] = {}
        for entry in self.entries:
            is_event = entry.kind in ("user", "assistant", "tool")
            if entry.kind in roles or (is_event and _is_repeat(latest, entry)):
                skip(NAME, f"event_msg: repeats of {entry.kind}")
                continue
            messages = tuple(map(self._add_code, entry.messages))
            chosen.append(entry._replace(messages=messages))
        return chosen

    def _add_code(self, message: RawMessage) -> RawMessage:
        code = self.codes.get(message.refs.get("call", ""))
        if message.role != "tool" or message.status is not None or code is None:
            return message
        return msgspec.structs.replace(message, status=code)


def _is_repeat(latest: dict[str, tuple[RawMessage, ...]], entry: _Entry) -> bool:
    """Whether an event of another kind said the same just before."""
    before = latest.get(entry.kind, ())
    latest[entry.kind] = entry.messages
    if entry.kind == "user":
        latest.pop("assistant", None)
    elif entry.kind == "assistant":
        latest.pop("user", None)
    return len(before) == len(entry.messages) > 0 and all(
        a.content == b.content and a.refs == b.refs
        for a, b in zip(before, entry.messages, strict=True)
        if entry.kind != "tool" or a.role == "tool"
    )


def _grow(entries: Sequence[_Entry]) -> tuple[list[Step], str]:
    """The steps of a session, and the last of them."""
    steps: list[Step] = []
    turns: list[str] = []
    """What stood last before each of the person's turns."""
    tail = ""
    for number, entry in enumerate(entries):
        if entry.kind == "rollback":
            back = turns[-entry.turns :]
            del turns[-entry.turns :]
            parent = back[0] if back else tail
            steps.append(Step(f"rollback {number}", parent))
            tail = steps[-1].name
            continue
        if not entry.messages and not entry.news:
            continue
        last = steps[-1] if steps and steps[-1].name == tail else None
        if not entry.news and last is not None and _merge_answer(last, entry.messages):
            continue
        if any(m.role == "user" and mark_author(m).author != "machine" for m in entry.messages):
            turns.append(tail)
        steps.append(Step(f"item {number}", tail, entry.messages, entry.news))
        tail = steps[-1].name
    return steps, tail


def _merge_answer(step: Step, messages: Sequence[RawMessage]) -> bool:
    """Add text and calls to the answer right before them; False where there is none."""
    if len(messages) != 1 or not step.messages:
        return False
    if step.messages[-1].role != "assistant" or messages[0].role != "assistant":
        return False
    merge_answer(step.messages, messages[0])
    return True


def _read_turn(texts: Sequence[str], time: float | None) -> tuple[list[RawMessage], list[News]]:
    """What stands in a user's item: a person's words, a command of theirs, a harness's text."""
    messages: list[RawMessage] = []
    news: list[News] = []
    parts: list[Part] = []
    for text in texts:
        if _IMAGE_TAG.fullmatch(text) and text.strip() != "<image>":
            continue
        if (command := _take_tag(text, _SHELL_COMMAND)) is not None:
            messages += _read_command(command, time)
            continue
        if _ABORTED.match(text):
            news.append(INTERRUPTED)
        parts += _split_turn(text)
    if any(part.text.strip() for part in parts):
        messages.append(join_turn(parts, time))
    return messages, news


def _split_turn(text: str) -> list[Part]:
    if _HANDOFF.match(text):
        return [Part(text, "machine")]
    match = _AGENTS_FILE.match(text) or _EDITOR_CONTEXT.match(text)
    if match is None:
        return [Part(text)]
    return [Part(match.group().rstrip(), "machine"), Part(text[match.end() :].strip())]


def _take_tag(text: str, tag: str) -> str | None:
    """What stands in a tag that a text consists of; None where it is no such text."""
    text = text.strip()
    start, end = f"<{tag}>", f"</{tag}>"
    if not (text.startswith(start) and text.endswith(end)):
        return None
    return text[len(start) : -len(end)].strip()


def _read_command(content: str, time: float | None) -> list[RawMessage]:
    """A command that the person ran, and its output."""
    command, _, rest = content.partition("</command>")
    command = command.removeprefix("<command>").strip()
    result = _take_tag(rest, "result")
    if result is None:
        result = rest.strip()
    status = find_exit_code(result)
    return [
        *([RawMessage("user", command, time)] if command else []),
        *([RawMessage("tool", result, time, name="shell", status=status)] if result else []),
    ]


def _hand_over(message: RawMessage) -> RawMessage:
    """A message to a sub-agent: another agent wrote it."""
    if message.role != "user":
        return message
    return msgspec.structs.replace(message, author="machine", spans=())


def _fill(call: ToolCall, item: Mapping[str, Any]) -> ToolCall:
    """The call with what the item names otherwise."""
    arguments = call.arguments
    for name in ("action", "input", "arguments"):
        value = item.get(name)
        if not arguments or arguments in ("{}", "null"):
            if isinstance(value, str):
                arguments = value
            elif value is not None:
                arguments = to_json(value)
    call_id = item.get("call_id")
    return ToolCall(call.name, arguments, call_id if isinstance(call_id, str) else call.id)


def _visible(content: Any) -> Any:
    """A content without what is encrypted."""
    if not is_array(content):
        return content
    return [p for p in content if not (is_object(p) and p.get("type") == "encrypted_content")]


def _lower_kinds(content: Any) -> Any:
    """Parts whose `type` is written with a capital, as the newest versions do."""
    if not is_array(content):
        return content
    return [
        {**p, "type": str(p["type"]).lower()} if is_object(p) and "type" in p else p
        for p in content
    ]


def _read_output(
    item: Mapping[str, Any], time: float | None
) -> tuple[RawMessage, tuple[News, ...]]:
    """A tool's message, and what it says of a person who refused or stopped the call."""
    if is_array(tools := item.get("tools")):  # what a search for tools brought
        text, status = to_json(tools), None
    else:
        text, status = _unwrap_output(item.get("output"))
    news: tuple[News, ...] = ()
    if split_denial(text) is not None:
        news, status = (DENIED,), None
    elif _STOPPED.match(text):
        news, status = (INTERRUPTED,), None
    elif status is None:
        status = find_exit_code(text)
    call_id = item.get("call_id")
    refs = {"call": call_id} if isinstance(call_id, str) and call_id else {}
    return RawMessage("tool", text, time, refs=refs, status=status), news


def _unwrap_output(output: Any) -> tuple[str, int | None]:
    """The text of an output, and its exit code; older versions wrap both in JSON in a string."""
    value = output
    if isinstance(output, str) and output.startswith("{"):
        try:
            value = msgspec.json.decode(output)
        except (msgspec.DecodeError, RecursionError):
            return output, None
        if not is_object(value) or not ("output" in value and len(value) <= 3):
            return output, None
    if not is_object(value):
        return read_content(value).text, None
    metadata = value.get("metadata")
    code = metadata.get("exit_code") if is_object(metadata) else None
    if not isinstance(code, int) or isinstance(code, bool):
        success = value.get("success")
        code = int(not success) if isinstance(success, bool) else None
    inner = value.get("output", value.get("content"))
    text = read_content(inner).text if inner is not None else read_content(value).text
    return text, code


def _read_execution(
    event: Mapping[str, Any], answer: RawMessage, code: Any, call_id: str
) -> tuple[RawMessage, ...]:
    """The call and the output of a command, patch or tool that only an event tells of."""
    invocation = event.get("invocation")
    what = invocation if is_object(invocation) else event
    name = next((str(what[n]) for n in ("tool", "name") if isinstance(what.get(n), str)), "")
    named = next((n for n in ("command", "changes", "arguments") if what.get(n)), "")
    name = name or {"command": "shell", "changes": "apply_patch"}.get(named, "tool")
    value = what.get(named)
    arguments = value if isinstance(value, str) else to_json(value) if value is not None else ""
    outputs = ("aggregated_output", "formatted_output", "stdout", "result", "output")
    output = next((event[n] for n in outputs if event.get(n)), "")
    if is_object(output) and len(output) == 1:  # Rust's Ok and Err
        output = output.get("Ok", output.get("Err", output))
    status = code if isinstance(code, int) and not isinstance(code, bool) else None
    refs = {"call": call_id} if call_id else {}
    call = ToolCall(name, arguments, call_id)
    return (
        msgspec.structs.replace(answer, tool_calls=(call,)),
        RawMessage(
            "tool", read_content(output).text, answer.time, name=name, refs=refs, status=status
        ),
    )
