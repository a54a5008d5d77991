"""A policy among people: logs as text, and what is true of them, kept apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from random import Random
from typing import Any, NamedTuple

from upshot.hub.sampling import Drawing, Sampler
from upshot.records import Turn
from upshot.worlds.people import Dials, Person, Truth
from upshot.worlds.phrases import Phrases
from upshot.worlds.world import Attempt, Task, World


class Talk(NamedTuple):
    """What people and a policy said to each other."""

    conversations: list[dict[str, Any]]
    """In the interchange format, by time."""
    truths: list[Truth]
    """Of every answer; for measuring only."""


Progress = Callable[[int, int], None]


def talk(
    world: World,
    sampler: Sampler,
    phrases: Phrases,
    people: int = 300,
    dials: Dials = Dials(),
    *,
    seed: int = 0,
    model: str = "policy",
    temperature: float = 1.0,
    progress: Progress = lambda done, total: None,
) -> Talk:
    """Let so many people talk with a policy until each has what they want or gave up."""
    crowd = [
        Person(
            f"p{seed}-{number}",
            world,
            phrases,
            dials,
            random=Random(f"{seed}/{number}"),
            model=model,
        )
        for number in range(people)
    ]
    turn = 0
    while waiting := [person for person in crowd if person.waiting]:
        turn += 1
        progress(people - len(waiting), people)
        _let_attempt(
            world,
            sampler,
            waiting,
            Drawing(world.max_tokens, temperature, seed=hash((seed, turn)) % 2**31),
        )
        for person, attempt in zip(
            waiting, world.judge([(person.task, person.moves) for person in waiting]), strict=True
        ):
            person.react(attempt)
    progress(people, people)
    conversations = [
        _to_conversation(person, number)
        for person in crowd
        for number in range(len(person.sessions))
    ]
    return Talk(
        sorted(conversations, key=lambda one: one["started_at"]),
        [truth for person in crowd for truth in person.truths],
    )


def _let_attempt(
    world: World, sampler: Sampler, people: Sequence[Person], drawing: Drawing
) -> None:
    """Everybody's attempt at what their person wants, with its tools, to the end."""
    moving = list(people)
    for move in range(world.max_messages):
        answers = sampler(
            [person.prompt for person in moving], drawing._replace(seed=drawing.seed + move)
        )
        for person, answer in zip(moving, answers, strict=True):
            person.hear("assistant", answer.strip())
            if (observation := world.observe(person.task, person.moves, person.random)) is not None:
                person.hear("tool", observation)
        moving = [person for person in moving if not world.over(person.moves)]
        if not moving:
            return


def _to_conversation(person: Person, number: int) -> dict[str, Any]:
    messages = [
        {"role": message.role, "content": message.text, "time": _format_time(message.time)}
        for message in person.sessions[number]
    ]
    return {
        "id": f"{person.name}-{number + 1}",
        "user": person.name,
        "started_at": messages[0]["time"],
        "model": person.model,
        "messages": messages,
    }


def _format_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


class Measured(NamedTuple):
    """True success of a policy on fresh tasks."""

    success: float
    length: float
    """Mean letters of an answer."""
    kinds: dict[str, float]
    """Shares of what became of the attempts."""
    attempts: list[tuple[Task, list[Turn], Attempt]]


def measure(
    world: World,
    sampler: Sampler,
    phrases: Phrases,
    tasks: int = 500,
    *,
    seed: int = 1_000_003,
    temperature: float = 1.0,
    typos: float = 0.005,
) -> Measured:
    """First answers to fresh requests, tried in the world."""
    dials = Dials(typos=typos)
    crowd = [
        Person(f"m{seed}-{number}", world, phrases, dials, random=Random(f"{seed}/{number}"))
        for number in range(tasks)
    ]
    _let_attempt(world, sampler, crowd, Drawing(world.max_tokens, temperature, seed=seed))
    attempts = world.judge([(person.task, person.moves) for person in crowd])
    lengths = [
        sum(len(turn.content) for turn in person.moves if turn.role == "assistant")
        for person in crowd
    ]
    kinds = {
        kind: sum(attempt.kind == kind for attempt in attempts) / tasks
        for kind in sorted({attempt.kind for attempt in attempts})
    }
    return Measured(
        sum(attempt.ok for attempt in attempts) / tasks,
        sum(lengths) / tasks,
        kinds,
        [(p.task, p.moves, a) for p, a in zip(crowd, attempts, strict=True)],
    )
