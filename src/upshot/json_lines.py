"""JSON lines out: one item a line, a file whole or not at all."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec


def encode(item: Any) -> bytes:
    """One line of the interchange format, without its end."""
    return msgspec.json.encode(item, enc_hook=str)


def write(items: Iterable[Any], out: str | os.PathLike[str]) -> int:
    """Write items to a file, or to standard output for `-`; returns how many."""
    count = 0
    if out == "-":
        for item in items:
            sys.stdout.buffer.write(encode(item) + b"\n")
            count += 1
        sys.stdout.buffer.flush()
        return count
    draft = Path(f"{os.fspath(out)}.part")
    with open(draft, "wb") as handle:
        for item in items:
            handle.write(encode(item) + b"\n")
            count += 1
    draft.replace(out)
    return count
