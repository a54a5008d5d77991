"""Which format a file is in: every format says how many of the first records it can read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from upshot.io.files import HEAD, Input
from upshot.io.json_text import Bad, decode, read_values
from upshot.io.json_values import is_array, is_object
from upshot.io.streams import Limits, Stream
from upshot.sources.rows import (
    decode_cells,
    first_csv_rows,
    is_parquet,
    read_first_rows,
    read_header,
)

_RECORDS = 60
"""Records of a file by which its format is told."""
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[\]{},:]|[^\s\[\]{},:"]+')


class Sample(NamedTuple):
    """The beginning of a file."""

    name: str
    """Of the file, for messages; no format is told by it."""
    head: bytes
    text: str
    """The same as text."""
    records: tuple[Any, ...]
    """The first JSON values: those of lines, or the items of an array; lists are taken apart. The
    last may have been completed where the beginning ends.
    """


class Fit(NamedTuple):
    """How well a format fits a file."""

    readable: int
    """Records that it can read."""
    of: int
    missing: str = ""
    """What the first of the others lacks."""

    @property
    def share(self) -> float:
        """Readable records of all, in [0, 1]."""
        return self.readable / self.of if self.of else 0.0

    @property
    def forgiving_share(self) -> float:
        """The same where one record may be bad beside two that are not."""
        if self.readable < _MIN_FORGIVEN:
            return self.share
        return min(1.0, (self.readable + 1) / self.of)


_MIN_FORGIVEN = 2
"""Records that a format reads, before one that it does not read is taken for a bad one."""
NO_FIT = Fit(0, 0)


def fit_records(sample: Sample, misfit: Callable[[Any], str]) -> Fit:
    """The fit of a format whose records are JSON values.

    `misfit`: what a value lacks to be a record of the format; empty where it is one.
    """
    readable, missing = 0, ""
    for record in sample.records:
        try:
            reason = misfit(record)
        except Exception as error:  # noqa: BLE001  # a probe that trips over a value cannot read it
            reason = f"{type(error).__name__} while looking at it"
        if reason:
            missing = missing or reason
        else:
            readable += 1
    return Fit(readable, len(sample.records), missing)


def lacks(record: Any, *names: str, where: Mapping[str, type] | None = None) -> str:
    """What an object lacks of the fields named; empty where it has them all.

    `where`: the type that fields must have.

    >>> lacks({"id": 1}, "id", "mapping"), lacks([], "id"), lacks({"a": 1}, where={"a": list})
    ('no `mapping`', 'not an object', '`a` is no list')
    """
    if not is_object(record):
        return "not an object"
    if missing := next((name for name in (*names, *(where or ())) if name not in record), None):
        return f"no `{missing}`"
    for name, kind in (where or {}).items():
        if not isinstance(record[name], kind):
            return f"`{name}` is no {kind.__name__}"
    return ""


def take_sample(source: Input) -> Sample:
    """The beginning of a file, its records decoded."""
    head = source.head
    if is_parquet(head):
        rows = read_first_rows(source, _RECORDS)
        return Sample(source.name, head, "", tuple(rows))
    if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] not in (b"{", b"[") and read_header(head):
        table = [decode_cells(row) for row in first_csv_rows(head, _RECORDS)]
        if table:
            return Sample(source.name, head, head.decode("utf-8", "replace"), tuple(table))
    return Sample(source.name, head, head.decode("utf-8", "replace"), _first_records(head))


@lru_cache(maxsize=1)
def _first_records(head: bytes) -> tuple[Any, ...]:
    """The first values of a file, decoded once for detection and for its reader."""
    return tuple(_decode_first(head))


def _decode_first(head: bytes) -> Iterable[Any]:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if start[:1] not in (b"{", b"["):
        if start[:1] not in (b'"', b"-") and not start[:1].isalnum() and not _is_headed(start):
            return []
        # A line that is no JSON (a heading, a warning) before lines that are.
        lines = [line for line in start.split(b"\n")[:_RECORDS] if line.lstrip()[:1] == b"{"]
        return [value for line in lines if (value := _decode(line)) is not None]
    records: list[Any] = []
    whole = len(head) < HEAD
    stream = Stream(iter([start]))
    for _, value in read_values(stream, Limits()):
        if isinstance(value, Bad):
            continue
        records += [v for v in value if is_object(v)] or [value] if is_array(value) else [value]
        if len(records) >= _RECORDS:
            break
    if not records and not whole:  # one value that is longer than the beginning
        value = _decode(complete(start.decode("utf-8", "replace")).encode())
        records = list(value) if is_array(value) else [value]
    return records[:_RECORDS]


def _is_headed(start: bytes) -> bool:
    """Whether nearly all lines behind the first are JSON, so that the first is a comment."""
    lines = [line for line in start.split(b"\n")[1:_RECORDS] if line.strip()]
    return sum(line.lstrip()[:1] == b"{" for line in lines) > 0.9 * len(lines)


def _decode(data: bytes) -> Any:
    try:
        return decode(data)
    except ValueError:
        return None


def complete(text: str) -> str:
    """Cut JSON, ended after its last whole value.

    >>> complete('{"a": [1, {"b": "c", "d": "e')
    '{"a": [1, {"b": "c"}]}'
    """
    open_brackets: list[str] = []
    best, closing = 0, ""
    after_colon = False
    for token in _TOKEN.finditer(text):
        mark = token.group()
        if mark[0] == '"' and (len(mark) < 2 or mark[-1] != '"'):
            break  # cut inside a string
        if mark in "[{":
            open_brackets.append("]" if mark == "[" else "}")
            best, closing = token.end(), "".join(reversed(open_brackets))
            after_colon = False
        elif mark in "]}":
            if open_brackets:
                open_brackets.pop()
            best, closing = token.end(), "".join(reversed(open_brackets))
            after_colon = False
        elif mark == ":":
            after_colon = True
        elif mark == ",":
            after_colon = False
        elif (after_colon or (open_brackets and open_brackets[-1] == "]")) and token.end() < len(
            text
        ):
            best, closing = token.end(), "".join(reversed(open_brackets))
    return text[:best] + closing
