"""Checks of a run's steps that need no answer key: false equations, and values that contradict an
earlier definition.

A check is a function from the task and the steps to findings. A wrong value is carried along as
stated, so only the step that introduced it is reported, not those that build on it.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple


class Finding(NamedTuple):
    """A step that contradicts something."""

    step: int
    name: str


Check = Callable[[str, Sequence[str]], Iterator[Finding]]
"""From a task and the texts of its steps to findings."""

_MAX_CHARACTERS = 400
"""Longer expressions are not evaluated: Python's parser nests deeply on hostile input."""
_TOLERANCE = 1e-6
"""Relative difference up to which two sides are equal: rounding of floats."""
_OPERATORS: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: float.__add__,
    ast.Sub: float.__sub__,
    ast.Mult: float.__mul__,
    ast.Div: float.__truediv__,
}
_EXPRESSION = re.compile(r"[-+*/().\d\sA-Z×·÷−=,]+")
_NUMBER = re.compile(r"\d")
_VARIABLE = re.compile(r"\b[A-Z]\b")


def evaluate(text: str, variables: Mapping[str, float] | None = None) -> float | None:
    """The value of an arithmetic expression, None if the text is not one.

    >>> evaluate("(2 + 3) * -4"), evaluate("A - 1", {"A": 3.0}), evaluate("__import__('os')")
    (-20.0, 2.0, None)
    """
    text = text.strip().replace("×", "*").replace("·", "*").replace("÷", "/").replace("−", "-")
    if not text or len(text) > _MAX_CHARACTERS:
        return None
    try:
        return _evaluate_node(ast.parse(text, mode="eval").body, variables or {})
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError, OverflowError):
        return None


def _evaluate_node(node: ast.expr, variables: Mapping[str, float]) -> float:
    if (
        isinstance(node, ast.Constant)
        and isinstance(node.value, int | float)
        and not isinstance(node.value, bool)
    ):
        return float(node.value)
    if isinstance(node, ast.Name) and node.id in variables:
        return variables[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _evaluate_node(node.operand, variables)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, right = (_evaluate_node(side, variables) for side in (node.left, node.right))
        return _OPERATORS[type(node.op)](left, right)
    raise ValueError("not arithmetic")


def find_equations(text: str) -> Iterator[list[str]]:
    """The sides of each run of expressions joined by `=`; prose and commas end a run.

    >>> list(find_equations("Thus A = (2 + 3) = 5, fine."))
    [['A', '(2 + 3)', '5']]
    """
    for match in _EXPRESSION.findall(text):
        for part in re.split(r",|\.(?=\s|$)", match):
            sides = [side.strip() for side in part.split("=")]
            if len(sides) > 1 and any(_NUMBER.search(side) for side in sides):
                yield sides


def is_numeric(side: str) -> bool:
    """Whether a side of an equation is an expression of numbers alone."""
    return not _VARIABLE.search(side) and evaluate(side) is not None


def defined_variable(sides: Sequence[str]) -> str:
    """The letter that an equation defines: its first side, if that is a single capital; else ""."""
    return sides[0] if re.fullmatch(r"[A-Z]", sides[0]) else ""


def differ(one: float, other: float) -> bool:
    """Whether two values differ by more than rounding."""
    return abs(one - other) > _TOLERANCE * max(1.0, abs(other))


def check_arithmetic(task: str, steps: Sequence[str]) -> Iterator[Finding]:
    """Equations that do not hold, and letters replaced by something other than their value.

    >>> list(check_arithmetic("", ["A = 2 + 3 = 6", "A - 1 = 5"]))
    [Finding(step=0, name='arithmetic')]
    """
    definitions: dict[str, str] = {}
    values: dict[str, float] = {}
    for number, step in enumerate(steps):
        for sides in find_equations(step):
            name = defined_variable(sides)
            numeric = [side for side in sides if is_numeric(side)]
            numbers = [value for side in numeric if (value := evaluate(side)) is not None]
            if any(differ(b, a) for a, b in itertools.pairwise(numbers)):
                yield Finding(number, "arithmetic")
            if name and numbers:
                first = evaluate(definitions.setdefault(name, numeric[0]))
                if first is not None and abs(first - numbers[0]) > _TOLERANCE:
                    yield Finding(number, "substitution")
                values[name] = numbers[-1]
            elif not name and numbers:
                symbolic = [
                    value
                    for side in sides
                    if _VARIABLE.search(side) and (value := evaluate(side, values)) is not None
                ]
                if symbolic and differ(symbolic[0], numbers[0]):
                    yield Finding(number, "substitution")


GENERAL_CHECKS: tuple[Check, ...] = (check_arithmetic,)
"""Checks that apply to any kind of work."""


def run_checks(
    task: str, steps: Sequence[str], checks: Sequence[Check] = GENERAL_CHECKS
) -> list[Finding]:
    """All findings, sorted by step; each name at most once per step."""
    return sorted({finding for check in checks for finding in check(task, steps)})
