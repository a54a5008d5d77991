"""Tasks of Cline and its forks (Roo Code, Kilo Code): `api_conversation_history.json`, and
`ui_messages.json` where it lies alone.

Their tools are written as XML in the answer, or called natively. What a tool answered stands in a
turn of the user's role, beside what the person typed (`<feedback>`, `<answer>`, `<user_message>`)
and what the editor adds (`<environment_details>`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from upshot.errors import RecordError
from upshot.io.files import Bad, Input, read_json
from upshot.io.json_text import decode
from upshot.io.json_values import is_array, is_object
from upshot.io.streams import Folder
from upshot.records import BadRecord, RawConversation, RawMessage, ToolCall
from upshot.sources import fields
from upshot.sources.agent_lines import Trail, list_of, object_of, string_of
from upshot.sources.agent_steps import DENIED, INTERRUPTED, News, Part, join_turn
from upshot.sources.detection import Fit, Sample
from upshot.sources.messages import (
    ToolResult,
    drop_thoughts,
    make_tool_message,
    read_content,
    to_json,
)
from upshot.sources.notes import skip
from upshot.sources.reading import describe, read_each

NAME = "cline"
HISTORY = "api_conversation_history.json"
_TOOLS = (
    "execute_command",
    "read_file",
    "write_to_file",
    "replace_in_file",
    "apply_diff",
    "edit_file",
    "insert_content",
    "search_and_replace",
    "search_files",
    "list_files",
    "browser_action",
    "list_code_definition_names",
    "codebase_search",
    "web_fetch",
    "web_search",
    "use_mcp_tool",
    "access_mcp_resource",
    "ask_followup_question",
    "plan_mode_respond",
    "attempt_completion",
    "new_task",
    "switch_mode",
    "condense",
    "summarize_task",
    "load_mcp_documentation",
    "new_rule",
    "report_bug",
    "update_todo_list",
    "fetch_instructions",
    "run_slash_command",
    "generate_image",
    "use_skill",
    "act_mode_respond",
    "apply_patch",
    "generate_explanation",
)
_CALL = re.compile(rf"<({'|'.join(_TOOLS)})>(.*?)(?:</\1>|\Z)", re.DOTALL)
_PARAMETER = re.compile(r"<([a-z_]+)>\n?(.*?)\n?</\1>", re.DOTALL)
_WORDS_OF_CALLS = {
    "attempt_completion": "result",
    "ask_followup_question": "question",
    "plan_mode_respond": "response",
    "act_mode_respond": "response",
}
"""Calls that speak to the person, and where their words stand."""
_RESULT = re.compile(
    r"\A\s*\[([\w-]+)(?: (?:for|in|with|to) .{0,2000}?)?\] Result:[ \t]*\n*", re.DOTALL
)
_TYPED = re.compile(r"<(feedback|answer|user_message|task)>\n?(.*?)\n?</\1>", re.DOTALL)
_ADDED = re.compile(
    r"\A\s*(?:<environment_details>|<explicit_instructions|<file_content|<workspace_diagnostics>"
    r"|<final_file_content|<automatic_diagnostics|\[ERROR\]|\[TASK RESUMPTION\]|\[NOTE\]"
    r"|# (?:task_progress|TODO LIST)|\[The user (?:didn't|did not)|New instructions for task"
    r"|\[New message to respond|\[Response interrupted|The user (?:is providing|has provided)"
    r"|If you have completed the user's task|Continue assisting the user)"
)
"""How blocks of the editor begin."""
_DENIED = re.compile(r"\bThe user denied this operation|\"status\"\s*:\s*\"denied\"")
_CUT = re.compile(r"\[Response interrupted by ([^\]]{1,200})\]\s*\Z")
_CWD = re.compile(r"# Current (?:Working|Workspace) Directory \((.{1,500}?)\) Files")
_OWN_IDS = frozenset({"id", "tool_call_id", "condenseId", "truncationId", "taskId"})
_ASKS = frozenset({"followup", "plan_mode_respond"})


def fit(sample: Sample) -> Fit:
    """How many of a file's first records are messages of a task; a bare list that has no mark of
    these tools is left to the general readers.
    """
    good = [r for r in sample.records if is_object(r) and (_is_message(r) or _is_ui(r))]
    if not any(_is_ui(record) or _is_marked(record) for record in good):
        return Fit(0, len(sample.records), "no marks of Cline in it")
    return Fit(len(good), len(sample.records), "no `role` or `say`")


def _is_message(record: Mapping[str, Any]) -> bool:
    return record.get("role") in ("user", "assistant") and "content" in record


def _is_ui(record: Mapping[str, Any]) -> bool:
    kind = record.get("type")
    return "ts" in record and kind in ("say", "ask") and isinstance(record.get(kind), str)


def _is_marked(record: Mapping[str, Any]) -> bool:
    if any(name.lower().endswith("id") and name not in _OWN_IDS for name in record):
        return False  # rows of several conversations
    content = record.get("content")
    blocks = content if is_array(content) else [content]
    for block in blocks:
        text = string_of(block, "text") if is_object(block) else block
        if not isinstance(text, str):
            continue
        if record["role"] == "assistant":
            if _CALL.search(text):
                return True
        elif _RESULT.match(text) or _TYPED.match(text) or "<environment_details>" in text:
            return True
    return (
        "ts" in record
        and is_array(content)
        and any(
            is_object(b) and b.get("type") == "tool_use" and b.get("name") in _TOOLS
            for b in content
        )
    )


def is_side_file(sample: Sample, folder: Folder) -> bool:
    """Whether a file lies beside a task's history, which is the better record."""
    name = os.path.basename(sample.name.rpartition("!")[2])
    return name != HISTORY and name.endswith(".json") and folder.read(HISTORY) is not None


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """The task of a file."""
    task = _Task()
    for position, value in read_json(source):
        if isinstance(value, Bad):
            yield BadRecord(source.name, position, value.reason)
            continue
        for item in value if is_array(value) else [value]:
            try:
                task.add(item)
            except Exception as error:  # noqa: BLE001 - one bad message is one bad record
                yield BadRecord(source.name, position, describe(error))
    base = _make_base(source.name, source.folder, task)
    yield from read_each(source, iter([("whole file", base)]), task.trail.build)


