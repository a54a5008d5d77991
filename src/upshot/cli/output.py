"""JSON lines out of the command line."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from upshot import api


def write(items: Iterable[Any], out: str) -> int:
    """JSON lines to a file, whole or not at all, or to standard output."""
    count = 0
    if out == "-":
        for item in items:
            sys.stdout.buffer.write(api.to_json(item) + b"\n")
            count += 1
        sys.stdout.buffer.flush()
        return count
    draft = Path(f"{out}.part")
    with open(draft, "wb") as handle:
        for item in items:
            handle.write(api.to_json(item) + b"\n")
            count += 1
    draft.replace(out)
    return count
