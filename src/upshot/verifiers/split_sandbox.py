"""Tests and the code they test, each in a sandbox of its own, joined by a socket."""

from __future__ import annotations

import ast
import contextlib
import os
import select
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from upshot.errors import InputError
from upshot.verifiers.inside import codec
from upshot.verifiers.sandbox import WORK, Limits, Place, Run, Started, python

INSIDE = str(Path(__file__).parent / "inside")
"""What runs inside the sandbox."""


class Ran(NamedTuple):
    """What tests said of code."""

    passed: int
    failed: int
    why: tuple[str, ...]
    """First failures, in words."""
    problem: str
    """Why there is no whole result: the code does not load, ended, ran past a limit; empty: there
    is one.
    """
    refused: str
    """What the code tried to pass as a result and was not let; a cheat, or a result that is no
    plain data.
    """
    seconds: float
    report: Mapping[str, Any]
    """All that the tests' process reported."""
    code: Run
    """How the code's process ended."""

    @property
    def share(self) -> float:
        """Share of tests passed, in [0, 1]; 0 without a whole result."""
        total = self.passed + self.failed
        return 0.0 if self.problem or self.refused or not total else self.passed / total


def together(
    code: str, job: Mapping[str, Any], limits: Limits = Limits(), measure: bool = False
) -> Ran:
    """Run tests (`job`, see inside/checker.py) against code.

    Raises:
        SandboxError: untrusted code cannot be run safely here.
    """
    source = code.encode("utf-8", "surrogatepass")
    ours, theirs = socket.socketpair()
    reading, writing = os.pipe()
    with ours, theirs:
        served = Started(
            python(
                *(("-I",) if measure else flags(code)),
                f"{INSIDE}/serve.py",
                str(theirs.fileno()),
                *([f"{WORK}/solution.py"] if measure else []),
            ),
            Place({"solution.py": source} if measure else {}, [INSIDE], [theirs.fileno()]),
            limits,
        )
        tests = Started(
            python(
                *(
                    ()
                    if job["style"] == "pytest"
                    else flags(str(job.get("tests", "")) + "\n" + str(job.get("prompt", "")))
                ),
                "-B",
                f"{INSIDE}/checker.py",
                str(ours.fileno()),
                str(writing),
                f"{WORK}/job",
            ),
            Place({"job": codec.dumps(dict(job))}, [INSIDE], [ours.fileno(), writing]),
            limits,
        )
    os.close(writing)
    served.give(b"" if measure else source)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, reading)
        ended = tests.end()
        ours_end = served.end_soon(measure)
        found = _report(reading)
    problem = str(found.get("problem", "")) or _problem(ended, ours_end, found)
    why = tuple(f"{place}: {text}" if place else str(text) for place, text in found.get("why", []))
    return Ran(
        int(found.get("passed", 0)),
        int(found.get("failed", 0)),
        why,
        problem,
        str(found.get("refused", "")),
        ended.seconds,
        found,
        ours_end,
    )


def check_job(tests: str, entry_point: str, prompt: str = "") -> dict[str, Any]:
    """A job of HumanEval's form: tests define `check(candidate)`; helpers that they call come from
    the prompt.

    Every assert counts for itself, so that a share of tests passed can be told.

    Raises:
        InputError: tests or prompt are not Python.
    """
    try:
        tree = ast.fix_missing_locations(_Tally().visit(ast.parse(tests)))
        return {
            "style": "check",
            "tests": ast.unparse(tree),
            "prompt": _headers(prompt),
            "entry_point": entry_point,
        }
    except (SyntaxError, ValueError, RecursionError) as error:
        raise InputError(f"could not read the tests of {entry_point}: {error}") from error


def pytest_job(tests: str, module: str = "solution") -> dict[str, Any]:
    """A job for pytest: a test file that imports the code as a module of this name."""
    return {"style": "pytest", "tests": tests, "module": module}


class _Tally(ast.NodeTransformer):
    """Count every assert instead of stopping at the first that fails."""

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        handlers = [
            ast.ExceptHandler(ast.Name("_fatal", ast.Load()), None, [ast.Raise()]),
            ast.ExceptHandler(
                ast.Name("Exception", ast.Load()),
                "_error",
                [ast.Expr(_call("_failed", node.lineno, ast.Name("_error", ast.Load())))],
            ),
        ]
        return ast.copy_location(
            ast.Try([node, ast.Expr(_call("_passed", node.lineno))], handlers, [], []), node
        )


def _call(name: str, line: int, *arguments: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), [ast.Constant(line), *arguments], [])


def _headers(prompt: str) -> str:
    """A prompt that ends in an open function, as a program."""
    try:
        ast.parse(prompt)
    except SyntaxError:
        prompt = prompt.rstrip() + "\n    pass\n"
        ast.parse(prompt)
    return prompt


def flags(code: str) -> tuple[str, ...]:
    """Python without its libraries starts in half the time; with them where the code imports
    something of theirs.
    """
    return ("-I",) if needs_libraries(code) else ("-I", "-S")


def needs_libraries(code: str) -> bool:
    """Does a program import what is not in the standard library?"""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    names = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    ]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return any(
        name.split(".")[0] not in sys.stdlib_module_names
        for name in names
        if name and name.split(".")[0] != "solution"
    )


def _report(descriptor: int) -> dict[str, Any]:
    parts = bytearray()
    while select.select([descriptor], [], [], 0.1)[0] and (part := os.read(descriptor, 65_536)):
        parts += part
    try:
        found = codec.loads(bytes(parts)) if parts else {}
    except (ValueError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _problem(tests: Run, code: Run, found: Mapping[str, Any]) -> str:
    if tests.killed or code.killed:
        return f"killed: too much {tests.killed or code.killed}"
    if not found:
        return (
            f"the tests ended with status {tests.code}:"
            f" {tests.stderr.decode(errors='replace').strip()[-300:]}"
        )
    return ""
