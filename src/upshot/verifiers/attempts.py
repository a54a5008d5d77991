"""Write tests, write code, run, read the failures, fix: driven by any language model, every attempt
kept as a run.

A run is plain text: each step's thought and code, and what the world said of it; its outcome is
that of tests which the model has not seen (`hidden_tests`, `reference`), or of the visible ones
where there are no others. So runs go to credit and to training as they are.

Rationales (STaR, Zelikman et al., 2022): the thought and code of a run that came out right are an
example to learn from. Where every run of a task failed, the model is given the solution as a hint
and asked for reasoning that leads to it; that is kept, without the hint, if its code passes too.
"""

from __future__ import annotations

import ast
import asyncio
import os
from collections.abc import Callable, Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import msgspec

from upshot.errors import InputError
from upshot.io.files import json_objects
from upshot.llm import Asker, Budget, Endpoint, Replies, question, work_through
from upshot.verifiers import functions, sandbox
from upshot.verifiers.items import Item, of_record
from upshot.verifiers.sandbox import Limits
from upshot.verifiers.split_sandbox import Ran, together
from upshot.verifiers.verify import verify

_TOKENS = 3_000
_SHOWN = 3_000
"""Characters of an observation."""


class Task(msgspec.Struct, frozen=True):
    """Something to write."""

    id: str
    task: str
    """What is asked for, in words."""
    entry_point: str = ""
    tests: str = ""
    """Tests that the model may see; without them it writes its own first."""
    hidden_tests: str = ""
    """Tests that decide and that it does not see."""
    reference: str = ""
    """Code that is right: decides too, and is the hint where all runs fail."""
    prompt: str = ""


class Written(msgspec.Struct, frozen=True):
    """What the model answers when it writes code."""

    thought: str
    code: str


class Tested(msgspec.Struct, frozen=True):
    """What the model answers when it writes tests."""

    thought: str
    tests: str


class Step(msgspec.Struct, frozen=True):
    """One step of a run."""

    action: str
    observation: str


class Attempt(msgspec.Struct, frozen=True):
    """One run, as `upshot credit` reads it."""

    id: str
    task: str
    steps: list[Step]
    outcome: float
    """1: right by tests it has not seen, or by the visible ones where there are no others; else the
    share of them, below .5.
    """
    source: dict[str, Any]
    """The task's id, which sample, whether the tests were the model's own."""


class Rationale(msgspec.Struct, frozen=True):
    """Reasoning that led to a right solution, as an example for fine-tuning."""

    messages: list[dict[str, str]]
    source: dict[str, Any]
    """The task's id and whether a hint was needed."""


class Attempts(NamedTuple):
    """All that was tried."""

    runs: list[Attempt]
    rationales: list[Rationale]
    stopped: str
    """Why the endpoint was not asked further, if it was not."""


