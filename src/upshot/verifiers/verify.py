"""From items to outcomes: gates first, then a formula of bounded parts.

A closed gate makes the outcome 0, whatever the parts: no cheat earns more than honest work that
fails. Without a formula of its own, the outcome of code is half the share of passed tests until all
pass, then one half plus half the mean of the other requested parts. The outcome of tests is the
mutation score, that of a proof 1 or 0.
"""

from __future__ import annotations

import ast
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from statistics import fmean
from typing import TypeAlias

from upshot.errors import InputError
from upshot.verifiers import functions, mutation, proofs, sandbox
from upshot.verifiers.items import Item, Outcome, Part
from upshot.verifiers.parts import NAMES, PARTS
from upshot.verifiers.sandbox import Limits

Check: TypeAlias = Callable[[Item, Limits], Part]
"""Measures one part of an item; the limits are those of each program that it runs."""
_OPERATORS: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
}


def verify(
    items: Iterable[Item],
    parts: Sequence[str] = ("tests",),
    formula: str = "",
    *,
    limits: Limits = Limits(),
    workers: int = 2,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Outcome]:
    """Verify items; yields outcomes in order, as they are ready.

    Args:
        items: The submissions.
        parts: Some of `NAMES`; parts for which an item has no data are left out.
        formula: Of part names, numbers, + - * /, min and max; a part that could not be measured
            counts as 0.
        limits: Of each program that is run.
        workers: Items verified at once.
        progress: Called with the number of finished items.

    Raises:
        InputError: there is no such part, the formula cannot be read, or a tool is not installed.
        ConfigError: another package's part cannot be imported.
        SandboxError: untrusted code cannot be run safely on this machine.
    """
    unknown = [name for name in parts if name not in NAMES]
    if unknown:
        raise InputError(
            f"could not verify with {', '.join(unknown)}: there are {', '.join(NAMES)}"
        )
    checks: dict[str, Check] = {name: PARTS.load(name) for name in parts if name in PARTS.names}
    combine = compile_formula(formula, parts) if formula else None
    sandbox.require_sandbox()
    with ThreadPoolExecutor(workers) as pool:
        for number, outcome in enumerate(
            pool.map(
                partial(
                    _verify_item,
                    checks=checks,
                    with_mutants="mutation" in parts,
                    combine=combine,
                    limits=limits,
                ),
                items,
            )
        ):
            if progress:
                progress(number + 1)
            yield outcome


def _verify_item(
    item: Item,
    checks: Mapping[str, Check],
    with_mutants: bool,
    combine: Callable[[Mapping[str, float]], float] | None,
    limits: Limits,
) -> Outcome:
    started = time.monotonic()
    gates, results, reasons = _run_gates(item, limits, with_mutants)
    if gates and all(gates.values()) and item.code:
        results.update({name: check(item, limits) for name, check in checks.items()})
    values = {name: part.value for name, part in results.items() if part.value is not None}
    value = 0.0
    if gates and all(gates.values()):
        value = combine(values) if combine else _combine_parts(item, values)
    return Outcome(
        item.id,
        max(0.0, min(1.0, value)),
        gates,
        results,
        reasons,
        round(time.monotonic() - started, 3),
        item.response,
    )


def _run_gates(
    item: Item, limits: Limits, with_mutants: bool
) -> tuple[dict[str, bool], dict[str, Part], list[str]]:
    """Run what gates depend on; returns gates, parts and reasons.

    Raises:
        InputError: the item submits something else than code, tests or a proof.
    """
    if _is_proof(item):
        gates, part = proofs.check_proof(item, limits)
        return gates, {"proof": part}, [part.why] if part.why else []
    if item.submitted == "tests":
        passes, part = mutation.measure_mutation(item, limits, workers=1)
        return {"pass_on_right_code": passes}, {"mutation": part}, [part.why] if part.why else []
    if item.submitted != "code":
        raise InputError(
            f"could not verify {item.id}: submitted {item.submitted!r}; there are code, tests and"
            " proof"
        )
    if not item.tests:
        loads = functions.defines_something(item.code)
        return {"loads": loads}, {}, [] if loads else ["the code is empty or no Python"]
    gates, results, reasons = functions.run_item_tests(item, limits)
    if with_mutants and all(gates.values()) and results["tests"].value == 1.0:
        results["mutation"] = mutation.measure_mutation(item, limits, workers=1)[1]
    return gates, results, reasons


def _combine_parts(item: Item, values: Mapping[str, float]) -> float:
    if _is_proof(item):
        return values.get("proof", 0.0)
    first = "mutation" if item.submitted == "tests" else "tests"
    rest = [value for name, value in values.items() if name in PARTS.names]
    if first not in values:
        return fmean(rest) if rest else 0.0
    if first == "mutation":
        return values["mutation"]
    return (
        0.5 * values["tests"] if values["tests"] < 1 else 0.5 + 0.5 * (fmean(rest) if rest else 1.0)
    )


def _is_proof(item: Item) -> bool:
    return item.submitted == "proof" or bool(item.proof)


def compile_formula(formula: str, names: Sequence[str]) -> Callable[[Mapping[str, float]], float]:
    """Compile a formula to a function of parts.

    >>> formula = compile_formula("0.7 * tests + 0.3 * min(lint, types)", ["lint", "types"])
    >>> formula({"tests": 1.0, "lint": 0.5, "types": 1.0})
    0.85

    Raises:
        InputError: it has anything but names of parts, numbers, + - * /, min and max.
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
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return _OPERATORS[type(op)](value(left, parts), value(right, parts))
            case ast.Call(
                func=ast.Name(id=("min" | "max") as name), args=arguments, keywords=[]
            ) if arguments:
                return (min if name == "min" else max)(
                    value(argument, parts) for argument in arguments
                )
            case _:
                pass
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
