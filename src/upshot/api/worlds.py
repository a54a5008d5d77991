"""Worlds: a mediocre policy, people who talk with it, and what is true."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from upshot.api.opening import Progress, quiet
from upshot.api.policies import need_train_extra
from upshot.io import json_lines

if TYPE_CHECKING:
    from upshot.worlds.people import Dials
    from upshot.worlds.talk import Measured

Crowd = Literal["plain", "noisy", "troubled"]


class Talked(NamedTuple):
    """What a talk left."""

    conversations: int
    answers: int
    success: float
    """Share of the answers that were right, by the world; no log says so."""


def make_world_policy(
    world: str,
    out: str | os.PathLike[str],
    skill: float = 0.4,
    steps: int = 400,
    seed: int = 0,
    progress: Progress = quiet,
) -> Path:
    """Train a tiny policy that is mediocre at a world, from nothing."""
    need_train_extra()
    from upshot import worlds
    from upshot.worlds import mediocre, phrases

    return mediocre.make(
        worlds.get(world),
        phrases.load(),
        Path(out),
        skill,
        steps=steps,
        seed=seed,
        progress=lambda done, total: progress("pre-train", done, total),
    )


def talk(
    world: str,
    policy: str | os.PathLike[str],
    out: str | os.PathLike[str],
    people: int = 300,
    crowd: Crowd | Dials = "plain",
    phrases: str | os.PathLike[str] | None = None,
    seed: int = 0,
    truth: str | os.PathLike[str] | None = None,
    progress: Progress = quiet,
    canary: str | os.PathLike[str] = "",
    share: float = 0.0,
) -> Talked:
    """Let people talk with a policy, and write their conversations as a log.

    `truth`: where to write, apart, what each answer was worth. `canary`: another policy, with which
    this share of the people talks.

    Raises:
        SandboxError: the world runs programs, and cannot do so safely here.
    """
    need_train_extra()
    from upshot import worlds
    from upshot.hub.sampling import open_sampler
    from upshot.worlds import phrases as phrases_
    from upshot.worlds.talk import talk as talk_

    words, trial = (
        phrases_.load(None if phrases is None else Path(phrases)),
        round(people * share) if canary else 0,
    )
    found = [
        talk_(
            worlds.get(world),
            open_sampler(name),
            words,
            count,
            dials_of(crowd),
            2 * seed + number,
            name,
            progress=lambda done, total: progress("talk", done, total),
        )
        for number, (name, count) in enumerate(
            [(os.fspath(policy), people - trial), (os.fspath(canary), trial)]
        )
        if count
    ]
    conversations = sorted(
        (row for one in found for row in one.conversations), key=lambda row: row["started_at"]
    )
    truths = [row for one in found for row in one.truths]
    json_lines.write(conversations, out)
    if truth is not None:
        json_lines.write(truths, truth)
    return Talked(
        len(conversations), len(truths), sum(one.ok for one in truths) / max(1, len(truths))
    )


def measure_policy(
    world: str,
    policy: str | os.PathLike[str],
    tasks: int = 500,
    phrases: str | os.PathLike[str] | None = None,
    seed: int = 1_000_003,
) -> Measured:
    """True success of a policy's first answers to fresh tasks."""
    need_train_extra()
    from upshot import worlds
    from upshot.hub.sampling import open_sampler
    from upshot.worlds import phrases as phrases_
    from upshot.worlds.talk import measure

    return measure(
        worlds.get(world),
        open_sampler(os.fspath(policy)),
        phrases_.load(None if phrases is None else Path(phrases)),
        tasks,
        seed,
    )


def dials_of(crowd: Crowd | Dials) -> Any:
    """The dials of a crowd by name."""
    from upshot.worlds import people

    if not isinstance(crowd, str):
        return crowd
    return {"plain": people.Dials(), "noisy": people.NOISY, "troubled": people.TROUBLED}[crowd]
