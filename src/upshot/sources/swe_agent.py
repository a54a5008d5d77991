"""SWE-agent trajectories (`.traj`): thought and action are the response, the observation is the
tool message.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from upshot.errors import RecordError
from upshot.io.files import Bad, Input, read_json
from upshot.io.json_values import is_array, is_object
from upshot.records import BadRecord, RawConversation, RawMessage, Signal
from upshot.sources import fields

NAME = "swe-agent"
_HEAD = re.compile(rb'"trajectory"\s*:\s*\[')


def matches(head: bytes) -> bool:
    """Whether the start of a file looks like this format."""
    return _HEAD.search(head) is not None and (b'"observation"' in head or b'"action"' in head)


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """One conversation a trajectory."""
    for position, value in read_json(source):
        try:
            yield _read_trajectory(value, source.name)
        except RecordError as error:
            yield BadRecord(source.name, position, str(error))


def _read_trajectory(record: Any, name: str) -> RawConversation:
    if isinstance(record, Bad):
        raise RecordError(record.reason)
    steps = record.get("trajectory") if is_object(record) else None
    if not is_array(steps) or not steps:
        raise RecordError("needs an object with a list `trajectory` of at least one step")
    messages = _read_history(record.get("history"))
    for step in steps:
        if not is_object(step):
            raise RecordError("a step of `trajectory` is not an object")
        response = (
            fields.text(step.get("response"))
            or f"{step.get('thought', '')}\n```\n{step.get('action', '')}\n```"
        )
        messages.append(RawMessage("assistant", response))
        if step.get("observation"):
            messages.append(RawMessage("tool", fields.text(step["observation"])))
    info: Mapping[str, Any] = record["info"] if is_object(record.get("info")) else {}
    last = max(i for i, message in enumerate(messages) if message.role == "assistant")
    status = str(info.get("exit_status") or "")
    if status and not status.startswith("submitted"):
        messages[last] = RawMessage(
            "assistant", messages[last].content, None, (Signal("exit", -0.3, last, status),)
        )
    environment = str(record.get("environment") or "")
    stem = os.path.basename(name).split(".")[0]
    return RawConversation(
        tuple(messages),
        f"{environment}:{stem}" if environment else stem,
        f"swe-agent:{environment}:{stem}",
        None,
        str(info.get("model") or ""),
        NAME,
        {key: info[key] for key in ("exit_status", "model_stats") if key in info},
    )


def _read_history(history: Any) -> list[RawMessage]:
    """System and task messages before the first step; demonstrations are left out."""
    messages: list[RawMessage] = []
    for item in history if is_array(history) else ():
        if not is_object(item) or item.get("role") not in ("system", "user"):
            break
        if not item.get("is_demo"):
            messages.append(RawMessage(fields.role(item["role"]), fields.text(item.get("content"))))
    return messages
