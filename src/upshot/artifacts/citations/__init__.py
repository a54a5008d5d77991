"""Citations: every kind's mentions of sources, looked up in the library and never guessed."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence

from upshot.artifacts.citations import brackets, cases, pep, rfc, urls, us_tax
from upshot.artifacts.citations.kind import CitationKind
from upshot.artifacts.library import Library
from upshot.artifacts.records import Mention, Source

_LINE_END = re.compile(r"(?<=[\w.,;&§])\n(?=[\w§(])")
"""The end of a line within a paragraph, which a citation may run over."""
KINDS: Mapping[str, CitationKind] = {
    module.KIND.name: module.KIND for module in (us_tax, cases, pep, rfc, urls, brackets)
}
"""Every kind, the more specific before the less: of two mentions of a place, the first counts."""


def find_mentions(text: str) -> list[Mention]:
    """Mentions of sources in a text, in order; of overlapping ones the first kind's, the longest.

    >>> [m.keys[0] for m in find_mentions("See I.R.C. § 61(a) and PEP 8.")]
    ['section:61', 'pep:8']
    """
    text = _LINE_END.sub(" ", text)
    chosen: list[Mention] = []
    covered: list[tuple[int, int]] = []
    for kind in KINDS.values():
        mentions = sorted(kind.find(text), key=lambda m: (m.start, -m.end))
        fresh: list[Mention] = []
        last = -1
        for mention in mentions:
            if mention.start < last or _overlaps(covered, mention):
                continue
            fresh.append(mention)
            last = mention.end
        covered = sorted([*covered, *((m.start, m.end) for m in fresh)])
        chosen += fresh
    return sorted(chosen, key=lambda m: m.start)


def _overlaps(covered: Sequence[tuple[int, int]], mention: Mention) -> bool:
    """Whether a mention overlaps one of the spans, which are in order and apart."""
    place = bisect_left(covered, (mention.end, 0))
    return place > 0 and covered[place - 1][1] > mention.start


def source_keys(source: Source) -> list[str]:
    """All names under which a source may be cited."""
    return [key for kind in KINDS.values() for key in kind.names(source)]


def index_names(library: Library) -> Library:
    """The library, its sources named as they are cited."""
    library.name_sources({s.id: source_keys(s) for s in library.sources.values()})
    return library
