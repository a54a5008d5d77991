"""Verdicts on responses, and the evidence they rest on."""

from __future__ import annotations

import msgspec


class Evidence(msgspec.Struct, frozen=True, gc=False):
    """A quoted span of a later message or event that bears on an earlier response."""

    id: str
    """The conversation that is quoted."""
    index: int
    start: int
    """In characters of the stored (redacted) text."""
    end: int
    quote: str
    kind: str
    polarity: int
    """+1 good news, -1 bad news, 0 says nothing either way."""
    weight: float
    """In [0, 1]."""


class Verdict(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What became of one response."""

    id: str
    index: int
    score: float
    """P(the response helped its user toward their goal), in [0, 1]."""
    confidence: float
    """In [0, 1]; near 0 where there is no evidence."""
    foresight: float
    """The same model's score without what came later, in [0, 1]."""
    evidence: tuple[Evidence, ...]
    label: str
    judge: str
    as_of: str
    observed_through: str
    horizon: int
    reason: str = ""
    """What the user was after and what came of it, in the LLM judge's words; left out where there
    is none.
    """
