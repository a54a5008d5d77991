"""Words after which personal data stands, and lists of words that decide; both are files of
`data/`.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib import resources

from upshot.privacy.scan import BEGIN


@cache
def _read(name: str) -> dict[str, list[str]]:
    text = resources.files("upshot.privacy").joinpath(f"data/{name}.toml").read_text("utf-8")
    return tomllib.loads(text)


@cache
def word_list(name: str) -> frozenset[str]:
    """One of the lists of `data/word_lists.toml`.

    >>> "runner" in word_list("shared_homes")
    True
    """
    return frozenset(_read("word_lists")[name])


def words_of(*kinds: str) -> tuple[str, ...]:
    """The labels of some kinds, in lower case.

    >>> "wachtwoord" in words_of("password")
    True
    """
    return tuple(word.lower() for kind in kinds for word in _read("labels")[kind])


def pattern_of(*kinds: str) -> str:
    """A pattern of all labels of some kinds, longest first, in RE2's syntax.

    Words of the Latin script must stand alone; spaces match `_` and `-` too.
    """
    words = sorted(set(words_of(*kinds)), key=lambda word: (-len(word), word))
    latin = "|".join(_spell(word) for word in words if word[0].isascii())
    others = "|".join(_spell(word) for word in words if not word[0].isascii())
    return f"(?i:{BEGIN}(?:{latin}){'|' * bool(others)}{others})"


def _spell(word: str) -> str:
    spelled = r"[ _\-]".join(re.escape(part) for part in word.split(" "))
    after = r"\b" if word[-1].isascii() and word[-1].isalnum() else ""
    return spelled + after


def kinds_by_word(*kinds: str) -> dict[str, tuple[str, ...]]:
    """The kinds of each label, in the form that `fold_label` gives."""
    kinds_of: dict[str, tuple[str, ...]] = {}
    for kind in kinds:
        for word in words_of(kind):
            folded = fold_label(word)
            kinds_of[folded] = (*kinds_of.get(folded, ()), kind)
    return kinds_of


def fold_label(text: str) -> str:
    """A label as `kinds_by_word` knows it.

    >>> fold_label("Phone_Number")
    'phone number'
    """
    return re.sub(r"[_\- ]", " ", text.lower())
