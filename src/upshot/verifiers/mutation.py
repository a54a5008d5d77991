"""Do tests test anything?

Coverage of the code they run, and how many small faults in it they notice.

Coverage counts what ran, not what was checked: at full coverage tests find anything from a third to
nearly all of real faults. The mutation score (DeMillo, Lipton & Sayward, 1978) is the share of
faulty versions that the tests fail on. Mutants are Cosmic Ray's; those that are the same program
are none, and those that every run of the code would notice, because they crash or never end, are
left out: so tests that assert nothing get 0.

Here the tests are what is not trusted. They run apart from the code and see only its answers, so
they cannot tell a mutant by its text; and they must pass on the right code each time, before,
between and after the mutants, so that failing at random earns nothing.
"""

from __future__ import annotations

import ast
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from upshot.verifiers.functions import job_of
from upshot.verifiers.items import Item, Part
from upshot.verifiers.quality import need
from upshot.verifiers.sandbox import Limits
from upshot.verifiers.split_sandbox import together

_MOST = 40
"""Mutants tried, drawn where there are more."""
_ROUNDS = 3
"""Times that the tests must pass on the right code."""


def coverage(item: Item, limits: Limits) -> Part:
    """Share of the code's lines and branches that its tests run, in [0, 1]."""
    need("coverage")
    ran = together(item.code, job_of(item.tests, item), limits, measure=True)
    if ran.problem or ran.refused:
        return Part(0.0, why=ran.problem or ran.refused)
    try:
        lines, covered, branches, taken = (int(part) for part in ran.code.stdout.split()[-4:])
    except ValueError:
        return Part(None, why="coverage was not reported")
    return Part(
        (covered + taken) / max(lines + branches, 1),
        {"lines": lines, "lines_run": covered, "branches": branches, "branches_taken": taken},
    )


def mutation(item: Item, limits: Limits, workers: int = 2, seed: int = 0) -> tuple[bool, Part]:
    """Whether the tests pass on the right code, and the share of mutants that they fail on."""
    need("cosmic_ray")
    job = job_of(item.tests, item)
    versions = list(mutants(item.code))
    if len(versions) > _MOST:
        versions = random.Random(seed).sample(versions, _MOST)
    if not versions:
        return True, Part(None, why="the code has nothing to mutate")
    step = max(len(versions) // (_ROUNDS - 1), 1)
    order = [
        code
        for place, version in enumerate(versions)
        for code in ((item.code, version) if place % step == 0 else (version,))
    ] + [item.code]
    with ThreadPoolExecutor(workers) as pool:
        results = list(pool.map(lambda code: _told(code, job, limits), order))
    right = [
        told == "passed" for code, told in zip(order, results, strict=True) if code == item.code
    ]
    told = Counter(told for code, told in zip(order, results, strict=True) if code != item.code)
    if not all(right):
        return False, Part(
            0.0,
            {"passed_on_right_code": sum(right), "of": len(right)},
            "the tests fail on the right code"
            if not any(right)
            else "the tests do not always pass on the right code",
        )
    facts = {"mutants": len(versions), "killed": told["noticed"], "crashed": told["crashed"]}
    left = told["noticed"] + told["passed"]
    return True, Part(
        told["noticed"] / left if left else None, facts, "" if left else "every mutant crashes"
    )


def mutants(code: str) -> Iterator[str]:
    """Programs with one small fault each, all different as compiled.

    Raises:
        InputError: Cosmic Ray is not installed.
    """
    need("cosmic_ray")
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    known = {_compiled(code)}
    for name in sorted(operator_names()):
        kind = get_operator(name)
        if kind.arguments():
            continue  # replaces variables that a configuration names
        operator, place = kind(), 0
        while (mutant := mutate_code(code, operator, place)) is not None and mutant != code:
            place += 1
            made = _compiled(mutant)
            if made is not None and made not in known:
                known.add(made)
                yield mutant


def _compiled(code: str) -> str | None:
    """A program without its layout; None where it is none."""
    try:
        return ast.dump(ast.parse(code))
    except (SyntaxError, ValueError, RecursionError):
        return None


def _told(code: str, job: dict[str, object], limits: Limits) -> str:
    """What tests make of a program: passed, noticed (by an assertion), or crashed."""
    ran = together(code, job, limits)
    if ran.share == 1.0:
        return "passed"
    return "noticed" if not ran.problem and int(ran.report.get("asserted", 0)) else "crashed"
