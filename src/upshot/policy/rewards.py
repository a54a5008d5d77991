"""Rewards of answers: reward models, panels, verifiers, functions, several with weights.

A reward is named on the command line: `FOLDER` (a reward model), `panel:FOLDER,FOLDER` (their mean
less twice their variance), `verify` or `verify:tests,lint` (the row's `tests` run on the answer's
code in the sandbox), or `module:function`; `=WEIGHT` behind it, 1 if left out.
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
from upshot.reward.panel import discount_disagreement
from upshot.verifiers.items import parse_item
from upshot.verifiers.verify import verify

if TYPE_CHECKING:
    from upshot.reward.transformer import Transformer

Array = NDArray[np.float64]
Prompts: TypeAlias = Sequence[Sequence[Turn]]
Facts: TypeAlias = Sequence[Mapping[str, Any]]
Scored = Callable[[Prompts, Sequence[str], Facts], Array]
"""Rewards of answers, shape (answers,), from prompts, answers and rows, all of one length."""
Steps = Callable[[Prompts, Sequence[str], Facts], list[list[tuple[int, float]]]]
"""For each answer its steps: where each ends (a character), and its reward."""
_CODE = re.compile(r"```[\w+-]*\n(.*?)```", re.DOTALL)


class Part(NamedTuple):
    """One reward."""

    name: str
    weight: float
    score: Scored
    steps: Steps | None = None


class Rewards(NamedTuple):
    """Several rewards with weights."""

    parts: tuple[Part, ...]

    def __call__(self, prompts: Prompts, answers: Sequence[str], facts: Facts = ()) -> Array:
        """Their weighted sum, shape (answers,).

        Raises:
            InputError: one of them does not give a finite number for every answer.
        """
        values = self.score_parts(prompts, answers, facts)
        weighted = (part.weight * own for part, own in zip(self.parts, values, strict=True))
        return sum(weighted, np.zeros(len(answers)))

    def score_parts(
        self, prompts: Prompts, answers: Sequence[str], facts: Facts = ()
    ) -> list[Array]:
        """Rewards by each part, unweighted."""
        facts = facts or [{} for _ in answers]
        return [
            _check_finite(part.name, part.score(prompts, answers, facts), len(answers))
            for part in self.parts
        ]

    @property
    def steps(self) -> Steps | None:
        """Rewards of steps, by the first part that has them."""
        return next((part.steps for part in self.parts if part.steps is not None), None)


def wrap_function(function: Scored, name: str = "reward", weight: float = 1.0) -> Rewards:
    """A reward of one function, whose attribute `steps`, if any, gives rewards of steps."""
    return Rewards((Part(name, weight, function, getattr(function, "steps", None)),))


def open_rewards(names: Sequence[str], *, trust_remote_code: bool = False) -> Rewards | None:
    """The rewards of these names; None without names.

    `trust_remote_code`: code of a transformer's base may run.

    Raises:
        InputError: a name is not understood; NotFoundError: a folder does not exist.
    """
    if not names:
        return None
    return Rewards(tuple(_parse_part(name, trust_remote_code) for name in names))


def _parse_part(text: str, trust_remote_code: bool) -> Part:
    name, mark, weight = text.rpartition("=")
    if not mark:
        name, weight = text, "1"
    try:
        value = float(weight)
    except ValueError as error:
        raise InputError(f"could not read the weight of reward {text!r}: write NAME=0.5") from error
    kind, _, rest = name.partition(":")
    if kind == "verify":
        return Part(name, value, _verify_parts(tuple(rest.split(",")) if rest else ("tests",)))
    if kind == "panel":
        return Part(name, value, _open_panel(rest.split(","), trust_remote_code))
    if rest and kind.replace(".", "").isidentifier() and rest.isidentifier():
        function = _import_function(kind, rest)
        return Part(name, value, function, getattr(function, "steps", None))
    return Part(name, value, wrap_model(reward.load(name, trust_remote_code=trust_remote_code)))


def score_answers(
    model: RewardModel | Transformer, prompts: Prompts, answers: Sequence[str]
) -> list[Score]:
    """A reward model's scores of answers, which are texts."""
    return list(model.score(prompts, [(Turn("assistant", text),) for text in answers]))


def wrap_model(model: RewardModel | Transformer) -> Scored:
    """A reward model's reward, without taste for form."""

    def score(prompts: Prompts, answers: Sequence[str], facts: Facts) -> Array:
        return np.array([row.reward for row in score_answers(model, prompts, answers)])

    return score


def _open_panel(folders: Sequence[str], trust_remote_code: bool) -> Scored:
    if len(folders) < 2:
        raise InputError("could not make a panel of one reward model: name at least two, panel:A,B")
    models = [reward.load(folder, trust_remote_code=trust_remote_code) for folder in folders]

    def score(prompts: Prompts, answers: Sequence[str], facts: Facts) -> Array:
        return discount_disagreement(
            np.stack([wrap_model(model)(prompts, answers, facts) for model in models])
        )

    return score


def _verify_parts(parts: Sequence[str]) -> Scored:
    def score(prompts: Prompts, answers: Sequence[str], facts: Facts) -> Array:
        items = [
            parse_item({**_item_fields(row), "code": extract_code(answer)}, str(number))
            for number, (answer, row) in enumerate(zip(answers, facts, strict=True))
        ]
        return np.array([outcome.outcome for outcome in verify(items, parts)])

    return score


def _item_fields(row: Mapping[str, Any]) -> dict[str, Any]:
    fields = (
        "tests",
        "entry_point",
        "hidden_tests",
        "reference",
        "inputs",
        "statement",
        "language",
    )
    return {name: row[name] for name in fields if row.get(name)}


def extract_code(answer: str) -> str:
    """The longest fenced block of code in an answer, or all of it without one.

    >>> extract_code("Try ```\\nx = 1\\n``` first")
    'x = 1\\n'
    """
    blocks: list[str] = _CODE.findall(answer)
    return max(blocks, key=len) if blocks else answer


def _import_function(module: str, name: str) -> Scored:
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"could not import the reward {module}:{name}: {error}") from error


def _check_finite(name: str, rewards: Any, count: int) -> Array:
    values = np.asarray(rewards, dtype=float)
    if values.shape != (count,) or not np.isfinite(values).all():
        raise InputError(
            f"could not use the reward {name}: it gave {values.shape} values,"
            f" {int((~np.isfinite(values)).sum())} of them not finite, for {count} answers"
        )
    return values
