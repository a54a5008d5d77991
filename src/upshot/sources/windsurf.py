"""Transcripts of Windsurf's Cascade: JSON lines of steps, each with its `type` and an object of
that name.

The person's and the model's words are steps; every other step is a tool's call with its answer.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from upshot.errors import RecordError
from upshot.io.files import Input
from upshot.io.json_values import is_object
from upshot.records import BadRecord, RawConversation, RawMessage, ToolCall
from upshot.sources import fields
from upshot.sources.agent_lines import Trail, object_of, read_lines_into, require_object, string_of
from upshot.sources.agent_steps import DENIED, News
from upshot.sources.detection import Fit, Sample, fit_records
from upshot.sources.messages import ToolResult, make_tool_message, read_content, to_json
from upshot.sources.notes import note, skip

NAME = "windsurf"
_STEPS = frozenset(
    {
        "user_input",
        "planner_response",
        "code_action",
        "run_command",
        "view_file",
        "find",
        "grep_search",
        "list_directory",
        "list_resources",
        "read_resource",
        "mcp_tool",
        "command_status",
        "search_web",
        "read_url_content",
        "view_content_chunk",
        "codebase_search",
        "code_search",
        "view_code_item",
        "view_file_outline",
        "todo_list",
        "memory",
        "create_memory",
        "propose_code",
        "checkpoint",
        "ephemeral_message",
        "error_message",
        "browser_preview",
        "lint_diff",
        "find_code_context",
        "trajectory_search",
        "suggested_responses",
        "proposal_feedback",
        "deploy_web_app",
    }
)
_OUTPUTS = ("output", "content", "result", "results", "diff", "error", "response")
_OUTCOMES = frozenset(
    {*_OUTPUTS, "exit_code", "user_rejected", "acknowledgement_type", "total_results"}
)
"""Fields that came back; the others were the call's."""
_SILENT = frozenset({"checkpoint", "ephemeral_message", "suggested_responses", "error_message"})


def fit(sample: Sample) -> Fit:
    """How many of a file's first records are steps."""
    kinds = {string_of(record, "type") for record in sample.records}
    if not kinds & {"user_input", "planner_response"}:
        return Fit(0, len(sample.records), "no `user_input` or `planner_response`")
    return fit_records(sample, _find_misfit)


def _find_misfit(record: Any) -> str:
    if not is_object(record) or not isinstance(kind := record.get("type"), str):
        return "no `type`"
    if not is_object(record.get(kind)) and kind not in _STEPS:
        return f"no `{kind[:30]}`"
    return "" if "status" in record and "message" not in record else "no `status`"


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """The conversation of a file."""
    stem = os.path.basename(source.name.rpartition("!")[2]).partition(".")[0]
    transcript = _Transcript(stem if re.fullmatch(r"[0-9a-f]{8}-[0-9a-f-]{27}", stem) else "")
    return read_lines_into(source, transcript.add, transcript.finish)


class _Transcript:
    def __init__(self, name: str) -> None:
        self.name = name
        self.trail = Trail()
        self.folder = ""

    def add(self, value: Any) -> None:
        """Take a step in."""
        record = require_object(value)
        kind = record.get("type")
        if not isinstance(kind, str):
            raise RecordError("it has no `type`")
        body = object_of(record, kind)
        time = fields.epoch(record.get("timestamp", record.get("created_at")))
        if kind == "user_input":
            text = read_content(body.get("user_response", body.get("query"))).text
            self._add_words("user", text, kind, time)
        elif kind == "planner_response":
            text = read_content(body.get("response", body.get("modified_response"))).text
            self._add_words("assistant", text, kind, time)
        elif kind in _SILENT:
            skip(NAME, kind)
        else:
            self._add_call(kind, record, body, time)

    def _add_words(self, role: str, text: str, kind: str, time: float | None) -> None:
        if not text.strip():
            skip(NAME, f"{kind} without words")
        elif role == "user":
            self.trail.add([RawMessage("user", text, time)])
        else:
            self.trail.add([RawMessage("assistant", text, time)])

    def _add_call(
        self, kind: str, record: Mapping[str, Any], body: Mapping[str, Any], time: float | None
    ) -> None:
        given = {key: field for key, field in body.items() if key not in _OUTCOMES}
        self.folder = self.folder or string_of(body, "cwd")
        call = ToolCall(kind, to_json(given), string_of(record, "id", "step_id"))
        self.trail.add([RawMessage("assistant", "", time, tool_calls=(call,))])
        text = next((t for n in _OUTPUTS if (t := read_content(body.get(n)).text)), "")
        failed = record.get("status") == "error" or None
        code = body.get("exit_code")
        code = code if isinstance(code, int) and not isinstance(code, bool) else None
        if text or code is not None:
            message = make_tool_message(ToolResult(text, call.id, kind, failed), time=time)
            if code is not None:
                message = msgspec.structs.replace(message, status=code)
            self.trail.add([message])
        elif failed:
            note("a failed call without an answer")
        self.trail.tell(_read_news(body))

    def finish(self) -> Iterator[RawConversation]:
        """The conversation."""
        metadata = {"cwd": self.folder} if self.folder else {}
        yield from self.trail.build(RawConversation((), self.name, source=NAME, metadata=metadata))


def _read_news(body: Mapping[str, Any]) -> list[News]:
    """Whether the person let a command run or took an edit over."""
    answer = string_of(body, "acknowledgement_type")
    if body.get("user_rejected") is True or answer.endswith("_REJECT"):
        return [DENIED]
    return [News("copy", 0.6, "accepted")] if answer.endswith("_ACCEPT") else []
