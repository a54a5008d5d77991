"""What answers are worth while a policy is trained: reward models, panels, verifiers, functions,
several with weights.

A reward is named on the command line: `FOLDER` (a reward model), `panel:FOLDER,FOLDER` (their mean
less twice their variance), `verify` or
`verify:tests,lint` (the row's `tests` run on the answer's code in the sandbox), or
`module:function`; `=WEIGHT` behind it, 1 if left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from upshot import reward
from upshot.errors import InputError
from upshot.records import Turn
from upshot.reward import RewardModel, Score
from upshot.reward.panel import agreed
from upshot.verifiers.items import of_record
from upshot.verifiers.verify import verify

if TYPE_CHECKING:
    from upshot.reward.transformer import Transformer

Array = NDArray[np.float64]
Prompts: TypeAlias = Sequence[Sequence[Turn]]
Facts: TypeAlias = Sequence[Mapping[str, Any]]
Scored = Callable[[Prompts, Sequence[str], Facts], Array]
"""Rewards of answers, shape (answers,); prompts, answers and their rows in, all of one length."""
Steps = Callable[[Prompts, Sequence[str], Facts], list[list[tuple[int, float]]]]
"""For each answer its steps: where each ends (a character) and what it is worth."""
_CODE = re.compile(r"```[\w+-]*\n(.*?)```", re.DOTALL)


class Part(NamedTuple):
    """One reward."""

    name: str
    weight: float
    score: Scored
    steps: Steps | None = None


class Rewards(NamedTuple):
    """Several, weighed."""

    parts: tuple[Part, ...]

    def __call__(self, prompts: Prompts, answers: Sequence[str], facts: Facts = ()) -> Array:
        """Their weighed sum, shape (answers,).

        Raises:
            InputError: one of them gave something that is no finite number for every answer.
        """
        return sum(
            (
                part.weight * scored
                for part, scored in zip(self.parts, self.each(prompts, answers, facts), strict=True)
            ),
            np.zeros(len(answers)),
        )

    def each(self, prompts: Prompts, answers: Sequence[str], facts: Facts = ()) -> list[Array]:
        """What each part gives, unweighed."""
        facts = facts or [{} for _ in answers]
        return [
            _checked(part.name, part.score(prompts, answers, facts), len(answers))
            for part in self.parts
        ]

    @property
    def steps(self) -> Steps | None:
        """What steps are worth, by the first part that says."""
        return next((part.steps for part in self.parts if part.steps is not None), None)


def of_function(function: Scored, name: str = "reward", weight: float = 1.0) -> Rewards:
    """A reward of one function; its attribute `steps`, where it has one, says what steps are worth."""
    return Rewards((Part(name, weight, function, getattr(function, "steps", None)),))


def open_rewards(names: Sequence[str]) -> Rewards | None:
    """The rewards of these names; None where there are none.

    Raises:
        InputError: a name is not understood; NotFoundError: a folder is not there.
    """
    return Rewards(tuple(_part(name) for name in names)) if names else None


def _part(text: str) -> Part:
    name, mark, weight = text.rpartition("=")
    if not mark:
        name, weight = text, "1"
    try:
        value = float(weight)
    except ValueError as error:
        raise InputError(f"could not read the weight of reward {text!r}: write NAME=0.5") from error
    kind, _, rest = name.partition(":")
    if kind == "verify":
        return Part(name, value, _verified(tuple(rest.split(",")) if rest else ("tests",)))
    if kind == "panel":
        return Part(name, value, _panel(rest.split(",")))
    if rest and kind.replace(".", "").isidentifier() and rest.isidentifier():
        function = _function(kind, rest)
        return Part(name, value, function, getattr(function, "steps", None))
    return Part(name, value, of_model(reward.load(name)))


def scores(
    model: RewardModel | Transformer, prompts: Prompts, answers: Sequence[str]
) -> list[Score]:
    """What a reward model says of answers given as texts."""
    return list(model.score(prompts, [(Turn("assistant", text),) for text in answers]))


def of_model(model: RewardModel | Transformer) -> Scored:
    """A reward model's reward, form left out."""

    def score(prompts: Prompts, answers: Sequence[str], facts: Facts) -> Array:
        return np.array([one.reward for one in scores(model, prompts, answers)])

    return score


def _panel(folders: Sequence[str]) -> Scored:
    if len(folders) < 2:
        raise InputError("could not make a panel of one reward model: name at least two, panel:A,B")
    models = [reward.load(folder) for folder in folders]

    def score(prompts: Prompts, answers: Sequence[str], facts: Facts) -> Array:
        return agreed(np.stack([of_model(model)(prompts, answers, facts) for model in models]))

    return score


def _verified(parts: Sequence[str]) -> Scored:
    def score(prompts: Prompts, answers: Sequence[str], facts: Facts) -> Array:
        items = [
            of_record({**_texts(row), "code": code_of(answer)}, str(number))
            for number, (answer, row) in enumerate(zip(answers, facts, strict=True))
        ]
        return np.array([outcome.outcome for outcome in verify(items, parts)])

    return score


def _texts(row: Mapping[str, Any]) -> dict[str, Any]:
    known = ("tests", "entry_point", "hidden_tests", "reference", "inputs", "statement", "language")
    return {name: row[name] for name in known if row.get(name)}


def code_of(answer: str) -> str:
    """The longest fenced code of an answer; all of it, where none is fenced."""
    found = _CODE.findall(answer)
    return max(found, key=len) if found else answer


def _function(module: str, name: str) -> Scored:
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"could not import the reward {module}:{name}: {error}") from error


def _checked(name: str, found: Any, wanted: int) -> Array:
    values = np.asarray(found, dtype=float)
    if values.shape != (wanted,) or not np.isfinite(values).all():
        raise InputError(
            f"could not use the reward {name}: it gave {values.shape} values,"
            f" {int((~np.isfinite(values)).sum())} of them not finite, for {wanted} answers"
        )
    return values
