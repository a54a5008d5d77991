"""What an exporter is, and how its rows are written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from upshot.errors import InputError
from upshot.io import json_lines
from upshot.io.writing import open_output

Row = dict[str, Any]
_BATCH = 5_000
"""Rows turned into Arrow at once."""


class Exporter(msgspec.Struct, frozen=True):
    """One trainer's format."""

    rows: Literal["pairs", "examples", "masked"]
    """What it takes: `Preference` rows, scored `Example` rows, or whole conversations as `Example`
    rows that mark what is to be imitated.
    """
    convert: Callable[[Any], Row]
    """One row as the trainer reads it."""
    parquet: bool = False
    """The trainer reads Parquet; else JSON lines, unless the file's name ends in `.parquet`."""
    after: Callable[[Path], None] | None = None
    """Called with the file once it is whole, to write what belongs beside it."""


def write_rows(rows: Iterable[Row], out: str | os.PathLike[str], exporter: Exporter) -> int:
    """Write rows to one file, whole or not at all; returns how many.

    Raises:
        InputError: Parquet is to go to standard output, or the file cannot be written.
    """
    path = os.fspath(out)
    if exporter.parquet or path.endswith(".parquet"):
        if path == "-":
            raise InputError(
                "could not write to standard output: this format is Parquet; name a file with -o"
            )
        count = _write_parquet(rows, path)
    else:
        count = json_lines.write(rows, path)
    if exporter.after is not None and path != "-":
        exporter.after(Path(path))
    return count


def _write_parquet(rows: Iterable[Row], path: str) -> int:
    count = 0
    remaining = iter(rows)
    with open_output(path) as handle:
        first = pa.Table.from_pylist(list(islice(remaining, _BATCH)))
        with pq.ParquetWriter(handle, first.schema, compression="zstd") as writer:
            table = first
            while table.num_rows:
                writer.write_table(table)
                count += table.num_rows
                batch = list(islice(remaining, _BATCH))
                table = pa.Table.from_pylist(batch, schema=first.schema)
    return count
