"""The words of many texts at once, as hashes, with no Python object per word.

A word is a run of ASCII letters, digits, `_` and `'`, and of non-ASCII bytes; letters are
lower-cased. Its hash is a mixture of its bytes, eight at a time, the same on every machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_BYTE_MASKS = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)
"""Masks of the first n bytes of a little-endian word."""
_LOWER = np.arange(256, dtype=np.uint8)
_LOWER[65:91] += 32
_WORD = np.zeros(256, dtype=bool)
_WORD[[*range(48, 58), *range(97, 123), 95, 39, *range(128, 256)]] = True
_BLOCK_BYTES = 1 << 17
"""Bytes hashed at once, so that intermediate arrays stay in the processor's cache."""
_STOP = """
a an the and or but if then so of to in on at for from with by as is are was were be been being am
do does did done have has had having i i'm i've i'd you your yours me my mine we our us it its it's
this that these those there here he she they them his her their what which who whom when where why
how can could would should will shall may might must not no yes ok okay please just also very too
more most some any all each few much many such only own same than now into about over under again
further up down out off not don't doesn't didn't won't can't isn't let's get got make made use using
used want need like know think see one two new way thing things
"""
"""Function words and verbs of request: they occur in conversations on any subject."""


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

    def filter(self, keep: NDArray[np.bool_]) -> Words:
        """The words where `keep` is true."""
        return Words(self.hashes[keep], self.text[keep], self.texts, self.end[keep])

    def truncate(self, max_bytes: int) -> Words:
        """The words that end within the first `most` bytes of their text."""
        return self.filter(self.end <= max_bytes)

    def take(self, rows: NDArray[np.int64]) -> Words:
        """The words of some of the texts, in that order.

        A text may be named several times; -1 stands for a text without words.
        """
        starts = np.append(self.starts(), len(self.hashes))
        first = starts[rows]
        counts = starts[rows + 1] - first
        counts[rows < 0] = 0
        shift: NDArray[np.int64] = first - np.cumsum(counts) + counts
        which = np.repeat(shift, counts) + np.arange(int(counts.sum()))
        return Words(
            self.hashes[which],
            np.repeat(np.arange(len(rows), dtype=np.int32), counts),
            len(rows),
            self.end[which],
        )


def hash_words(texts: Sequence[str], max_bytes: int | None = None) -> Words:
    """Hash the words of texts, reading at most `max_bytes` of each.

    >>> a = hash_words(["Hello, world", "hello"])
    >>> a.text.tolist(), bool(a.hashes[0] == a.hashes[2])
    ([0, 0, 1], True)
    """
    encoded = [text[:max_bytes].encode("utf-8", "replace")[:max_bytes] for text in texts]
    hashes: list[NDArray[np.uint64]] = []
    owners: list[NDArray[np.int32]] = []
    ends: list[NDArray[np.int32]] = []
    start = 0
    while start < len(encoded):
        end, size = start, 0
        while end < len(encoded) and (size == 0 or size + len(encoded[end]) < _BLOCK_BYTES):
            size += len(encoded[end]) + 1
            end += 1
        block, owner, place = _hash_block(encoded[start:end])
        hashes.append(block)
        owners.append(owner + np.int32(start))
        ends.append(place)
        start = end
    if not hashes:
        return Words(np.zeros(0, np.uint64), np.zeros(0, np.int32), 0, np.zeros(0, np.int32))
    return Words(np.concatenate(hashes), np.concatenate(owners), len(encoded), np.concatenate(ends))


