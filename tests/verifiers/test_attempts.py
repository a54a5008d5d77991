"""Tests, code, failures and fixes become runs; reasoning that led to right code is kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import upshot
from upshot.config import Settings, load
from upshot.credit import trajectories
from upshot.errors import InputError

TESTS = (
    "from solution import add\n\ndef test_sum():\n    assert add(1, 2) == 3\n\ndef"
    " test_negative():\n    assert add(-1, 5) == 4\n"
)
WRONG, RIGHT = "def add(a, b):\n    return a - b\n", "def add(a, b):\n    return a + b\n"
TASK = {"id": "sum", "task": "Write add(a, b), the sum of two numbers.", "entry_point": "add"}


def settings(url: str) -> Settings:
    return load(llm={"base_url": url, "model": "m"})


def tasks(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_failure_that_was_read_is_fixed_and_becomes_a_run_and_a_rationale(
    tmp_path: Path, scripted: Callable[..., str]
) -> None:
    url = scripted(mode="coder", tests=TESTS, first=WRONG, then=RIGHT)
    hidden = (
        "def check(candidate):\n    assert candidate(2, 2) == 4\n    assert candidate(0, -7) =="
        " -7\n"
    )
    result = upshot.attempt(
        tasks(tmp_path / "t.jsonl", {**TASK, "hidden_tests": hidden}), settings=settings(url)
    )
    (run,) = result.runs
    assert run.outcome == 1.0
    assert [step.observation.splitlines()[0] for step in run.steps] == [
        "tests are written",
        "0 passed, 2 failed",
        "2 passed, 0 failed",
    ]
    assert "AssertionError" in run.steps[1].observation or "assert" in run.steps[1].observation
    assert run.source == {"task": "sum", "sample": 0, "own_tests": True}
    (rationale,) = result.rationales
    assert rationale.messages[0]["content"] == TASK["task"]
    assert "the sign was wrong" in rationale.messages[1]["content"]
    assert rationale.source == {"kind": "star", "task": "sum", "hinted": False}


def test_runs_are_trajectories_that_credit_reads(
    tmp_path: Path, scripted: Callable[..., str]
) -> None:
    url = scripted(mode="coder", tests=TESTS, first=WRONG, then=RIGHT)
    result = upshot.attempt(tasks(tmp_path / "t.jsonl", TASK), samples=2, settings=settings(url))
    from upshot.io.json_lines import write

    write(result.runs, tmp_path / "runs.jsonl")
    assert [
        (run.id, len(run.steps), run.outcome)
        for run in trajectories.read_trajectories(tmp_path / "runs.jsonl")
    ] == [("sum/0", 3, 1.0), ("sum/1", 3, 1.0)]
    assert len(upshot.credit(tmp_path / "runs.jsonl", "uniform").credits) == 2


@pytest.mark.parametrize("explains", [True, False])
def test_where_all_runs_fail_a_hint_gives_a_rationale_if_its_code_is_right(
    tmp_path: Path, scripted: Callable[..., str], explains: bool
) -> None:
    url = scripted(mode="coder", tests=TESTS, first=WRONG, then=WRONG, explains=explains)
    result = upshot.attempt(
        tasks(tmp_path / "t.jsonl", {**TASK, "tests": TESTS, "reference": RIGHT}),
        rounds=2,
        settings=settings(url),
    )
    assert [run.outcome for run in result.runs] == [0.0]
    assert [rationale.source["hinted"] for rationale in result.rationales] == (
        [True] if explains else []
    )
    assert all("hint" not in json.dumps(rationale.messages) for rationale in result.rationales)


def test_what_is_no_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 1: a task needs"):
        upshot.attempt(
            tasks(tmp_path / "t.jsonl", {"id": "x"}), settings=settings("http://127.0.0.1:9/v1")
        )
