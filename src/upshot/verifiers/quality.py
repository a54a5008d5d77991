"""How code is written: lint, types, complexity.

Tools read it inside the sandbox; they need `upshot[verify]`.

What tells a tool to look away is not obeyed (`noqa`), or counts as the finding that it hides
(`type: ignore`).
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
"""Ruff's rules that find mistakes and roundabout code, not layout."""
_LINES = 10
"""A finding in so many lines halves the value."""
_ROOM = Limits(seconds=30.0, memory_mb=2000)
"""What the tools themselves need at least."""
_SILENCED = re.compile(r"#\s*(?:type:\s*ignore|mypy:|pyright:)")
_ERROR = re.compile(r"^[^:]+:\d+(?::\d+)?: error: (.*?)(?:\s+\[([\w-]+)\])?$", re.MULTILINE)


def need(*modules: str) -> None:
    """Refuse where a tool is not installed.

    Raises:
        InputError: says which, and how to get it.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"could not verify with {', '.join(missing)}: not installed; pip install"
            " 'upshot[verify]'"
        )


def lint(item: Item, limits: Limits) -> Part:
    """Findings of ruff, as 1 / (1 + findings in ten lines)."""
    need("ruff")
    done = run(
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
        roomy(limits, _ROOM),
        item.code.encode("utf-8", "replace"),
    )
    if done.killed or not done.stdout:
        return _unfinished(done, "ruff")
    rules = [str(row.get("code")) for row in msgspec.json.decode(done.stdout)]
    return _of(len(rules), item.code, {"findings": len(rules), "rules": sorted(set(rules))})


def types(item: Item, limits: Limits) -> Part:
    """Errors of mypy --strict and what silences it, as 1 / (1 + errors in ten lines)."""
    need("mypy")
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
    done = run(
        command, Place({"solution.py": item.code.encode("utf-8", "replace")}), roomy(limits, _ROOM)
    )
    if done.killed or done.code not in (0, 1):
        return _unfinished(done, "mypy")
    errors = [
        match.group(2) or match.group(1)
        for match in _ERROR.finditer(done.stdout.decode(errors="replace"))
    ]
    silenced = _silenced(item.code)
    return _of(
        len(errors) + silenced,
        item.code,
        {"errors": len(errors), "silenced": silenced, "kinds": sorted(set(errors))},
    )


def complexity(item: Item, limits: Limits) -> Part:
    """How much more branching the code has than what it replaces (`reference`, else nothing): 1
    where no more, falling to 0 at three times as much. Cyclomatic complexity (McCabe, 1976), of all
    functions together.
    """
    need("radon")
    ours = _branching(item.code)
    if ours is None:
        return Part(0.0, why="the code is no Python")
    base = _branching(item.reference) if item.reference else None
    growth = ours / max(base, 1) if base is not None else None
    value = None if growth is None else max(0.0, min(1.0, (3 - growth) / 2))
    return Part(
        value,
        {
            "complexity": ours,
            "before": base,
            "growth": None if growth is None else round(growth, 3),
        },
        "" if base is not None else "there is nothing to compare it with",
    )


def _branching(code: str) -> int | None:
    from radon.complexity import cc_visit

    try:
        return sum(block.complexity for block in cc_visit(code))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def roomy(limits: Limits, least: Limits) -> Limits:
    """Limits of at least some time and memory, for tools that are trusted and need them."""
    return Limits(
        max(limits.seconds, least.seconds),
        max(limits.memory_mb, least.memory_mb),
        limits.processes,
        limits.disk_mb,
        limits.output_kb,
    )


def _of(findings: int, code: str, facts: dict[str, object]) -> Part:
    lines = sum(bool(line.strip()) for line in code.splitlines())
    return Part(0.0 if not lines else 1 / (1 + findings * _LINES / max(lines, _LINES)), facts)


def _silenced(code: str) -> int:
    try:
        return sum(
            token.type == tokenize.COMMENT and bool(_SILENCED.search(token.string))
            for token in tokenize.generate_tokens(io.StringIO(code).readline)
        )
    except (tokenize.TokenError, SyntaxError, IndentationError):
        return 0


def _unfinished(done: Run, tool: str) -> Part:
    return Part(
        None,
        why=f"{tool} did not finish: {done.killed or done.stderr.decode(errors='replace')[-200:]}",
    )
