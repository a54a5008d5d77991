# pyright: reportUnknownMemberType=false
# the codec, which is standard-library-only code of the sandbox
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
from typing import Any, NamedTuple, cast

from upshot.errors import InputError
from upshot.verifiers.inside import codec
from upshot.verifiers.sandbox import WORK, Limits, Place, Run, Started, python

INSIDE = str(Path(__file__).parent / "inside")
"""The folder of the programs that run inside the sandbox."""


class TestResult(NamedTuple):
    """The result of running tests against code."""

    passed: int
    failed: int
    why: tuple[str, ...]
    """The first failures, in words."""
    problem: str
    """Why the result is incomplete: the code did not load, exited, exceeded a limit; else ""."""
    refused: str
    """A result that was refused: a cheat, or not plain data."""
    seconds: float
    report: Mapping[str, Any]
    """The whole report of the tests' process."""
    code: Run
    """How the code's process ended."""

    @property
    def share(self) -> float:
        """Share of passed tests, in [0, 1]; 0 if the result is incomplete or refused."""
        total = self.passed + self.failed
        return 0.0 if self.problem or self.refused or not total else self.passed / total


def run_tests(
    code: str, job: Mapping[str, Any], limits: Limits = Limits(), measure: bool = False
) -> TestResult:
    """Run tests (`job`, see inside/checker.py) against code.

    Raises:
        SandboxError: untrusted code cannot be run safely on this machine.
    """
    source = code.encode("utf-8", "surrogatepass")
    ours, theirs = socket.socketpair()
    reading, writing = os.pipe()
    with ours, theirs:
        solution = Started(
            python(
                *(("-I",) if measure else python_flags(code)),
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
                    else python_flags(str(job.get("tests", "")) + "\n" + str(job.get("prompt", "")))
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
    solution.write_stdin(b"" if measure else source)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, reading)
        ended = tests.end()
        ours_end = solution.finish(measure)
        report = _read_report(reading)
    problem = str(report.get("problem", "")) or _find_problem(ended, ours_end, report)
    why = tuple(f"{place}: {text}" if place else str(text) for place, text in report.get("why", []))
    return TestResult(
        int(report.get("passed", 0)),
        int(report.get("failed", 0)),
        why,
        problem,
        str(report.get("refused", "")),
        ended.seconds,
        report,
        ours_end,
    )


def check_job(tests: str, entry_point: str, prompt: str = "") -> dict[str, Any]:
    """A job in HumanEval's format: tests define `check(candidate)`; the prompt defines helpers.

    Every assert counts by itself, so that the share of passed tests is known.

    Raises:
        InputError: tests or prompt are not Python.
    """
    try:
        tree = ast.fix_missing_locations(_AssertCounter().visit(ast.parse(tests)))
        return {
            "style": "check",
            "tests": ast.unparse(tree),
            "prompt": _complete_prompt(prompt),
            "entry_point": entry_point,
        }
    except (SyntaxError, ValueError, RecursionError) as error:
        raise InputError(f"could not read the tests of {entry_point}: {error}") from error


def pytest_job(tests: str, module: str = "solution") -> dict[str, Any]:
    """A job for pytest: a test file that imports the code under the name `module`."""
    return {"style": "pytest", "tests": tests, "module": module}


class _AssertCounter(ast.NodeTransformer):
    """Makes every assert count instead of stopping at the first that fails."""

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        handlers = [
            ast.ExceptHandler(ast.Name("_fatal", ast.Load()), None, [ast.Raise()]),
            ast.ExceptHandler(
                ast.Name("Exception", ast.Load()),
                "_error",
                [ast.Expr(_make_call("_failed", node.lineno, ast.Name("_error", ast.Load())))],
            ),
        ]
        return ast.copy_location(
            ast.Try([node, ast.Expr(_make_call("_passed", node.lineno))], handlers, [], []), node
        )


def _make_call(name: str, line: int, *arguments: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), [ast.Constant(line), *arguments], [])


def _complete_prompt(prompt: str) -> str:
    """Complete a prompt that ends in a function without a body."""
    try:
        ast.parse(prompt)
    except SyntaxError:
        prompt = prompt.rstrip() + "\n    pass\n"
        ast.parse(prompt)
    return prompt


def python_flags(code: str) -> tuple[str, ...]:
    """Options of Python: isolated, and without site packages unless the code imports some.

    Python starts twice as fast without them.
    """
    return ("-I",) if imports_libraries(code) else ("-I", "-S")


def imports_libraries(code: str) -> bool:
    """Whether a program imports anything beyond the standard library."""
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


def _read_report(descriptor: int) -> dict[str, Any]:
    parts = bytearray()
    while select.select([descriptor], [], [], 0.1)[0] and (part := os.read(descriptor, 65_536)):
        parts += part
    try:
        report: object = codec.loads(bytes(parts)) if parts else {}
    except (ValueError, TypeError, RecursionError):
        return {}
    return cast(dict[str, Any], report) if isinstance(report, dict) else {}


def _find_problem(tests: Run, code: Run, report: Mapping[str, Any]) -> str:
    if tests.killed or code.killed:
        return f"killed: too much {tests.killed or code.killed}"
    if not report:
        return (
            f"the tests ended with status {tests.code}:"
            f" {tests.stderr.decode(errors='replace').strip()[-300:]}"
        )
    return ""