def attempt(
    tasks: Sequence[Task],
    endpoint: Endpoint,
    budget: Budget,
    replies: Replies,
    samples: int = 1,
    rounds: int = 4,
    temperature: float = 0.7,
    limits: Limits = Limits(),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Attempts:
    """Have a model try every task some times, with some rounds of fixing each.

    Args:
        tasks: What to write.
        endpoint: The model.
        budget: Spent here; when it is used up, what was made is returned.
        replies: Kept replies, so that nothing is asked twice.
        samples: Independent runs of a task.
        rounds: Programs it may write in a run.
        temperature: Of sampling.
        limits: For each program that is run.
        progress: Called with runs done and all.

    Raises:
        SandboxError: untrusted code cannot be run safely here.
    """
    sandbox.check()
    wanted = [(task, number) for task in tasks for number in range(samples)]
    made, stopped = work_through(
        len(wanted),
        lambda n, asker: _run(*wanted[n], asker, endpoint, rounds, temperature, limits),
        endpoint,
        budget,
        replies,
        progress,
    )
    tried = [made[number] for number in sorted(made)]
    solved = {run.source["task"] for run, _ in tried if run.outcome == 1}
    failed = [
        task
        for task in tasks
        if task.id not in solved
        and task.reference
        and any(run.source["task"] == task.id for run, _ in tried)
    ]
    hinted: dict[int, Rationale | None] = {}
    if failed and not stopped:
        hinted, stopped = work_through(
            len(failed),
            lambda n, asker: _hinted(failed[n], asker, endpoint, limits),
            endpoint,
            budget,
            replies,
            lambda done, total: None,
        )
    rationales = [rationale for _, rationale in tried if rationale is not None] + [
        found for number in sorted(hinted) if (found := hinted[number]) is not None
    ]
    return Attempts([run for run, _ in tried], rationales, stopped)


async def _run(
    task: Task,
    number: int,
    asker: Asker,
    endpoint: Endpoint,
    rounds: int,
    temperature: float,
    limits: Limits,
) -> tuple[Attempt, Rationale | None]:
    steps: list[Step] = []
    tests, own = task.tests, False
    if not tests:
        (written, *_) = await asker.ask(
            question(
                endpoint,
                _system("tests.md"),
                _shown(task),
                Tested,
                _TOKENS,
                temperature,
                seed=number,
            ),
            Tested,
            _unlike_tests,
            "",
        )
        tests, own = (written.tests, True) if written is not None else ("", True)
        steps.append(
            Step(
                f"{written.thought}\n\n```python\n{tests}\n```" if written else "",
                "tests are written" if written else "no usable tests",
            )
        )
    code, tried = "", list[dict[str, str]]()
    for turn in range(rounds if tests else 0):
        shown = {**_shown(task), "tests": tests, "tried": tried[-2:]}
        (answer, *_) = await asker.ask(
            question(
                endpoint,
                _system("code.md"),
                shown,
                Written,
                _TOKENS,
                temperature,
                seed=number * rounds + turn,
            ),
            Written,
            lambda _: "",
            "",
        )
        if answer is None:
            steps.append(Step("", "no usable answer"))
            continue
        code = answer.code
        ran = await asyncio.to_thread(
            together, code, functions.job_of(tests, _item(task, code)), limits
        )
        seen = _observed(ran)
        steps.append(Step(f"{answer.thought}\n\n```python\n{code}\n```", seen))
        tried.append({"code": code, "result": seen})
        if ran.share == 1.0:
            break
    outcome = await asyncio.to_thread(_outcome, task, tests, code, limits)
    run = Attempt(
        f"{task.id}/{number}",
        task.task,
        steps,
        outcome,
        {"task": task.id, "sample": number, "own_tests": own},
    )
    return run, _rationale(task, steps[-1].action, hinted=False) if outcome == 1 else None


async def _hinted(task: Task, asker: Asker, endpoint: Endpoint, limits: Limits) -> Rationale | None:
    """A rationale made with the solution in sight, if its own code is right."""
    shown = {**_shown(task), "hint": task.reference}
    (answer, *_) = await asker.ask(
        question(endpoint, _system("hint.md"), shown, Written, _TOKENS), Written, lambda _: "", ""
    )
    if (
        answer is None
        or not answer.thought.strip()
        or await asyncio.to_thread(_outcome, task, task.tests, answer.code, limits) < 1
    ):
        return None
    return _rationale(task, f"{answer.thought}\n\n```python\n{answer.code}\n```", hinted=True)


def _rationale(task: Task, text: str, hinted: bool) -> Rationale:
    return Rationale(
        [{"role": "user", "content": task.task}, {"role": "assistant", "content": text}],
        {"kind": "star", "task": task.id, "hinted": hinted},
    )


def _outcome(task: Task, tests: str, code: str, limits: Limits) -> float:
    """By tests that the model has not seen, where there are some."""
    deciding = task.hidden_tests or task.tests or tests
    if not code or not deciding:
        return 0.0
    return next(
        verify(
            [msgspec.structs.replace(_item(task, code), tests=deciding)], limits=limits, workers=1
        )
    ).outcome


def _item(task: Task, code: str) -> Item:
    return Item(task.id, code, task.tests, task.entry_point, task.prompt, reference=task.reference)


def _shown(task: Task) -> dict[str, Any]:
    return {"task": task.task, "name": task.entry_point}


def _observed(ran: Ran) -> str:
    """What came of a program, in words."""
    if ran.problem or ran.refused:
        return (ran.problem or ran.refused)[:_SHOWN]
    said = f"{ran.passed} passed, {ran.failed} failed"
    return "\n".join([said, *ran.why])[:_SHOWN]


def _unlike_tests(written: Tested) -> str:
    """What is wrong with tests, in words for the model; empty: nothing."""
    try:
        tree = ast.parse(written.tests)
    except (SyntaxError, ValueError) as error:
        return f"`tests` is no Python: {error}"
    return (
        ""
        if any(isinstance(node, (ast.Assert, ast.With)) for node in ast.walk(tree))
        else "`tests` assert nothing"
    )


@cache
def _system(name: str) -> str:
    return resources.files("upshot.verifiers").joinpath("prompts", name).read_text("utf-8")


def read(path: str | os.PathLike[str]) -> list[Task]:
    """Tasks of a file.

    Rows of HumanEval's form are tasks too: the prompt is what is asked for, the tests stay hidden.

    Raises:
        InputError: a row is no task; says where.
    """
    found: list[Task] = []
    for number, (place, record) in enumerate(json_objects(path)):
        try:
            if "task" in record:
                found.append(msgspec.convert({"id": f"t{number}", **record}, Task))
            else:
                item = of_record(record, f"t{number}")
                found.append(
                    Task(
                        item.id,
                        item.prompt,
                        item.entry_point,
                        "",
                        item.tests,
                        item.reference,
                        item.prompt,
                    )
                )
        except msgspec.ValidationError as error:
            raise InputError(f"could not read {place}: {error}") from error
        if not found[-1].task:
            raise InputError(f"could not read {place}: a task needs `task` (or `prompt`), in words")
    return found
