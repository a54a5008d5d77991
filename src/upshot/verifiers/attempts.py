"""Attempts of a language model at tasks: write tests, write code, run it, read the failures, fix.

A run is plain text: the thought and code of each step and the test results; its outcome is that of
tests that the model has not seen (`hidden_tests`, `reference`), or without any, of the visible
ones. So runs go to credit and to training unchanged.

Rationales (STaR, Zelikman et al., 2022): the thought and code of a successful run are a training
example. Where every run of a task failed, the model gets the solution as a hint and is asked for
reasoning that leads to it; if its code passes, the reasoning is kept without the hint.
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
from upshot.io.files import read_objects
from upshot.llm import Asker, Budget, Endpoint, Replies, make_question, work_through
from upshot.verifiers import functions, sandbox
from upshot.verifiers.items import Item, parse_item
from upshot.verifiers.sandbox import Limits
from upshot.verifiers.split_sandbox import TestResult, run_tests
from upshot.verifiers.verify import verify

_TOKENS = 3_000
"""Of a reply: a thought and one program."""
_MAX_OBSERVATION = 3_000
"""Characters of an observation."""


class Task(msgspec.Struct, frozen=True):
    """A task: a program to write."""

    id: str
    task: str
    """The request, in words."""
    entry_point: str = ""
    tests: str = ""
    """Visible tests; without them the model writes its own first."""
    hidden_tests: str = ""
    """Tests that decide the outcome and are not shown to the model."""
    reference: str = ""
    """Correct code: also decides the outcome, and is the hint where all runs fail."""
    prompt: str = ""


class Written(msgspec.Struct, frozen=True):
    """The model's answer when it writes code."""

    thought: str
    code: str


class Tested(msgspec.Struct, frozen=True):
    """The model's answer when it writes tests."""

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
    """1 if the hidden tests pass (without any, the visible ones); else their share, below .5."""
    source: dict[str, Any]
    """The task's id, the sample, and whether the tests were the model's own."""


class Rationale(msgspec.Struct, frozen=True):
    """Reasoning that led to a correct solution, as an example for fine-tuning."""

    messages: list[dict[str, str]]
    source: dict[str, Any]
    """The task's id and whether a hint was needed."""


class Attempts(NamedTuple):
    """All runs and the rationales made of them."""

    runs: list[Attempt]
    rationales: list[Rationale]
    stopped: str
    """Why requests stopped early; empty: they did not."""


