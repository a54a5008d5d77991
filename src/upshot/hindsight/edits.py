"""Code that a response wrote, followed through the user's later sessions: was it kept or written anew?

Edits are read from SEARCH/REPLACE blocks and unified diffs. A line counts by its stripped text. Of the lines that a
response added, those that a later edit removed are `rewritten`, those that a later edit shows and leaves are `kept`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from upshot.hindsight.events import Event, chronological
from upshot.hindsight.timeline import ASSISTANT, Timeline

_LEAST = 10
"""Characters: shorter lines (`else:`, `}`) are everywhere."""
_BLOCK = re.compile(r"^<{5,9} SEARCH\n(.*?)^={5,9}\n(.*?)^>{5,9} REPLACE", re.DOTALL | re.MULTILINE)
_HUNK = re.compile(r"^@@ [^\n]*@@[^\n]*\n((?:[ +\-\\][^\n]*\n?|\n)+)", re.MULTILINE)


class Edit(NamedTuple):
    """The lines of one response's edits."""

    added: frozenset[str]
    removed: frozenset[str]
    shown: frozenset[str]
    """Before and after the edit alike."""


def edit_of(text: str) -> Edit | None:
    """The edits in a response, None where there are none.

    >>> edit_of("<<<<<<< SEARCH\\nold_line = 1\\n=======\\nnew_line = 2\\n>>>>>>> REPLACE").added
    frozenset({'new_line = 2'})
    """
    if " SEARCH\n" not in text and "@@ " not in text:
        return None
    before: set[str] = set()
    after: set[str] = set()
    for old, new in _BLOCK.findall(text):
        before |= set(_lines(old.split("\n")))
        after |= set(_lines(new.split("\n")))
    for hunk in _HUNK.findall(text):
        rows = hunk.split("\n")
        before |= set(_lines(row[1:] for row in rows if row[:1] in (" ", "-")))
        after |= set(_lines(row[1:] for row in rows if row[:1] in (" ", "+")))
    if not before and not after:
        return None
    return Edit(frozenset(after - before), frozenset(before - after), frozenset(before & after))


def _lines(rows: Sequence[str] | Iterator[str]) -> Iterator[str]:
    return (row.strip() for row in rows if len(row.strip()) >= _LEAST)


def followed(line: Timeline) -> list[Event]:
    """`rewritten` and `kept` events of every response that edited code, over all of its user's later sessions."""
    edits = {int(p): edit for p in np.flatnonzero(line.role == ASSISTANT) if (edit := edit_of(line.text[p])) is not None}
    if len(edits) < 2:
        return []
    rank: NDArray[np.int64] = chronological(line)
    owner: dict[tuple[str, str], set[int]] = {}
    fate: dict[int, dict[str, tuple[float, int]]] = {p: {} for p in edits}
    for p in sorted(edits, key=lambda p: int(rank[p])):
        user, edit = line.user[p], edits[p]
        for text in edit.removed:
            for writer in owner.pop((user, text), ()):
                fate[writer][text] = (-1.0, p)
        for text in edit.shown:
            for writer in owner.get((user, text), ()):
                fate[writer][text] = (1.0, p)
        for text in edit.added:
            owner.setdefault((user, text), set()).add(p)
    return [event for p, lines in fate.items() for event in _events(p, lines, max(1, len(edits[p].added)))]


def _events(response: int, lines: dict[str, tuple[float, int]], written: int) -> Iterator[Event]:
    for kind, sign in (("rewritten", -1.0), ("kept", 1.0)):
        found = [(text, at) for text, (value, at) in lines.items() if value == sign]
        if found:
            text, at = max(found, key=lambda item: len(item[0]))
            yield Event(response, at, kind, sign * len(found) / written, text)


def size(text: str) -> float:
    """Lines of code that a response's edits add, as log(1 + n), at most 3; 0 where it edits nothing."""
    edit = edit_of(text)
    return 0.0 if edit is None else min(3.0, float(np.log1p(len(edit.added))))
