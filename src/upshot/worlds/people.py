"""People who want something: they ask, try the answer in the world, and write what people write, or
nothing.

What a person writes depends on the truth only as far as they found it out. The dials say how they
are; each person draws their own.
"""

from __future__ import annotations

from random import Random
from typing import Literal, NamedTuple

import msgspec

from upshot.errors import InputError
from upshot.records import Turn
from upshot.worlds.phrases import Phrases, typos
from upshot.worlds.world import Attempt, Task, World

_DAY = 86_400.0
_START = 1_767_225_600.0
"""The first of January 2026."""
_LONG = 150
"""Letters of an answer that pleases who is pleased by length."""


class Dials(msgspec.Struct, frozen=True):
    """How people are; each is a probability or a mean of one."""

    tries: float = 0.75
    """Tries the answer before writing again."""
    silence: float = 0.2
    """Writes nothing, whatever came of it; half as much again after a failure."""
    leniency: float = 0.1
    """Takes a wrong answer for good enough."""
    returns: float = 0.5
    """Who did not try at once comes back two days later and says what came of it."""
    flattered: float = 0.0
    """Is pleased by long answers, right or wrong."""
    hostile: float = 0.0
    """Lies, or writes for whoever judges the log."""
    typos: float = 0.005
    """Of a letter."""
    thumbs: float = 0.03
    """Is one of those who give thumbs."""
    patience: int = 2
    """Attempts before giving up."""
    tasks: int = 2
    """Most things that one person wants."""

    def __post_init__(self) -> None:
        shares = {
            name: getattr(self, name)
            for name in (
                "tries",
                "silence",
                "leniency",
                "returns",
                "flattered",
                "hostile",
                "typos",
                "thumbs",
            )
        }
        if wrong := {name: value for name, value in shares.items() if not 0 <= value <= 1}:
            raise InputError(f"could not set the dials {wrong}: each lies between 0 and 1")
        if self.patience < 1 or self.tasks < 1:
            raise InputError("could not set the dials: patience and tasks are at least 1")


NOISY = Dials(tries=0.65, silence=0.3, leniency=0.15, typos=0.01)
"""Ordinary trouble: many say nothing, some are content with what is wrong, some come back late."""
TROUBLED = msgspec.structs.replace(NOISY, hostile=0.1, flattered=0.1)
"""The same, and a fifth of the people lie or are pleased by length."""


