"""Prompting a person for labels in the terminal."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

from rich.panel import Panel
from rich.text import Text

from upshot.cli.output import console, escape_control

if TYPE_CHECKING:
    from upshot.hindsight.trust.audit import Item

_MAX_SHOWN = 2_000
"""Characters of a message that are shown: about a screen."""
_ANSWERS = {"y": 1.0, "yes": 1.0, "n": 0.0, "no": 0.0}


class LabellingPrompt:
    """Shows an item and reads an answer; counts the labels and notices when the rater stops."""

    def __init__(self, source: IO[str], *, blind: bool = False) -> None:
        self._source, self._blind = source, blind
        self.count = 0
        self.stopped = False

    def __call__(self, item: Item) -> float | None:
        """The label, None to pass."""
        if self.stopped:
            return None
        parts = [("request", item.request), ("response", item.response)]
        parts += [] if self._blind else [("afterwards", text) for text in item.after]
        for name, text in parts:
            console.print(
                Panel(
                    Text(escape_control(text[:_MAX_SHOWN])),
                    title=name,
                    title_align="left",
                    border_style="bold" if name == "response" else "bright_black",
                )
            )
        while True:
            console.print(
                "Did the response help its user toward the goal? [y]es, [n]o, 0 to 1, [s]kip,"
                " [q]uit: ",
                end="",
                markup=False,
            )
            line = self._source.readline()
            answer = line.strip().lower()
            if not line or answer in ("q", "quit"):
                self.stopped = True
                return None
            if answer in ("s", "skip"):
                return None
            value = _ANSWERS.get(answer, _number(answer))
            if value is not None:
                self.count += 1
                return value
            console.print("That is none of them.", style="yellow")


def _number(answer: str) -> float | None:
    try:
        value = float(answer)
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None
