"""What each step of an agent's turn has to do with the verdict on the turn.

A reaction counts once: what hindsight taught of a turn (score - foresight) is split over its steps,
and the parts sum to it. A fate of lines goes to the steps that wrote them; what a person says, to
the steps that edited the files or wrote the names it mentions, else to all that edited; what a tool
reports, to all that edited before.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from upshot.hindsight.embedded.timeline import USER, Timeline

_NAME = re.compile(r"[A-Za-z_][\w.\-/]{4,}")
_IDENTIFIER = re.compile(r"[a-z]+_\w+|[a-z]+[A-Z]\w+|[A-Z][a-z]+[A-Z]\w+")
FATES = ("kept", "rewritten")
"""Kinds of events on a step's lines."""


class StepCredit(NamedTuple):
    """One step of a response."""

    position: int
    credit: float
    adopted: float | None


class Bearing(NamedTuple):
    """A piece of evidence on a response."""

    position: int
    """Of the message that is quoted."""
    kind: str
    weight: float
    """Signed by its polarity."""


def credit_steps(
    line: Timeline,
    row: int,
    evidence: Sequence[Bearing],
    fates: Mapping[int, Mapping[str, float]],
    taught: float,
    *,
    weights: Mapping[str, float],
) -> list[StepCredit]:
    """The steps of a response with their credits; empty where nothing was edited step by step.

    `fates`: the share of each message's lines that were kept and rewritten, by position; `taught`:
    score - foresight, to which the credits sum; `weights`: logits of a step whose lines were all
    kept, or all rewritten, by kind of `FATES`.
    """
    steps = [place for place in line.steps_of(row) if place in line.edits]
    if not steps:
        return []
    names = {place: _names_of(line, place) for place in steps}
    undone = _undone_within(line, steps)
    raw = dict.fromkeys(steps, 0.0)
    for one in evidence:
        shares = _share(line, one, steps, names, fates)
        total = sum(shares.values())
        for place, share in shares.items():
            raw[place] += one.weight * share / total
    rest = (taught - math.fsum(raw.values())) / len(steps)
    return [
        StepCredit(place, raw[place] + rest, _adopted(fates.get(place, {}), undone[place], weights))
        for place in steps
    ]


def _share(
    line: Timeline,
    one: Bearing,
    steps: Sequence[int],
    names: Mapping[int, frozenset[str]],
    fates: Mapping[int, Mapping[str, float]],
) -> dict[int, float]:
    """How much of a piece of evidence is about each step; not all 0."""
    shares: dict[int, float] = {}
    if one.kind in FATES:
        shares = {place: fates[place].get(one.kind, 0.0) for place in steps if place in fates}
    elif line.role[one.position] == USER:
        mentioned = frozenset(
            name.rsplit("/", 1)[-1] for name in _NAME.findall(line.text[one.position])
        )
        shares = {place: float(len(names[place] & mentioned)) for place in steps}
    else:
        shares = {place: 1.0 for place in steps if place < one.position}
    if sum(shares.values()) > 0:
        return shares
    return dict.fromkeys(steps, 1.0)


def _undone_within(line: Timeline, steps: Sequence[int]) -> dict[int, float]:
    """The share of each step's lines that later steps of the same response removed."""
    gone: set[tuple[str, str]] = set()
    shares: dict[int, float] = {}
    for place in reversed(steps):
        added = line.edits[place].added
        shares[place] = len(added & gone) / len(added) if added else 0.0
        gone = (gone - added) | line.edits[place].removed
    return shares


def _names_of(line: Timeline, place: int) -> frozenset[str]:
    """Files that a step edits, with and without their endings, and identifiers in its lines."""
    edit = line.edits[place]
    names: set[str] = set()
    for one in edit.added | edit.removed:
        if one.file:
            name = one.file.rsplit("/", 1)[-1]
            names |= {name, name.rsplit(".", 1)[0]}
        names.update(_IDENTIFIER.findall(one.text))
    return frozenset(names)


def _adopted(
    fate: Mapping[str, float], undone: float, weights: Mapping[str, float]
) -> float | None:
    """P(the step's edits were taken over), from what became of its lines."""
    if not fate and not undone:
        return None
    rewritten = undone + (1.0 - undone) * fate.get("rewritten", 0.0)
    kept_part = weights["kept"] * (1.0 - undone) * fate.get("kept", 0.0)
    logit = kept_part - weights["rewritten"] * rewritten
    return 1.0 / (1.0 + math.exp(-logit))
