"""Words of a text as they are compared: stems, numbers, keys; how rare they are in a library."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

from upshot.artifacts.word_lists import load_words

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_NUMBER = re.compile(r"(?<![\w.§-])[$£€]?\d[\d,]*(?:\.\d+)?(?![\w-])")
_SPELLED = {
    "two": 2.0, "three": 3.0, "four": 4.0, "five": 5.0, "six": 6.0, "seven": 7.0, "eight": 8.0,
    "nine": 9.0, "ten": 10.0, "eleven": 11.0, "twelve": 12.0,
}  # fmt: skip
"""From two: "one" is a pronoun as often as a number."""
STOP = load_words("stop")
"""Words that say nothing of a topic (the common list of English function words)."""
_ENDINGS = (
    ("ational", "ate"), ("ization", "ize"), ("fulness", "ful"), ("iveness", "ive"),
    ("ations", "ate"), ("ation", "ate"), ("ities", "ity"), ("ments", "ment"), ("ness", ""),
    ("ings", ""), ("ing", ""), ("edly", ""), ("ied", "y"), ("ies", "y"), ("ed", ""), ("ly", ""),
    ("sses", "ss"), ("es", "e"), ("s", ""),
)  # fmt: skip


@lru_cache(maxsize=200_000)
def stem(word: str) -> str:
    """A word without its commonest endings; a step of Porter's, enough to compare texts.

    >>> stem("moorings"), stem("moored"), stem("levies")
    ('moor', 'moor', 'levy')
    """
    if len(word) <= 3 or word.endswith(("ss", "us", "is")):
        return word
    for ending, replacement in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) + len(replacement) >= 3:
            base = word[: len(word) - len(ending)] + replacement
            if len(base) > 3 and base[-1] == base[-2] and base[-1] not in "lsz":
                base = base[:-1]
            return base.removesuffix("e") if len(base) > 4 else base
    return word.removesuffix("e") if len(word) > 4 else word


@lru_cache(maxsize=60_000)
def content_words(text: str) -> tuple[str, ...]:
    """Stems of a text's words without function words, in order.

    >>> content_words("The boats are moored at the quay.")
    ('boat', 'moor', 'quay')
    """
    words = (word.replace("’", "'").removesuffix("'s") for word in _WORD.findall(text.lower()))
    return tuple(stem(word) for word in words if word not in STOP and len(word) > 1)


@lru_cache(maxsize=20_000)
def numbers(text: str, *, spelled: bool = True) -> frozenset[float]:
    """Numbers of a text, written in digits or, up to twelve, in words; those of citations not.

    >>> sorted(numbers("$1,200 for three boats under § 12(b), 4.5 percent"))
    [3.0, 4.5, 1200.0]
    """
    bare = _CITED_NUMBER.sub(" ", text)
    values = {float(match[0].strip("$£€,").replace(",", "")) for match in _NUMBER.finditer(bare)}
    words = _WORD.findall(bare.lower()) if spelled else ()
    return frozenset(values | {_SPELLED[word] for word in words if word in _SPELLED})


@lru_cache(maxsize=60_000)
def features(text: str) -> tuple[str, ...]:
    """Stems and numbers of a text: what tells passages that speak of the same thing apart.

    >>> features("fewer than 40 berths before 2020")
    ('fewer', 'berth', '#40', '#2020')
    """
    return (*content_words(text), *(f"#{number:g}" for number in sorted(numbers(text))))


_CITED_NUMBER = re.compile(
    r"""(?:§§?|\b(?:sections?|secs?\.|subsections?|paragraphs?|articles?|notes?|issues?|parts?|PEPs?
        |RFCs?|rul\.|proc\.|chapters?|nos?\.|pages?|pp?\.|questions?|steps?|items?))
        [\s\u202f]*[\w.-]*\d[\w.-]*(?:\([\w]+\))*
        (?:(?:,|\s+and|\s+or|\s+to)[\s\u202f]*\d[\w.-]*(?:\([\w]+\))+)*
      | :(?:pep|rfc):`[^`]*` | \[\^?\d+\]_? | ^[ \t]*\d{1,2}[.)](?=\s) | \(\d{1,2}\)
      | \b\d+\s+U\.?\s?S\.?(?:\s?C\.?)?\s+§*\s*\d+""",
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
)


def normalise_key(text: str) -> str:
    """A name as it is looked up: lower case, words and digits only.

    >>> normalise_key("Gregory  v. Helvering")
    'gregory v helvering'
    """
    return " ".join(re.findall(r"[\w]+", text.lower()))


def shingles(text: str, size: int = 8) -> set[tuple[str, ...]]:
    """Runs of words of a text, punctuation and case aside.

    >>> shingles("One two, three.", 2) == {("one", "two"), ("two", "three")}
    True
    """
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}


class Rarity:
    """How much each word says: its inverse document frequency over texts, given as stems.

    >>> rarity = Rarity([["boat"], ["boat"], ["quay"]])
    >>> rarity.weight("quay") > rarity.weight("boat")
    True
    """

    def __init__(self, texts: Iterable[Iterable[str]]) -> None:
        counts: Counter[str] = Counter()
        total = 0
        for words in texts:
            counts.update(set(words))
            total += 1
        self.total = max(1, total)
        self.counts = counts
        self._weights: dict[str, float] = {}

    def weight(self, word: str) -> float:
        """log(1 + N / n) of a stem."""
        weight = self._weights.get(word)
        if weight is None:
            weight = math.log(1 + self.total / (1 + self.counts.get(word, 0)))
            self._weights[word] = weight
        return weight

    def is_rare(self, word: str, share: float = 0.01) -> bool:
        """Whether at most this share of the texts, or one text, has a stem."""
        return self.counts.get(word, 0) <= max(1.0, share * self.total)