def _hash_block(
    encoded: list[bytes],
) -> tuple[NDArray[np.uint64], NDArray[np.int32], NDArray[np.int32]]:
    data = _LOWER[np.frombuffer(b"\n".join([b"", *encoded, b"\n" * 8]), np.uint8)]
    inside = _WORD[data]
    edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    starts, ends = edges[::2], edges[1::2]
    eights = np.ndarray(len(data) - 7, "<u8", data, strides=(1,))
    length = ends - starts
    hashes = _mix((eights[starts] & _BYTE_MASKS[np.minimum(length, 8)]) ^ length.astype(np.uint64))
    longer = np.flatnonzero(length > 8)
    for at in range(8, int(length.max(initial=0)), 8):
        longer = longer[length[longer] > at]
        part = eights[starts[longer] + at] & _BYTE_MASKS[np.minimum(length[longer] - at, 8)]
        hashes[longer] = _mix(hashes[longer] + part)
    sizes = np.array([len(part) + 1 for part in encoded])
    offsets = np.cumsum(sizes) + 1
    owner = np.repeat(
        np.arange(len(encoded), dtype=np.int32),
        np.diff(np.searchsorted(starts, offsets), prepend=0),
    )
    return hashes, owner, (ends - (offsets - sizes)[owner]).astype(np.int32)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of MurmurHash3."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
        values = (values ^ (values >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return values ^ (values >> np.uint64(33))


def hash_pairs(words: Words) -> Words:
    """Hashes of neighbouring words of one text, in order."""
    same = words.text[1:] == words.text[:-1]
    return Words(
        combine_hashes(words.hashes[:-1], words.hashes[1:])[same],
        words.text[1:][same],
        words.texts,
        words.end[1:][same],
    )


def combine_hashes(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The hash of a pair of words."""
    with np.errstate(over="ignore"):
        mixed = first * np.uint64(0x94D049BB133111EB) + second
        return mixed ^ (mixed >> np.uint64(31))


def hash_vocabulary(vocabulary: Iterable[str]) -> NDArray[np.uint64]:
    """Hashes of single words or of pairs written `one two`.

    >>> len(hash_vocabulary(["thank you", "thanks"]))
    2
    """
    entries = list(vocabulary)
    words = hash_words(entries)
    starts = words.starts()
    hashes = np.zeros(len(entries), np.uint64)
    for i in range(len(entries)):
        parts = words.hashes[starts[i] : starts[i + 1]]
        hashes[i] = (
            parts[0]
            if len(parts) == 1
            else combine_hashes(parts[:1], parts[1:2])[0]
            if len(parts) == 2
            else 0
        )
    return hashes


_LOW = np.uint64((1 << 20) - 1)
"""The bits of a hash that index a bitmap of a million entries, 1 MB."""
STOP_WORDS: NDArray[np.uint64] = np.unique(hash_vocabulary(_STOP.split()))


_STOP_BITMAP = np.zeros(1 << 20, bool)
_STOP_BITMAP[(STOP_WORDS & _LOW).astype(np.int64)] = True


def drop_stop_words(words: Words) -> Words:
    """Drop words that carry no topic, and by collision one other word in seven thousand."""
    return words.filter(~_STOP_BITMAP[(words.hashes & _LOW).astype(np.int64)])


def find_in_table(values: NDArray[np.uint64], table: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Position of each value in a sorted table, -1 where it is absent.

    A bitmap spares most values the binary search.

    >>> find_in_table(np.array([7, 4], np.uint64), np.array([2, 7], np.uint64)).tolist()
    [1, -1]
    """
    places = np.full(len(values), -1, np.int64)
    if not len(table) or not len(values):
        return places
    bitmap = np.zeros(1 << 20, bool)
    bitmap[(table & _LOW).astype(np.int64)] = True
    rows = np.flatnonzero(bitmap[(values & _LOW).astype(np.int64)])
    nearest = np.minimum(np.searchsorted(table, values[rows]), len(table) - 1)
    hit = table[nearest] == values[rows]
    places[rows[hit]] = nearest[hit]
    return places


_BITS = 1024
"""Bits of a signature: a response of 200 different words then shares about one bit in six by chance
with another.
"""
_BLOCK_TEXTS = 1024
"""Texts per block: their signatures are built with one byte per bit, 1 MB in all."""


def make_signatures(words: Words) -> NDArray[np.uint64]:
    """A 1,024-bit set of each text's words, shape (texts, 16), for fast intersections."""
    bits = (words.hashes & np.uint64(_BITS - 1)).astype(np.int32)
    out = np.zeros((words.texts, _BITS // 64), np.uint64)
    for first in range(0, words.texts, _BLOCK_TEXTS):
        last = min(first + _BLOCK_TEXTS, words.texts)
        a, b = np.searchsorted(words.text, (first, last))
        present = np.zeros((last - first, _BITS), bool)
        present[words.text[a:b] - first, bits[a:b]] = True
        out[first:last] = np.packbits(present, axis=1).view(np.uint64)
    return out


def count_shared(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Number of words that two signatures have in common, row by row.

    >>> a, b = make_signatures(hash_words(["red fox", "a red hen"]))
    >>> count_shared(a, b).tolist(), count_distinct(b).tolist()
    (1, 3)
    """
    return np.bitwise_count(first & second).sum(axis=-1).astype(np.int64)


def count_distinct(signature: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Number of distinct words in each signature, row by row."""
    return np.bitwise_count(signature).sum(axis=-1).astype(np.int64)
