"""Code edits in a response, from SEARCH/REPLACE blocks and unified diffs.

Lines are compared by their stripped text.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

_MIN_CHARACTERS = 10
"""Shorter lines (`else:`, `}`) occur everywhere and identify nothing."""
_BLOCK = re.compile(r"^<{5,9} SEARCH\n(.*?)^={5,9}\n(.*?)^>{5,9} REPLACE", re.DOTALL | re.MULTILINE)
_HUNK = re.compile(r"^@@ [^\n]*@@[^\n]*\n((?:[ +\-\\][^\n]*\n?|\n)+)", re.MULTILINE)

_MARKS = (" SEARCH\n", "@@")
"""Every edit contains one of these."""


class Edit(NamedTuple):
    """The lines of one response's edits."""

    added: frozenset[str]
    removed: frozenset[str]
    shown: frozenset[str]
    """Present both before and after the edit."""


def parse_edit(text: str) -> Edit | None:
    """The edits in a response, None where there are none.

    >>> parse_edit("<<<<<<< SEARCH\\nold_line = 1\\n=======\\nnew_line = 2\\n>>>>>>> REPLACE").added
    frozenset({'new_line = 2'})
    """
    if not any(mark in text for mark in _MARKS):
        return None
    before: set[str] = set()
    after: set[str] = set()
    for old, new in _BLOCK.findall(text):
        before |= set(_long_lines(old.split("\n")))
        after |= set(_long_lines(new.split("\n")))
    for hunk in _HUNK.findall(text):
        rows = hunk.split("\n")
        before |= set(_long_lines(row[1:] for row in rows if row[:1] in (" ", "-")))
        after |= set(_long_lines(row[1:] for row in rows if row[:1] in (" ", "+")))
    if not before and not after:
        return None
    return Edit(frozenset(after - before), frozenset(before - after), frozenset(before & after))


def parse_edits(texts: Sequence[str]) -> dict[int, Edit]:
    """The edits of each text that has any, by its number.

    >>> list(parse_edits(["hi", "@@ -1 +1 @@\\n-first_line = 1\\n+first_line = 2"]))
    [1]
    """
    joined = "\0".join(texts)
    ends = list(accumulate(len(text) + 1 for text in texts))
    rows: set[int] = set()
    for mark in _MARKS:
        at = joined.find(mark)
        while at >= 0:
            row = bisect_right(ends, at)
            rows.add(row)
            at = joined.find(mark, ends[row])
    return {row: edit for row in sorted(rows) if (edit := parse_edit(texts[row])) is not None}


def _long_lines(rows: Sequence[str] | Iterator[str]) -> Iterator[str]:
    return (row.strip() for row in rows if len(row.strip()) >= _MIN_CHARACTERS)
