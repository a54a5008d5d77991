"""What the judge learns from everybody's logs, as a small model of the lake: how this corpus says
that things went well (`adapt`), and which words came from a crowd (`crowds`).

It is learned in two passes: words that so many users wrote that they may be a crowd, then the rest.
Examples are drawn by a hash of their content, so that neither buckets nor pseudonyms change what is
learned.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from upshot.engine import Learned, Models, Options
from upshot.hindsight.embedded import adapt
from upshot.hindsight.embedded.adapt import Adaptation
from upshot.hindsight.trust import crowds
from upshot.stats import word_hashes

NAME = "corpus"
"""Among the lake's models."""
SUSPECTS = "crowd-words"
"""Name of what the first pass leaves: words that many users wrote."""
TABLES = ("messages", "conversations", "events", "threads")


class Example(NamedTuple):
    """A response with a next message, as the corpus learns from it."""

    key: int
    """A hash of its content, by which it is drawn."""
    user: str
    half: int
    words: str
    """Of the next message, by `crowds.normalise_words`."""
    logit: float
    slots: bytes
    """Of its terms (`adapt.hash_terms`), as 32-bit numbers."""


class CrowdSample(msgspec.Struct):
    """The responses that the same words followed, or a sample of all."""

    rows: list[tuple[int, bytes]]
    """A hash of the content, and the hashes of the response's words; the smallest first."""
    total: int


class Corpus(msgspec.Struct, frozen=True):
    """What a lake holds of it."""

    responses: int
    """With a next message, in the lake it was learned from."""
    halves: tuple[tuple[str, str], tuple[str, str]] | None
    """For each half of the users the slots with a weight, and the weights, in base64; None: too few
    responses.
    """
    spread: tuple[float, float] = (1.0, 1.0)
    gain: float = 0.0
    crowds: dict[str, int] = {}
    """Users who wrote the same words, by a hash of the words."""
    rows: int = 0
    """Of the table `messages`, when it was learned."""

    def adaptation(self) -> Adaptation | None:
        """The weights of words, for use."""
        if self.halves is None:
            return None
        first, second = (_unpack_weights(*half) for half in self.halves)
        return Adaptation((first, second), self.spread, self.gain)

    def crowd_sizes(self, words: Sequence[str]) -> NDArray[np.int64]:
        """Users who wrote each row's words; 0 where they are no crowd."""
        if not self.crowds:
            return np.zeros(len(words), np.int64)
        return np.array([self.crowds.get(hash_words(text), 0) for text in words], np.int64)


EMPTY = Corpus(0, None)


def hash_words(words: str) -> str:
    """By which words are known that a lake does not hold.

    >>> hash_words("thank you so much")
    '0d2c7def43d7'
    """
    return hashlib.blake2b(words.encode(), digest_size=6).hexdigest()


def corpus_of(models: Models) -> Corpus:
    """What the lake has learned, or nothing."""
    return msgspec.json.decode(models[NAME], type=Corpus) if NAME in models else EMPTY


def _pack_weights(weights: NDArray[np.float32]) -> tuple[str, str]:
    used = np.flatnonzero(weights)
    parts = used.astype(np.uint16).tobytes(), weights[used].astype(np.float32).tobytes()
    return base64.b64encode(parts[0]).decode(), base64.b64encode(parts[1]).decode()


def _unpack_weights(slots: str, values: str) -> NDArray[np.float32]:
    weights = np.zeros(adapt.SLOTS, np.float32)
    weights[np.frombuffer(base64.b64decode(slots), np.uint16)] = np.frombuffer(
        base64.b64decode(values), np.float32
    )
    return weights


class Suspects(msgspec.Struct, frozen=True):
    """Words that enough users wrote for a crowd."""

    users: dict[str, int]


def merge_suspects(summaries: Sequence[bytes], options: Options) -> Learned:
    """The words that enough users wrote; a user is in one bucket, so counts add up."""
    counts: Counter[tuple[str, int]] = Counter()
    for summary in summaries:
        for name, length, users in msgspec.msgpack.decode(summary, type=list[tuple[str, int, int]]):
            counts[(name, length)] += users
    chosen = {
        name: users
        for (name, length), users in sorted(counts.items())
        if users >= crowds.min_crowd(length)
    }
    return Learned(msgspec.json.encode(Suspects(chosen)).decode(), ())


def read_suspects(content: str) -> dict[str, int]:
    """What the first pass left: users by the hash of the words."""
    return msgspec.json.decode(content, type=Suspects).users


def summarise_suspects(users: Sequence[str], words: Sequence[str]) -> bytes:
    """Of one bucket: hash and number of words, and how many users say hardly anything else."""
    totals = Counter(user for user, text in zip(users, words, strict=True) if text)
    counts = Counter((user, text) for user, text in zip(users, words, strict=True) if text)
    by_words: Counter[str] = Counter()
    for (user, text), count in counts.items():
        by_words[text] += count >= crowds.SINGLE_MINDED * totals[user]
    rows = [(hash_words(text), text.count(" ") + 1, some) for text, some in by_words.items()]
    return msgspec.msgpack.encode(rows)


