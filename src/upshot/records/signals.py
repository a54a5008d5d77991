"""Explicit signals: what a log or an application reports of a response."""

from __future__ import annotations

import msgspec


class Signal(msgspec.Struct, frozen=True, gc=False):
    """Something explicit that a log carries about a response: a thumb, an undo, a test run."""

    kind: str
    """thumb, rating, edit, regenerate, undo, commit, exit, test, lint, copy, kept, outcome."""
    value: float
    """In [-1, 1]: how good the news is for the response."""
    at: int
    """Index of the message in which it was seen."""
    detail: str = ""
    """A commit hash, the edited text, the name of a test: redacted like any text."""
    time: float | None = None
    """Seconds since the epoch."""
