"""A search for a user's own ids and texts in bytes of any kind.

However many there are, memory holds the texts themselves and a few megabytes: a trace is looked for
by a hash of its last bytes, which is computed for every position of the content at once, and then
compared. Content is searched as it is, decompressed, and with the escapes of JSON undone, as often
as one is written inside the other.
"""

from __future__ import annotations

import bz2
import io
import lzma
import re
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

MIN_TEXT = 24
"""Bytes; shorter texts ("thanks") are written by many users and prove nothing."""
MIN_ID = 8
"""Shorter ids such as `c0` occur in any file by chance."""
_PIECE = 200
"""Characters of the pieces into which a text is cut, at the end of a word, so that a part of it is
enough.
"""
_WINDOWS = (24, 16, 8)
"""Bytes at the end of a trace that are hashed, the most that it has; many begin alike."""
_CHUNK = 1 << 20
"""Bytes of content that are hashed at a time; eight for each are needed, several times."""
_FILTER_BITS = 22
"""Of a hash, which choose a place in a filter of four million; a hundred thousand traces let one
position in forty through to the exact comparison."""
_DEPTH = 3
"""How deep archives and escapes in one another are followed."""
_BASE = np.uint64(0x9E3779B97F4A7C15)
"""An odd number without pattern: 2^64 divided by the golden ratio."""


def cut_text(text: str) -> Iterator[bytes]:
    """The pieces of a text that are long enough to prove something.

    >>> list(cut_text("thanks")), len(list(cut_text("a long sentence " * 30)))
    ([], 3)
    """
    start = 0
    while start < len(text):
        end = start + _PIECE
        if end < len(text):
            space = text.rfind(" ", start + MIN_TEXT, end)
            end = space if space > 0 else end
        piece = text[start:end].strip().encode()
        if len(piece) >= MIN_TEXT:
            yield piece
        start = end


class Traces:
    """What is searched for: ids, which must not be a part of a longer word, and pieces of texts;
    each of at least `MIN_ID` bytes.
    """

    def __init__(self, ids: Iterable[bytes], pieces: Iterable[bytes]) -> None:
        self._is_id = dict.fromkeys(pieces, False) | dict.fromkeys(ids, True)
        self._by_window: dict[int, dict[int, list[bytes]]] = {}
        self._filters: dict[int, NDArray[np.bool_]] = {}
        ends: dict[int, dict[bytes, list[bytes]]] = defaultdict(lambda: defaultdict(list))
        for trace in self._is_id:
            size = next(size for size in _WINDOWS if size <= len(trace))
            ends[size][trace[-size:]].append(trace)
        for size, by_end in ends.items():
            joined = np.frombuffer(b"".join(by_end), np.uint8)
            hashes = _hash_windows(joined, size)[::size]
            table = np.zeros(1 << _FILTER_BITS, np.bool_)
            table[hashes >> np.uint64(64 - _FILTER_BITS)] = True
            self._filters[size] = table
            by_hash: dict[int, list[bytes]] = defaultdict(list)
            for value, traces in zip(hashes.tolist(), by_end.values(), strict=True):
                by_hash[value] += traces
            self._by_window[size] = dict(by_hash)

    def __len__(self) -> int:
        return len(self._is_id)

    def select(self, traces: Iterable[bytes]) -> Traces:
        """Some of them alone."""
        chosen = [trace for trace in traces if trace in self._is_id]
        ids = [trace for trace in chosen if self._is_id[trace]]
        return Traces(ids, [trace for trace in chosen if not self._is_id[trace]])

    def search(self, content: bytes) -> set[bytes]:
        """Those that the content holds as it is."""
        matches: set[bytes] = set()
        if not self._is_id:
            return matches
        for start in range(0, max(1, len(content)), _CHUNK):
            part = np.frombuffer(content[start : start + _CHUNK + _WINDOWS[0] - 1], np.uint8)
            for size, table in self._filters.items():
                if len(part) >= size:
                    hashes = _hash_windows(part, size)
                    places = np.flatnonzero(table[hashes >> np.uint64(64 - _FILTER_BITS)])
                    for place, value in zip(places.tolist(), hashes[places].tolist(), strict=True):
                        for trace in self._by_window[size].get(value, ()):
                            at = start + place + size - len(trace)
                            if trace not in matches and self._is_at(content, at, trace):
                                matches.add(trace)
        return matches

    def _is_at(self, content: bytes, place: int, trace: bytes) -> bool:
        if place < 0 or not content.startswith(trace, place):
            return False
        end = place + len(trace)
        around = content[max(0, place - 1) : place] + b"\0" + content[end : end + 1]
        return not self._is_id[trace] or _WORD.search(around) is None


