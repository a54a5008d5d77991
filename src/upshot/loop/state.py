"""What is in service, and everything that led there: `state.json` in the loop's folder, written
whole or not at all.

Rounds are folders beside it, `round-0001` and so on. Each step of a round leaves `STEP.json` when
it is whole; a killed loop goes on behind the last of them.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from upshot.errors import InputError, NotFoundError
from upshot.io import json_lines


class Released(msgspec.Struct, frozen=True):
    """One change of what is in service."""

    policy: str
    at: float
    """Seconds since the epoch."""
    why: str
    """promoted, approved by NAME, rolled back by NAME, hotfix, base."""
    round: int = 0


class State(msgspec.Struct, frozen=True):
    """Of a loop."""

    history: list[Released]
    """The last one serves."""
    tests: dict[str, bool] = {}
    """Every test of a gate so far, by round, and whether it promoted."""
    waiting: dict[str, str] = {}
    """Candidates for whom a person is asked, by round."""
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
            self.keep(State([Released(base, time.time(), "base")]))
        return self.state()

    def state(self) -> State:
        """As it is.

        Raises:
            NotFoundError: there is no loop here.
        """
        path = self.folder / "state.json"
        if not path.is_file():
            raise NotFoundError(
                f"could not find a loop in {self.folder}: run `upshot loop run` first"
            )
        return msgspec.json.decode(path.read_bytes(), type=State)

    def keep(self, state: State) -> State:
        """Write it."""
        write(self.folder / "state.json", state)
        return state

    def release(self, policy: str, why: str, number: int = 0, **more: Any) -> State:
        """Put a policy into service."""
        now = self.state()
        return self.keep(
            msgspec.structs.replace(
                now, history=[*now.history, Released(policy, time.time(), why, number)], **more
            )
        )

    def roll_back(self, who: str) -> State:
        """Put what served before into service again.

        Raises:
            InputError: nothing served before.
        """
        now = self.state()
        before = [one.policy for one in now.history if one.policy != now.serving]
        if not before:
            raise InputError(f"could not roll back: {now.serving} is all that ever served here")
        return self.release(before[-1], f"rolled back by {who}", canary="", shadow="")

    def rounds(self) -> list[Round]:
        """All of them, in order."""
        return [Round(path) for path in sorted(self.folder.glob("round-*")) if path.is_dir()]

    @staticmethod
    def round_of(policy: str) -> int:
        """Which round made a candidate."""
        return Round(Path(policy).parent).number

    def round(self, number: int) -> Round:
        """One of them, made where it is not there."""
        found = Round(self.folder / f"round-{number:04d}")
        found.folder.mkdir(parents=True, exist_ok=True)
        return found


class Round:
    """One round's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.number = int(folder.name.rpartition("-")[2])

    def done(self, step: str) -> dict[str, Any] | None:
        """What a whole step left; None: it is not whole."""
        path = self.folder / f"{step}.json"
        return msgspec.json.decode(path.read_bytes()) if path.is_file() else None

    def step(self, name: str, make: Callable[[], Any]) -> dict[str, Any]:
        """What a step leaves: as it was, or made now."""
        found = self.done(name)
        if found is not None:
            return found
        began = time.monotonic()
        made = msgspec.to_builtins(make())
        write(self.folder / f"{name}.json", {**made, "seconds": round(time.monotonic() - began, 2)})
        return self.done(name) or {}


def write(path: Path, content: Any) -> None:
    """JSON, whole or not at all."""
    json_lines.replace(path, msgspec.json.format(json_lines.encode(content), indent=1))


def code_version() -> dict[str, str]:
    """Which Upshot this is: its version and, in a checkout, its commit."""
    here = Path(__file__).parent
    found = subprocess.run(
        ["git", "-C", str(here), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )  # noqa: S603, S607
    return {
        "version": version("upshot"),
        **({"commit": found.stdout.strip()} if found.returncode == 0 else {}),
    }
