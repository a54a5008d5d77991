"""Words of many texts at once, as hashes: no Python object per word.

A word is a run of ASCII letters, digits, `_` and `'`, and of non-ASCII bytes; letters are
lower-cased. Its hash is a mixture of its bytes, eight at a time, the same on every machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_FIRST = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)
"""Masks of the first n bytes of a little-endian word."""
_LOWER = np.arange(256, dtype=np.uint8)
_LOWER[65:91] += 32
_WORD = np.zeros(256, dtype=bool)
_WORD[[*range(48, 58), *range(97, 123), 95, 39, *range(128, 256)]] = True
_BLOCK = 1 << 17
"""Bytes hashed at once, so that what is computed stays in the processor's cache."""
_STOP = """a an the and or but if then so of to in on at for from with by as is are was were be been being am do does did
done have has had having i i'm i've i'd you your yours me my mine we our us it its it's this that these those there here
he she they them his her their what which who whom when where why how can could would should will shall may might must
not no yes ok okay please just also very too more most some any all each few much many such only own same than now into
about over under again further up down out off not don't doesn't didn't won't can't isn't let's get got make made use
using used want need like know think see one two new way thing things"""


class Words(NamedTuple):
    """The words of a batch of texts."""

    hashes: NDArray[np.uint64]
    """One for each word, in order."""
    text: NDArray[np.int32]
    """Index of the text that each word is in; not decreasing."""
    texts: int
    """Number of texts."""
    end: NDArray[np.int32]
    """Byte of its text at which each word ends."""

    def counts(self) -> NDArray[np.int64]:
        """Words in each text."""
        return np.bincount(self.text, minlength=self.texts)

    def starts(self) -> NDArray[np.int64]:
        """Index of each text's first word, and the number of words at the end."""
        return np.concatenate([[0], np.cumsum(self.counts())])

    def only(self, keep: NDArray[np.bool_]) -> Words:
        """The words where `keep` is true."""
        return Words(self.hashes[keep], self.text[keep], self.texts, self.end[keep])

    def upto(self, most: int) -> Words:
        """The words that end within the first `most` bytes of their text."""
        return self.only(self.end <= most)

    def of(self, rows: NDArray[np.int64]) -> Words:
        """The words of some of the texts, in that order; a text may be named twice, -1 names one
        without words.
        """
        starts = np.append(self.starts(), len(self.hashes))
        first = starts[rows]
        counts = starts[rows + 1] - first
        counts[rows < 0] = 0
        which = np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        return Words(
            self.hashes[which],
            np.repeat(np.arange(len(rows), dtype=np.int32), counts),
            len(rows),
            self.end[which],
        )


def words(texts: Sequence[str], most: int | None = None) -> Words:
    """Hash the words of texts; `most` bytes of each text are read.

    >>> a = words(["Hello, world", "hello"])
    >>> a.text.tolist(), bool(a.hashes[0] == a.hashes[2])
    ([0, 0, 1], True)
    """
    encoded = [text[:most].encode("utf-8", "replace")[:most] for text in texts]
    hashes: list[NDArray[np.uint64]] = []
    owners: list[NDArray[np.int32]] = []
    ends: list[NDArray[np.int32]] = []
    start = 0
    while start < len(encoded):
        end, size = start, 0
        while end < len(encoded) and (size == 0 or size + len(encoded[end]) < _BLOCK):
            size += len(encoded[end]) + 1
            end += 1
        found, owner, place = _hash(encoded[start:end])
        hashes.append(found)
        owners.append(owner + np.int32(start))
        ends.append(place)
        start = end
    if not hashes:
        return Words(np.zeros(0, np.uint64), np.zeros(0, np.int32), 0, np.zeros(0, np.int32))
    return Words(np.concatenate(hashes), np.concatenate(owners), len(encoded), np.concatenate(ends))


