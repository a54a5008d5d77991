"""What a verdict says, as scores that other systems take."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypeAlias

import msgspec

from upshot.privacy import Redactor
from upshot.records.signals import SIGNALS
from upshot.records.verdicts import side_of

Kind: TypeAlias = Literal["helped", "adopted", "worked"]
FACTS: tuple[Kind, ...] = ("adopted", "worked")
"""The facts beside the score, each sent as a score of its own where it is known."""
_FACT_LABELS = {
    ("adopted", 1): "adopted",
    ("adopted", 0): "unclear",
    ("adopted", -1): "not adopted",
    ("worked", 1): "worked",
    ("worked", 0): "unclear",
    ("worked", -1): "failed",
}
"""By kind and side of the value (`side_of`)."""
_MAX_QUOTES, _MAX_QUOTE = 3, 200
"""Quotes of a comment, and characters of each: what a score's tooltip shows without scrolling."""
_ID_BYTES = 16
"""Of an id: two of 10^15 scores share one in 10^9 cases."""


class Score(msgspec.Struct, frozen=True, gc=False):
    """One number about one response."""

    user: str
    """Pseudonym."""
    conversation: str
    index: int
    """Of the response's first message."""
    kind: Kind
    value: float
    """In [0, 1]."""
    label: str
    comment: str
    """The quoted evidence, redacted."""
    confidence: float
    """In [0, 1]."""
    judge: str
    as_of: datetime
    """When the verdict was made."""
    refs: Mapping[str, str]
    """Ids by which other systems know the response."""

    @property
    def name(self) -> str:
        """Name of the score in other systems."""
        return f"upshot_{self.kind}"

    @property
    def id(self) -> str:
        """The same for the same response and kind, whatever the value."""
        return f"upshot-{_digest(self.conversation, self.index, self.kind)}"

    @property
    def revision(self) -> str:
        """The same for the same score from the same verdict: a repeat is known by it."""
        content = (self.value, self.label, self.as_of.isoformat(), sorted(self.refs.items()))
        return f"{self.id}-{_digest(*content)}"


def _digest(*parts: object) -> str:
    content = msgspec.json.encode(parts)
    return hashlib.blake2b(content, digest_size=_ID_BYTES).hexdigest()


def make_scores(
    row: Mapping[str, Any],
    score: float,
    refs: Mapping[str, str],
    redactor: Redactor,
) -> Iterator[Score]:
    """The scores of one verdict, a row of the lake's table.

    `score`: the row's, calibrated where the lake has a curve. The comment is redacted once more: a
    lake may be made without redaction, and no text leaves it so.
    """
    texts, _ = redactor.redact([describe_evidence(row["evidence"])], [row["user"]])
    values: dict[Kind, float | None] = {"helped": score, **{fact: row[fact] for fact in FACTS}}
    for kind, value in values.items():
        if value is not None:
            label = row["label"] if kind == "helped" else _FACT_LABELS[kind, side_of(value)]
            yield Score(
                row["user"],
                row["id"],
                row["index"],
                kind,
                round(value, 4),
                label,
                texts[0],
                round(row["confidence"], 4),
                row["judge"],
                row["as_of"],
                refs,
            )


def describe_evidence(evidence: Sequence[Mapping[str, Any]] | None) -> str:
    """The weightiest quotes, each once, with what it is evidence of.

    >>> describe_evidence([{"kind": "thanks", "quote": "thank you", "weight": 0.4}])
    'thanks: “thank you”'
    """
    parts: dict[str, None] = {}
    for one in sorted(evidence or (), key=lambda one: -one["weight"]):
        meaning = SIGNALS[one["kind"]].meaning if one["kind"] in SIGNALS else one["kind"]
        quote = " ".join(one["quote"].split())
        quote = quote if len(quote) <= _MAX_QUOTE else f"{quote[: _MAX_QUOTE - 1]}…"
        parts[f"{meaning}: “{quote}”" if quote else meaning] = None
    return "; ".join(list(parts)[:_MAX_QUOTES])