def attempt(
    tasks: Sequence[Task],
    endpoint: Endpoint,
    budget: Budget,
    replies: Replies,
    *,
    samples: int = 1,
    rounds: int = 4,
    temperature: float = 0.7,
    limits: Limits = Limits(),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Attempts:
    """Let a model attempt every task, several times and with several rounds of fixing each.

    Args:
        tasks: The programs to write.
        endpoint: The model.
        budget: When it is used up, the finished runs are returned.
        replies: Stored replies, so that no request is paid for twice.
        samples: Independent runs per task.
        rounds: Programs that the model may write per run.
        temperature: Sampling temperature.
        limits: Of each program that is run.
        progress: Called with the number of finished runs and of all runs.

    Raises:
        SandboxError: untrusted code cannot be run safely on this machine.
    """
    sandbox.require_sandbox()
    samples_to_run = [(task, number) for task in tasks for number in range(samples)]
    results, stopped = work_through(
        len(samples_to_run),
        lambda n, asker: _run_attempt(
            *samples_to_run[n],
            asker,
            endpoint,
            rounds=rounds,
            temperature=temperature,
            limits=limits,
        ),
        endpoint,
        budget,
        replies,
        progress=progress,
    )
    attempts_made = [results[number] for number in sorted(results)]
    solved = {run.source["task"] for run, _ in attempts_made if run.outcome == 1}
    failed = [
        task
        for task in tasks
        if task.id not in solved
        and task.reference
        and any(run.source["task"] == task.id for run, _ in attempts_made)
    ]
    hinted: dict[int, Rationale | None] = {}
    if failed and not stopped:
        hinted, stopped = work_through(
            len(failed),
            lambda n, asker: _explain_reference(failed[n], asker, endpoint, limits),
            endpoint,
            budget,
            replies,
            progress=lambda done, total: None,
        )
    rationales = [rationale for _, rationale in attempts_made if rationale is not None] + [
        rationale for number in sorted(hinted) if (rationale := hinted[number]) is not None
    ]
    return Attempts([run for run, _ in attempts_made], rationales, stopped)


async def _run_attempt(
    task: Task,
    number: int,
    asker: Asker,
    endpoint: Endpoint,
    *,
    rounds: int,
    temperature: float,
    limits: Limits,
) -> tuple[Attempt, Rationale | None]:
    steps: list[Step] = []
    tests, own_tests = task.tests, False
    if not tests:
        written = await _write_tests(task, number, asker, endpoint, temperature)
        tests, own_tests = (written.tests, True) if written is not None else ("", True)
        steps.append(
            Step(
                f"{written.thought}\n\n```python\n{tests}\n```" if written else "",
                "tests are written" if written else "no usable tests",
            )
        )
    code, tried = "", list[dict[str, str]]()
    for turn in range(rounds if tests else 0):
        shown = {**_show_task(task), "tests": tests, "tried": tried[-2:]}
        (answer, *_) = await asker.ask(
            make_question(
                endpoint,
                _load_prompt("code.md"),
                shown,
                Written,
                _TOKENS,
                temperature=temperature,
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
        result = await asyncio.to_thread(
            run_tests, code, functions.make_job(tests, _make_item(task, code)), limits
        )
        observation = _describe_result(result)
        steps.append(Step(f"{answer.thought}\n\n```python\n{code}\n```", observation))
        tried.append({"code": code, "result": observation})
        if result.share == 1.0:
            break
    outcome = await asyncio.to_thread(_judge, task, tests, code, limits)
    run = Attempt(
        f"{task.id}/{number}",
        task.task,
        steps,
        outcome,
        {"task": task.id, "sample": number, "own_tests": own_tests},
    )
    return run, _make_rationale(task, steps[-1].action, hinted=False) if outcome == 1 else None


async def _write_tests(
    task: Task, number: int, asker: Asker, endpoint: Endpoint, temperature: float
) -> Tested | None:
    (written, *_) = await asker.ask(
        make_question(
            endpoint,
            _load_prompt("tests.md"),
            _show_task(task),
            Tested,
            _TOKENS,
            temperature=temperature,
            seed=number,
        ),
        Tested,
        _tests_problem,
        "",
    )
    return written


async def _explain_reference(
    task: Task, asker: Asker, endpoint: Endpoint, limits: Limits
) -> Rationale | None:
    """A rationale written with the solution as a hint, if its own code passes."""
    shown = {**_show_task(task), "hint": task.reference}
    (answer, *_) = await asker.ask(
        make_question(endpoint, _load_prompt("hint.md"), shown, Written, _TOKENS),
        Written,
        lambda _: "",
        "",
    )
    if (
        answer is None
        or not answer.thought.strip()
        or await asyncio.to_thread(_judge, task, task.tests, answer.code, limits) < 1
    ):
        return None
    return _make_rationale(task, f"{answer.thought}\n\n```python\n{answer.code}\n```", hinted=True)


def _make_rationale(task: Task, text: str, hinted: bool) -> Rationale:
    return Rationale(
        [{"role": "user", "content": task.task}, {"role": "assistant", "content": text}],
        {"kind": "star", "task": task.id, "hinted": hinted},
    )


def _judge(task: Task, tests: str, code: str, limits: Limits) -> float:
    """The outcome by hidden tests, or without any by the visible ones."""
    deciding = task.hidden_tests or task.tests or tests
    if not code or not deciding:
        return 0.0
    return next(
        verify(
            [msgspec.structs.replace(_make_item(task, code), tests=deciding)],
            limits=limits,
            workers=1,
        )
    ).outcome


def _make_item(task: Task, code: str) -> Item:
    return Item(task.id, code, task.tests, task.entry_point, task.prompt, reference=task.reference)


def _show_task(task: Task) -> dict[str, Any]:
    return {"task": task.task, "name": task.entry_point}


def _describe_result(result: TestResult) -> str:
    """The test results in words, for the model."""
    if result.problem or result.refused:
        return (result.problem or result.refused)[:_MAX_OBSERVATION]
    counts = f"{result.passed} passed, {result.failed} failed"
    return "\n".join([counts, *result.why])[:_MAX_OBSERVATION]


def _tests_problem(written: Tested) -> str:
    """The problem of written tests, in words for the model; empty: none."""
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
def _load_prompt(name: str) -> str:
    return resources.files("upshot.verifiers").joinpath("prompts", name).read_text("utf-8")


def read_tasks(path: str | os.PathLike[str]) -> list[Task]:
    """Read the tasks of a file.

    Rows in HumanEval's format are tasks too: their prompt is the request, their tests are hidden.

    Raises:
        InputError: a row is not a task; says where.
    """
    tasks: list[Task] = []
    for number, (place, record) in enumerate(read_objects(path)):
        try:
            if "task" in record:
                tasks.append(msgspec.convert({"id": f"t{number}", **record}, Task))
            else:
                item = parse_item(record, f"t{number}")
                tasks.append(
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
        if not tasks[-1].task:
            raise InputError(f"could not read {place}: a task needs `task` (or `prompt`), in words")
    return tasks
