"""Rows of Parquet, CSV and JSON files, all as objects; and rows that are parts of conversations."""

from __future__ import annotations

import ast
import csv
import io
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from upshot.errors import FormatError
from upshot.io.files import Input, read_json
from upshot.io.json_text import Bad, decode
from upshot.io.json_values import is_array, is_object

_BATCH = 256
_MAX_CELL = 1 << 27
"""Characters of a CSV cell."""
_SNIFFED = 1 << 16
_COLUMN = re.compile(r"[A-Za-z_][\w .:/\-\[\]()]{0,59}")
"""The name of a column; a sentence with commas is no header."""


def is_parquet(head: bytes) -> bool:
    """Whether a file that begins like this is Parquet."""
    return head[:4] == b"PAR1"


def read_rows(source: Input) -> Iterator[tuple[str, Any]]:
    """(position, row) of a Parquet, CSV or JSON file; what is not JSON comes as `Bad`.

    Raises:
        FormatError: the file is damaged.
    """
    if is_parquet(source.head):
        for position, row in read_parquet(source):
            yield position, decode_cells(row)
    elif source.head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):
        for position, value in read_json(source):
            if is_array(value):
                for number, item in enumerate(value, 1):
                    yield f"{position}, item {number}", item
            else:
                yield position, value
    else:
        for position, row in read_csv(source):
            yield position, row if isinstance(row, Bad) else decode_cells(row)


def read_parquet(source: Input) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(position, row) of a Parquet file; fields of structs that are null are left out.

    Raises:
        FormatError: the file is damaged.
    """
    try:
        # Parquet is read from its end, so what is no file on disk has to be held in memory.
        on_disk = source.raw is not None and source.name != "-"
        file: Any = pq.ParquetFile(source.name if on_disk else io.BytesIO(source.stream.read()))
        row = 0
        for batch in file.iter_batches(_BATCH):
            for item in batch.to_pylist():
                row += 1
                yield f"row {row}", drop_nulls(item)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise FormatError(f"could not read {source.name}: {error}") from error


def read_first_rows(source: Input, count: int) -> list[Any]:
    """The first rows of a Parquet file on disk; none where it is damaged or no file."""
    if source.raw is None or source.name == "-":
        handle: Any = io.BytesIO(source.stream.peek(_HELD))
    else:
        handle = source.name
    try:
        file: Any = pq.ParquetFile(handle)
        batch = next(file.iter_batches(count), None)
    except (pa.ArrowException, OSError, ValueError):
        return []
    return [] if batch is None else [decode_cells(drop_nulls(row)) for row in batch.to_pylist()]


_HELD = 1 << 30
"""Bytes of a Parquet file that is no file on disk: its index stands at its end."""


def drop_nulls(value: Any) -> Any:
    """The same without fields that are null, which Arrow adds to structs that lack them."""
    if is_object(value):
        return {name: drop_nulls(inner) for name, inner in value.items() if inner is not None}
    if is_array(value):
        return [drop_nulls(item) for item in value]
    return value


def read_csv(source: Input) -> Iterator[tuple[str, Mapping[str, str] | Bad]]:
    """(position, row) of a CSV or TSV file with a header."""
    yield from _read_table(decode_table(source.stream.read()), sniff_dialect(source.head))


class _Lines:
    """The lines of a table, which can be read once more from any of them."""

    def __init__(self, text: str) -> None:
        self.lines = list(io.StringIO(text, newline=""))
        self.place = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self.place >= len(self.lines):
            raise StopIteration
        self.place += 1
        return self.lines[self.place - 1]


def _read_table(
    text: str, dialect: type[csv.Dialect]
) -> Iterator[tuple[str, Mapping[str, str] | Bad]]:
    """(position, row); a row whose quote is not closed is one bad row, not all up to the next
    quote.
    """
    csv.field_size_limit(_MAX_CELL)
    lines = _Lines(text)
    reader = csv.reader(lines, dialect, strict=True)
    header: list[str] | None = None
    number = 0
    while True:
        start = lines.place
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            number += 1
            if lines.place == start + 1 and (row := _read_loosely(lines.lines[start], dialect)):
                cells = row
            else:
                yield f"row {number}", Bad(f"not CSV: {error}")
                lines.place = start + 1
                reader = csv.reader(lines, dialect, strict=True)
                continue
        else:
            number += bool(cells)
        if header is None:
            header = cells
        elif cells and len(cells) != len(header):
            yield f"row {number}", Bad("its number of columns is not the header's")
        elif cells:
            yield f"row {number}", dict(zip(header, cells, strict=True))


def _read_loosely(line: str, dialect: type[csv.Dialect]) -> list[str]:
    """The cells of a line with text behind a quote; none where the quote is not closed."""
    try:
        if line.count('"') % 2:
            return []
        return next(csv.reader([line], dialect), list[str]())
    except csv.Error:
        return []


def decode_table(data: bytes) -> str:
    """A table's text: UTF-8, or what Excel writes in western Europe where it is none."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        cut = error.start > len(data) - 4  # in the middle of a character
        return data.decode("utf-8-sig" if cut else "cp1252", "replace")


