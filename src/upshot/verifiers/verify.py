"""From items to outcomes: gates first, then a formula of bounded parts.

A gate that is shut makes the outcome 0, whatever the parts: no cheat earns more than honest work
that fails. Without a formula of its own the outcome of code is half the share of its tests, until
all pass; then a half and a half of the mean of the other parts that were asked for. Of tests it is
the mutation score; of a proof, 1 or 0.
"""

from __future__ import annotations

import ast
import operator
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from statistics import fmean

from upshot.errors import InputError
from upshot.verifiers import functions, mutation, proofs, quality, sandbox, speed
from upshot.verifiers.items import Item, Outcome, Part
from upshot.verifiers.sandbox import Limits

PARTS: Mapping[str, Callable[[Item, Limits], Part]] = {
    "lint": quality.lint,
    "types": quality.types,
    "complexity": quality.complexity,
    "coverage": mutation.coverage,
    "speed": speed.speed,
}
"""Parts that are asked for by name, beside tests, mutation and proof. A new one is a function here.
"""
NAMES = ("tests", "mutation", "proof", *PARTS)
_BINARY = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def verify(
    items: Iterable[Item],
    parts: Sequence[str] = ("tests",),
    formula: str = "",
    limits: Limits = Limits(),
    workers: int = 2,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Outcome]:
    """The outcomes of items, in order, as they come.

    Args:
        items: What to verify.
        parts: Of `NAMES`; what an item has nothing for is left out of its outcome.
        formula: Of parts by name: numbers, + - * /, min and max; a part that could not be told
            counts as absent, 0.
        limits: For each program that is run.
        workers: Items at once.
        progress: Called with how many are done.

    Raises:
        InputError: there is no such part, the formula cannot be read, or a tool is not installed.
        SandboxError: untrusted code cannot be run safely here.
    """
    unknown = [name for name in parts if name not in NAMES]
    if unknown:
        raise InputError(
            f"could not verify with {', '.join(unknown)}: there are {', '.join(NAMES)}"
        )
    combine = compiled(formula, parts) if formula else None
    sandbox.check()
    with ThreadPoolExecutor(workers) as pool:
        for number, outcome in enumerate(
            pool.map(partial(_one, parts=parts, combine=combine, limits=limits), items)
        ):
            if progress:
                progress(number + 1)
            yield outcome


def _one(
    item: Item,
    parts: Sequence[str],
    combine: Callable[[Mapping[str, float]], float] | None,
    limits: Limits,
) -> Outcome:
    started = time.monotonic()
    gates, found, reasons = _gated(item, limits, "mutation" in parts)
    if gates and all(gates.values()):
        for name in parts:
            if name in PARTS and item.code:
                found[name] = PARTS[name](item, limits)
    values = {name: part.value for name, part in found.items() if part.value is not None}
    value = 0.0
    if gates and all(gates.values()):
        value = combine(values) if combine else _outcome(item, values)
    return Outcome(
        item.id,
        max(0.0, min(1.0, value)),
        gates,
        found,
        reasons,
        round(time.monotonic() - started, 3),
        item.response,
    )


def _gated(
    item: Item, limits: Limits, with_mutants: bool
) -> tuple[dict[str, bool], dict[str, Part], list[str]]:
    """What is looked at first, by what was submitted.

    Raises:
        InputError: the item says to judge something else.
    """
    if _is_proof(item):
        gates, part = proofs.proof(item, limits)
        return gates, {"proof": part}, [part.why] if part.why else []
    if item.submitted == "tests":
        passes, part = mutation.mutation(item, limits, workers=1)
        return {"pass_on_right_code": passes}, {"mutation": part}, [part.why] if part.why else []
    if item.submitted != "code":
        raise InputError(
            f"could not verify {item.id}: submitted {item.submitted!r}; there are code, tests and"
            " proof"
        )
    if not item.tests:
        loads = functions.loads(item.code)
        return {"loads": loads}, {}, [] if loads else ["the code is empty or no Python"]
    gates, found, reasons = functions.tests(item, limits)
    if with_mutants and all(gates.values()) and found["tests"].value == 1.0:
        found["mutation"] = mutation.mutation(item, limits, workers=1)[1]
    return gates, found, reasons


def _outcome(item: Item, values: Mapping[str, float]) -> float:
    if _is_proof(item):
        return values.get("proof", 0.0)
    first = "mutation" if item.submitted == "tests" else "tests"
    rest = [value for name, value in values.items() if name in PARTS]
    if first not in values:
        return fmean(rest) if rest else 0.0
    if first == "mutation":
        return values["mutation"]
    return (
        0.5 * values["tests"] if values["tests"] < 1 else 0.5 + 0.5 * (fmean(rest) if rest else 1.0)
    )


def _is_proof(item: Item) -> bool:
    return item.submitted == "proof" or bool(item.proof)


def compiled(formula: str, names: Sequence[str]) -> Callable[[Mapping[str, float]], float]:
    """A formula as a function of parts.

    >>> compiled("0.7 * tests + 0.3 * min(lint, types)", ["tests", "lint", "types"])({"tests": 1.0, "lint": 0.5, "types": 1.0})
    0.85

    Raises:
        InputError: it holds something else than names of parts, numbers, + - * /, min and max.
    """
    try:
        tree = ast.parse(formula, mode="eval").body
    except SyntaxError as error:
        raise InputError(f"could not read the formula {formula!r}: {error.msg}") from error
    allowed = {*names, "tests", "hidden_tests", "agreement", "proof", "mutation"}

    def value(node: ast.expr, parts: Mapping[str, float]) -> float:
        match node:
            case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
                return float(number)
            case ast.Name(id=name) if name in allowed:
                return parts.get(name, 0.0)
            case ast.UnaryOp(op=ast.USub(), operand=inner):
                return -value(inner, parts)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                return _BINARY[type(op)](value(left, parts), value(right, parts))
            case ast.Call(
                func=ast.Name(id=("min" | "max") as name), args=arguments, keywords=[]
            ) if arguments:
                return (min if name == "min" else max)(
                    value(argument, parts) for argument in arguments
                )
        raise InputError(
            f"could not read the formula {formula!r}: it may hold {', '.join(sorted(allowed))},"
            " numbers, + - * /, min and max"
        )

    value(tree, dict.fromkeys(allowed, 1.0))

    def combine(parts: Mapping[str, float]) -> float:
        try:
            return value(tree, parts)
        except ZeroDivisionError:
            return 0.0

    return combine
