"""Is code right? Its tests, tests it has not seen, and answers beside those of code that is right.

Gates come before degrees: code that does not load, leaves before it has answered, passes something
off as a result, or knows only the inputs of its tests gets 0, as much as a blank file.
"""

from __future__ import annotations

import ast
import random
from functools import lru_cache
from statistics import fmean
from typing import Any, NamedTuple

from upshot.verifiers.items import Item, Part
from upshot.verifiers.sandbox import Limits
from upshot.verifiers.split_sandbox import Ran, check_job, pytest_job, together

_INPUTS = 40
"""Inputs near those of the tests on which answers are compared."""
_WITHIN_S = 0.1
"""For each answer."""
_AT_ONCE = 8
"""Answers of the reference asked for in one process: one that cannot be given up takes no more with
it.
"""
_LEAST_AGREEMENT = 0.6
"""Of answers with the reference's, averaged over the answers there are: a constant has at most
half.
"""
_LITERAL_SHARE = 0.5
"""Share of the tests' calls whose arguments stand in the code as they are."""


def job_of(tests: str, item: Item) -> dict[str, Any]:
    """The tests of an item in the form they are in."""
    if "def check(" in tests or (item.entry_point and "candidate" in tests):
        return check_job(tests, item.entry_point, item.prompt)
    return pytest_job(tests)


def tests(item: Item, limits: Limits) -> tuple[dict[str, bool], dict[str, Part], list[str]]:
    """Gates, parts and reasons of code under its tests."""
    if not loads(item.code):
        return (
            {"loads": False},
            {"tests": Part(0.0, why="the code is empty or no Python")},
            ["the code is empty or no Python"],
        )
    job, known = job_of(item.tests, item), None
    if item.reference and item.entry_point and job["style"] == "check":
        known = _known(item.reference, item.tests, item.entry_point, item.prompt)
        job |= {"inputs": known.inputs, "within": _WITHIN_S}
    ran = together(item.code, job, limits)
    gates = {
        "loads": not ran.problem.startswith("the code does not load"),
        "runs_to_the_end": not ran.problem,
        "plain_results": not ran.refused,
        "tests_run": ran.passed + ran.failed > 0 or bool(ran.problem),
    }
    parts = {
        "tests": Part(
            ran.share,
            {"passed": ran.passed, "failed": ran.failed, "seconds": round(ran.seconds, 3)},
            "; ".join(ran.why[:3]),
        )
    }
    reasons = [text for text in (ran.problem, ran.refused, *ran.why[:3]) if text]
    if all(gates.values()) and ran.share == 1.0:
        _beyond(item, ran, known, limits, gates, parts, reasons)
    return gates, parts, reasons


def _beyond(
    item: Item,
    ran: Ran,
    known: _Known | None,
    limits: Limits,
    gates: dict[str, bool],
    parts: dict[str, Part],
    reasons: list[str],
) -> None:
    """What code that passes its tests does where they do not look."""
    if item.hidden_tests:
        hidden = together(item.code, job_of(item.hidden_tests, item), limits)
        gates["hidden_tests"] = hidden.share == 1.0
        parts["hidden_tests"] = Part(
            hidden.share,
            {"passed": hidden.passed, "failed": hidden.failed},
            hidden.problem or hidden.refused or "; ".join(hidden.why[:3]),
        )
    agreed = None
    if known is not None:
        parts["agreement"] = _agreement(known, ran.report.get("answers", []))
        agreed = parts["agreement"].value
    if agreed is not None:
        gates["no_special_cases"] = agreed >= _LEAST_AGREEMENT
        said = f"on inputs near the tests' it agrees with the reference in {agreed:.0%}"
    else:
        literal = _literal_share(item.code, _calls(ran))
        gates["no_special_cases"] = literal <= _LITERAL_SHARE
        said = f"the code names the arguments of {literal:.0%} of the tests' calls"
    if not gates["no_special_cases"]:
        reasons.append(said)


class _Known(NamedTuple):
    """Inputs near those of the tests, and what code that is right says to them."""

    inputs: list[tuple[Any, ...]]
    answers: list[list[Any]]


@lru_cache(maxsize=4096)
def _known(reference: str, tests: str, entry_point: str, prompt: str) -> _Known:
    """Made once for all submissions to a task."""
    ran = together(reference, check_job(tests, entry_point, prompt))
    calls = _calls(ran)
    if not calls or ran.share < 1:
        return _Known([], [])
    near = neighbours(calls, _INPUTS)
    known = _Known([], [])
    for start in range(0, len(near), _AT_ONCE):
        part = near[start : start + _AT_ONCE]
        said = together(
            reference,
            {"style": "answers", "entry_point": entry_point, "inputs": part, "within": _WITHIN_S},
            Limits(seconds=2 * _WITHIN_S * _AT_ONCE),
        )
        for arguments, answer in zip(part, said.report.get("answers", []), strict=False):
            if answer[0] == "value":
                known.inputs.append(arguments)
                known.answers.append(answer)
    return known


