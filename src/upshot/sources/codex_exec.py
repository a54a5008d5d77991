"""What `codex exec --json` prints: events of a thread, items completed; older versions print
`{"id", "msg"}`, and the prompt on a line of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from upshot.io.files import Input
from upshot.io.json_values import is_array, is_object
from upshot.records import BadRecord, RawConversation, RawMessage, ToolCall
from upshot.sources import fields
from upshot.sources.agent_steps import INTERRUPTED, News, Step, build_conversations
from upshot.sources.detection import Fit, Sample, fit_records
from upshot.sources.messages import read_content, to_json
from upshot.sources.notes import skip
from upshot.sources.reading import describe, object_records

NAME = "codex-exec"
_EVENTS = frozenset(
    {
        "thread.started",
        "turn.started",
        "turn.completed",
        "turn.failed",
        "item.started",
        "item.updated",
        "item.completed",
        "error",
    }
)
"""`type` of the events since September 2025."""
_SETTINGS = frozenset({"model", "provider", "sandbox", "workdir", "approval"})
"""What the first line of the older output holds."""


def fit(sample: Sample) -> Fit:
    """How many of a file's first records are events of a run."""
    return fit_records(sample, _find_misfit)


def _find_misfit(record: Any) -> str:
    if not is_object(record):
        return "not an object"
    kind = record.get("type")
    if kind in _EVENTS:
        item = record.get("item")
        is_item = str(kind).startswith("item.")
        return "no `item.type`" if is_item and not (is_object(item) and "type" in item) else ""
    if is_object(message := record.get("msg")) and "id" in record:
        return "" if isinstance(message.get("type"), str) else "no `msg.type`"
    if isinstance(record.get("prompt"), str) and len(record) == 1:
        return ""
    return "" if len(_SETTINGS & set(record)) >= 3 else "no event of `codex exec`"


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """The threads of a file."""
    run = _Run()
    for position, value in object_records(source):
        if isinstance(value, BadRecord):
            yield value
            continue
        if value.get("type") == "thread.started" and run.steps:
            yield from run.make_conversations()
            run = _Run()
        try:
            run.add(value)
        except Exception as error:  # noqa: BLE001 - whatever a line holds is one bad record
            yield BadRecord(source.name, position, describe(error))
    yield from run.make_conversations()