def _make_base(path: str, folder: Folder, task: _Task) -> RawConversation:
    name = os.path.basename(os.path.dirname(path))
    usage = list_of(_load(folder, "task_metadata.json"), "model_usage")
    models = [model for use in usage if (model := string_of(use, "model_id"))]
    return RawConversation(
        (),
        name if re.fullmatch(r"\d{10,}|[0-9a-f]{8}-[0-9a-f-]{27}", name) else "",
        model=task.model or (models[-1] if models else ""),
        source=NAME,
        metadata={"cwd": task.cwd} if task.cwd else {},
    )


def _load(folder: Folder, name: str) -> Any:
    try:
        return decode(folder.read(name) or b"null")
    except ValueError:
        return None


class _Task:
    """The messages of a task."""

    def __init__(self) -> None:
        self.trail = Trail()
        self.model = self.cwd = ""

    def add(self, record: Any) -> None:
        """Take a message in."""
        if not is_object(record):
            raise RecordError("not an object")
        self.model = self.model or string_of(object_of(record, "modelInfo"), "modelId")
        time = fields.epoch(record.get("ts"))
        if _is_ui(record):
            messages, news = _read_ui(record, time)
        elif record.get("role") == "assistant":
            messages, news = _read_answer(record, time)
        elif record.get("role") == "user":
            messages, news = self._read_turn(record, time)
        elif string_of(record, "type") in ("reasoning", "thinking"):
            skip(NAME, string_of(record, "type"))
            return
        else:
            raise RecordError("it has no `role` of user or assistant")
        before = [one for one in news if one is not INTERRUPTED]
        self.trail.tell(before)
        if messages:
            self.trail.add(messages)
        self.trail.tell([INTERRUPTED] if len(before) < len(news) else ())

    def _read_turn(
        self, record: Mapping[str, Any], time: float | None
    ) -> tuple[list[RawMessage], list[News]]:
        if record.get("isSummary") is True or record.get("isTruncationMarker") is True:
            text = read_content(record.get("content")).text
            return [RawMessage("user", text, time, author="machine")] if text else [], []
        turn = _Turn(time)
        content = record.get("content")
        for block in content if is_array(content) else [content]:
            turn.read(block)
        if match := _CWD.search("\n".join(part.text for part in turn.parts)):
            self.cwd = self.cwd or match.group(1)
        return turn.finish()


