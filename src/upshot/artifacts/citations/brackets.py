"""Numbers and names in brackets: `[3]`, `[3]_`, `[^note]`, `[@key]`, `[Smith 2020]`.

What a bracket means stands in the document's own notes; where it has none, the label may be the id
of a source.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from upshot.artifacts.citations.kind import CitationKind
from upshot.artifacts.records import Mention, Source
from upshot.artifacts.words import normalise_key

_BRACKET = re.compile(
    r"\[(?:\^|\#|@)?"
    r"(?P<label>\d{1,3}|[A-Za-z][\w.:-]{1,30}|[A-Z][\w.&' -]{2,40}[ ,]\d{4}[a-z]?)\]_?"
    r"(?![(:\w])|(?<![\w`])`(?P<link>[^`<>\n]+)(?:\s*<[^>]*>)?`_(?!_)"
)


def find(text: str) -> Iterator[Mention]:
    """Mentions in brackets; a definition (`[3]: …`) is none."""
    for match in _BRACKET.finditer(text):
        label = match["label"] or match["link"]
        keys = (f"note:{label.strip()}", f"id:{normalise_key(label)}")
        yield Mention(match.start(), match.end(), "brackets", keys, is_weak=True)


def names(source: Source) -> Iterator[str]:
    """The source's id, and its title as a note may give it."""
    yield f"id:{normalise_key(source.id)}"
    title = normalise_key(source.title)
    if len(title) >= _MIN_TITLE:
        yield f"title:{title}"


_MIN_TITLE = 12
"""Characters of a title that a note is searched for; shorter ones are ordinary words."""
KIND = CitationKind("brackets", find, names)