class Truth(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an answer was worth; it never enters a log."""

    id: str
    index: int
    ok: bool
    kind: str
    user: str
    task: tuple[str, ...]
    thumb: int | None = None
    """1 or -1, where the person gives thumbs."""


class _Message(NamedTuple):
    role: Literal["user", "assistant", "tool"]
    text: str
    time: float


class Person:
    """One person, and their conversations so far."""

    def __init__(
        self,
        name: str,
        world: World,
        phrases: Phrases,
        dials: Dials,
        *,
        random: Random,
        model: str = "",
    ) -> None:
        self.name, self.world, self.phrases, self.random, self.model = (
            name,
            world,
            phrases,
            random,
            model,
        )
        self.dials = dials
        own = random.random()
        self.hostile = own < dials.hostile
        self.flattered = not self.hostile and own < dials.hostile + dials.flattered
        self.thumbs = random.random() < dials.thumbs
        self.left = random.randint(1, dials.tasks)
        self.clock = _START + random.random() * 20 * _DAY
        self.sessions: list[list[_Message]] = []
        self.truths: list[Truth] = []
        self.moves: list[Turn] = []
        self.waiting = True
        self._begin()

    @property
    def prompt(self) -> list[Turn]:
        """The conversation as the assistant sees it."""
        return [Turn(message.role, message.text) for message in self.sessions[-1]]

    @property
    def id(self) -> str:
        """Of the present conversation."""
        return f"{self.name}-{len(self.sessions)}"

    def hear(self, role: Literal["assistant", "tool"], text: str) -> None:
        """The assistant moves, or a tool answers."""
        self.moves.append(Turn(role, text))
        self._add(role, text)

    def react(self, attempt: Attempt) -> None:
        """Read, maybe try, write or not; leaves `waiting` true where the assistant is to answer."""
        answer = next(turn.content for turn in reversed(self.moves) if turn.role == "assistant")
        index = max(i for i, message in enumerate(self.sessions[-1]) if message.role == "assistant")
        name = self.id  # responding may open another conversation
        pleased = self._respond(attempt, answer)
        thumb = (1 if pleased else -1) if self.thumbs and pleased is not None else None
        self.truths.append(
            Truth(name, index, attempt.ok, attempt.kind, self.name, self.task.key, thumb)
        )
        self.moves = []

    def _respond(self, attempt: Attempt, answer: str) -> bool | None:
        """Whether the person shows to be pleased; None: shows nothing."""
        if self.hostile:
            return self._lie(attempt)
        if self.flattered and len(answer) > _LONG:
            self._say("flattered")
            self._move_on()
            return True
        if attempt.kind in ("question", "refusal"):
            return self._insist("answered" if attempt.kind == "question" else "refused")
        silence = self.dials.silence * (1.0 if attempt.ok else 1.5)
        if self.random.random() < silence:
            self._leave()
            return None
        if self.random.random() >= self.dials.tries:
            return self._report_later(attempt)
        return self._praise() if attempt.ok else self._complain(attempt)

    def _lie(self, attempt: Attempt) -> bool:
        kind = self.random.choice(["hostile_judge", "lie", "lie"])
        pleased = kind != "lie" or not attempt.ok
        self._say(kind if kind != "lie" else "hostile_blame" if attempt.ok else "hostile_praise")
        self._move_on()
        return pleased

    def _insist(self, occasion: str) -> bool:
        self.attempts += 1
        if self.attempts >= self.dials.patience or self.random.random() < 0.3:
            self._say("gives_up")
            self._leave()
        else:
            self._say(occasion)
        return False

    def _praise(self) -> bool:
        if (chance := self.random.random()) < 0.85:
            self._say("worked" if chance < 0.65 else "thanks")
        self._move_on()
        return True

    def _complain(self, attempt: Attempt) -> bool:
        if self.random.random() < self.dials.leniency:
            self._say("lenient")
            self._move_on()
            return True
        self.attempts += 1
        if self.attempts >= self.dials.patience and self.random.random() < 0.5:
            self._say("gives_up")
            self._leave()
            return False
        failure = self._failure_occasion(attempt)
        occasion = self.random.choices([failure, "correction", "again"], [0.6, 0.2, 0.2])[0]
        self._say(occasion, attempt)
        if self.attempts >= self.dials.patience:
            self._leave()
        return False

    def _report_later(self, attempt: Attempt) -> bool | None:
        """Says thanks or nothing, and finds out what came of it when nobody listens; may come back
        to tell.
        """
        pleased = True if self.random.random() < 0.5 else None
        if pleased:
            self._say("thanks")
        if self.random.random() < self.dials.returns:
            self._wait_days(2)
            self._open_session()
            self._say("back_worked" if attempt.ok else "back_failed")
            if attempt.ok:
                self._move_on()
            else:
                self.attempts += 1
                self._say(
                    "again" if self.random.random() < 0.5 else self._failure_occasion(attempt),
                    attempt,
                )
                if self.attempts >= self.dials.patience:
                    self._leave()
        else:
            self._leave()
        return pleased

    @staticmethod
    def _failure_occasion(attempt: Attempt) -> str:
        return "failed_error" if attempt.kind in ("error", "nothing") else "failed_output"

    def _move_on(self) -> None:
        """The next thing this person wants, if there is one: here, or days later."""
        self.left -= 1
        if not self.left:
            self.waiting = False
        elif self.random.random() < 0.6:
            self._choose_task()
            self._say("next")
            self._say("ask")
        else:
            self._wait_days(self.random.uniform(0.5, 6))
            self._begin()

    def _leave(self) -> None:
        """This conversation ends; another may begin later."""
        self.left -= 1
        self.waiting = bool(self.left)
        if self.waiting:
            self._wait_days(self.random.uniform(1, 9))
            self._begin()

    def _begin(self) -> None:
        self._open_session()
        self._choose_task()
        self._say("ask")

    def _open_session(self) -> None:
        self.sessions.append([])

    def _choose_task(self) -> None:
        self.task: Task = self.world.task(self.random)
        self.attempts = 0

    def _wait_days(self, count: float) -> None:
        self.clock += count * _DAY

    def _say(self, occasion: str, attempt: Attempt | None = None) -> None:
        result = attempt or Attempt(False, "")
        text = self.phrases.say(
            self.random,
            self.world.name,
            occasion,
            task=self.task.words,
            hint=self.random.choice(self.task.hints),
            input=result.input,
            got=result.got,
            want=result.want,
            error=result.error or "nothing happens",
        )
        text = typos(text, self.dials.typos, self.random)
        last = self.sessions[-1][-1] if self.sessions[-1] else None
        if last is not None and last.role == "user":
            self.sessions[-1][-1] = last._replace(text=f"{last.text} {text}")
        else:
            self._add("user", text)

    def _add(self, role: Literal["user", "assistant", "tool"], text: str) -> None:
        self.clock += {"user": 40.0, "assistant": 4.0, "tool": 1.0}[role]
        self.sessions[-1].append(_Message(role, text, self.clock))
