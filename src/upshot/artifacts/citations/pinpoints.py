"""Where in its source a pinpoint leads: subsections, headings, section numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence

from upshot.artifacts.library import Library
from upshot.artifacts.records import Passage
from upshot.artifacts.words import normalise_key


def passages_at(library: Library, source: str, pinpoint: Sequence[str]) -> tuple[Passage, ...]:
    """The passages that a pinpoint names; none where the source has no such place.

    A subsection is named with what it is divided into: (d) holds (d)(1).
    """
    passages = library.passages(source)
    if not pinpoint:
        return ()
    path = tuple(pinpoint)
    exact = tuple(p for p in passages if p.path[: len(path)] == path)
    if exact:
        return exact
    if len(path) == 1:
        wanted = normalise_key(path[0])
        by_number = re.compile(rf"{re.escape(path[0])}(?:[.\s]|$)")
        return tuple(
            p
            for p in passages
            if p.heading and (by_number.match(p.heading) or normalise_key(p.heading) == wanted)
        )
    return ()


def has_paths(library: Library, source: str) -> bool:
    """Whether a source is divided into enumerated parts, so that a pinpoint can be checked."""
    return any(p.path for p in library.passages(source))


def agrees(passage: Passage, pinpoint: Sequence[str]) -> bool:
    """Whether a passage lies in, or around, what a pinpoint names.

    >>> agrees(Passage("s", 0, 1, path=("d", "1")), ["d"])
    True
    >>> agrees(Passage("s", 0, 1, path=("d", "1")), ["d", "2"])
    False
    """
    path = tuple(pinpoint)
    return passage.path[: len(path)] == path or (
        bool(passage.path) and path[: len(passage.path)] == passage.path
    )
