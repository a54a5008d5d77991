"""What it takes to send scores to a system."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from upshot.serve.scores import Score

_HEX = re.compile("[0-9a-f]+")


class Answer(NamedTuple):
    """What became of some scores."""

    accepted: Sequence[Score] = ()
    refused: Sequence[Score] = ()
    reason: str = ""
    """Why the first was refused."""
    stop: str = ""
    """Why no more are sent; empty: they are."""


class Target(NamedTuple):
    """A system that takes scores."""

    name: str
    path: str
    """Below the base address."""
    addresses: tuple[str, ...]
    """Environment variables that may hold the base address; the first that is set counts."""
    batch: int
    """Scores of one request."""
    needs: str
    """What refs a response must have, for a message."""
    read_headers: Callable[[Mapping[str, str]], dict[str, str]]
    """Headers with the keys, from the environment.

    Raises:
        ConfigError: they are not there, or cannot be read.
    """
    locate: Callable[[Mapping[str, str]], str]
    """The id of a response there, from its refs; empty where they do not suffice."""
    encode: Callable[[Sequence[Score]], bytes]
    """The body of a request."""
    read_answer: Callable[[Any, Sequence[Score]], Answer]
    """What became of scores, from the decoded body of an answer of success.

    Raises:
        ValueError: it is no answer of that system.
    """


def read_otel_id(text: str, size: int) -> str:
    """An id of OpenTelemetry as hexadecimal digits, from those or from base64; empty where it is
    none. `size`: its bytes, 16 of a trace and 8 of a span.

    >>> read_otel_id("00F067AA0BA902B7", 8), read_otel_id("APBnqgupArc=", 8), read_otel_id("x", 8)
    ('00f067aa0ba902b7', '00f067aa0ba902b7', '')
    """
    digits = text.strip().lower().removeprefix("0x")
    if _HEX.fullmatch(digits) and len(digits) in (size, 2 * size):
        padded = digits.zfill(2 * size)  # Jaeger writes traces of 8 bytes
    elif len(text) == 4 * -(-size // 3):
        try:
            padded = base64.b64decode(text, validate=True).hex()
        except (binascii.Error, ValueError):
            return ""
    else:
        return ""
    return padded if len(padded) == 2 * size and padded.strip("0") else ""
