"""tau-bench and tau2-bench: runs of an agent with a simulated customer; the reward is the outcome.

tau-bench: an array of `{"task_id", "reward", "traj"}`, and few-shot lines of one text
(`messages_display`); tau2-bench: `{"simulations": [{"messages", "reward_info"}]}`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from upshot.errors import RecordError
from upshot.io.files import Input, read_json
from upshot.io.json_values import is_array, is_number, is_object
from upshot.records import BadRecord, RawConversation, RawMessage, Signal
from upshot.sources import fields
from upshot.sources.detection import Fit, Sample, fit_records
from upshot.sources.messages import read_messages
from upshot.sources.payloads import find_text, read_transcript
from upshot.sources.reading import read_each

NAME = "tau-bench"


def fit(sample: Sample) -> Fit:
    """How many of the first records are runs."""
    return fit_records(sample, _explain_misfit)


def _explain_misfit(record: Any) -> str:
    if not is_object(record):
        return "not an object"
    if is_array(record.get("simulations")) and ("tasks" in record or "info" in record):
        return ""
    if isinstance(record.get("messages_display"), str):
        return ""
    if "task_id" in record and (is_array(record.get("traj")) or _is_simulation(record)):
        return ""
    return "no `traj`"


def _is_simulation(record: Mapping[str, Any]) -> bool:
    return is_array(record.get("messages")) and "reward_info" in record


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """A conversation a run."""
    return read_each(source, read_json(source), _read_record)


def _read_record(record: Any) -> list[RawConversation]:
    if is_array(record):
        return [c for item in record for c in _read_record(item)]
    if not is_object(record):
        raise RecordError("needs an object")
    if is_array(record.get("simulations")):
        info = record.get("info")
        model = find_text(info, "agent_info.llm")
        return [_read_run(run, model) for run in record["simulations"] if is_object(run)]
    return [_read_run(record, "")]


def _read_run(record: Mapping[str, Any], model: str) -> RawConversation:
    shown = record.get("messages_display")
    if isinstance(shown, str):
        messages = read_transcript(shown)
    else:
        turns = record.get("traj", record.get("messages"))
        messages = read_messages(turns if is_array(turns) else ())
    if not messages:
        raise RecordError("it has no messages")
    _add_reward(messages, record)
    task, trial = find_text(record, "task_id"), find_text(record, "trial")
    return RawConversation(
        tuple(messages),
        find_text(record, "id") or "/".join(part for part in (task, trial) if part),
        "",
        fields.epoch(record.get("start_time")),
        model,
        NAME,
        refs={name: value for name, value in (("task", task), ("trial", trial)) if value},
    )


def _add_reward(messages: list[RawMessage], record: Mapping[str, Any]) -> None:
    """The reward, from 0 to 1, as the outcome of the last answer."""
    info = record.get("reward_info")
    reward = record.get("reward", info.get("reward") if is_object(info) else None)
    last = max((i for i, m in enumerate(messages) if m.role == "assistant"), default=-1)
    if last < 0 or not is_number(reward) or not 0 <= reward <= 1:
        return
    signal = Signal("outcome", 2.0 * reward - 1.0, last, f"reward {reward:g}")
    messages[last] = msgspec.structs.replace(
        messages[last], signals=(*messages[last].signals, signal)
    )
