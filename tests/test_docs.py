"""What the documentation names exists: commands and options, Python names, files, packages."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer

from upshot.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "model-cards").glob("*.md")),
]
NOT_OURS = {"--apply_chat_template", "--check"}
"""Options of other programs: OpenRLHF, `docs/make_reference.py`."""
ENTRY_POINTS = {"upshot.sources", "upshot.verifiers", "upshot.exporters", "upshot.methods"}
PLACEHOLDERS = {"bench/NAME.py", "better/card.md"}
"""A name to be filled in, and a file that a command of the tutorial writes."""
_CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
_COMMAND = re.compile(r"(?:^|[`\s;=\"/])upshot (?=[a-z-])([^`\n]*)", re.MULTILINE)
_OPTION = re.compile(r"`(--[\w-]+)[^`\n]*`")
_NAME = re.compile(r"\bupshot(?:\.(?!toml\b)[A-Za-z_]\w*)+")
_PATH = re.compile(r"\b(?:src|bench|tests|docs|examples|[a-z_]+)/[\w/.-]*\.(?:py|toml|md|json)\b")
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)

every_page = pytest.mark.parametrize(
    "page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix()
)


def commands(page: Path) -> Iterator[list[str]]:
    """Words of every `upshot …` in code, up to a comment or the next command."""
    for code in _CODE.findall(page.read_text("utf-8")):
        for match in _COMMAND.finditer(code):
            text = re.split(r"\s#|[|;>]", match[1])[0].removesuffix("…")
            try:
                words = shlex.split(text)
            except ValueError:  # a quote that encloses the whole command
                words = text.rstrip("\"'").split()
            yield words


def resolve(words: list[str]) -> tuple[Any, list[str]]:
    """The command that words name, and the rest of them."""
    command: Any = typer.main.get_command(app)
    rest = list(words)
    while rest and rest[0] in getattr(command, "commands", ()):
        command = command.commands[rest.pop(0)]
    return command, rest


def options(command: Any) -> Iterator[str]:
    """Every option of a command and of those below it."""
    for parameter in command.params:
        yield from parameter.opts
    for inner in getattr(command, "commands", {}).values():
        yield from options(inner)


@every_page
def test_every_command_with_its_options_exists(page: Path) -> None:
    for words in commands(page):
        command, rest = resolve(words)
        known = {*options(command), "-", "--help"}
        unknown = [word for word in rest if word.startswith("-") and word not in known]
        assert not unknown, words
        assert not hasattr(command, "commands") or not rest or rest[0].startswith("-"), words


@every_page
def test_every_option_that_stands_alone_exists(page: Path) -> None:
    known = {*options(typer.main.get_command(app)), *NOT_OURS}
    assert not set(_OPTION.findall(page.read_text("utf-8"))) - known


@every_page
def test_every_python_name_exists(page: Path) -> None:
    for name in set(_NAME.findall(page.read_text("utf-8"))) - ENTRY_POINTS:
        module, _, attribute = name.rpartition(".")
        if find_spec(name) is None:
            assert hasattr(import_module(module), attribute), name


@every_page
def test_every_file_exists(page: Path) -> None:
    roots = (ROOT, ROOT / "docs", ROOT / "src" / "upshot")
    paths = set(_PATH.findall(page.read_text("utf-8"))) - PLACEHOLDERS
    assert not [path for path in paths if not any((root / path).exists() for root in roots)]


@every_page
def test_whatever_is_installed_by_pip_is_ours(page: Path) -> None:
    names = re.findall(r"pip install ['\"]?([\w-]+)", page.read_text("utf-8"))
    assert set(names) <= {"upshot-ai"}


@every_page
def test_every_block_of_toml_parses_and_every_import_of_python_works(page: Path) -> None:
    for language, text in _BLOCK.findall(page.read_text("utf-8")):
        if language == "toml":
            tomllib.loads(text)
        elif language == "python":
            compile(text, str(page), "exec")
            imports = [line for line in text.splitlines() if line.startswith(("import ", "from "))]
            exec("\n".join(imports), {})
