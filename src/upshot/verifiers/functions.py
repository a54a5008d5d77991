"""Whether code is correct: its tests, hidden tests, and its answers beside those of correct code.

Gates come before parts: code that does not load, exits before it has answered, returns something
fake as a result, or knows only the inputs of its tests gets 0, as much as an empty file.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Sequence
from functools import lru_cache
from statistics import fmean
from typing import Any, NamedTuple, cast

from upshot.verifiers.items import Item, Part
from upshot.verifiers.sandbox import Limits
from upshot.verifiers.split_sandbox import TestResult, check_job, pytest_job, run_tests

_INPUTS = 40
"""Inputs near those of the tests on which answers are compared with the reference's."""
_MAX_ANSWER_S = 0.1
"""Seconds per answer: far more than a correct solution takes on small inputs."""
_BATCH = 8
"""Reference answers per process: one that cannot be interrupted loses no others."""
_MIN_AGREEMENT = 0.6
"""Mean agreement over the reference's distinct answers; a constant reaches at most one half."""
_MAX_LITERAL_SHARE = 0.5
"""Share of the tests' calls whose arguments may be literals in the code: a majority is a table."""


def make_job(tests: str, item: Item) -> dict[str, Any]:
    """A job for the tests of an item, in their format."""
    if "def check(" in tests or (item.entry_point and "candidate" in tests):
        return check_job(tests, item.entry_point, item.prompt)
    return pytest_job(tests)


def run_item_tests(
    item: Item, limits: Limits
) -> tuple[dict[str, bool], dict[str, Part], list[str]]:
    """Run an item's tests; returns gates, parts and reasons."""
    if not defines_something(item.code):
        return (
            {"loads": False},
            {"tests": Part(0.0, why="the code is empty or not Python")},
            ["the code is empty or not Python"],
        )
    job, reference = make_job(item.tests, item), None
    if item.reference and item.entry_point and job["style"] == "check":
        reference = _reference_answers(item.reference, item.tests, item.entry_point, item.prompt)
        job |= {"inputs": reference.inputs, "within": _MAX_ANSWER_S}
    result = run_tests(item.code, job, limits)
    gates = {
        "loads": not result.problem.startswith("the code does not load"),
        "runs_to_the_end": not result.problem,
        "plain_results": not result.refused,
        "tests_run": result.passed + result.failed > 0 or bool(result.problem),
    }
    parts = {
        "tests": Part(
            result.share,
            {"passed": result.passed, "failed": result.failed, "seconds": round(result.seconds, 3)},
            "; ".join(result.why[:3]),
        )
    }
    reasons = [text for text in (result.problem, result.refused, *result.why[:3]) if text]
    if all(gates.values()) and result.share == 1.0:
        _check_beyond_tests(
            item, result, reference, limits, gates=gates, parts=parts, reasons=reasons
        )
    return gates, parts, reasons


def _check_beyond_tests(
    item: Item,
    result: TestResult,
    reference: _ReferenceAnswers | None,
    limits: Limits,
    *,
    gates: dict[str, bool],
    parts: dict[str, Part],
    reasons: list[str],
) -> None:
    """Check code that passes its tests on inputs that they do not cover."""
    if item.hidden_tests:
        hidden = run_tests(item.code, make_job(item.hidden_tests, item), limits)
        gates["hidden_tests"] = hidden.share == 1.0
        parts["hidden_tests"] = Part(
            hidden.share,
            {"passed": hidden.passed, "failed": hidden.failed},
            hidden.problem or hidden.refused or "; ".join(hidden.why[:3]),
        )
    agreement = None
    if reference is not None:
        parts["agreement"] = _measure_agreement(reference, result.report.get("answers", []))
        agreement = parts["agreement"].value
    if agreement is not None:
        gates["no_special_cases"] = agreement >= _MIN_AGREEMENT
        reason = f"on inputs near the tests' it agrees with the reference on {agreement:.0%}"
    else:
        literal = _share_of_literals(item.code, _recorded_calls(result))
        gates["no_special_cases"] = literal <= _MAX_LITERAL_SHARE
        reason = f"the code names the arguments of {literal:.0%} of the tests' calls"
    if not gates["no_special_cases"]:
        reasons.append(reason)


class _ReferenceAnswers(NamedTuple):
    """Inputs near those of the tests, and the reference's answers to them."""

    inputs: list[tuple[Any, ...]]
    answers: list[list[Any]]


@lru_cache(maxsize=4096)
def _reference_answers(
    reference: str, tests: str, entry_point: str, prompt: str
) -> _ReferenceAnswers:
    """Compute the reference's answers, once for all submissions to a task."""
    right = run_tests(reference, check_job(tests, entry_point, prompt))
    calls = _recorded_calls(right)
    if not calls or right.share < 1:
        return _ReferenceAnswers([], [])
    inputs = make_neighbours(calls, _INPUTS)
    answers = _ReferenceAnswers([], [])
    for start in range(0, len(inputs), _BATCH):
        part = inputs[start : start + _BATCH]
        result = run_tests(
            reference,
            {
                "style": "answers",
                "entry_point": entry_point,
                "inputs": part,
                "within": _MAX_ANSWER_S,
            },
            Limits(seconds=2 * _MAX_ANSWER_S * _BATCH),
        )
        for arguments, answer in zip(part, result.report.get("answers", []), strict=False):
            if answer[0] == "value":
                answers.inputs.append(arguments)
                answers.answers.append(answer)
    return answers


