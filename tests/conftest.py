"""Fixtures of several tests: conversations written by hand, the folder of public corpora where it
exists, a tiny base model, a scripted server.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from upshot.records import RawConversation, RawMessage, Role

os.environ["OMP_NUM_THREADS"] = "1"  # two workers on two cores: more threads only wait
os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: tests make their own models
_ROLES: dict[str, Role] = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}


_MARKS = {
    "policy/": "train",
    "loop/test_loop.py": "train",
    "worlds/": "train",
    "reward/test_transformer.py": "train",
    "reward/test_private.py": "train",
    "test_tutorial.py": "train",
    "verifiers/": "sandbox",
    "llm/test_real_server.py": "server",
    "llm/": "server",
    "hindsight/test_llm.py": "server",
    "cli/": "slow",
    "preferences/test_readers.py": "slow",
}
"""Marks of tests by the start of their path below `tests/`; a test gets all that match."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by their path."""
    for item in items:
        _, below, path = str(item.path).rpartition(f"{os.sep}tests{os.sep}")
        for start, mark in _MARKS.items():
            if below and path.startswith(start):
                item.add_marker(mark)


def share_result(
    tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[], object]
) -> Any:
    """The JSON result of `make`, computed once for all workers of a run."""
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if os.environ.get("PYTEST_XDIST_WORKER") else folder
    path = folder / f"{name}.json"
    with FileLock(f"{path}.lock"):
        if not path.is_file():
            path.write_text(json.dumps(make()))
    return json.loads(path.read_text())


@pytest.fixture
def chat() -> Callable[..., RawConversation]:
    """`chat("u: hello", "a: hi")` makes a conversation."""

    def make(*lines: str, id: str = "c1", user: str = "ana", day: float = 0.0) -> RawConversation:
        messages = tuple(RawMessage(_ROLES[line[0]], line[3:]) for line in lines)
        return RawConversation(messages, id, user, 1_780_000_000 + day * 86_400, source="test")

    return make


@pytest.fixture
def data() -> Path:
    """The folder of public corpora; a user's machine does not have it."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the public corpora are not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a tiny untrained language model."""
    spec = spec_from_file_location("tiny_model", Path(__file__).parent / "llm" / "tiny_model.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return str(module.save(tmp_path_factory.mktemp("tiny") / "base"))


@pytest.fixture
def examples() -> Path:
    return Path(__file__).parents[1] / "examples"


@pytest.fixture
def scripted(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """`scripted(mode="honest", ...)` starts a server process that answers by the script and returns
    its address.
    """
    running: list[subprocess.Popen[bytes]] = []

    def start(**script: object) -> str:
        where = tmp_path / f"server-{len(running)}"
        script_file = where.with_suffix(".json")
        script_file.write_text(json.dumps(script))
        program = Path(__file__).parent / "llm" / "scripted_server.py"
        running.append(
            subprocess.Popen(
                [sys.executable, "-W", "ignore", str(program), str(where), str(script_file)]
            )
        )
        while not where.exists():
            assert running[-1].poll() is None, "the scripted server did not start"
            time.sleep(0.02)
        return f"http://127.0.0.1:{where.read_text()}/v1"

    yield start
    for process in running:
        process.kill()
        process.wait()
