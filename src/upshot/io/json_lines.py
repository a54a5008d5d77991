"""JSON lines: one item per line."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import msgspec

from upshot.io.writing import open_output


def encode(item: Any) -> bytes:
    """One line of the interchange format, without its end.

    >>> encode({"id": "c1"})
    b'{"id":"c1"}'
    """
    return msgspec.json.encode(item, enc_hook=str)


def write(items: Iterable[Any], out: str | os.PathLike[str]) -> int:
    """Write items to a file, or to standard output for `-`; returns how many.

    Raises:
        InputError: the file cannot be written; what was there before is untouched.
    """
    count = 0
    with open_output(out) as handle:
        for item in items:
            handle.write(encode(item) + b"\n")
            count += 1
    return count