class Summary(msgspec.Struct):
    """What a bucket adds to the second pass."""

    responses: int
    examples: list[Example]
    everywhere: CrowdSample
    groups: dict[str, CrowdSample]
    """By the hash of their words."""


def draw_smallest(keys: NDArray[np.uint64], count: int) -> NDArray[np.int64]:
    """The rows with the smallest keys; rows of the last key all or none, so that samples of parts
    join to a sample of the whole.

    >>> draw_smallest(np.array([5, 1, 3, 3], np.uint64), 2).tolist()
    [1, 2, 3]
    """
    order = np.argsort(keys, kind="stable")
    if len(order) <= count:
        return order
    return order[: int(np.searchsorted(keys[order], keys[order[count - 1]], side="right"))]


def merge_corpus(summaries: Sequence[bytes], options: Options) -> Learned:
    """The weights of words, learned from a sample, and the crowds."""
    parts = [msgspec.msgpack.decode(summary, type=Summary) for summary in summaries]
    responses = sum(part.responses for part in parts)
    every: list[Example] = [example for part in parts for example in part.examples]
    keys = np.array([example.key for example in every], np.uint64)
    drawn: list[int] = draw_smallest(keys, adapt.MAX_RESPONSES).tolist()
    sample: list[Example] = [every[row] for row in drawn]
    sample.sort(key=lambda example: (example.key, example.slots, example.logit, example.half))
    learned = _learn_weights(sample) if responses >= adapt.MIN_RESPONSES else None
    sizes: dict[str, int] = dict(options.get("suspects", {}))
    sizes_of_crowds = _find_crowds(parts, sizes)
    rows = int(options.get("rows", 0))
    if learned is None:
        corpus = Corpus(responses, None, crowds=sizes_of_crowds, rows=rows)
        return Learned(msgspec.json.encode(corpus).decode(), ())
    first, second = (_pack_weights(half) for half in learned.halves)
    corpus = Corpus(responses, (first, second), learned.spread, learned.gain, sizes_of_crowds, rows)
    users = [example.user for example in sample]
    return Learned(msgspec.json.encode(corpus).decode(), sorted(set(users)))


def _learn_weights(sample: Sequence[Example]) -> Adaptation | None:
    slots = [np.frombuffer(example.slots, np.int32) for example in sample]
    lengths = np.array([len(some) for some in slots], np.int64)
    terms = adapt.Terms(
        np.concatenate(slots),
        np.repeat(np.arange(len(sample), dtype=np.int32), lengths),
        len(sample),
    )
    weight = crowds.weigh_rows([e.user for e in sample], [e.words for e in sample])
    logits = np.array([example.logit for example in sample], np.float32)
    half = np.array([example.half for example in sample], np.int64)
    return adapt.learn(terms, logits, half, weight)


def _find_crowds(parts: Sequence[Summary], users: dict[str, int]) -> dict[str, int]:
    """The words of many users that speak of one topic."""
    everywhere = _join_samples([part.everywhere for part in parts], crowds.SAMPLE)
    names = sorted({name for part in parts for name in part.groups})
    sizes_of_crowds: dict[str, int] = {}
    for name in names:
        group = _join_samples(
            [part.groups[name] for part in parts if name in part.groups], crowds.SAMPLE_OF_CROWD
        )
        if crowds.have_one_topic(
            _read_words(group), group.total, _read_words(everywhere), everywhere.total
        ):
            sizes_of_crowds[name] = users[name]
    return sizes_of_crowds


def _join_samples(samples: Sequence[CrowdSample], count: int) -> CrowdSample:
    rows = sorted(row for sample in samples for row in sample.rows)[:count]
    return CrowdSample(rows, sum(sample.total for sample in samples))


def _read_words(sample: CrowdSample) -> list[NDArray[np.uint64]]:
    return [np.frombuffer(words, np.uint64) for _, words in sample.rows]


def sample_rows(
    rows: NDArray[np.int64],
    keys: NDArray[np.uint64],
    words_of: Callable[[NDArray[np.int64]], word_hashes.Words],
    count: int,
) -> CrowdSample:
    """The rows with the smallest keys, with the words of their responses."""
    chosen = rows[np.argsort(keys[rows], kind="stable")[:count]]
    words = words_of(chosen)
    starts = words.starts().tolist()
    return CrowdSample(
        sorted(
            (int(keys[row]), np.unique(words.hashes[starts[i] : starts[i + 1]]).tobytes())
            for i, row in enumerate(chosen.tolist())
        ),
        len(rows),
    )
