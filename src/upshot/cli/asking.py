"""Asking a person for labels in the terminal."""

from __future__ import annotations

from typing import IO

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from upshot.hindsight.trust.audit import Item

_MOST = 2_000
"""Characters of a message that are shown."""
_ANSWERS = {"y": 1.0, "yes": 1.0, "n": 0.0, "no": 0.0}


class Asking:
    """Shows an item and reads an answer; remembers how many were given and when the rater has had
    enough.
    """

    def __init__(self, console: Console, source: IO[str], blind: bool = False) -> None:
        self.console, self.source, self.blind = console, source, blind
        self.given = 0
        self.stopped = False

    def __call__(self, item: Item) -> float | None:
        """The label, None to pass."""
        if self.stopped:
            return None
        parts = [("request", item.request), ("response", item.response)]
        parts += [] if self.blind else [("afterwards", text) for text in item.after]
        for name, text in parts:
            self.console.print(
                Panel(
                    Text(text[:_MOST]),
                    title=name,
                    title_align="left",
                    border_style="bold" if name == "response" else "bright_black",
                )
            )
        while True:
            self.console.print(
                "Did the response help its user toward the goal? [y]es, [n]o, 0 to 1, [s]kip,"
                " [q]uit: ",
                end="",
                markup=False,
            )
            line = self.source.readline()
            answer = line.strip().lower()
            if not line or answer in ("q", "quit"):
                self.stopped = True
                return None
            if answer in ("s", "skip"):
                return None
            value = _ANSWERS.get(answer, _number(answer))
            if value is not None:
                self.given += 1
                return value
            self.console.print("That is none of them.", style="yellow")


def _number(answer: str) -> float | None:
    try:
        value = float(answer)
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None
