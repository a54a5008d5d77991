"""The names of a conversation's own people, looked for in all of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from upshot.privacy.labels import word_list
from upshot.privacy.names import is_given_name
from upshot.privacy.pseudonyms import fold_name

_MIN_NAME = 3
"""Letters of a name that is looked for; shorter ones are words of some language."""
_MIN_PART = 4
"""Letters of a part of a name that is looked for by itself, if it is no common given name."""
_GENERIC = """
user users admin administrator root test tester guest anonymous unknown customer client student
human person me you system bot assistant owner member default local none null prompter worker dev
developer engineer team company support agent operator someone anybody
"""
_NO_NAMES = frozenset(_GENERIC.split())
"""What stands in the place of a name and is none."""
_WORDS = word_list("names_that_are_words")
"""Names that are words or places: looked for only together with another part of the name."""
_JOIN = r"[\s._\-+]{0,2}"


def name_pattern(names: Iterable[str]) -> Any | None:
    """A pattern of the spellings of a user's names; None where there is nothing to look for.

    `jane.roe@example.org` and `Jane Roe` are both looked for as jane roe, jane.roe, Roe, Jane,
    J. Roe and the like, and their parts as Jane and Roe where these are no words.

    >>> bool(name_pattern(["jane.roe@example.org"]).search("ask Jane_Roe"))
    True
    """
    wanted: set[str] = set()
    for name in names:
        local = name.partition("@")[0]
        words = [w for w in re.split(r"[^\w]+|_+", local) if w]
        letters = sum(map(str.isalpha, local))
        if letters < _MIN_NAME or fold_name(local) in _NO_NAMES or not words:
            continue
        if "@" not in name and not _is_name(words):
            continue
        wanted.add("(?i:" + _JOIN.join(map(re.escape, words)) + ")")
        if 2 <= len(words) <= 4 and _is_name(words):
            wanted.update(_spell_parts(words))
    if not wanted:
        return None
    return re.compile(rf"(?<!\w)(?:{'|'.join(sorted(wanted, key=lambda w: (-len(w), w)))})(?!\w)")


def _spell_parts(words: Sequence[str]) -> Iterable[str]:
    """Other spellings of a name of several parts, and its parts with a capital letter."""
    first, last = re.escape(words[0]), re.escape(words[-1])
    if len(words[0]) >= 2 and len(words[-1]) >= 2:
        yield rf"(?i:{last},? {first})"
        yield rf"(?i:{first}) (?:[^\W\d_a-z]\.? ?|[^\W\d_a-z][^\W\d_]+ )(?i:{last})"
    if len(words[-1]) >= _MIN_NAME:
        yield rf"(?i:{re.escape(words[0][0])}\. ?{last})"
    for word in words:
        if word.lower() in _WORDS or word.lower() in _NO_NAMES:
            continue
        if len(word) >= _MIN_PART or (len(word) >= _MIN_NAME and is_given_name(word)):
            yield re.escape(word[0].upper() + word[1:].lower())


def _is_name(words: Sequence[str]) -> bool:
    """Whether words are a person's name: `u17`, `SGD-4` and words of code are none."""
    return all(word.isalpha() for word in words)
