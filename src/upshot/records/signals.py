"""Signals: what a log, a tool, a person or an application says of a response.

`signals.toml` lists every kind, a line each; the judge, reports and pairs read that table and name
no kind of their own list. A kind that is not in it is an error at the reader.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Literal, TypeAlias

import msgspec

from upshot.errors import RecordError

Emitter: TypeAlias = Literal["person", "log", "tool", "application", "verb", "history", "detector"]
"""Who may emit a kind: a person's words, the log itself (buttons, commands), a tool's output, an
application's events, a verb of Upshot that asks the world, what became of the response later, or a
detector of hostile text.
"""


class SignalKind(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is known of one kind of signal."""

    polarity: Literal[-1, 0, 1]
    """Sign of the news where the value does not say it: 1 good, -1 bad, 0 neither."""
    scale: Literal["present", "signed", "rating", "none"]
    """`present`: it happened, with a fixed value; `signed`: good above 0, bad below; `rating`: a
    place on a stated range; `none`: says nothing of how good the news is.
    """
    label: str
    """The verdict's label where this is the weightiest evidence."""
    emitters: frozenset[Emitter] = msgspec.field(name="from")
    meaning: str
    """One line for docs and reports."""
    value: float | None = None
    """In [-1, 1]: how good the news is where whoever reports it gives no value."""
    prior: float = 0.0
    """Weight in logits per unit of value, until weights are learned."""
    fact: Literal["", "adopted", "worked"] = ""
    """Which fact beside the score it tells: whether the response was taken over, or how that
    turned out.
    """
    polite: bool = False
    """Manners, or no word on the answer: never by itself a reason to call a response good."""
    stored: str = ""
    """The kind under which an application's event stands in the lake; empty: its own."""


def parse_kinds(text: str) -> dict[str, SignalKind]:
    """Read a table of kinds.

    >>> parse_kinds('nod = { polarity = 1, scale = "present", label = "positive", from = ["log"], meaning = "a nod" }')["nod"].polarity
    1
    """  # noqa: E501
    return msgspec.convert(tomllib.loads(text), dict[str, SignalKind])


SIGNALS: Mapping[str, SignalKind] = parse_kinds(
    resources.files("upshot.records").joinpath("signals.toml").read_text("utf-8")
)
"""Every kind of signal, by name."""


def kinds_from(emitter: Emitter) -> list[str]:
    """Names of the kinds that somebody may emit, in the table's order.

    >>> "copy" in kinds_from("log"), "copy" in kinds_from("application")
    (True, False)
    """
    return [name for name, kind in SIGNALS.items() if emitter in kind.emitters]


class Signal(msgspec.Struct, frozen=True, gc=False):
    """Something explicit that a log carries about a response: a thumb, an undo, a test run."""

    kind: str
    """One of `SIGNALS`."""
    value: float
    """In [-1, 1]: how good the news is for the response. Of a rating: its place on its range."""
    at: int
    """Index of the message that shows it."""
    detail: str = ""
    """A commit hash, the edited text, the name of a test: redacted like any text."""
    time: float | None = None
    """Seconds since the epoch."""
    range: tuple[float, float] | None = None
    """Of a rating: the lowest and the highest that could be given."""

    def __post_init__(self) -> None:
        if self.kind not in SIGNALS:
            raise RecordError(
                f"signal kind {self.kind!r} is not one that Upshot knows:"
                f" {', '.join(kinds_from('log'))}"
            )


def make_signal(
    kind: str, at: int, *, value: float | None = None, detail: str = "", time: float | None = None
) -> Signal:
    """A signal whose value is that of its kind, where none is given.

    Raises:
        RecordError: the kind is unknown, or has no value of its own.

    >>> make_signal("undo", 3).value
    -1.0
    """
    number = SIGNALS[kind].value if value is None and kind in SIGNALS else value
    if number is None and kind in SIGNALS:
        raise RecordError(f"signal kind {kind!r} needs a value in [-1, 1]")
    return Signal(kind, 0.0 if number is None else number, at, detail, time)


def make_rating(
    number: float, low: float, high: float, at: int, *, detail: str = "", time: float | None = None
) -> Signal:
    """A rating with its range; the worst is -1, the best 1.

    Raises:
        RecordError: the range is empty, or the number is outside it.

    >>> make_rating(1, 1, 5, 0).value, make_rating(4, 1, 5, 0).value
    (-1.0, 0.5)
    """
    if not (math.isfinite(low) and math.isfinite(high) and low < high and low <= number <= high):
        raise RecordError(f"rating {number:g} is not on a range from {low:g} to {high:g}")
    return Signal(
        "rating", 2.0 * (number - low) / (high - low) - 1.0, at, detail, time, (low, high)
    )