def first_csv_rows(head: bytes, count: int) -> list[Mapping[str, str]]:
    """The first whole rows of a CSV file."""
    rows = _read_table(decode_table(head), sniff_dialect(head))
    return list(itertools.islice((row for _, row in rows if not isinstance(row, Bad)), count))


def sniff_dialect(head: bytes) -> type[csv.Dialect]:
    """How a table separates its columns."""
    first = head[:_SNIFFED].decode("utf-8-sig", "replace").partition("\n")[0]
    mark = max("\t;,|", key=first.count)

    class Dialect(csv.excel):
        delimiter = mark

    return Dialect


def read_header(head: bytes) -> list[str]:
    """Names of a CSV file's columns; empty where the beginning is none of a table.

    >>> read_header(b"id,role,content\\n1,user,hi\\n")
    ['id', 'role', 'content']
    """
    lines = head[:_SNIFFED].decode("utf-8-sig", "replace").splitlines()[:1]
    if not lines:
        return []
    reader: Iterator[list[str]] = csv.reader(lines, dialect=sniff_dialect(head))
    names = next(reader, list[str]())
    if len(names) < 2 or not all(_COLUMN.fullmatch(name.strip()) for name in names):
        return []
    return [name.strip() for name in names]


def decode_cells(row: Mapping[str, Any]) -> dict[str, Any]:
    """The same, cells that hold JSON objects or lists decoded."""
    return {name: decode_cell(value) for name, value in row.items()}


def decode_cell(value: Any) -> Any:
    """A cell's JSON object or list, else the cell."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            inner = decode(value.encode("utf-8", "replace"))
        except ValueError:
            inner = _decode_python(value)
        return inner if is_object(inner) or is_array(inner) else value
    return value


_PYTHON = re.compile(r"\s*\[?\s*\{\s*['\"]\w+['\"]\s*:")
_BETWEEN = re.compile(r"\}\s*\n\s*\{")
_MAX_PYTHON = 1 << 20
"""Characters of a value in Python's spelling."""


def _decode_python(text: str) -> Any:
    """Lists and objects as Python and NumPy print them, which is how data frames write cells."""
    if len(text) > _MAX_PYTHON or not _PYTHON.match(text):
        return None
    for attempt in (text, _BETWEEN.sub("}, {", text)):
        try:
            return ast.literal_eval(attempt.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            continue
    return None


@lru_cache(maxsize=4096)
def fold_name(name: str) -> str:
    """A column's name as programs write it.

    >>> fold_name("Conversation ID"), fold_name("createdAt"), fold_name("sender-type")
    ('conversation_id', 'created_at', 'sender_type')
    """
    return _WORD_BREAK.sub("_", name.strip()).lower()


_WORD_BREAK = re.compile(r"[\s\-]+|(?<=[a-z0-9])(?=[A-Z])")


def fold_names(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row under the folded names of its columns; of two that are one, the first counts."""
    folded: dict[str, Any] = {}
    for name, value in row.items():
        folded.setdefault(fold_name(name), value)
    return folded


def group_rows(rows: Iterable[tuple[str, Any]], key: str) -> Iterator[tuple[str, list[Any] | Bad]]:
    """Rows of one key together, in order of the first; (position of the first, rows)."""
    groups: dict[str, tuple[str, list[Any]]] = {}
    for position, row in rows:
        if isinstance(row, Bad) or not is_object(row):
            yield position, row if isinstance(row, Bad) else Bad("not an object")
            continue
        groups.setdefault(str(row.get(key)), (position, []))[1].append(row)
    yield from groups.values()
