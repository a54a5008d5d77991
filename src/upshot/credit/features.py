"""What a step looks like, by name: findings, signs, form, agents, repetition, place.

`prefix` features of a step depend on the run up to it only (for values); `whole` ones may look at
what followed (for blame).
"""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
import re2
from numpy.typing import NDArray

from upshot.credit.checks import Finding, findings
from upshot.credit.trajectories import Step, Trajectory

Array = NDArray[np.float64]
_MOST = 12_000
"""Characters of a step that are read."""
_WORD = re.compile(r"[^\W_]+")
_PLACES = 10
_MACHINE = re.compile(
    r"terminal|computer|tool|environment|executor|interpreter|shell|console|sandbox", re.IGNORECASE
)
_NOTHING_DONE = re.compile(r"there is no code|exitcode: 0")
FAMILIES = (
    "error",
    "assumption",
    "hedge",
    "verify",
    "correction",
    "answer",
    "done",
    "plan",
    "lookup",
    "ask",
)
PREFIX = (
    *FAMILIES,
    "findings",
    "first_finding",
    "tainted",
    "log_words",
    "code",
    "digits",
    "question",
    "new_words",
    "repeats",
    "machine",
    "same_agent",
    "new_agent",
    "first_speaker",
    "error_before",
    "nothing_done",
)
WHOLE = (
    *PREFIX,
    *(f"place_{i}" for i in range(_PLACES)),
    "last",
    "second_last",
    "share",
    "error_after",
    "correction_after",
    "machine_after",
    "assumption_first",
    "error_first",
    "code_first",
    "turns_of_agent",
    "words_kept",
    "long_first",
    "answer_first",
    "any_finding_elsewhere",
    "first_work",
    "ran_after",
    "origin",
    "on_task",
)


@cache
def _families() -> dict[str, Any]:
    tables = tomllib.loads(
        resources.files("upshot.credit").joinpath("signs.toml").read_text("utf-8")
    )
    options = re2.Options()
    options.case_sensitive = False
    options.never_capture = True
    return {
        name: re2.compile(rf"(?:\b|^)(?:{'|'.join(table['patterns'])})(?:\b|$)", options)
        for name, table in tables.items()
    }


def says(text: str, family: str) -> int:
    """How often a text says something of a family of `signs.toml`.

    >>> says("Traceback: it failed", "error")
    2
    """
    return sum(1 for _ in _families()[family].finditer(text[:_MOST]))


class Look(NamedTuple):
    """A run as its features see it."""

    task: list[str]
    words: list[list[str]]
    prefix: Array
    """Shape (steps, PREFIX)."""
    found: list[Finding]


def look(run: Trajectory) -> Look:
    """Features of each step that depend on the run up to it only."""
    texts = [step.text[:_MOST].encode("utf-8", "replace").decode() for step in run.steps]
    found = findings(run.task, texts)
    by_step: dict[int, int] = {}
    for one in found:
        by_step[one.step] = by_step.get(one.step, 0) + 1
    words = [_WORD.findall(text.lower()) for text in texts]
    out = np.zeros((len(texts), len(PREFIX)))
    task = _WORD.findall(run.task.lower())
    seen: set[str] = set(task)
    pairs: set[tuple[str, str]] = set()
    agents: set[str] = set()
    for t, (step, text) in enumerate(zip(run.steps, texts, strict=True)):
        own, own_pairs = set(words[t]), set(itertools.pairwise(words[t]))
        size = max(1, len(words[t]))
        before = run.steps[t - 1] if t else None
        out[t] = (
            *(np.log1p(says(text, family)) for family in FAMILIES),
            min(3, by_step.get(t, 0)),
            bool(by_step.get(t)) and not any(by_step.get(s) for s in range(t)),
            any(by_step.get(s) for s in range(t)),
            np.log(size),
            "```" in text,
            sum(map(str.isdigit, text)) / max(1, len(text)),
            text.rstrip().endswith("?"),
            len(own - seen) / max(1, len(own)),
            len(own_pairs & pairs) / max(1, len(own_pairs)),
            is_machine(step),
            before is not None and before.agent == step.agent,
            step.agent not in agents,
            step.agent == run.steps[0].agent,
            before is not None and says(before.text, "error") > 0,
            bool(_NOTHING_DONE.search(text)),
        )
        seen |= own
        pairs |= own_pairs
        agents.add(step.agent)
    return Look(task, words, out, found)


def is_machine(step: Step) -> bool:
    """Does a step come from a machine that runs what others wrote?"""
    return bool(_MACHINE.search(step.agent))


def whole(run: Trajectory, seen: Look | None = None) -> Array:
    """Features of each step of a finished run, shape (steps, WHOLE)."""
    seen = seen or look(run)
    size = len(run.steps)
    if not size:
        return np.zeros((0, len(WHOLE)))
    asked = set(_WORD.findall(run.task.lower()))
    own = {name: seen.prefix[:, PREFIX.index(name)] for name in PREFIX}
    place = np.zeros((size, _PLACES))
    place[np.arange(size), np.minimum(np.arange(size), _PLACES - 1)] = 1.0
    after = {name: np.append(own[name][1:], 0.0) for name in ("error", "correction", "machine")}
    people = own["machine"] == 0
    turns = [sum(other.agent == step.agent for other in run.steps) / size for step in run.steps]
    more = [
        np.arange(size) == size - 1,
        np.arange(size) == size - 2,
        np.arange(size) / max(1, size - 1),
        after["error"],
        after["correction"],
        after["machine"],
        *(_first((own[name] > 0) & people) for name in ("assumption", "error", "code")),
        np.array(turns),
        _kept(seen.words),
        _first((own["log_words"] > np.log(60)) & people),
        _first((own["answer"] > 0) & people),
        (own["findings"] == 0) & bool(own["findings"].any()),
        _first(people & (np.arange(size) > 0) & (own["done"] == 0)),
        np.append(own["nothing_done"][1:] * own["machine"][1:], 0.0) * (own["code"] > 0),
        _origin(run, seen.words),
        [len(set(w) & asked) / max(1, len(asked)) for w in seen.words],
    ]
    return np.column_stack(
        [seen.prefix, place, *(np.asarray(column, np.float64) for column in more)]
    )


def _first(where: Sequence[bool] | NDArray[np.bool_]) -> Array:
    where = np.asarray(where, bool)
    out = np.zeros(len(where))
    if where.any():
        out[int(where.argmax())] = 1.0
    return out


def _origin(run: Trajectory, words: Sequence[Sequence[str]]) -> Array:
    """Where what the run ends with came from: share of the last telling step's numbers and rare
    words that each step said first.
    """
    out = np.zeros(len(words))
    telling = [t for t, own in enumerate(words) if len(own) > 5 and not is_machine(run.steps[t])]
    if not telling:
        return out
    end = set(words[telling[-1]]) - set(_WORD.findall(run.task.lower()))
    numbers = {word for word in end if word.isdigit()}
    wanted = numbers or end
    for t in range(telling[-1] + 1):
        new = wanted & set(words[t])
        out[t] = len(new) / max(1, len(numbers or end))
        wanted = wanted - new
    return out


def _kept(words: Sequence[Sequence[str]]) -> Array:
    """Share of each step's new words that later steps use again: what the rest depends on."""
    out = np.zeros(len(words))
    seen: set[str] = set()
    for t, own in enumerate(words):
        new = set(own) - seen
        later = set().union(*map(set, words[t + 1 :])) if t + 1 < len(words) else set()
        out[t] = len(new & later) / max(1, len(new))
        seen |= set(own)
    return out
