"""Every export is loaded by its trainer's own reader, in a process of its own.

`UPSHOT_PYTHON_OPENRLHF`, `…_LLAMAFACTORY` and `…_VERL` name the Python of an environment that has
the library; without one, this environment's is tried, and the test is skipped where the library is
not there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import upshot
from upshot.api import judging, opening
from upshot.records import RawConversation
from upshot.sources.ingest import Cleaning, ingest

FIRST, WRONG, RIGHT = (
    "how do I parse the CSV file with pandas?",
    "call pandas.parse_file on the CSV",
    "use pandas.read_csv on the CSV file instead",
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("base") / "tiny"
    subprocess.run(
        [sys.executable, str(Path(__file__).parents[1] / "llm" / "tiny_model.py"), str(folder)],
        check=True,
        capture_output=True,
    )
    return str(folder)


@pytest.fixture
def lake(chat: Callable[..., RawConversation], tmp_path: Path) -> Path:
    chats = [
        chat(
            f"u: {FIRST}",
            f"a: {WRONG}",
            "u: that does not work, AttributeError: no attribute parse_file",
            f"a: {RIGHT}",
            "u: perfect, that worked!",
            id=f"c{i}",
            user=f"u{i}",
        )
        for i in range(3)
    ]
    target = tmp_path / "lake"
    ingest(
        iter(chats),
        opening.open_lake(target),
        Cleaning("a key for these tests", True, True, ""),
    )
    judging.link_lake(target)
    judging.judge_lake(target)
    return target


def read(library: str, path: Path, base: str) -> list[str]:
    python = os.environ.get(f"UPSHOT_PYTHON_{library.upper()}", sys.executable)
    process = subprocess.run(
        [
            python,
            "-W",
            "ignore",
            str(Path(__file__).parent / "readers.py"),
            library,
            str(path),
            base,
        ],
        capture_output=True,
        text=True,
    )
    if process.returncode == 77:
        pytest.skip(
            f"{library} is not installed; UPSHOT_PYTHON_{library.upper()} may name a Python that"
            " has it"
        )
    assert process.returncode == 0, process.stderr[-3000:]
    return json.loads(process.stdout.splitlines()[-1])


def exported(lake: Path, folder: Path, format: str, end: str) -> Path:
    path = folder / f"{format}.{end}"
    upshot.export_pairs(lake, path, format, test_share=0.0)
    return path


@pytest.mark.parametrize(
    ("library", "format", "end"),
    [
        ("trl", "trl", "jsonl"),
        ("openrlhf", "openrlhf", "jsonl"),
        ("llamafactory", "llamafactory", "json"),
    ],
)
def test_pairs_are_read_with_their_prompt(
    lake: Path, tmp_path: Path, base: str, library: str, format: str, end: str
) -> None:
    texts = read(library, exported(lake, tmp_path, format, end), base)
    assert FIRST in texts[0]
    assert RIGHT in texts[0]
    assert WRONG not in texts[0]
    assert FIRST in texts[1]
    assert WRONG in texts[1]


@pytest.mark.parametrize(
    ("library", "format", "end", "expected"),
    [
        ("trl", "kto", "jsonl", FIRST),
        ("trl", "sft", "jsonl", RIGHT),
        ("verl", "verl", "parquet", FIRST),
    ],
)
def test_examples_are_read(
    lake: Path, tmp_path: Path, base: str, library: str, format: str, end: str, expected: str
) -> None:
    assert any(
        expected in text for text in read(library, exported(lake, tmp_path, format, end), base)
    )
