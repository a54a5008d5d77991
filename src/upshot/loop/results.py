"""What each step of a round leaves: one struct for each `STEP.json`."""

from __future__ import annotations

from typing import Any

import msgspec

from upshot.loop.gate import Ruling


class GatherResult(msgspec.Struct, frozen=True):
    """The round's logs, and what was in service when they were made."""

    logs: dict[str, str]
    """Digest of each file, by name."""
    serving: str
    canary: str
    shadow: str
    code: dict[str, str]
    """Version of Upshot and, in a checkout, its commit."""
    began: str
    """ISO 8601."""


class ReadResult(msgspec.Struct, frozen=True):
    """What was ingested."""

    conversations: int
    known: int
    """In the lake already, word for word."""
    quarantined: int
    lake: dict[str, int] = {}
    """Version of each table afterwards."""


class ShadowResult(msgspec.Struct, frozen=True):
    """What the guards decided on a candidate that answered unseen; empty: there was none."""

    decision: str = ""
    reasons: list[str] = []
    guards: dict[str, dict[str, float | str]] = {}


class TrialResult(msgspec.Struct, frozen=True):
    """What a trial on users decided, and the policy that the round goes on from."""

    serving: str
    decision: str = ""
    """promote, refuse, wait; empty: no trial was under way."""
    difference: float | None = None
    low: float | None = None
    level: float = 0.0
    users: tuple[int, int] = (0, 0)
    """Of the policy in service and of the candidate."""


class LessonCounts(msgspec.Struct, frozen=True):
    """How much a round teaches."""

    answers: int
    pairs: int
    choose: int
    """Frozen prompts to choose a candidate on."""
    test: int
    """Frozen prompts to test it on."""


class AgreementResult(msgspec.Struct, frozen=True):
    """The examples that are left once other users' agreement is weighed in."""

    examples: int
    good: int
    users: int
    agreement: dict[str, Any]
    """What the agreement model reports (`policy.agreement`)."""


class RewardResult(msgspec.Struct, frozen=True, rename={"previous": "from"}):
    """The round's reward model."""

    made: str
    """Its folder; empty: none was made."""
    previous: str = ""
    """The model that it went on from."""
    why: str = ""
    """Why none was made."""


class Candidate(msgspec.Struct, frozen=True):
    """A policy that a round trained."""

    policy: str
    kl: float | None
    """Nats per answer from its base."""
    steps: int
    seconds: float
    stopped: str


class PolicyResult(msgspec.Struct, frozen=True):
    """A round's candidates."""

    candidates: list[Candidate]
    why: str = ""
    """Why there are none."""


GateResult = Ruling
"""What the gate ruled on the chosen candidate."""


class ReleaseResult(msgspec.Struct, frozen=True):
    """How a round ended."""

    decision: str
    """promote, refuse, ask, shadow, trial, wait."""
    reasons: list[str]
    serving: str


class RoundResult(msgspec.Struct, frozen=True):
    """How a round ended, with its number."""

    round: int
    decision: str
    reasons: list[str]
    serving: str


class TrialSummary(msgspec.Struct, frozen=True):
    """A trial in a line of the status."""

    decision: str
    difference: float | None
    low: float | None


class RoundStatus(msgspec.Struct, frozen=True):
    """One round in a line."""

    round: int
    conversations: int | None
    examples: int | None
    good: int | None
    kl: float | None
    """Of the chosen candidate."""
    decision: str
    difference: float | None
    reasons: list[str]
    trial: TrialSummary | None


class ForgetResult(msgspec.Struct, frozen=True):
    """What forgetting a user took."""

    user: str
    """Their pseudonym."""
    rounds: list[str]
    """Rounds that were trained again."""
    serving: str
    erased: bool
    """Whether the lake held anything of theirs."""
