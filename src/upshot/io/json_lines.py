"""Files out, whole or not at all; JSON lines, one item a line."""

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


def replace(path: Path, content: bytes) -> None:
    """Put content into a file; who reads it meanwhile sees all of the old or all of the new."""
    draft = path.with_name(path.name + ".part")
    draft.write_bytes(content)
    draft.replace(path)


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
