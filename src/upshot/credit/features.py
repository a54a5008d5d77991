# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# re2
"""Features of a run's steps: findings, signs, form, agents, repetition, position.

Prefix features of a step depend on the run up to that step only (for values); hindsight features
may also look at what followed (for blame).
"""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple, cast

import numpy as np
import re2
from numpy.typing import NDArray

from upshot.credit.checks import GENERAL_CHECKS, Check, Finding, run_checks
from upshot.credit.trajectories import Step, Trajectory

Array = NDArray[np.float64]
_MAX_CHARACTERS = 12_000
"""Characters of a step that are read: some 3,000 tokens, more than nearly all steps have."""
_WORD = re.compile(r"[^\W_]+")
_MAX_PLACES = 10
"""Positions that have a column of their own; later steps share the last."""
_MACHINE_AGENT = re.compile(
    r"terminal|computer|tool|environment|executor|interpreter|shell|console|sandbox", re.IGNORECASE
)
_NO_CODE_RUN = re.compile(r"there is no code|exitcode: 0")
SIGN_FAMILIES = (
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
PREFIX_COLUMNS = (
    *SIGN_FAMILIES,
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
HINDSIGHT_COLUMNS = (
    *PREFIX_COLUMNS,
    *(f"place_{i}" for i in range(_MAX_PLACES)),
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
def _compile_signs() -> Mapping[str, Any]:
    tables: dict[str, dict[str, list[str]]] = tomllib.loads(
        resources.files("upshot.credit").joinpath("signs.toml").read_text("utf-8")
    )
    options = cast(Any, re2.Options())
    options.case_sensitive = False
    options.never_capture = True
    return {
        name: re2.compile(rf"(?:\b|^)(?:{'|'.join(table['patterns'])})(?:\b|$)", options)
        for name, table in tables.items()
    }


def count_signs(text: str, family: str) -> int:
    """Count the matches of one family of `signs.toml` in a text.

    >>> count_signs("Traceback: it failed", "error")
    2
    """
    return sum(1 for _ in _compile_signs()[family].finditer(text[:_MAX_CHARACTERS]))


class PrefixFeatures(NamedTuple):
    """Features of a run's steps that depend on the run up to each step only."""

    task: list[str]
    """Words of the task."""
    words: list[list[str]]
    """Words of each step."""
    values: Array
    """Shape (steps, PREFIX_COLUMNS)."""
    findings: list[Finding]


def extract_prefix_features(
    run: Trajectory, checks: Sequence[Check] = GENERAL_CHECKS
) -> PrefixFeatures:
    """Compute the features of each step that depend on the run up to it only."""
    texts = [step.text[:_MAX_CHARACTERS].encode("utf-8", "replace").decode() for step in run.steps]
    findings = run_checks(run.task, texts, checks)
    by_step: dict[int, int] = {}
    for finding in findings:
        by_step[finding.step] = by_step.get(finding.step, 0) + 1
    words = [_WORD.findall(text.lower()) for text in texts]
    out = np.zeros((len(texts), len(PREFIX_COLUMNS)))
    task = _WORD.findall(run.task.lower())
    vocabulary: set[str] = set(task)
    bigrams: set[tuple[str, str]] = set()
    agents: set[str] = set()
    for t, (step, text) in enumerate(zip(run.steps, texts, strict=True)):
        own_words, own_bigrams = set(words[t]), set(itertools.pairwise(words[t]))
        size = max(1, len(words[t]))
        before = run.steps[t - 1] if t else None
        out[t] = (
            *(np.log1p(count_signs(text, family)) for family in SIGN_FAMILIES),
            min(3, by_step.get(t, 0)),
            bool(by_step.get(t)) and not any(by_step.get(s) for s in range(t)),
            any(by_step.get(s) for s in range(t)),
            np.log(size),
            "```" in text,
            sum(map(str.isdigit, text)) / max(1, len(text)),
            text.rstrip().endswith("?"),
            len(own_words - vocabulary) / max(1, len(own_words)),
            len(own_bigrams & bigrams) / max(1, len(own_bigrams)),
            is_machine(step),
            before is not None and before.agent == step.agent,
            step.agent not in agents,
            step.agent == run.steps[0].agent,
            before is not None and count_signs(before.text, "error") > 0,
            bool(_NO_CODE_RUN.search(text)),
        )
        vocabulary |= own_words
        bigrams |= own_bigrams
        agents.add(step.agent)
    return PrefixFeatures(task, words, out, findings)


def is_machine(step: Step) -> bool:
    """Whether a step comes from a machine that runs what others wrote."""
    return bool(_MACHINE_AGENT.search(step.agent))


def extract_hindsight_features(run: Trajectory, checks: Sequence[Check] = GENERAL_CHECKS) -> Array:
    """Compute the features of each step of a finished run, shape (steps, HINDSIGHT_COLUMNS)."""
    prefix = extract_prefix_features(run, checks)
    size = len(run.steps)
    if not size:
        return np.zeros((0, len(HINDSIGHT_COLUMNS)))
    task_words = set(_WORD.findall(run.task.lower()))
    values = {name: prefix.values[:, PREFIX_COLUMNS.index(name)] for name in PREFIX_COLUMNS}
    place = np.zeros((size, _MAX_PLACES))
    place[np.arange(size), np.minimum(np.arange(size), _MAX_PLACES - 1)] = 1.0
    after = {name: np.append(values[name][1:], 0.0) for name in ("error", "correction", "machine")}
    is_person = values["machine"] == 0
    turns = [sum(other.agent == step.agent for other in run.steps) / size for step in run.steps]
    columns: list[Array | NDArray[np.bool_] | list[float]] = [
        np.arange(size) == size - 1,
        np.arange(size) == size - 2,
        np.arange(size) / max(1, size - 1),
        after["error"],
        after["correction"],
        after["machine"],
        *(_mark_first((values[name] > 0) & is_person) for name in ("assumption", "error", "code")),
        np.array(turns),
        _share_reused(prefix.words),
        _mark_first((values["log_words"] > np.log(60)) & is_person),
        _mark_first((values["answer"] > 0) & is_person),
        (values["findings"] == 0) & bool(values["findings"].any()),
        _mark_first(is_person & (np.arange(size) > 0) & (values["done"] == 0)),
        np.append(values["nothing_done"][1:] * values["machine"][1:], 0.0) * (values["code"] > 0),
        _share_of_ending(run, prefix.words),
        [len(set(w) & task_words) / max(1, len(task_words)) for w in prefix.words],
    ]
    return np.column_stack(
        [prefix.values, place, *(np.asarray(column, np.float64) for column in columns)]
    )


def _mark_first(mask: Sequence[bool] | NDArray[np.bool_]) -> Array:
    mask = np.asarray(mask, bool)
    out = np.zeros(len(mask))
    if mask.any():
        out[int(mask.argmax())] = 1.0
    return out


def _share_of_ending(run: Trajectory, words: Sequence[Sequence[str]]) -> Array:
    """The share of the last long step's numbers (or else words) that each step introduced."""
    out = np.zeros(len(words))
    long_steps = [
        t
        for t, step_words in enumerate(words)
        if len(step_words) > 5 and not is_machine(run.steps[t])
    ]
    if not long_steps:
        return out
    ending = set(words[long_steps[-1]]) - set(_WORD.findall(run.task.lower()))
    numbers = {word for word in ending if word.isdigit()}
    remaining = numbers or ending
    for t in range(long_steps[-1] + 1):
        new = remaining & set(words[t])
        out[t] = len(new) / max(1, len(numbers or ending))
        remaining = remaining - new
    return out


def _share_reused(words: Sequence[Sequence[str]]) -> Array:
    """The share of each step's new words that later steps reuse: what the rest depends on."""
    out = np.zeros(len(words))
    vocabulary: set[str] = set()
    for t, step_words in enumerate(words):
        new = set(step_words) - vocabulary
        later = set(itertools.chain.from_iterable(words[t + 1 :]))
        out[t] = len(new & later) / max(1, len(new))
        vocabulary |= set(step_words)
    return out
