"""What is in service, and everything that led there: `state.json` in the loop's folder.

It is written whole or not at all. Rounds are folders beside it, `round-0001` and so on. Each step
of a round leaves `STEP.json` when it is complete; a killed loop resumes after the last of them.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from upshot.errors import InputError, NotFoundError
from upshot.io import json_lines
from upshot.io.writing import replace_file

T = TypeVar("T")


class Released(msgspec.Struct, frozen=True):
    """One change of what is in service."""

    policy: str
    at: float
    """Seconds since the epoch."""
    why: str
    """promoted, approved by NAME, rolled back by NAME, hotfix, base."""
    round: int = 0


class State(msgspec.Struct, frozen=True):
    """The state of a loop."""

    history: list[Released]
    """The last one serves."""
    tests: dict[str, bool] = {}
    """Every test of a gate so far, by round, and whether it promoted."""
    waiting: dict[str, str] = {}
    """Candidates that wait for a person's approval, by round."""
    shadow: str = ""
    """A candidate that answers beside the policy in service, unseen."""
    canary: str = ""
    """A candidate that a share of the users gets."""

    @property
    def before(self) -> list[bool]:
        """The tests in order."""
        return list(self.tests.values())

    @property
    def serving(self) -> str:
        """The policy in service."""
        return self.history[-1].policy


class Loop:
    """A loop's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self, base: str) -> State:
        """The state; the base is in service where there is none yet."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "state.json"
        if not path.is_file():
            self.save(State([Released(base, time.time(), "base")]))
        return self.state()

    def state(self) -> State:
        """The current state.

        Raises:
            NotFoundError: there is no loop here.
        """
        path = self.folder / "state.json"
        if not path.is_file():
            raise NotFoundError(
                f"could not find a loop in {self.folder}: run `upshot loop run` first"
            )
        return msgspec.json.decode(path.read_bytes(), type=State)

    def save(self, state: State) -> State:
        """Write the state."""
        write(self.folder / "state.json", state)
        return state

    def release(self, policy: str, why: str, number: int = 0, **more: Any) -> State:
        """Put a policy into service."""
        state = self.state()
        history = [*state.history, Released(policy, time.time(), why, number)]
        return self.save(msgspec.structs.replace(state, history=history, **more))

    def roll_back(self, who: str) -> State:
        """Put what served before into service again.

        Raises:
            InputError: nothing served before.
        """
        state = self.state()
        earlier = [entry.policy for entry in state.history if entry.policy != state.serving]
        if not earlier:
            raise InputError(f"could not roll back: {state.serving} is all that ever served here")
        return self.release(earlier[-1], f"rolled back by {who}", canary="", shadow="")

    def rounds(self) -> list[Round]:
        """All rounds, in order."""
        return [Round(path) for path in sorted(self.folder.glob("round-*")) if path.is_dir()]

    @staticmethod
    def round_of(policy: str) -> int:
        """The number of the round that made a candidate."""
        return Round(Path(policy).parent).number

    def round(self, number: int) -> Round:
        """The round of a number; its folder is made where it is missing."""
        round = Round(self.folder / f"round-{number:04d}")
        round.folder.mkdir(parents=True, exist_ok=True)
        return round


class Round:
    """One round's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.number = int(folder.name.rpartition("-")[2])

    def record(self, step: str) -> dict[str, Any] | None:
        """The raw record of a completed step; None: it is not complete."""
        path = self.folder / f"{step}.json"
        return msgspec.json.decode(path.read_bytes()) if path.is_file() else None

    def load(self, step: str, kind: type[T]) -> T | None:
        """The result of a completed step; None: it is not complete."""
        path = self.folder / f"{step}.json"
        return msgspec.json.decode(path.read_bytes(), type=kind) if path.is_file() else None

    def run_step(self, name: str, make: Callable[[], msgspec.Struct]) -> None:
        """Do a step unless it is complete, and record its result."""
        if self.record(name) is not None:
            return
        began = time.monotonic()
        result = msgspec.to_builtins(make())
        seconds = round(time.monotonic() - began, 2)
        write(self.folder / f"{name}.json", {**result, "seconds": seconds})


def write(path: Path, content: Any) -> None:
    """Write JSON, whole or not at all."""
    replace_file(path, msgspec.json.format(json_lines.encode(content), indent=1))


def code_version() -> dict[str, str]:
    """Which Upshot this is: its version and, in a checkout, its commit."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    git = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    commit = {"commit": git.stdout.strip()} if git.returncode == 0 else {}
    return {"version": version("upshot-ai"), **commit}
