"""What every artifact is worked up with: a library, its index, and how rare words are in it."""

from __future__ import annotations

from upshot.artifacts.library import Library
from upshot.artifacts.search import SearchIndex
from upshot.artifacts.words import Rarity


class Desk:
    """A library that can be searched.

    >>> from upshot.artifacts.records import Source
    >>> desk = Desk(Library([Source("s1", "Boats", "A boat floats.")]))
    >>> desk.index.search("boat")[0].passage.source
    's1'
    """

    def __init__(self, library: Library, backend: str = "") -> None:
        self.library = library
        self.index = SearchIndex(library, backend)
        self.rarity = Rarity(self.index.bodies)

    def without(self, *source_ids: str) -> Desk:
        """The same desk with some sources gone."""
        return Desk(self.library.without(source_ids), self.index.backend)
