"""Edits that change a response's form and not its content, to measure a reward's taste for form.

A reward and form are often correlated because better answers look different; regressing one on the
other would take the merit away too. An edit moves form alone, so the slope over edits is form's own
effect (as in counterfactual probes of reward models: Reber et al., "RATE", 2024).
"""

from __future__ import annotations

import re
from collections.abc import Callable

_MARK = re.compile(r"^(?:\s*(?:[-*•]|\d+[.)])\s+|#{1,6}\s+)|\*\*|__", re.MULTILINE)
_LINES = re.compile(r"\s*\n\s*")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_STOP = re.compile(r"\.(?=\s|$)")
_FILLER = (
    "To put it in other words, this is the answer to what was asked. Everything that was said above"
    " holds. As was said, this answers it."
)


def plain(text: str) -> str:
    """Without list marks, headings, bold and line breaks.

    >>> plain("**Do**:\\n- one\\n- two")
    'Do: one two'
    """
    return _LINES.sub(" ", _MARK.sub("", text)).strip()


def listed(text: str) -> str:
    """Each sentence an item of a list.

    >>> listed("One. Two.")
    '- One.\\n- Two.'
    """
    return "\n".join(f"- {part}" for part in _SENTENCE_END.split(text))


def headed(text: str) -> str:
    """Under headings."""
    return f"## Answer\n\n**{text.strip()[:40]}**{text.strip()[40:]}"


def padded(text: str) -> str:
    """Longer, with sentences that say nothing."""
    return f"{text} {_FILLER}"


def shouted(text: str) -> str:
    """With exclamation marks.

    >>> shouted("One. Two 2.5.")
    'One! Two 2.5!'
    """
    return _STOP.sub("!", text)


EDITS: tuple[Callable[[str], str], ...] = (plain, listed, headed, padded, shouted)

MOVED = ("log_words", "list_items", "headings", "lines", "exclamations")
"""Features of form that the edits move on purpose; what else they move has no slope of its own."""
