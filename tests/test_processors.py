"""Numeric libraries use no more threads than the process has processors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from upshot.processors import count_processors


@pytest.mark.parametrize(
    ("text", "most"),
    [("200000 100000", 2), ("50000 100000", 1), ("max 100000", 10_000), ("", 10_000)],
)
def test_a_quota_of_the_control_group_counts(text: str, most: int, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert count_processors(tmp_path / "cpu.max") == min(most, len(os.sched_getaffinity(0)))
    assert count_processors(tmp_path / "missing") == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("first", ["upshot", "numpy"])
def test_threads_are_capped_whether_numpy_is_loaded_before_or_after(first: str) -> None:
    code = (
        f"import {first}; import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]);"
        "import upshot; upshot.credit; import numpy, threadpoolctl;"
        "print(max(pool['num_threads'] for pool in threadpoolctl.threadpool_info()))"
    )
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.strip() == "1"
