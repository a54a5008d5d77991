"""A server process that answers as real endpoints do at their worst."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
import llm_faults  # pyright: ignore[reportMissingImports]


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """`faulty({"status": 500}, {})` starts a server that takes these turns, the last of them for
    ever, and returns its address; keywords are the rest of the script.
    """
    with ExitStack() as stack:
        count = 0

        def start(*turns: dict[str, Any], **script: Any) -> str:
            nonlocal count
            count += 1
            folder = tmp_path / f"endpoint{count}"
            return stack.enter_context(llm_faults.served({"turns": list(turns), **script}, folder))

        yield start
