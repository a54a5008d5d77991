"""Amp's threads: one object with messages of Anthropic's blocks; a tool's answer stands in a user's
message under `run`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from upshot.errors import RecordError
from upshot.io.files import Input, read_json
from upshot.io.json_values import is_array, is_object
from upshot.records import BadRecord, RawConversation, RawMessage
from upshot.sources import fields
from upshot.sources.agent_lines import (
    Trail,
    list_of,
    object_of,
    require_object,
    string_of,
    take_each,
)
from upshot.sources.agent_steps import DENIED, INTERRUPTED, News
from upshot.sources.detection import Fit, Sample, fit_records
from upshot.sources.messages import (
    ToolResult,
    drop_thoughts,
    make_tool_message,
    read_content,
    to_json,
)
from upshot.sources.notes import skip
from upshot.sources.reading import read_each

NAME = "amp"
_OUTPUTS = ("output", "content", "diff", "text", "message")
_UNFINISHED = frozenset({"in-progress", "queued", "blocked-on-user", "cancelled"})


def fit(sample: Sample) -> Fit:
    """How many of a file's first records are threads."""
    return fit_records(sample, _find_misfit)


def _find_misfit(record: Any) -> str:
    if not is_object(record) or not is_array(record.get("messages")):
        return "no `messages`"
    if not string_of(record, "id").startswith("T-"):
        return "no `id` of a thread"
    return "" if "v" in record or "created" in record else "no `created`"


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """One conversation a thread, and what was taken back of it."""
    return read_each(source, read_json(source), _read_thread)


def _read_thread(record: Any) -> list[RawConversation]:
    if not is_object(record):
        raise RecordError("not an object")
    trail = Trail()

    def take(message: Any) -> None:
        messages, before, behind = _read_message(require_object(message))
        trail.tell(before)
        if messages:
            trail.add(messages)
        trail.tell(behind)

    take_each(NAME, list_of(record, "messages"), take)
    tree = next(iter(list_of(object_of(record, "env", "initial"), "trees")), None)
    metadata: dict[str, Any] = {}
    if folder := string_of(tree, "uri").removeprefix("file://"):
        metadata["cwd"] = folder
    if branch := string_of(object_of(tree, "repository"), "ref").removeprefix("refs/heads/"):
        metadata["gitBranch"] = branch
    name = string_of(record, "id")
    refs = {"session": name}
    for relation in list_of(record, "relationships"):
        if string_of(relation, "type") == "fork":
            refs["forked_from"] = string_of(relation, "threadID")
    base = RawConversation(
        (),
        name,
        string_of(record, "creatorUserID"),
        fields.epoch(record.get("created")),
        source=NAME,
        metadata=metadata,
        refs={key: value for key, value in refs.items() if value},
    )
    conversations = trail.build(base)
    if not conversations:
        raise RecordError("the thread holds no messages")
    return conversations


def _read_message(
    record: Mapping[str, Any],
) -> tuple[list[RawMessage], Sequence[News], Sequence[News]]:
    """The messages of one, and news of the response before them and of their own."""
    role = string_of(record, "role")
    usage = object_of(record, "usage")
    time = fields.epoch(object_of(record, "meta").get("sentAt") or usage.get("timestamp"))
    content = record.get("content")
    name = string_of(record, "messageId")
    refs = {"message": name} if name else {}
    if role == "assistant":
        parts = read_content(content)
        text = drop_thoughts(parts.text)
        stopped = object_of(record, "state").get("type") == "cancelled"
        behind = [INTERRUPTED] if stopped else []
        if not text and not parts.calls:
            skip(NAME, "answers without content")
            return [], (), behind
        model = string_of(usage, "model")
        answer = RawMessage("assistant", text, time, model=model, tool_calls=parts.calls, refs=refs)
        return [answer], (), behind
    if role == "user":
        return *_read_turn(content, time, refs), ()
    skip(NAME, role or "messages without a role")
    return [], (), ()


def _read_turn(
    content: Any, time: float | None, refs: Mapping[str, str]
) -> tuple[list[RawMessage], list[News]]:
    messages: list[RawMessage] = []
    news: list[News] = []
    words: list[Any] = []
    for block in content if is_array(content) else [content]:
        if is_object(block) and block.get("type") == "tool_result":
            run = object_of(block, "run")
            if run.get("status") == "rejected-by-user":
                news.append(DENIED)
            if (result := _read_result(block, run, time)) is not None:
                messages.append(result)
        else:
            words.append(block)
    text = read_content(words).text
    if text.strip():
        messages.append(RawMessage("user", text, time, refs=refs))
    return messages, news


def _read_result(
    block: Mapping[str, Any], run: Mapping[str, Any], time: float | None
) -> RawMessage | None:
    status = run.get("status")
    value = run.get("result", block.get("content"))
    if is_object(value):
        text = next((t for n in _OUTPUTS if (t := read_content(value.get(n)).text)), "")
        text = text or to_json(value)
    else:
        text = read_content(value).text
    if not text:
        error = run.get("error")
        text = error if isinstance(error, str) else string_of(error, "message")
    text = text or string_of(run, "reason")
    if not text:
        if status in _UNFINISHED:
            skip(NAME, f"calls that are {status}")
        return None
    failed = {"done": False, "error": True}.get(status) if isinstance(status, str) else None
    call = string_of(block, "toolUseID", "tool_use_id")
    message = make_tool_message(ToolResult(text, call, "", failed), time=time)
    code = value.get("exitCode") if is_object(value) else None
    if isinstance(code, int) and not isinstance(code, bool):
        message = msgspec.structs.replace(message, status=code, name="Bash")
    return message