class _Run:
    """The events of one thread as they come."""

    def __init__(self) -> None:
        self.id = ""
        self.model = ""
        self.metadata: dict[str, Any] = {}
        self.steps: list[Step] = []
        self.done: set[str] = set()
        self.commands: dict[str, Any] = {}

    def add(self, record: Mapping[str, Any]) -> None:
        """Take one event in."""
        kind = str(record.get("type") or "")
        item, message = record.get("item"), record.get("msg")
        time = fields.epoch(record.get("timestamp"))
        if kind == "thread.started":
            self.id = str(record.get("thread_id") or "")
        elif kind == "item.completed" and is_object(item):
            self._add_item(item, time)
        elif is_object(message):
            self._add_message(message, time)
        elif isinstance(record.get("prompt"), str):
            self._append([RawMessage("user", record["prompt"], time)])
        elif len(_SETTINGS & set(record)) >= 3:
            self.model = str(record.get("model") or "")
            if isinstance(record.get("workdir"), str):
                self.metadata["cwd"] = record["workdir"]
        else:
            skip(NAME, kind)

    def _append(self, messages: Sequence[RawMessage], news: Sequence[News] = ()) -> None:
        last = self.steps[-1] if self.steps else None
        if last is not None and last.messages and messages:
            old, new = last.messages[-1], messages[0]
            if old.role == new.role == "assistant" and not old.tool_calls and not new.content:
                last.messages[-1] = RawMessage(
                    "assistant", old.content, old.time, model=old.model, tool_calls=new.tool_calls
                )
                messages = messages[1:]
        parent = last.name if last is not None else ""
        self.steps.append(Step(f"item {len(self.steps)}", parent, messages, news))

    def _add_item(self, item: Mapping[str, Any], time: float | None) -> None:
        kind = str(item.get("type") or item.get("item_type") or "")
        name = str(item.get("id") or "")
        if name and name in self.done:
            skip(NAME, "repeats of items")
            return
        self.done.add(name)
        text = item.get("text")
        if kind in ("agent_message", "assistant_message") and isinstance(text, str):
            if text.strip():
                self._append([RawMessage("assistant", text, time, model=self.model)])
        elif kind == "user_message" and isinstance(text, str):
            self._append([RawMessage("user", text, time)])
        elif kind in ("command_execution", "file_change", "mcp_tool_call", "web_search"):
            self._append(_read_execution(kind, item, time, self.model))
        else:
            skip(NAME, f"item: {kind}")

    def _add_message(self, message: Mapping[str, Any], time: float | None) -> None:
        """An event of the older output."""
        kind = str(message.get("type") or "")
        text = message.get("message")
        call = str(message.get("call_id") or "")
        if kind == "session_configured":
            self.id = str(message.get("session_id") or self.id)
            self.model = str(message.get("model") or self.model)
        elif kind == "agent_message" and isinstance(text, str) and text.strip():
            self._append([RawMessage("assistant", text, time, model=self.model)])
        elif kind == "user_message" and isinstance(text, str) and text.strip():
            self._append([RawMessage("user", text, time)])
        elif kind in ("exec_command_begin", "mcp_tool_call_begin", "patch_apply_begin"):
            self.commands[call] = message
        elif kind in ("exec_command_end", "mcp_tool_call_end", "patch_apply_end"):
            begin = self.commands.pop(call, {})
            kinds = {"exec": "command_execution", "patch": "file_change", "mcp": "mcp_tool_call"}
            whole = {**begin, **message, "id": call}
            self._append(_read_execution(kinds[kind.partition("_")[0]], whole, time, self.model))
        elif kind == "turn_aborted":
            self._append([], [INTERRUPTED])
        else:
            skip(NAME, f"msg: {kind}")

    def make_conversations(self) -> list[RawConversation]:
        """The thread, if it holds a message."""
        if not any(step.messages for step in self.steps):
            return []
        refs = {"thread": self.id} if self.id else {}
        base = RawConversation(
            (), self.id, model=self.model, source=NAME, metadata=self.metadata, refs=refs
        )
        return build_conversations(base, self.steps)


def _read_execution(
    kind: str, item: Mapping[str, Any], time: float | None, model: str
) -> list[RawMessage]:
    """A call and its output."""
    name = str(item.get("id") or "")
    inner = item.get("invocation")
    what = inner if is_object(inner) else item
    tool = {"command_execution": "shell", "file_change": "apply_patch"}.get(kind, kind)
    if kind == "mcp_tool_call":
        tool = str(what.get("tool") or tool)
    fields_of = {"command_execution": "command", "file_change": "changes", "web_search": "query"}
    value = what.get(fields_of.get(kind, "arguments"))
    arguments = value if isinstance(value, str) else to_json(value) if value is not None else ""
    call = ToolCall(tool, arguments, name)
    messages = [RawMessage("assistant", "", time, model=model, tool_calls=(call,))]
    outputs = ("aggregated_output", "stdout", "formatted_output", "result", "error")
    output = next((item[n] for n in outputs if item.get(n)), "")
    text = read_content(output.get("Ok", output) if is_object(output) else output).text
    code = item.get("exit_code")
    status: int | None = None
    if isinstance(code, int) and not isinstance(code, bool):
        status = code
    elif item.get("status") in ("failed", "completed") or isinstance(item.get("success"), bool):
        status = int(item.get("status") == "failed" or item.get("success") is False)
    if text or status is not None or is_array(output):
        refs = {"call": name} if name else {}
        messages.append(RawMessage("tool", text, time, name=tool, refs=refs, status=status))
    return messages