def _agreement(known: _Known, said: list[list[Any]]) -> Part:
    """How often answers are the reference's; each of its answers weighs the same."""
    by_answer: dict[str, list[float]] = {}
    for true, ours in zip(known.answers, said, strict=False):
        by_answer.setdefault(repr(true[1])[:200], []).append(float(_same(true, ours)))
    if len(by_answer) < 2:
        return Part(None, {"inputs": len(known.inputs)}, "too few different answers to compare")
    return Part(
        fmean([fmean(values) for values in by_answer.values()]),
        {"inputs": len(known.inputs), "answers": len(by_answer)},
    )


def _same(true: list[Any], said: list[Any]) -> bool:
    if said[0] != "value":
        return False
    if isinstance(true[1], float) and isinstance(said[1], (int, float)):
        return abs(true[1] - said[1]) <= 1e-6 * max(1.0, abs(true[1])) or true[1] == said[1]
    return type(true[1]) is type(said[1]) and true[1] == said[1]


def neighbours(calls: list[tuple[Any, ...]], count: int, seed: int = 0) -> list[tuple[Any, ...]]:
    """Arguments near given ones, of the same types; none of them is a given one.

    >>> all(type(n) is int for n, in neighbours([(3,), (10,)], 5))
    True
    """
    rng = random.Random(seed)
    known = {repr(call) for call in calls}
    found: dict[str, tuple[Any, ...]] = {}
    for _ in range(count * 8):
        call = rng.choice(calls)
        if len(call) > 1 and rng.random() < 0.5:  # arguments of several calls together
            call = tuple(
                rng.choice([other for other in calls if len(other) > place])[place]
                for place in range(len(call))
            )
        if rng.random() < 0.75:
            call = tuple(_near(value, rng) if rng.random() < 0.8 else value for value in call)
        if repr(call) not in known:
            found.setdefault(repr(call), call)
        if len(found) == count:
            break
    return list(found.values())


def _near(value: Any, rng: random.Random) -> Any:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return max(value + rng.choice([-3, -2, -1, 1, 2, 5]), 0 if value >= 0 else value - 9)
    if isinstance(value, float):
        return value + rng.choice([-1.5, -0.25, 0.25, 1.0, 2.5])
    if isinstance(value, str):
        return _shuffled(list(value), rng, lambda parts: "".join(parts))
    if isinstance(value, (list, tuple)):
        inner = [_near(item, rng) if rng.random() < 0.3 else item for item in value]
        return _shuffled(inner, rng, type(value))
    if isinstance(value, dict):
        return {key: _near(item, rng) for key, item in value.items() if rng.random() < 0.9}
    return value


def _shuffled(parts: list[Any], rng: random.Random, made: Any) -> Any:
    """The same parts with one dropped, doubled or exchanged."""
    if parts:
        kind, at, other = rng.randrange(3), rng.randrange(len(parts)), rng.randrange(len(parts))
        if kind == 0:
            del parts[at]
        elif kind == 1:
            parts.insert(other, parts[at])
        else:
            parts[at], parts[other] = parts[other], parts[at]
    return made(parts)


def loads(code: str) -> bool:
    """Is it Python that defines something?"""
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


def _calls(ran: Ran) -> list[tuple[Any, ...]]:
    """Arguments of the tests' calls, as far as they are plain data."""
    return [call for call in map(_arguments, ran.report.get("calls", [])) if call is not None]


def _arguments(call: str) -> tuple[Any, ...] | None:
    try:
        value = ast.literal_eval(call)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    return value if isinstance(value, tuple) else None


def _literal_share(code: str, calls: list[tuple[Any, ...]]) -> float:
    """Share of calls whose arguments stand in the code, among those that would not stand there by
    chance.
    """
    telling = [call for call in calls if any(len(repr(value)) > 3 for value in call)]
    if len(telling) < 2:
        return 0.0
    nodes = list(ast.walk(ast.parse(code)))
    standing: set[str] = set()
    for node in nodes:
        if isinstance(node, (ast.Constant, ast.List, ast.Tuple, ast.Dict, ast.Set, ast.UnaryOp)):
            try:
                standing.add(repr(ast.literal_eval(node)))
            except (ValueError, TypeError):
                continue
    standing -= {
        repr(node.value.value)
        for node in nodes
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    return fmean(
        [
            float(all(repr(value) in standing for value in call if len(repr(value)) > 3))
            for call in telling
        ]
    )
