# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# radon
"""The quality of code: lint, types, complexity.

Tools read the code inside the sandbox; they need `upshot-ai[verify]`. Comments that tell a tool to
look away are ignored (`noqa`), or count as the finding that they hide (`type: ignore`).
"""

from __future__ import annotations

import importlib.util
import io
import os
import re
import sys
import tokenize

import msgspec

from upshot.errors import InputError
from upshot.verifiers.items import Item, Part
from upshot.verifiers.sandbox import Limits, Place, Run, python, run

_RULES = "E4,E7,E9,F,B,C4,PLE,PLW,SIM,RET,ARG,UP"
"""Ruff's rules for mistakes and roundabout code, not layout."""
_HALVING_LINES = 10
"""Lines for which one finding halves the value."""
_MIN_LIMITS = Limits(seconds=30.0, memory_mb=2000)
"""Of the tools, at least: they are trusted and slower than the code."""
_SILENCER = re.compile(r"#\s*(?:type:\s*ignore|mypy:|pyright:)")
_ERROR = re.compile(r"^[^:]+:\d+(?::\d+)?: error: (.*?)(?:\s+\[([\w-]+)\])?$", re.MULTILINE)


def require_modules(*modules: str) -> None:
    """Require that tools are installed.

    Raises:
        InputError: one is not; says which, and how to install it.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"could not verify with {', '.join(missing)}: not installed; pip install"
            " 'upshot-ai[verify]'"
        )


def check_lint(item: Item, limits: Limits) -> Part:
    """Count findings of ruff, as 1 / (1 + findings per ten lines)."""
    require_modules("ruff")
    result = run(
        [
            os.path.join(sys.prefix, "bin", "ruff"),
            "check",
            "--isolated",
            "--no-cache",
            "--ignore-noqa",
            "--output-format",
            "json",
            "--select",
            _RULES,
            "--stdin-filename",
            "solution.py",
            "-",
        ],
        Place(),
        at_least(limits, _MIN_LIMITS),
        item.code.encode("utf-8", "replace"),
    )
    if result.killed or not result.stdout:
        return _unfinished(result, "ruff")
    rules = [str(row.get("code")) for row in msgspec.json.decode(result.stdout)]
    return _score(len(rules), item.code, {"findings": len(rules), "rules": sorted(set(rules))})


def check_types(item: Item, limits: Limits) -> Part:
    """Count errors of mypy --strict and silenced ones, as 1 / (1 + errors per ten lines)."""
    require_modules("mypy")
    command = python(
        "-m",
        "mypy",
        "--strict",
        "--no-incremental",
        "--cache-dir=/dev/null",
        "--config-file=",
        "--no-error-summary",
        "--hide-error-context",
        "solution.py",
    )
    result = run(
        command,
        Place({"solution.py": item.code.encode("utf-8", "replace")}),
        at_least(limits, _MIN_LIMITS),
    )
    if result.killed or result.code not in (0, 1):
        return _unfinished(result, "mypy")
    errors = [
        match.group(2) or match.group(1)
        for match in _ERROR.finditer(result.stdout.decode(errors="replace"))
    ]
    silenced = _count_silenced(item.code)
    return _score(
        len(errors) + silenced,
        item.code,
        {"errors": len(errors), "silenced": silenced, "kinds": sorted(set(errors))},
    )


def measure_complexity(item: Item, limits: Limits) -> Part:
    """Compare branching with that of the `reference`: 1 if no more, falling to 0 at three times.

    Cyclomatic complexity (McCabe, 1976), summed over all functions.
    """
    require_modules("radon")
    branching = _count_branching(item.code)
    if branching is None:
        return Part(0.0, why="the code is not Python")
    base = _count_branching(item.reference) if item.reference else None
    growth = branching / max(base, 1) if base is not None else None
    value = None if growth is None else max(0.0, min(1.0, (3 - growth) / 2))
    return Part(
        value,
        {
            "complexity": branching,
            "before": base,
            "growth": None if growth is None else round(growth, 3),
        },
        "" if base is not None else "there is nothing to compare it with",
    )


def _count_branching(code: str) -> int | None:
    from radon.complexity import cc_visit  # of the verify extra

    try:
        return sum(block.complexity for block in cc_visit(code))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def at_least(limits: Limits, minimum: Limits) -> Limits:
    """Limits with at least some time and memory, for trusted tools that need them."""
    return Limits(
        max(limits.seconds, minimum.seconds),
        max(limits.memory_mb, minimum.memory_mb),
        limits.processes,
        limits.disk_mb,
        limits.output_kb,
    )


def _score(findings: int, code: str, facts: dict[str, object]) -> Part:
    lines = sum(bool(line.strip()) for line in code.splitlines())
    return Part(
        0.0 if not lines else 1 / (1 + findings * _HALVING_LINES / max(lines, _HALVING_LINES)),
        facts,
    )


def _count_silenced(code: str) -> int:
    try:
        return sum(
            token.type == tokenize.COMMENT and bool(_SILENCER.search(token.string))
            for token in tokenize.generate_tokens(io.StringIO(code).readline)
        )
    except (tokenize.TokenError, SyntaxError, IndentationError):
        return 0


def _unfinished(result: Run, tool: str) -> Part:
    reason = result.killed or result.stderr.decode(errors="replace")[-200:]
    return Part(None, why=f"{tool} did not finish: {reason}")
