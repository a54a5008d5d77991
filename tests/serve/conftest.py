"""A server process that takes scores, and a lake whose responses it knows."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import upshot

sys.path.insert(0, str(Path(__file__).parent))
from judged_chats import (  # pyright: ignore[reportMissingImports]
    CHATS,
    Server,
    make_chat,
    write_chats,
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    port = tmp_path / "port"
    program = str(Path(__file__).parent / "scripted_server.py")
    process = subprocess.Popen([sys.executable, program, str(port)])
    try:
        while not port.exists():
            assert process.poll() is None
            time.sleep(0.02)
        yield Server(f"http://127.0.0.1:{port.read_text()}")
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def judged_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a judged lake, and its key beside it."""
    folder = tmp_path_factory.mktemp("judged")
    key = folder / "lake.key"  # which users share a bucket depends on it
    key.write_text("0" * 64)
    key.chmod(0o600)
    path = write_chats(folder / "chats.jsonl", [make_chat(number) for number in range(CHATS)])
    upshot.run(str(path), folder / "lake")
    return folder


@pytest.fixture
def lake(judged_folder: Path, tmp_path: Path) -> Path:
    """Nine judged chats; two of their responses each, of which the first has ids."""
    shutil.copytree(judged_folder, tmp_path / "judged")
    return tmp_path / "judged" / "lake"


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> upshot.Settings:
    """Keys in the environment, and little patience."""
    monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", "pk-lf-1")
    monkeypatch.setenv("LANGFUSE_SECRET_KEY", "sk-lf-secret")
    monkeypatch.setenv("PHOENIX_API_KEY", "px-secret")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=otel-secret")
    return upshot.load(push={"backoff_s": 0.01, "timeout_s": 5})