_WORD = re.compile(rb"[\w-]")


def _hash_windows(content: NDArray[np.uint8], size: int) -> NDArray[np.uint64]:
    """A polynomial hash of each `size` bytes that follow one another; windows in, hashes out."""
    length = len(content) - size + 1
    total = np.zeros(length, np.uint64)
    power, width, at = content.astype(np.uint64) + np.uint64(1), 1, 0
    factor = _BASE  # _BASE to the power of `width`
    with np.errstate(over="ignore"):
        while True:
            if size & width:
                total = total * factor + power[at : at + length]
                at += width
            if size < 2 * width:
                return total * _BASE ^ (total >> np.uint64(29))
            power = power[:-width] * factor + power[width:]
            factor, width = factor * factor, 2 * width


def unfold(content: bytes) -> Iterator[bytes]:
    """The content, and the same without the escapes of JSON and decompressed, in any order."""
    yield from _unfold(content, _DEPTH)


def _unfold(content: bytes, depth: int) -> Iterator[bytes]:
    yield content
    if not depth:
        return
    for inside in _decompress(content):
        yield from _unfold(inside, depth - 1)
    plain = unescape(content)
    if plain != content:
        yield from _unfold(plain, depth - 1)


_ESCAPE = re.compile(
    rb"""
    (?:\\u[dD][89abAB][0-9a-fA-F]{2} \\u[dD][c-fC-F][0-9a-fA-F]{2}   # a pair of surrogates
    |\\u[0-9a-fA-F]{4}
    |\\[\\/"bfnrt])
    """,
    re.VERBOSE,
)
_LETTERS = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}


def unescape(content: bytes) -> bytes:
    r"""Content with one layer of JSON's escapes undone, whether or not it is JSON.

    >>> unescape(rb'say \"caf\u00e9\"') == 'say "café"'.encode()
    True
    """
    return _ESCAPE.sub(_unescape_one, content) if b"\\" in content else content


def _unescape_one(match: re.Match[bytes]) -> bytes:
    escape = match.group()
    if escape[1:2] != b"u":
        return _LETTERS.get(escape[1:2], escape[1:2])
    units = [int(part, 16) for part in escape.split(b"\\u")[1:]]
    raw = b"".join(unit.to_bytes(2, "big") for unit in units)
    return raw.decode("utf-16-be", "replace").encode()


def _decompress(content: bytes) -> Iterator[bytes]:
    """What compressed content holds, as far as it can be read."""
    for magic, read in _READERS.items():
        if content.startswith(magic):
            yield from read(content)


def _read_all(open_stream: Callable[[io.BytesIO], Any]) -> Callable[[bytes], Iterator[bytes]]:
    def read(content: bytes) -> Iterator[bytes]:
        parts: list[bytes] = []
        try:
            with open_stream(io.BytesIO(content)) as stream:
                while part := stream.read(_CHUNK):
                    parts.append(part)
        except (OSError, EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError):
            pass  # cut off, or not what it looked like: what could be read counts
        if parts:
            yield b"".join(parts)

    return read


def _gunzip(content: bytes) -> Iterator[bytes]:
    parts: list[bytes] = []
    while content.startswith(b"\x1f\x8b"):
        stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        try:
            parts.append(stream.decompress(content))
        except zlib.error:
            break
        content = stream.unused_data.lstrip(b"\0")
    if parts:
        yield b"".join(parts)


def _unzip(content: bytes) -> Iterator[bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                yield archive.read(name)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, zlib.error, OSError):
        return


def _open_zstandard(source: io.BytesIO) -> Any:
    return zstandard.ZstdDecompressor().stream_reader(source, read_across_frames=True)


_READERS: dict[bytes, Callable[[bytes], Iterator[bytes]]] = {
    b"\x1f\x8b": _gunzip,
    b"\x28\xb5\x2f\xfd": _read_all(_open_zstandard),
    b"BZh": _read_all(bz2.BZ2File),
    b"\xfd7zXZ\x00": _read_all(lzma.LZMAFile),
    b"PK\x03\x04": _unzip,
}
"""By the first bytes of the content."""
