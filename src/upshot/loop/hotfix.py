"""From a handful of bad cases to a small adapter that fixes them, with proof that the rest held.

Cases are prompts with what is wanted (`chosen`, or `completion`) and, where it is known, what was
said (`rejected`), or with tests that an answer must pass. A LoRA is trained on the wanted answers,
mixed with the policy's own answers to prompts that were fine, so that those stay. Training goes on
in short rounds until the cases are fixed, and the rest is compared answer by answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from upshot.errors import InputError
from upshot.hub.sampling import Drawing, open_sampler
from upshot.io.files import read_objects
from upshot.loop.examine import DEMANDS, find_passing, has_demands
from upshot.loop.gate import Rules
from upshot.loop.guards import measure_loss
from upshot.policy.data import Prompt, make_data
from upshot.policy.recipe import Draw, Kl, Recipe
from upshot.policy.rounds import adopt
from upshot.policy.train import train
from upshot.records import Example, Source, Turn
from upshot.reward.rows import parse_turns

_REST_PER_CASE = 8
"""Answers that were fine, for each case: they keep the policy where it is."""


class Case(msgspec.Struct, frozen=True):
    """Something that went wrong."""

    prompt: tuple[Turn, ...]
    wanted: str
    facts: dict[str, Any] = {}
    """tests, matches or lacks: what an answer must pass; without them it must be the wanted one,
    spaces aside.
    """


class Fixed(msgspec.Struct, frozen=True):
    """What a hotfix did."""

    policy: str
    cases: int
    fixed: float
    """Share of the cases that pass now."""
    before: float
    held: dict[str, float | str]
    """The rest: by how much fewer of its answers pass or stay, with an interval and the margin."""
    kept: bool
    """Whether the rest held."""
    seconds: float
    kl: float | None


def hotfix(
    base: str,
    cases: Sequence[Case],
    rest: Sequence[Prompt],
    folder: Path,
    *,
    rank: int = 8,
    rounds: int = 3,
    drawing: Drawing = Drawing(temperature=0.0),
    rules: Rules = Rules(),
    score: Callable[[Sequence[Sequence[Turn]], Sequence[str]], np.ndarray] | None = None,
    trainer: dict[str, Any] | None = None,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Fixed:
    """Fix the cases, or say that it could not be done without harm to the rest.

    `rest`: prompts that are fine as they are; with tests in their rows these must still pass,
    without them `score` (a reward) must not fall. The adapter is written to `folder`.

    Raises:
        InputError: there are no cases, or there is nothing by which to tell whether the rest held.
    """
    if not cases:
        raise InputError("could not fix anything: there are no cases")
    has_tests = bool(rest) and all(has_demands(row.facts) for row in rest)
    if not has_tests and (score is None or not rest):
        raise InputError(
            "could not prove that the rest holds: give prompts with tests, or prompts and a reward"
            " model"
        )
    sampler = open_sampler(base)
    before = share_solved(cases, _sample(sampler, [case.prompt for case in cases], drawing))
    old_answers = _sample(sampler, [row.turns for row in rest], drawing)
    tuned = _tune(
        base,
        cases,
        rest,
        old_answers,
        folder,
        rank=rank,
        rounds=rounds,
        drawing=drawing,
        trainer=trainer,
        progress=progress,
    )
    answers = _sample(open_sampler(tuned.policy), [row.turns for row in rest], drawing)
    user = np.array([str(number) for number in range(len(rest))], dtype=object)
    new, old = (
        find_passing(rest, texts)
        if has_tests or score is None
        else score([row.turns for row in rest], texts)
        for texts in (answers, old_answers)
    )
    harm = measure_loss("the rest", new, old, user, rules, scale=1.0 if has_tests else 0.0)
    adopt(Path(tuned.policy), folder, "try-*")
    same = float(np.mean([a == b for a, b in zip(answers, old_answers, strict=True)]))
    held: dict[str, float | str] = {
        "harm": harm.harm,
        "low": harm.low,
        "high": harm.high,
        "margin": harm.margin,
        "same answers": same,
    }
    return Fixed(
        str(folder),
        len(cases),
        tuned.solved,
        before,
        held,
        harm.verdict == "promote",
        tuned.seconds,
        tuned.kl,
    )


class _Tuned(NamedTuple):
    """The adapter after the last try."""

    policy: str
    solved: float
    """Share of the cases."""
    seconds: float
    kl: float | None


def _tune(
    base: str,
    cases: Sequence[Case],
    rest: Sequence[Prompt],
    old_answers: Sequence[str],
    folder: Path,
    *,
    rank: int,
    rounds: int,
    drawing: Drawing,
    trainer: dict[str, Any] | None,
    progress: Callable[[str, int, int], None],
) -> _Tuned:
    """Train in short rounds on the wanted answers and the policy's own to the rest, until every
    case is solved.
    """
    own = [
        Example(row.turns, (Turn("assistant", text),), 1.0, 1.0, Source("kept"))
        for row, text in zip(rest, old_answers, strict=True)
    ][: _REST_PER_CASE * len(cases)]
    wanted = [
        Example(case.prompt, (Turn("assistant", case.wanted),), 1.0, 1.0, Source("hotfix"))
        for case in cases
    ]
    tuned = _Tuned(base, 0.0, 0.0, None)
    for number in range(rounds):
        recipe = _make_recipe(tuned.policy, rank if number == 0 else None, drawing, trainer)
        target = folder / f"try-{number}"
        trained = train(recipe, make_data([*wanted, *own]), target, progress=progress)
        texts = _sample(open_sampler(str(target)), [case.prompt for case in cases], drawing)
        solved = share_solved(cases, texts)
        tuned = _Tuned(str(target), solved, tuned.seconds + trained.seconds, trained.kl)
        progress("hotfix", number + 1, rounds)
        if solved == 1.0:
            break
    return tuned


def _make_recipe(
    base: str, rank: int | None, drawing: Drawing, trainer: dict[str, Any] | None
) -> Recipe:
    return Recipe(
        base,
        "sft",
        lora=None if rank is None else {"r": rank, "lora_alpha": 2 * rank},
        draw=Draw(drawing.max_tokens),
        kl=Kl(prompts=32),
        trainer={
            "learning_rate": 1e-3,
            "num_train_epochs": 3,
            "per_device_train_batch_size": 8,
            "lr_scheduler_type": "constant",
            "save_strategy": "no",
            **(trainer or {}),
        },
    )


def read_cases(path: Path) -> list[Case]:
    """Cases from JSON lines: `prompt`, and `chosen`, `completion` or `wanted`; maybe tests, matches
    or lacks.

    Raises:
        InputError: a row does not say what is wanted.
    """
    out: list[Case] = []
    for place, row in read_objects(path):
        wanted = next(
            (row[key] for key in ("wanted", "chosen", "completion") if row.get(key)), None
        )
        if wanted is None or not row.get("prompt"):
            raise InputError(
                f"could not read {place}: a case needs a prompt and what is wanted (chosen,"
                " completion or wanted)"
            )
        out.append(
            Case(
                parse_turns(row["prompt"], "user"),
                parse_turns(wanted, "assistant")[-1].content,
                {key: row[key] for key in (*DEMANDS, "entry_point") if row.get(key)},
            )
        )
    return out


def share_solved(cases: Sequence[Case], answers: Sequence[str]) -> float:
    """Share of cases whose answer is right."""
    tested = [i for i, case in enumerate(cases) if has_demands(case.facts)]
    right = np.array(
        [
            " ".join(answer.split()) == " ".join(case.wanted.split())
            for case, answer in zip(cases, answers, strict=True)
        ],
        dtype=float,
    )
    if tested:
        right[tested] = find_passing(
            [Prompt(cases[i].prompt, cases[i].facts) for i in tested], [answers[i] for i in tested]
        )
    return float(right.mean())


def _sample(sampler: Any, prompts: Sequence[Sequence[Turn]], drawing: Drawing) -> list[str]:
    return [text.strip() for text in sampler(prompts, drawing)] if prompts else []
