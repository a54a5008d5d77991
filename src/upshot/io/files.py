"""Files, folders, globs and standard input as streams of bytes, decompressed on the way."""

from __future__ import annotations

import glob
import gzip
import io
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec
import zstandard

from upshot.errors import FormatError, InputError, NotFoundError, RecordError

_HEAD = 1 << 18
_BLOCK = 1 << 22
_IGNORED = frozenset({".git", "__pycache__", "node_modules", ".venv"})


class Input(NamedTuple):
    """One opened file."""

    name: str
    """Its path, or `-`."""
    stream: BinaryIO
    head: bytes
    """The first quarter of a megabyte, decompressed; still to be read from `stream` as well."""
    raw: BinaryIO
    """The file itself."""

    def close(self) -> None:
        """Close the file; standard input stays open."""
        if self.name != "-":
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


class _Replay(io.RawIOBase):
    """A stream whose first bytes were already taken, without copying the rest."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head = memoryview(head)
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._head:
            size = min(len(buffer), len(self._head))
            buffer[:size] = self._head[:size]
            self._head = self._head[size:]
            return size
        data = self._rest.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def open_input(path: str) -> Input:
    """Open and decompress; gzip and zstd are known by their first bytes, not by the name."""
    try:
        raw: BinaryIO = sys.stdin.buffer if path == "-" else open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise InputError(f"could not read {path}: {error.strerror}") from error
    magic = raw.read(4)
    stream: BinaryIO = io.BufferedReader(_Replay(magic, raw), _BLOCK)
    if magic[:2] == b"\x1f\x8b":
        stream = gzip.open(stream, "rb")  # noqa: SIM115  # pyright: ignore[reportAssignmentType]  # a BinaryIO in all but name
    elif magic == b"\x28\xb5\x2f\xfd":
        stream = io.BufferedReader(
            zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True), _BLOCK
        )  # pyright: ignore[reportArgumentType]
    try:
        head = _read_exactly(stream, _HEAD)
    except (OSError, EOFError, zstandard.ZstdError) as error:
        raw.close()
        raise FormatError(f"could not decompress {path}: {error}") from error
    return Input(path, io.BufferedReader(_Replay(head, stream), _BLOCK), head, raw)


def _read_exactly(stream: BinaryIO, size: int) -> bytes:
    parts: list[bytes] = []
    while size > 0:
        part = stream.read(size)
        if not part:
            break
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


class Bad(NamedTuple):
    """A stretch of a file that is not JSON."""

    reason: str


def read_lines(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Numbered lines, from 1, without their ends; blank ones are passed over. Reads in blocks."""
    number = 0
    rest = b""
    while block := stream.read(_BLOCK):
        parts = (rest + block).split(b"\n") if rest else block.split(b"\n")
        rest = parts.pop()
        for part in parts:
            number += 1
            if part and not part.isspace():
                yield number, part
    if rest and not rest.isspace():
        yield number + 1, rest


def read_json(source: Input) -> Iterator[tuple[str, Any | Bad]]:
    """(position, value) for each item of a JSON array, each JSON line, or the one value of a file.

    Memory is bounded by the largest item. What is not JSON becomes a `Bad` and the next item is
    looked for.
    """
    start = source.head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if start == b"[":
        yield from _read_array(source.stream)
    elif _is_one_value(source.head):
        yield from _read_whole(source.stream)
    else:
        yield from _read_json_lines(source.stream)


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


def _read_json_lines(stream: BinaryIO) -> Iterator[tuple[str, Any | Bad]]:
    decode = msgspec.json.Decoder().decode
    for number, line in read_lines(stream):
        try:
            yield f"line {number}", decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            yield f"line {number}", Bad(f"not JSON: {error}")


def _is_one_value(head: bytes) -> bool:
    """Whether the file is one (pretty-printed) object and not one object a line."""
    first, _, rest = head.lstrip(b"\xef\xbb\xbf \t\r\n").partition(b"\n")
    try:
        msgspec.json.decode(first)
    except msgspec.DecodeError:
        return (
            first[:1] == b"{"
            and (not rest.strip() or not rest.lstrip().startswith(b"{"))
            and len(head) > len(first)
        )
    return False


def _read_whole(stream: BinaryIO) -> Iterator[tuple[str, Any | Bad]]:
    try:
        yield "item 1", msgspec.json.decode(stream.read())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        yield "item 1", Bad(f"not JSON: {error}")


_SPACE = re.compile(r"[\s,\ufeff]*")
_NEXT_ITEM = re.compile(r"\}\s*,\s*(?=\{)")


def _read_array(stream: BinaryIO) -> Iterator[tuple[str, Any | Bad]]:
    """Items of a JSON array, decoded one by one from a sliding window."""
    decoder = json.JSONDecoder(strict=False)
    reader = io.TextIOWrapper(stream, encoding="utf-8", errors="replace", newline="")  # pyright: ignore[reportArgumentType]
    window = reader.read(_BLOCK)
    position = window.find("[") + 1
    item = 0
    grow = _BLOCK
    while True:
        position = _SPACE.match(window, position).end()  # pyright: ignore[reportOptionalMemberAccess]
        if position < len(window) and window[position] == "]":
            return
        try:
            value, end = decoder.raw_decode(window, position)
            if end == len(window) and not isinstance(value, (dict, list)):
                raise json.JSONDecodeError("cut", window, end)
        except json.JSONDecodeError as error:
            addition = reader.read(grow)
            if addition:
                window, position, grow = window[position:] + addition, 0, grow * 2
                continue
            if position >= len(window):
                return
            item += 1
            yield (
                f"item {item}",
                Bad(f"not JSON: {error.msg} at character {error.pos - position} of the item"),
            )
            following = _NEXT_ITEM.search(window, max(position, error.pos - 1))
            if following is None:
                return
            position = following.end()
            continue
        item += 1
        yield f"item {item}", value
        position = end
        if position > _BLOCK:
            window, position, grow = window[position:], 0, _BLOCK


def require_type(record: Any, kind: type, what: str) -> Any:
    """The record itself, where it is of the kind that a format needs."""
    if not isinstance(record, kind):
        raise RecordError(f"{what} is {type(record).__name__}, not {kind.__name__}")
    return record
