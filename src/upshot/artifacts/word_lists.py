"""The lists of `word_lists.toml`."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources


@cache
def load_words(name: str) -> frozenset[str]:
    """The words of a list.

    >>> "the" in load_words("stop")
    True
    """
    text = resources.files("upshot.artifacts").joinpath("word_lists.toml").read_text("utf-8")
    return frozenset(tomllib.loads(text)[name].split())
