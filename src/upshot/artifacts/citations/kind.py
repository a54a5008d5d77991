"""What a kind of citation is."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from upshot.artifacts.records import Mention, Source


class CitationKind(msgspec.Struct, frozen=True):
    """One way of citing: how a text mentions a source, and under which names sources have it."""

    name: str
    find: Callable[[str], Iterator[Mention]]
    """Mentions in a text, in order."""
    names: Callable[[Source], Iterator[str]]
    """Keys under which a source is cited in this way."""
