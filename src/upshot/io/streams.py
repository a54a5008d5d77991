"""Files, archive members and standard input as streams of bytes, decompressed on the way.

What was whole before a cut or a limit is delivered; the error follows it.
"""

from __future__ import annotations

import os
import posixpath
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import zstandard

from upshot.errors import FormatError

BLOCK = 1 << 22


class Limits:
    """How much of one file is read."""

    def __init__(self, decompressed_mb: int = 1000, line_mb: int = 64) -> None:
        self.decompressed = decompressed_mb * 1_000_000
        """Bytes of one file after decompression; files that are not compressed have no limit."""
        self.line = line_mb * 1_000_000
        """Bytes of one line, or of one item of an array."""


class Chunks(Protocol):
    """Bytes, a part at a time."""

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes; empty at the end."""
        ...


class Stream:
    """Parts of a file as they come, with a beginning that can be looked at first.

    An error of the source is raised once all that came before it was read.
    """

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._ready: list[bytes] = []
        self._failure: Exception | None = None

    def peek(self, size: int) -> bytes:
        """The first bytes; they stay to be read."""
        have = sum(map(len, self._ready))
        while have < size and (part := self._next()):
            self._ready.append(part)
            have += len(part)
        joined = b"".join(self._ready)
        self._ready = [joined] if joined else []
        return joined[:size]

    def read(self, size: int = -1, /) -> bytes:
        """The next part, at most `size` bytes (-1: all that is left); empty at the end.

        Raises:
            FormatError: the file is cut, or longer than its limit.
        """
        if size < 0:
            return b"".join(iter(lambda: self.read(BLOCK), b""))
        part = self._ready.pop(0) if self._ready else self._next()
        if not part and self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        if len(part) > size:
            self._ready.insert(0, part[size:])
        return part[:size]

    def whole(self) -> bool:
        """Whether all of it has been looked at already."""
        if self._failure is not None:
            return True
        if part := self._next():
            self._ready.append(part)
            return False
        return True

    def _next(self) -> bytes:
        if self._failure is not None:
            return b""
        try:
            return next((part for part in self._parts if part), b"")
        except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
            self._failure = FormatError(f"the file is cut or damaged: {error}")
        except FormatError as error:
            self._failure = error
        return b""


def read_parts(handle: Chunks) -> Iterator[bytes]:
    """The blocks of a file."""
    while block := handle.read(BLOCK):
        yield block


def decompress(parts: Iterator[bytes], limits: Limits) -> Iterator[bytes]:
    """The same decompressed, where the first bytes say gzip or zstd.

    Raises:
        FormatError: more than the limit comes out; everything up to it was delivered.
        EOFError: the file ends too early.
    """
    first = next(parts, b"")
    while len(first) < 4 and (more := next(parts, b"")):
        first += more

    def everything() -> Iterator[bytes]:
        yield first
        yield from parts

    if first[:2] == b"\x1f\x8b":
        return _limit(_gunzip(everything()), limits)
    if first[:4] == b"\x28\xb5\x2f\xfd":
        return _limit(_unzstd(everything()), limits)
    return everything()


def _gunzip(parts: Iterator[bytes]) -> Iterator[bytes]:
    machine = zlib.decompressobj(wbits=31)
    rest = b""
    while rest or (rest := next(parts, b"")):
        yield machine.decompress(rest, BLOCK)
        rest = machine.unconsumed_tail
        if machine.eof:  # another member may follow
            rest = machine.unused_data.lstrip(b"\0")
            machine = zlib.decompressobj(wbits=31)
            if not rest and not (rest := next(parts, b"").lstrip(b"\0")):
                return
    yield machine.flush()
    if not machine.eof:
        raise EOFError("it ends in the middle of compressed data")


def _unzstd(parts: Iterator[bytes]) -> Iterator[bytes]:
    class Source:
        def read(self, size: int = -1) -> bytes:
            del size
            return next(parts, b"")

    source: Any = Source()
    reader = zstandard.ZstdDecompressor().stream_reader(source, read_across_frames=True)
    while block := reader.read1(BLOCK):
        yield block


def _limit(parts: Iterator[bytes], limits: Limits) -> Iterator[bytes]:
    size = 0
    for part in parts:
        size += len(part)
        if size > limits.decompressed:
            yield part[: len(part) - (size - limits.decompressed)]
            raise FormatError(
                f"it decompresses to more than {limits.decompressed / 1e6:,.0f} MB; raise"
                " sources.decompressed_mb if that is meant"
            )
        yield part


@lru_cache(maxsize=16)
def _list_folder(path: str, changed: int) -> tuple[str, ...]:
    """Names in a folder, once for all the files in it that look beside themselves."""
    del changed
    return tuple(sorted(os.listdir(path)))


class Folder(Protocol):
    """What lies beside a file: in its folder, or in its archive."""

    def read(self, name: str) -> bytes | None:
        """The content of a file of this name; None where there is none."""
        ...

    def names(self) -> Sequence[str]:
        """Names of the files that are read in the same run, in order."""
        ...

    def list_names(self, folder: str = "") -> list[str]:
        """Names of what lies in a folder beside the file, in order; none where there is none."""
        ...


class DiskFolder:
    """A folder on disk."""

    def __init__(self, path: str | os.PathLike[str], names: Sequence[str] = ()) -> None:
        self.path = Path(path)
        self._names = tuple(sorted(names))

    def names(self) -> Sequence[str]:
        """Names of the files that are read in the same run, in order."""
        return self._names

    def read(self, name: str) -> bytes | None:
        """The content of a file of this name; None where there is none."""
        file = self.path / name
        return file.read_bytes() if file.is_file() else None

    def list_names(self, folder: str = "") -> list[str]:
        """Names of what lies in a folder beside the file, in order."""
        place = self.path / folder
        try:
            return list(_list_folder(str(place), place.stat().st_mtime_ns))
        except OSError:
            return []


class NoFolder:
    """Beside standard input there is nothing."""

    def read(self, name: str) -> bytes | None:
        """None."""
        del name
        return None

    def names(self) -> Sequence[str]:
        """Nothing."""
        return ()

    def list_names(self, folder: str = "") -> list[str]:
        """None."""
        del folder
        return []


class ArchiveFolder:
    """A folder inside an archive."""

    def __init__(self, members: Mapping[str, Callable[[], bytes]], prefix: str) -> None:
        self._members, self._prefix = members, prefix

    def names(self) -> Sequence[str]:
        """Names of the files that are read in the same run, in order."""
        size = len(self._prefix)
        inside = (name[size:] for name in self._members if name.startswith(self._prefix))
        return sorted(name for name in inside if "/" not in name)

    def read(self, name: str) -> bytes | None:
        """The content of a member of this name; None where there is none."""
        member = self._members.get(posixpath.normpath(self._prefix + name))
        return None if member is None else member()

    def list_names(self, folder: str = "") -> list[str]:
        """Names of what lies in a folder of the archive, in order."""
        place = posixpath.normpath(self._prefix + folder)
        start = "" if place == "." else place + "/"
        inside = {name[len(start) :] for name in self._members if name.startswith(start)}
        return sorted({name.partition("/")[0] for name in inside if name})
