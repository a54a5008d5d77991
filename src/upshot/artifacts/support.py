"""Whether passages support a claim: its words, numbers, negations and modality, without a model.

Rules cannot read; they compare. What they compare exactly: every number of the claim must stand in
a passage or in the facts, or come of them by one step of arithmetic; where a passage's sentence
shares most of a claim's words, both must be negated alike and both oblige or both permit.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence

import msgspec
import numpy as np

from upshot.artifacts.structure import split_sentences
from upshot.artifacts.words import Rarity, content_words, features, numbers

MIN_COVERAGE = 0.12
"""Share of a claim's words, by rarity, that its passages and the facts must have: below it nothing
of the topic is shared. The memos of `examples/` reach .14 where a sentence only leads over.
"""
_MIN_WORDS = 4
"""Words of a claim whose coverage says anything."""
_ALIKE = 0.85
"""Share of each other's words that a claim and a sentence must have to be the same statement."""
_NEGATION = re.compile(
    r"\b(?:not|no|nor|neither|never|none|nothing|without|cannot|can't|doesn't|isn't|aren't|won't"
    r"|don't|wasn't|fails? to|except|unless|exempt(?:s|ed|ion)?|excluded?|other than)\b",
    re.IGNORECASE,
)
_OBLIGES = re.compile(r"\b(?:shall|must|is required|are required|has to|have to)\b", re.IGNORECASE)
_PERMITS = re.compile(
    r"\b(?:may|is permitted|are permitted|is free to|can choose)\b", re.IGNORECASE
)
_CLOSE = 0.0005
"""Relative difference up to which a number counts as computed: amounts are rounded."""
YEARS = (1900.0, 2100.0)
"""Whole numbers between are taken for years, which claims may mention freely."""


class Support(msgspec.Struct, frozen=True):
    """How far passages support a claim."""

    coverage: float
    """Share of the claim's words, by rarity, in [0, 1]."""
    problems: tuple[str, ...] = ()


def measure_coverage(claim: Sequence[str], basis: Iterable[str], rarity: Rarity) -> float:
    """Share of a claim's stems, weighted by rarity, that are among others.

    >>> measure_coverage(["boat", "quay"], ["boat"], Rarity([["boat"], ["quay"]]))
    0.5
    """
    wanted = set(claim)
    total = sum(rarity.weight(word) for word in wanted)
    shared = wanted & set(basis)
    return sum(rarity.weight(word) for word in shared) / total if total else 1.0


_RULE = re.compile(
    r"\b(?:must|shall|may(?! \d)|is entitled|are entitled|is exempt|are exempt|waives?|is required"
    r"|has to|have to|is obliged|is allowed|is permitted|is due from|can claim)\b",
    re.IGNORECASE,
)


def is_bare_rule(sentence: str, facts: str) -> bool:
    """Whether a sentence states what holds in general, and not what follows for these facts.

    >>> is_bare_rule("A widow shall be exempt.", "52 berths")
    True
    """
    return bool(_RULE.search(sentence)) and not numbers(sentence) & numbers(facts)


_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s?(?:percent|per cent|%)", re.IGNORECASE)
_MONEY = re.compile(r"[$£€]\s?(\d[\d,]*(?:\.\d+)?)")


