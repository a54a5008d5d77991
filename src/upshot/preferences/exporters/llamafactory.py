"""LLaMA-Factory: ShareGPT ranking; `dataset_info.json` is written beside it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from upshot.io.writing import replace_file
from upshot.preferences.exporters.exporter import Exporter, Row
from upshot.records import Preference, Turn

_SPEAKERS = {"user": "human", "assistant": "gpt", "system": "system", "tool": "observation"}


def convert(row: Preference) -> Row:
    """A ranking of two last messages."""
    return {
        "conversations": _share_gpt(row.prompt),
        "chosen": _share_gpt(row.chosen)[-1],
        "rejected": _share_gpt(row.rejected)[-1],
    }


def _share_gpt(turns: Iterable[Turn]) -> list[dict[str, str]]:
    return [{"from": _SPEAKERS[turn.role], "value": turn.content} for turn in turns]


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