class _Turn:
    """The blocks of a turn of the user's role."""

    def __init__(self, time: float | None) -> None:
        self.time = time
        self.tools: list[RawMessage] = []
        self.parts: list[Part] = []
        self.news: list[News] = []
        self.open_tool = ""
        """Name of the tool whose result goes on in the next block."""

    def read(self, block: Any) -> None:
        """Take a block in."""
        content = read_content(block)
        for result in content.results:
            self.open_tool = ""
            self._read_result(result.text, result)
        text = content.text
        if not text:
            return
        if not (isinstance(block, str) or (is_object(block) and block.get("type") == "text")):
            self.parts.append(Part(text))  # a picture
        elif match := _RESULT.match(text):
            rest = text[match.end() :]
            self.open_tool = "" if rest.strip() else match.group(1)
            if rest.strip():
                self._read_result(rest, ToolResult(rest, "", match.group(1)))
        elif self.open_tool and not _ADDED.match(text):
            self._read_result(text, ToolResult(text, "", self.open_tool))
            self.open_tool = ""
        else:
            self.open_tool = ""
            self._read_words(text)

    def _read_result(self, text: str, result: ToolResult) -> None:
        """What a tool answered, and what the person typed instead of letting it run, or of it."""
        if _DENIED.search(text[:400]):
            self.news.append(DENIED)
        typed = _find_feedback(text)
        if typed is None:
            details = text.find("<environment_details>")
            if details > 0:
                self.parts.append(Part(text[details:], "machine"))
                text = text[:details].rstrip()
            self.tools.append(make_tool_message(result._replace(text=text), time=self.time))
            return
        before, words, after = typed
        if before.strip() and result.name not in _WORDS_OF_CALLS:
            self.tools.append(make_tool_message(result._replace(text=before), time=self.time))
        elif before.strip():
            self.parts.append(Part(before, "machine"))
        self.parts.append(Part(words))
        if after.strip():
            self.parts.append(Part(after, "machine"))

    def _read_words(self, text: str) -> None:
        if not _ADDED.match(text):
            self.parts.append(Part(text))
            return
        last = 0
        for match in _TYPED.finditer(text):
            self.parts.append(Part(text[last : match.start()].rstrip("\n"), "machine"))
            self.parts.append(Part(match.group()))
            last = match.end()
        self.parts.append(Part(text[last:].lstrip("\n"), "machine"))

    def finish(self) -> tuple[list[RawMessage], list[News]]:
        """The messages, and what they say of the answer before them."""
        messages = list(self.tools)
        if any(part.text.strip() for part in self.parts):
            messages.append(join_turn(self.parts, self.time))
        return messages, self.news


def _find_feedback(text: str) -> tuple[str, str, str] | None:
    """A result before, in and behind the person's words in it; None where there are none."""
    if text[:1] == "{":
        try:
            value = decode(text.encode())
        except ValueError:
            value = None
        if is_object(value) and (words := string_of(value, "feedback")):
            rest = {name: field for name, field in value.items() if name != "feedback"}
            return to_json(rest), words, ""
    match = _TYPED.search(text)
    if match is None or match.group(1) == "task":
        return None
    return text[: match.start()].rstrip(), match.group(), text[match.end() :].lstrip()


