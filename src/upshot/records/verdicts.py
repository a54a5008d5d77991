"""Verdicts on responses, and the evidence they rest on."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

EVEN = 0.5
"""A score above it leans towards "helped", one below towards "did not help". For training examples
and labels, where every row must be on one side.
"""
GOOD, BAD = 0.6, 0.4
"""A score above `GOOD` is called good news, one below `BAD` bad news. A tenth on each side of even
stays undecided, since there the judge's noise decides.
"""
SURE = 0.3
"""Confidence from which a verdict is reported as "helped" or "harmed", and from which the embedded
judge has a vote beside a language model. A bare "thanks" gives 0.47, a change of subject 0.09.
"""
USABLE = 0.15
"""Confidence from which a verdict may become a training example or half of a pair: lower than
`SURE`, since each row is weighted by its confidence and noise averages out over many rows.
"""
SHARED = 0.2
"""Confidence from which verdicts are combined: over the responses of a thread, or between users
whose requests are alike. Between the other two, since a combination repeats the error of its parts.
"""


def is_helped(score: float, confidence: float) -> bool:
    """Whether a verdict is called "helped".

    >>> is_helped(0.9, 0.5), is_helped(0.9, 0.1), is_helped(0.55, 0.5)
    (True, False, False)
    """
    return confidence >= SURE and score > GOOD


def is_harmed(score: float, confidence: float) -> bool:
    """Whether a verdict is called "harmed": the response did not help.

    >>> is_harmed(0.1, 0.5), is_harmed(0.1, 0.1), is_harmed(0.45, 0.5)
    (True, False, False)
    """
    return confidence >= SURE and score < BAD


def side_of(score: float) -> int:
    """1 for good news, -1 for bad news, 0 for neither, whatever the confidence.

    >>> side_of(0.9), side_of(0.5), side_of(0.1)
    (1, 0, -1)
    """
    return 1 if score > GOOD else -1 if score < BAD else 0


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


class StepCredit(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What one step of a response has to do with its verdict."""

    index: int
    """Of the step's message in its conversation."""
    credit: float
    """Its part of what hindsight taught; those of a response sum to score - foresight."""
    adopted: float | None = None
    """P(the step's edits were taken over), in [0, 1]; None: nothing tells."""


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
    adopted: float | None = None
    """P(it was taken over: tried, copied, kept, committed, merged), in [0, 1], apart from how that
    turned out; None: nothing tells.
    """
    worked: float | None = None
    """P(it worked when it was tried), in [0, 1]; None: nothing tells."""
    steps: tuple[StepCredit, ...] = ()
    """Of an agent's turn: the steps that edited something, and any other that bears on it."""
    reason: str = ""
    """What the user was after and what came of it, in the LLM judge's words; left out where there
    is none.
    """
    refs: Mapping[str, str] = {}
    """Ids by which other systems know the response: trace, observation, span, message, …"""
