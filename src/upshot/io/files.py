"""Files, folders, globs and standard input as streams of bytes, decompressed on the way."""

from __future__ import annotations

import codecs
import glob
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from upshot.errors import InputError, NotFoundError, RecordError
from upshot.io import json_text
from upshot.io.json_text import Bad as Bad
from upshot.io.streams import (
    DiskFolder,
    Folder,
    Limits,
    NoFolder,
    Stream,
    decompress,
    read_parts,
)

HEAD = 1 << 20
"""Bytes by which a format is recognised."""
_IGNORED = frozenset({".git", "__pycache__", "node_modules", ".venv"})
_ENCODINGS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class Input(NamedTuple):
    """One opened file."""

    name: str
    """Its path, `-`, or `ARCHIVE!MEMBER`."""
    stream: Stream
    """Its bytes, decompressed; text in UTF-16 or UTF-32 comes as UTF-8."""
    head: bytes
    """The first megabyte, decompressed; still to be read from `stream` as well."""
    raw: BinaryIO | None
    """The file itself; None for a member of an archive."""
    folder: Folder
    """What lies beside it."""
    limits: Limits

    def close(self) -> None:
        """Close the file; standard input stays open."""
        if self.name != "-" and self.raw is not None:
            self.raw.close()


def expand_paths(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    """File paths of files, folders (recursively, in order), globs and `-`.

    Raises:
        NotFoundError: nothing is there.
    """
    files: list[str] = []
    for path in [os.fspath(path) for path in paths]:
        if path == "-" or os.path.isfile(path):
            files.append(path)
        elif os.path.isdir(path):
            inside = [
                p
                for p in sorted(Path(path).rglob("*"))
                if p.is_file() and not _IGNORED & set(p.parts)
            ]
            if not inside:
                raise NotFoundError(f"could not read {path}: the folder holds no files")
            files += map(str, inside)
        else:
            matched = sorted(p for p in glob.glob(path, recursive=True) if os.path.isfile(p))
            if not matched:
                raise NotFoundError(
                    f"could not read {path}: there is no such file, folder or pattern"
                )
            files += matched
    return files


def open_input(path: str, limits: Limits | None = None, beside: Sequence[str] = ()) -> Input:
    """Open and decompress; gzip and zstd are known by their first bytes, not by the name.

    `beside`: names of the files of its folder that are read in the same run.

    Raises:
        InputError: the file cannot be opened.
    """
    try:
        raw: BinaryIO = sys.stdin.buffer if path == "-" else open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise InputError(f"could not read {path}: {error.strerror}") from error
    folder = NoFolder() if path == "-" else DiskFolder(os.path.dirname(path) or ".", beside)
    return make_input(path, read_parts(raw), folder, raw, limits or Limits())


def make_input(
    name: str, parts: Iterator[bytes], folder: Folder, raw: BinaryIO | None, limits: Limits
) -> Input:
    """An input of the parts of a file, which may be compressed."""
    stream = Stream(decompress(parts, limits))
    start = stream.peek(4)
    encoding = next((name for mark, name in _ENCODINGS if start.startswith(mark)), None)
    if encoding is not None:
        stream = Stream(_to_utf8(stream, encoding))
    return Input(name, stream, stream.peek(HEAD), raw, folder, limits)


def _to_utf8(stream: Stream, encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    for part in read_parts(stream):
        yield decoder.decode(part).encode("utf-8", "replace")
    yield decoder.decode(b"", final=True).encode("utf-8", "replace")


def read_lines(source: Input) -> Iterator[tuple[int, bytes | Bad]]:
    """Numbered lines, from 1, without their ends; blank ones are passed over."""
    return json_text.read_lines(source.stream, source.limits)


def read_json(source: Input) -> Iterator[tuple[str, Any | Bad]]:
    """(position, value) for each value of a file: `line 3`, or `item 3` of an array.

    Memory is bounded by the largest value. What is not JSON becomes a `Bad` and the next value is
    looked for.
    """
    return json_text.read_values(source.stream, source.limits)


def read_objects(path: str | os.PathLike[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(`FILE: line 3`, object) for each item of a file of which every one is needed.

    Raises:
        InputError: an item is no object; says which.
    """
    name = os.fspath(path)
    source = open_input(name)
    try:
        yield from require_objects(name, read_json(source))
    finally:
        source.close()


def require_objects(
    name: str, records: Iterable[tuple[str, Any]]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The same of records that are being read already.

    Raises:
        InputError: a record is no object; says which.
    """
    for position, record in records:
        if isinstance(record, Bad) or not isinstance(record, Mapping):
            raise InputError(
                f"could not read {name}: {position}:"
                f" {record.reason if isinstance(record, Bad) else 'not an object'}"
            )
        yield f"{name}: {position}", record


def require_type(record: Any, kind: type, what: str) -> Any:
    """The record itself, where it is of the kind that a format needs."""
    if not isinstance(record, kind):
        raise RecordError(f"{what} is {type(record).__name__}, not {kind.__name__}")
    return record
