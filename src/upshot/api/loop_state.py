"""What a loop's folder says, and what a person decides there; needs no training library."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from upshot.api.opening import open_lake
from upshot.config import Settings
from upshot.errors import InputError
from upshot.loop import skills as skill_library
from upshot.loop.config import Config
from upshot.loop.config import load as load_loop
from upshot.loop.results import (
    AgreementResult,
    GateResult,
    PolicyResult,
    ReadResult,
    ReleaseResult,
    RoundStatus,
    TrialResult,
    TrialSummary,
)
from upshot.loop.skills import Library
from upshot.loop.state import Loop, Released, Round, State


def loop_config(path: str | os.PathLike[str]) -> Config:
    """Read a loop's file.

    Raises:
        NotFoundError: the file is not there.
        ConfigError: a key is unknown or a value out of bounds.
    """
    return load_loop(os.fspath(path))


class LoopStatus(msgspec.Struct, frozen=True):
    """What is in service, what waits for a person, and every round so far."""

    serving: str
    waiting: dict[str, str]
    """Candidates that wait for approval, by round."""
    history: list[Released]
    rounds: list[RoundStatus]


def loop_status(config: Config) -> LoopStatus:
    """What is in service, what waits for a person, and every round so far.

    Raises:
        NotFoundError: there is no loop yet.
    """
    loop = Loop(Path(config.folder))
    state = loop.state()
    rounds = [_describe_round(round) for round in loop.rounds()]
    return LoopStatus(state.serving, state.waiting, state.history, rounds)


def _describe_round(round: Round) -> RoundStatus:
    read, trial = round.load("read", ReadResult), round.load("trial", TrialResult)
    agreed, gate = round.load("agree", AgreementResult), round.load("gate", GateResult)
    policy, release = round.load("policy", PolicyResult), round.load("release", ReleaseResult)
    chosen = [c for c in (policy.candidates if policy else ()) if gate and c.policy == gate.chosen]
    return RoundStatus(
        round.number,
        read.conversations if read else None,
        agreed.examples if agreed else None,
        agreed.good if agreed else None,
        chosen[0].kl if chosen else None,
        release.decision if release else "under way",
        gate.difference if gate else None,
        gate.reasons if gate else [],
        TrialSummary(trial.decision, trial.difference, trial.low)
        if trial and trial.decision
        else None,
    )


def loop_approve(config: Config, who: str, refuse: bool = False) -> State:
    """Answer for a person who was asked: release the candidate that waits, or do not.

    Raises:
        InputError: nobody was asked.
    """
    loop = Loop(Path(config.folder))
    state = loop.state()
    if not state.waiting:
        raise InputError("could not approve anything: no candidate waits for a person")
    number, policy = next(iter(state.waiting.items()))
    rest = {name: other for name, other in state.waiting.items() if name != number}
    if refuse:
        return loop.save(msgspec.structs.replace(state, waiting=rest))
    tests = {**state.tests, **({number: True} if number in state.tests else {})}
    return loop.release(policy, f"approved by {who}", int(number), waiting=rest, tests=tests)


def loop_rollback(config: Config, who: str) -> State:
    """Put what served before into service again.

    Raises:
        InputError: nothing served before.
    """
    return Loop(Path(config.folder)).roll_back(who)


def skills(lake: str | os.PathLike[str], settings: Settings | None = None) -> Library:
    """The skill library of a lake: solutions that the world confirmed."""
    return skill_library.read_skills(open_lake(lake, settings))