def _measure_agreement(reference: _ReferenceAnswers, answers: list[list[Any]]) -> Part:
    """How often answers equal the reference's, with equal weight for each distinct answer."""
    by_answer: dict[str, list[float]] = {}
    for true, ours in zip(reference.answers, answers, strict=False):
        by_answer.setdefault(repr(true[1])[:200], []).append(float(_equal(true, ours)))
    if len(by_answer) < 2:
        return Part(None, {"inputs": len(reference.inputs)}, "too few different answers to compare")
    return Part(
        fmean([fmean(values) for values in by_answer.values()]),
        {"inputs": len(reference.inputs), "answers": len(by_answer)},
    )


def _equal(expected: list[Any], answer: list[Any]) -> bool:
    if answer[0] != "value":
        return False
    if isinstance(expected[1], float) and isinstance(answer[1], (int, float)):
        return (
            abs(expected[1] - answer[1]) <= 1e-6 * max(1.0, abs(expected[1]))
            or expected[1] == answer[1]
        )
    return type(expected[1]) is type(answer[1]) and expected[1] == answer[1]


def make_neighbours(
    calls: list[tuple[Any, ...]], count: int, seed: int = 0
) -> list[tuple[Any, ...]]:
    """Make arguments near those of given calls, of the same types and none of them given.

    >>> all(type(n) is int for n, in make_neighbours([(3,), (10,)], 5))
    True
    """
    rng = random.Random(seed)
    given = {repr(call) for call in calls}
    neighbours: dict[str, tuple[Any, ...]] = {}
    for _ in range(count * 8):
        call = rng.choice(calls)
        if len(call) > 1 and rng.random() < 0.5:  # combine arguments of several calls
            call = tuple(
                rng.choice([other for other in calls if len(other) > place])[place]
                for place in range(len(call))
            )
        if rng.random() < 0.75:
            call = tuple(_perturb(value, rng) if rng.random() < 0.8 else value for value in call)
        if repr(call) not in given:
            neighbours.setdefault(repr(call), call)
        if len(neighbours) == count:
            break
    return list(neighbours.values())


def _perturb(value: Any, rng: random.Random) -> Any:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return max(value + rng.choice([-3, -2, -1, 1, 2, 5]), 0 if value >= 0 else value - 9)
    if isinstance(value, float):
        return value + rng.choice([-1.5, -0.25, 0.25, 1.0, 2.5])
    if isinstance(value, str):
        return "".join(_perturb_parts(list(value), rng))
    if isinstance(value, (list, tuple)):
        sequence = cast(Sequence[Any], value)
        inner = [_perturb(item, rng) if rng.random() < 0.3 else item for item in sequence]
        return type(sequence)(_perturb_parts(inner, rng))  # pyright: ignore[reportCallIssue]  # list or tuple
    if isinstance(value, dict):
        mapping = cast(dict[Any, Any], value)
        return {key: _perturb(item, rng) for key, item in mapping.items() if rng.random() < 0.9}
    return value


def _perturb_parts(parts: list[Any], rng: random.Random) -> list[Any]:
    """The same parts with one dropped, duplicated or swapped."""
    if parts:
        kind, place, other = rng.randrange(3), rng.randrange(len(parts)), rng.randrange(len(parts))
        if kind == 0:
            del parts[place]
        elif kind == 1:
            parts.insert(other, parts[place])
        else:
            parts[place], parts[other] = parts[other], parts[place]
    return parts


def defines_something(code: str) -> bool:
    """Whether code is Python that defines something."""
    try:
        return any(
            isinstance(
                node,
                (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign),
            )
            for node in ast.parse(code).body
        )
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _recorded_calls(result: TestResult) -> list[tuple[Any, ...]]:
    """Arguments of the tests' calls that are plain data."""
    return [
        call for call in map(_parse_arguments, result.report.get("calls", [])) if call is not None
    ]


def _parse_arguments(call: str) -> tuple[Any, ...] | None:
    try:
        value = ast.literal_eval(call)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    return cast(tuple[Any, ...], value) if isinstance(value, tuple) else None


def _share_of_literals(code: str, calls: list[tuple[Any, ...]]) -> float:
    """The share of calls whose arguments are literals in the code, without short, common values."""
    long_calls = [call for call in calls if any(len(repr(value)) > 3 for value in call)]
    if len(long_calls) < 2:
        return 0.0
    nodes = list(ast.walk(ast.parse(code)))
    literals: set[str] = set()
    for node in nodes:
        if isinstance(node, (ast.Constant, ast.List, ast.Tuple, ast.Dict, ast.Set, ast.UnaryOp)):
            try:
                literals.add(repr(ast.literal_eval(node)))
            except (ValueError, TypeError):
                continue
    literals -= {
        repr(node.value.value)
        for node in nodes
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    return fmean(
        [
            float(all(repr(value) in literals for value in call if len(repr(value)) > 3))
            for call in long_calls
        ]
    )