def _read_answer(
    record: Mapping[str, Any], time: float | None
) -> tuple[list[RawMessage], list[News]]:
    content = read_content(record.get("content"))
    if record.get("isSummary") is True:
        return [RawMessage("user", content.text, time, author="machine")], []
    text = drop_thoughts(content.text)
    news: list[News] = []
    if match := _CUT.search(text):
        text = text[: match.start()].rstrip()
        news = [INTERRUPTED] if "user" in match.group(1) else []
    text, calls = split_calls(text)
    words = [text]
    for call in content.calls:
        spoken, call = _lift_words(call)
        words.append(spoken)
        calls.append(call)
    text = "\n".join(part for part in words if part.strip())
    model = string_of(object_of(record, "modelInfo"), "modelId")
    if not text and not calls:
        return [], news
    return [RawMessage("assistant", text, time, model=model, tool_calls=tuple(calls))], news


def split_calls(text: str) -> tuple[str, list[ToolCall]]:
    """The words of an answer and the calls that stand in it as XML.

    >>> split_calls("Let me look.\\n<read_file>\\n<path>a.py</path>\\n</read_file>")
    ('Let me look.', [ToolCall(name='read_file', arguments='{"path":"a.py"}', id='')])
    """
    calls: list[ToolCall] = []
    words: list[str] = []
    last = 0
    for match in _CALL.finditer(text):
        words.append(text[last : match.start()].strip())
        last = match.end()
        arguments = dict(_PARAMETER.findall(match.group(2)))
        spoken, call = _lift_words(ToolCall(match.group(1), to_json(arguments)))
        words.append(spoken)
        calls.append(call)
    if not calls:
        return text, calls
    words.append(text[last:].strip())
    return "\n".join(word for word in words if word), calls


def _lift_words(call: ToolCall) -> tuple[str, ToolCall]:
    """What a call says to the person, and the call without it."""
    name = _WORDS_OF_CALLS.get(call.name)
    if name is None:
        return "", call
    try:
        arguments = decode(call.arguments.encode())
    except ValueError:
        return "", call
    words = string_of(arguments, name)
    if not words:
        return "", call
    rest = {key: value for key, value in arguments.items() if key != name}
    return words, msgspec.structs.replace(call, arguments=to_json(rest))


def _read_ui(record: Mapping[str, Any], time: float | None) -> tuple[list[RawMessage], list[News]]:
    """What the editor shows: `say` and `ask`."""
    kind = string_of(record, string_of(record, "type"))
    text = string_of(record, "text")
    pictures = read_content([{"type": "image"}] * len(list_of(record, "images"))).text
    if record.get("partial") is True:
        skip(NAME, "partial messages")
        return [], []
    if kind in ("task", "user_feedback"):
        text = "\n".join(filter(None, [text, pictures]))
        return [RawMessage("user", text, time)] if text else [], []
    if kind == "user_feedback_diff":
        return [], [News("edit", -0.3, string_of(_parse(text), "diff"))]
    if kind in ("text", "completion_result") or kind in _ASKS:
        text = string_of(_parse(text), "question", "response") or text
        return [RawMessage("assistant", text, time)] if text else [], []
    if kind in ("command", "tool", "use_mcp_server", "browser_action_launch"):
        return _read_ui_call(kind, text, time), []
    if kind in ("command_output", "mcp_server_response", "browser_action_result"):
        name = "execute_command" if kind == "command_output" else kind
        return [make_tool_message(ToolResult(text, "", name), time=time)] if text else [], []
    skip(NAME, kind)
    cancelled = _parse(text) if kind == "api_req_started" else None
    by_user = string_of(cancelled, "cancelReason") == "user_cancelled"
    return [], [INTERRUPTED] if by_user else []


def _read_ui_call(kind: str, text: str, time: float | None) -> list[RawMessage]:
    value = _parse(text)
    if not text:
        return []
    name = string_of(value, "tool", "toolName") or "execute_command"
    if is_object(value):
        arguments = to_json({k: v for k, v in value.items() if k not in ("tool", "toolName")})
    else:
        arguments = to_json({"command": text})
    del kind
    return [RawMessage("assistant", "", time, tool_calls=(ToolCall(name, arguments),))]


def _parse(text: str) -> Any:
    if text[:1] != "{":
        return None
    try:
        return decode(text.encode())
    except ValueError:
        return None
