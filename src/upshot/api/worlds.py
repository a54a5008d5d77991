"""Simulated worlds: a mediocre policy, people who talk with it, and what is true."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, NamedTuple

from upshot import worlds
from upshot.api.opening import Progress, quiet
from upshot.hub.sampling import open_sampler
from upshot.io import json_lines
from upshot.worlds import mediocre, people
from upshot.worlds import phrases as phrasings
from upshot.worlds.people import Dials
from upshot.worlds.talk import Measured, measure
from upshot.worlds.talk import talk as converse

Crowd = Literal["plain", "noisy", "troubled"]


class Talked(NamedTuple):
    """What a talk left."""

    conversations: int
    answers: int
    success: float
    """Share of the answers that were right, by the world; no log says so."""


def world_policy(
    world: str,
    out: str | os.PathLike[str],
    *,
    skill: float = 0.4,
    steps: int = 400,
    seed: int = 0,
    progress: Progress = quiet,
) -> Path:
    """Train a tiny policy that is mediocre at a world, from nothing."""
    return mediocre.make(
        worlds.get(world),
        phrasings.load(),
        Path(out),
        skill,
        steps=steps,
        seed=seed,
        progress=lambda done, total: progress("pre-train", done, total),
    )


def world_talk(
    world: str,
    policy: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
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
    words, trial = (
        phrasings.load(None if phrases is None else Path(phrases)),
        round(people * share) if canary else 0,
    )
    talks = [
        converse(
            worlds.get(world),
            open_sampler(name),
            words,
            count,
            _dials_of(crowd),
            seed=2 * seed + number,
            model=name,
            progress=lambda done, total: progress("talk", done, total),
        )
        for number, (name, count) in enumerate(
            [(os.fspath(policy), people - trial), (os.fspath(canary), trial)]
        )
        if count
    ]
    conversations = sorted(
        (row for talk in talks for row in talk.conversations), key=lambda row: row["started_at"]
    )
    truths = [row for talk in talks for row in talk.truths]
    json_lines.write(conversations, out)
    if truth is not None:
        json_lines.write(truths, truth)
    return Talked(
        len(conversations), len(truths), sum(talk.ok for talk in truths) / max(1, len(truths))
    )


def world_measure(
    world: str,
    policy: str | os.PathLike[str],
    *,
    tasks: int = 500,
    phrases: str | os.PathLike[str] | None = None,
    seed: int = 1_000_003,
) -> Measured:
    """True success of a policy's first answers to fresh tasks."""
    return measure(
        worlds.get(world),
        open_sampler(os.fspath(policy)),
        phrasings.load(None if phrases is None else Path(phrases)),
        tasks,
        seed=seed,
    )


def _dials_of(crowd: Crowd | Dials) -> Dials:
    """The dials of a crowd by name."""
    if not isinstance(crowd, str):
        return crowd
    return {"plain": people.Dials(), "noisy": people.NOISY, "troubled": people.TROUBLED}[crowd]
