# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# cosmic-ray
"""Whether tests test anything: coverage, and the share of small faults that they detect.

Coverage counts what ran, not what was checked: at full coverage tests find anything from a third to
nearly all of real faults. The mutation score (DeMillo, Lipton & Sayward, 1978) is the share of
faulty versions on which the tests fail. Mutants come from Cosmic Ray; those equivalent to the
original as compiled are dropped, and those that every run of the code would notice, because they
crash or never end, do not count: so tests that assert nothing get 0.

Here the tests are untrusted. They run apart from the code and see only its answers, so they cannot
recognise a mutant by its text; and they must pass on the correct code each time, before, between
and after the mutants, so that random failures earn nothing.
"""

from __future__ import annotations

import ast
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from upshot.verifiers.functions import make_job
from upshot.verifiers.items import Item, Part
from upshot.verifiers.quality import require_modules
from upshot.verifiers.sandbox import Limits
from upshot.verifiers.split_sandbox import run_tests

_MAX_MUTANTS = 40
"""Mutants tried; of more, a random sample: its error is below .08."""
_MIN_PASSES = 3
"""Times at least that the tests must pass on the correct code."""


def measure_coverage(item: Item, limits: Limits) -> Part:
    """Measure the share of lines and branches that the tests run, in [0, 1]."""
    require_modules("coverage")
    result = run_tests(item.code, make_job(item.tests, item), limits, measure=True)
    if result.problem or result.refused:
        return Part(0.0, why=result.problem or result.refused)
    try:
        lines, covered, branches, branches_taken = (
            int(part) for part in result.code.stdout.split()[-4:]
        )
    except ValueError:
        return Part(None, why="coverage was not reported")
    return Part(
        (covered + branches_taken) / max(lines + branches, 1),
        {
            "lines": lines,
            "lines_run": covered,
            "branches": branches,
            "branches_taken": branches_taken,
        },
    )


def measure_mutation(
    item: Item, limits: Limits, workers: int = 2, seed: int = 0
) -> tuple[bool, Part]:
    """Whether the tests pass on the correct code, and the share of mutants that they detect."""
    require_modules("cosmic_ray")
    job = make_job(item.tests, item)
    versions = list(make_mutants(item.code))
    if len(versions) > _MAX_MUTANTS:
        versions = random.Random(seed).sample(versions, _MAX_MUTANTS)
    if not versions:
        return True, Part(None, why="the code has nothing to mutate")
    step = max(len(versions) // (_MIN_PASSES - 1), 1)
    order = [
        code
        for place, version in enumerate(versions)
        for code in ((item.code, version) if place % step == 0 else (version,))
    ] + [item.code]
    with ThreadPoolExecutor(workers) as pool:
        results = list(pool.map(partial(_test_result, job=job, limits=limits), order))
    right_results = [
        counts == "passed" for code, counts in zip(order, results, strict=True) if code == item.code
    ]
    counts = Counter(
        counts for code, counts in zip(order, results, strict=True) if code != item.code
    )
    if not all(right_results):
        return False, Part(
            0.0,
            {"passed_on_right_code": sum(right_results), "of": len(right_results)},
            "the tests fail on the right code"
            if not any(right_results)
            else "the tests do not always pass on the right code",
        )
    facts = {"mutants": len(versions), "killed": counts["noticed"], "crashed": counts["crashed"]}
    judged = counts["noticed"] + counts["passed"]
    return True, Part(
        counts["noticed"] / judged if judged else None,
        facts,
        "" if judged else "every mutant crashes",
    )


def make_mutants(code: str) -> Iterator[str]:
    """Make programs with one small fault each, all different as compiled.

    Raises:
        InputError: Cosmic Ray is not installed.
    """
    require_modules("cosmic_ray")
    # of the verify extra
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    dumps = {_dump(code)}
    for name in sorted(operator_names()):
        kind = get_operator(name)
        if kind.arguments():
            continue  # replaces variables that a configuration names
        operator, place = kind(), 0
        while (mutant := mutate_code(code, operator, place)) is not None and mutant != code:
            place += 1
            dump = _dump(mutant)
            if dump is not None and dump not in dumps:
                dumps.add(dump)
                yield mutant


def _dump(code: str) -> str | None:
    """A program without its layout; None if it is not Python."""
    try:
        return ast.dump(ast.parse(code))
    except (SyntaxError, ValueError, RecursionError):
        return None


def _test_result(code: str, job: dict[str, object], limits: Limits) -> str:
    """The result of tests of a program: passed, noticed (by an assertion), or crashed."""
    result = run_tests(code, job, limits)
    if result.share == 1.0:
        return "passed"
    return "noticed" if not result.problem and int(result.report.get("asserted", 0)) else "crashed"