def _hash(encoded: list[bytes]) -> tuple[NDArray[np.uint64], NDArray[np.int32], NDArray[np.int32]]:
    data = _LOWER[np.frombuffer(b"\n".join([b"", *encoded, b"\n" * 8]), np.uint8)]
    inside = _WORD[data]
    edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    starts, ends = edges[::2], edges[1::2]
    eights = np.ndarray(len(data) - 7, "<u8", data, strides=(1,))
    length = ends - starts
    hashes = _mixed((eights[starts] & _FIRST[np.minimum(length, 8)]) ^ length.astype(np.uint64))
    longer = np.flatnonzero(length > 8)
    for at in range(8, int(length.max(initial=0)), 8):
        longer = longer[length[longer] > at]
        part = eights[starts[longer] + at] & _FIRST[np.minimum(length[longer] - at, 8)]
        hashes[longer] = _mixed(hashes[longer] + part)
    sizes = np.array([len(part) + 1 for part in encoded])
    offsets = np.cumsum(sizes) + 1
    owner = np.repeat(
        np.arange(len(encoded), dtype=np.int32),
        np.diff(np.searchsorted(starts, offsets), prepend=0),
    )
    return hashes, owner, (ends - (offsets - sizes)[owner]).astype(np.int32)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of MurmurHash3."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
        values = (values ^ (values >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return values ^ (values >> np.uint64(33))


def pairs(found: Words) -> Words:
    """Hashes of neighbouring words of one text, in order."""
    same = found.text[1:] == found.text[:-1]
    return Words(
        combine(found.hashes[:-1], found.hashes[1:])[same],
        found.text[1:][same],
        found.texts,
        found.end[1:][same],
    )


def combine(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The hash of a pair of words."""
    with np.errstate(over="ignore"):
        mixed = first * np.uint64(0x94D049BB133111EB) + second
        return mixed ^ (mixed >> np.uint64(31))


def hashes_of(vocabulary: Iterable[str]) -> NDArray[np.uint64]:
    """Hashes of single words or of pairs written `one two`.

    >>> len(hashes_of(["thank you", "thanks"]))
    2
    """
    entries = list(vocabulary)
    found = words(entries)
    starts = found.starts()
    out = np.zeros(len(entries), np.uint64)
    for i in range(len(entries)):
        mine = found.hashes[starts[i] : starts[i + 1]]
        out[i] = (
            mine[0] if len(mine) == 1 else combine(mine[:1], mine[1:2])[0] if len(mine) == 2 else 0
        )
    return out


_LOW = np.uint64((1 << 20) - 1)
STOP_WORDS: NDArray[np.uint64] = np.unique(hashes_of(_STOP.split()))


_STOP_BITMAP = np.zeros(1 << 20, bool)
_STOP_BITMAP[(STOP_WORDS & _LOW).astype(np.int64)] = True


def content(found: Words) -> Words:
    """Without the words that say nothing about a subject (and one other word in seven thousand)."""
    return found.only(~_STOP_BITMAP[(found.hashes & _LOW).astype(np.int64)])


def find(values: NDArray[np.uint64], table: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Place of each value in a sorted table, -1 where it is not there.

    A bitmap spares most values the search.
    """
    out = np.full(len(values), -1, np.int64)
    if not len(table) or not len(values):
        return out
    bitmap = np.zeros(1 << 20, bool)
    bitmap[(table & _LOW).astype(np.int64)] = True
    rows = np.flatnonzero(bitmap[(values & _LOW).astype(np.int64)])
    at = np.minimum(np.searchsorted(table, values[rows]), len(table) - 1)
    hit = table[at] == values[rows]
    out[rows[hit]] = at[hit]
    return out


_BITS = 1024
_ROWS = 1024
"""Texts whose signatures are made at once, one byte a bit."""


def signatures(found: Words) -> NDArray[np.uint64]:
    """A 1,024-bit set of each text's words, shape (texts, 16): intersections by `and` and a count
    of bits.
    """
    bits = (found.hashes & np.uint64(_BITS - 1)).astype(np.int32)
    out = np.zeros((found.texts, _BITS // 64), np.uint64)
    for first in range(0, found.texts, _ROWS):
        last = min(first + _ROWS, found.texts)
        a, b = np.searchsorted(found.text, (first, last))
        held = np.zeros((last - first, _BITS), bool)
        held[found.text[a:b] - first, bits[a:b]] = True
        out[first:last] = np.packbits(held, axis=1).view(np.uint64)
    return out


def shared(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Number of words that two signatures share, row by row."""
    return np.bitwise_count(first & second).sum(axis=-1).astype(np.int64)


def size(signature: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Number of different words of a signature, row by row."""
    return np.bitwise_count(signature).sum(axis=-1).astype(np.int64)
