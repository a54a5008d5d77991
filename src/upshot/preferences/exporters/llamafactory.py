"""LLaMA-Factory: ShareGPT ranking; `dataset_info.json` is written beside it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from upshot.io.writing import replace_file
from upshot.preferences.exporters.exporter import Exporter, Row
from upshot.records import Preference, ToolCall, Turn

_SIDES = {
    "system": "system",
    "human": "user",
    "observation": "user",
    "gpt": "assistant",
    "function_call": "assistant",
}
_SPEAKERS = {"user": "human", "assistant": "gpt", "system": "system", "tool": "observation"}


def convert(row: Preference) -> Row:
    """A ranking of two last messages."""
    prompt = _share_gpt(row.prompt)
    while prompt and _SIDES[prompt[-1]["from"]] == "assistant":  # a ranking answers a person
        prompt.pop()
    return {
        "conversations": prompt,
        "chosen": _share_gpt(row.chosen)[-1],
        "rejected": _share_gpt(row.rejected)[-1],
    }


def _share_gpt(turns: Iterable[Turn]) -> list[dict[str, str]]:
    """Turns in LLaMA-Factory's form: calls are turns of their own, and sides alternate.

    Turns of one side that follow each other are joined, since its reader drops what does not
    alternate.
    """
    joined: list[dict[str, str]] = []
    for turn in turns:
        speaker, value = _SPEAKERS[turn.role], turn.content
        if turn.tool_calls:
            calls = [
                {"name": call.name, "arguments": _arguments_of(call)} for call in turn.tool_calls
            ]
            speaker = "function_call"
            value = json.dumps(calls[0] if len(calls) == 1 else calls)
        last = joined[-1] if joined else None
        if last is None or _SIDES[last["from"]] != _SIDES[speaker]:
            joined.append({"from": speaker, "value": value})
        elif "function_call" in (last["from"], speaker):
            if speaker == "function_call":  # words before a call have no place of their own
                joined[-1] = {"from": speaker, "value": value}
        else:
            last["value"] = "\n\n".join(part for part in (last["value"], value) if part)
    return joined


def _arguments_of(call: ToolCall) -> Any:
    try:
        return json.loads(call.arguments or "{}")
    except ValueError:
        return call.arguments


def add_to_register(path: Path) -> None:
    """Add a file to the register of data sets beside it."""
    register = path.with_name("dataset_info.json")
    entries: dict[str, Any] = json.loads(register.read_text("utf-8")) if register.is_file() else {}
    entries[path.stem] = {
        "file_name": path.name,
        "formatting": "sharegpt",
        "ranking": True,
        "columns": {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"},
    }
    replace_file(register, (json.dumps(entries, indent=2) + "\n").encode())


LLAMAFACTORY = Exporter("pairs", convert, after=add_to_register)