class Context:
    """Words and numbers that are known: of passages, of facts, of what was claimed before."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self.words: set[str] = set()
        self.numbers: set[float] = set()
        self.percents: set[float] = set()
        self.results: set[float] = set()
        """Numbers of claims: sums of money may be computed of them."""
        for text in texts:
            self.add(text)

        self.given: frozenset[float] = frozenset()
        """Numbers of the facts: other numbers may be their sums and differences."""

    def add(self, text: str) -> None:
        """Add what a text says."""
        self.words.update(content_words(text))
        self.numbers |= numbers(text)
        self.percents.update(float(match[1]) for match in _PERCENT.finditer(text))

    def with_texts(self, texts: Iterable[str]) -> Context:
        """The same and more texts."""
        other = Context(texts)
        other.words |= self.words
        other.numbers |= self.numbers
        other.percents |= self.percents
        other.results |= self.results
        other.given = self.given
        return other


def check_support(
    claim: str,
    passages: Sequence[str],
    context: Context,
    rarity: Rarity,
    quoted: Collection[str] = (),
) -> Support:
    """Whether passages, with the facts and earlier claims as context, support a claim.

    `quoted`: which of the passages are quotations, no whole statements that it could contradict.
    """
    words = content_words(claim)
    basis = context.with_texts(passages)
    coverage = measure_coverage(words, basis.words, rarity)
    problems: list[str] = []
    if passages and len(words) >= _MIN_WORDS and coverage < MIN_COVERAGE:
        problems.append(f"only {coverage:.0%} of its words stand in what it rests on")
    unsourced = find_strange_numbers(claim, basis)
    if unsourced:
        problems.append("no source has " + ", ".join(f"{number:g}" for number in unsourced[:3]))
    problems += _compare_statements(claim, words, [p for p in passages if p not in quoted], rarity)
    return Support(coverage, tuple(problems))


def find_strange_numbers(claim: str, basis: Context) -> list[float]:
    """Numbers of a claim that are not known: a percentage must be known as one, a sum of money may
    come of two known numbers by arithmetic, years are free.

    >>> find_strange_numbers("4 percent of $500 is $20, not $30", Context(["$500 at 4 percent"]))
    [30.0]
    """
    rates = [float(match[1]) for match in _PERCENT.finditer(claim)]
    own = numbers(claim)
    unsourced = [
        rate for rate in rates if rate not in basis.percents and not is_computed(rate, own - {rate})
    ]
    sums = {float(match[1].rstrip(",").replace(",", "")) for match in _MONEY.finditer(claim)}
    usable = basis.numbers | basis.results
    others = [
        number
        for number in sorted(numbers(claim, spelled=False) - set(rates))
        if number not in usable and not (_is_year(number) and number not in sums)
    ]
    for _ in range(2):  # a product may be a part of a sum
        computed = {
            n for n in others if is_computed(n, (usable if n in sums else basis.given) | own - {n})
        }
        usable |= computed
        others = [number for number in others if number not in computed]
    return unsourced + others


def _is_year(number: float) -> bool:
    return YEARS[0] <= number <= YEARS[1] and number == int(number)


_MAX_NUMBERS = 150
"""Numbers beyond which any number comes of two of them, so that nothing can be told."""


def is_computed(number: float, available: Iterable[float]) -> bool:
    """Whether a number is the sum, difference, product, share or quotient of two others.

    >>> is_computed(20.0, [500.0, 4.0]), is_computed(21.0, [500.0, 4.0])
    (True, False)
    """
    usable = np.array(sorted(available), np.float64)
    if len(usable) < 2 or len(usable) > _MAX_NUMBERS:
        return len(usable) > _MAX_NUMBERS
    one, two = usable[:, None], usable[None, :]
    products = one * two
    with np.errstate(divide="ignore", invalid="ignore"):
        quotients = np.where(one != 0, two / one, np.inf)
    results = (one + two, two - one, products, products / 100, products / 1000, quotients)
    results = (*results, quotients * 100, two * (100 - one) / 100)
    apart = ~np.eye(len(usable), dtype=bool)
    close = _CLOSE * abs(number) + 1e-9
    return any(bool((np.abs(result[apart] - number) <= close).any()) for result in results)


def _compare_statements(
    claim: str, words: Sequence[str], passages: Sequence[str], rarity: Rarity
) -> Iterator[str]:
    for passage in passages:
        for start, end in split_sentences(passage, 0, len(passage)):
            sentence = passage[start:end]
            there = content_words(sentence)
            if len(there) < 4 or not words:
                continue
            shared = min(
                measure_coverage(words, there, rarity), measure_coverage(there, words, rarity)
            )
            if shared < _ALIKE:
                continue
            if _is_negated(claim) != _is_negated(sentence):
                yield f"it negates what the source says: {sentence[:120]!r}"
            elif (
                _PERMITS.search(claim)
                and _OBLIGES.search(sentence)
                and not _PERMITS.search(sentence)
            ):
                yield f"it permits what the source requires: {sentence[:120]!r}"
            elif (
                _OBLIGES.search(claim)
                and _PERMITS.search(sentence)
                and not _OBLIGES.search(sentence)
            ):
                yield f"it requires what the source permits: {sentence[:120]!r}"


def _is_negated(text: str) -> bool:
    return len(_NEGATION.findall(text)) % 2 == 1


def best_passages(
    claim: Sequence[str], texts: Sequence[str], rarity: Rarity
) -> list[tuple[float, int]]:
    """(score, index) of passages for a claim's features, best first: those shared by rarity, less
    a little for what else a passage says.
    """
    wanted = set(claim)
    scored: list[tuple[float, int]] = []
    for index, text in enumerate(texts):
        words = set(features(text))
        shared = sum(rarity.weight(word) for word in wanted & words)
        other = sum(rarity.weight(word) for word in words - wanted)
        scored.append((shared / (1.0 + _LENGTH_PENALTY * other) ** 0.5, index))
    return sorted(scored, key=lambda row: (-row[0], row[1]))


_LENGTH_PENALTY = 0.02
"""Per unit of rarity that a passage says beside the claim: BM25's b = .75 at passages of a
screenful comes to about this.
"""
