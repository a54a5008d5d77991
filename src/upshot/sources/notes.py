"""What readers leave out or cannot make out, counted by kind, so that nothing is lost in silence.

Readers call `skip` and `note` wherever they are; whoever reads collects the counts with
`collect_notes`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple


class Notes(NamedTuple):
    """Counts by kind."""

    skipped: Counter[str]
    """Records that hold no message: `claude-code: file-history-snapshot`."""
    notes: Counter[str]
    """What was read with something missing: `a time that is none`."""


_current: ContextVar[Notes] = ContextVar("notes")


@contextmanager
def collect_notes() -> Generator[Notes]:
    """The notes of everything that is read inside, the collections around it included."""
    outer = _current.get(None)
    notes = Notes(Counter(), Counter())
    token = _current.set(notes)
    try:
        yield notes
    finally:
        _current.reset(token)
        if outer is not None:
            outer.skipped.update(notes.skipped)
            outer.notes.update(notes.notes)


def skip(source: str, kind: object, count: int = 1) -> None:
    """Count records of a kind that hold no message."""
    if (notes := _current.get(None)) is not None:
        notes.skipped[f"{source}: {str(kind)[:60] or 'without a type'}"] += count


def note(what: str, count: int = 1) -> None:
    """Count something that was read with a part missing."""
    if (notes := _current.get(None)) is not None:
        notes.notes[what] += count
