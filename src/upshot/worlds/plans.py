"""Plans with tools: a person wants figures sent to somebody; the assistant opens a store, does this
and that, and sends.

Which store it opens decides the outcome, several steps before anybody sees it; the tools' answers
do not say whether it was the right one. The steps between are harmless and useless in every
proportion, and sending fails now and then through nobody's fault.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

from upshot.records import Turn
from upshot.worlds.world import Attempt, Task

_STORES = {
    "archive": ["final figures", "figures as they were signed off"],
    "live": ["current figures", "figures as of today"],
    "draft": ["planned figures", "figures we had in mind for next year"],
}
_CONFUSED = {"archive": "live", "live": "draft", "draft": "archive"}
"""Which store a mediocre assistant takes for which."""
_REGIONS = ("north", "south", "east", "west")
_PEOPLE = ("ana", "ben", "cleo", "dan")
_IDLE = ("check totals", "check dates", "format table", "read notes", "wait")
_OBSERVATIONS = {
    "check totals": "totals add up",
    "check dates": "dates are in order",
    "format table": "table formatted",
    "read notes": "no notes",
    "wait": "nothing new",
}
_STEPS = 5
"""Most steps between opening and sending."""
_LOSS_RATE = 0.05
"""Chance that a message gets lost on the way."""
_LOST = "sent, no receipt"
_OPEN = re.compile(r"open (\w+) (\w+)")
_SEND = re.compile(r"send (\w+)")


class Plans:
    """See the module."""

    name = "plans"
    max_tokens = 12
    max_messages = _STEPS + 4

    def task(self, random: Random) -> Task:
        """Figures to be sent."""
        store, region, person = (
            random.choice(list(_STORES)),
            random.choice(_REGIONS),
            random.choice(_PEOPLE),
        )
        wanted = random.choice(_STORES[store])
        return Task(
            (store, region, person),
            f"the {wanted} of the {region} sent to {person}",
            (wanted, f"the {region}", f"to {person}"),
        )

    def demonstrate(self, task: Task, random: Random, skill: float) -> list[Turn]:
        """A run; with probability `skill` it opens the right store, and mostly the right region,
        for the right person.
        """
        store, region, person = task.key
        opened = (
            store
            if random.random() < skill
            else _CONFUSED[store]
            if random.random() < 0.85
            else random.choice(list(_STORES))
        )
        region = region if random.random() < 0.95 else random.choice(_REGIONS)
        acts = [
            f"open {opened} {region}",
            *random.choices(_IDLE, k=random.randrange(_STEPS + 1)),
            f"send {person}",
        ]
        turns: list[Turn] = []
        for act in acts:
            turns.append(Turn("assistant", act))
            if (observation := self.observe(task, turns, random)) is not None:
                turns.append(Turn("tool", observation))
        return turns

    def observe(self, task: Task, moves: Sequence[Turn], random: Random) -> str | None:
        """What the tool says."""
        act = moves[-1].content.strip()
        if (command := _OPEN.fullmatch(act)) and command[1] in _STORES and command[2] in _REGIONS:
            return f"opened {command[1]} {command[2]}"
        if _SEND.fullmatch(act):
            return "sent" if random.random() >= _LOSS_RATE else _LOST
        return _OBSERVATIONS.get(act, "unknown command")

    def over(self, moves: Sequence[Turn]) -> bool:
        """Sending ends an attempt."""
        return bool(
            _SEND.fullmatch(
                next(turn.content for turn in reversed(moves) if turn.role == "assistant").strip()
            )
        )

    def judge(self, attempts: Sequence[tuple[Task, Sequence[Turn]]]) -> list[Attempt]:
        """What arrived, and where."""
        return [_assess(task, moves) for task, moves in attempts]


def _assess(task: Task, moves: Sequence[Turn]) -> Attempt:
    store, region, person = task.key
    want = f"the {store} figures of the {region}"
    opened = next(
        (
            match
            for turn in reversed(moves)
            if turn.role == "tool" and (match := re.fullmatch(r"opened (\w+) (\w+)", turn.content))
        ),
        None,
    )
    sent = next(
        (
            match[1]
            for turn in reversed(moves)
            if turn.role == "assistant" and (match := _SEND.fullmatch(turn.content.strip()))
        ),
        "",
    )
    if not sent or any(turn.content == _LOST for turn in moves):
        return Attempt(False, "error", error=f"nothing has arrived for {person}")
    if opened is None:
        return Attempt(False, "error", error="an empty message has arrived")
    got = f"the {opened[1]} figures of the {opened[2]}"
    if sent != person:
        return Attempt(False, "wrong", got=f"a message to {sent}", want=f"one to {person}")
    return Attempt(True, "worked") if got == want else Attempt(False, "wrong", got=got, want=want)
