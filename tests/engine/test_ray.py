"""A Ray cluster gives the rows that one process gives; one that lets strangers in is refused."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import upshot
from upshot.errors import ConfigError, UpshotError

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")


@pytest.fixture
def namespace() -> list[str]:
    """The command that runs another one without any network but its own."""
    command = ["unshare", "--net", *(() if os.geteuid() == 0 else ("--map-root-user",))]
    try:
        done = subprocess.run([*command, "true"], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("unshare is not installed, and Ray listens on every address")
    if done.returncode:
        pytest.skip("this process may make no network namespace, and Ray listens on every address")
    return command


def write_log(path: Path, users: int) -> Path:
    rng = random.Random(3)
    lines: list[str] = []
    for user in range(users):
        for session in range(3):
            messages = [{"role": "user", "content": f"rename loader {rng.randrange(99)} please"}]
            for _ in range(2):
                reaction = rng.choice(["that worked, thanks!", "no, still fails", "and the docs?"])
                messages.append({"role": "assistant", "content": "Here is a version."})
                messages.append({"role": "user", "content": reaction})
            row: dict[str, Any] = {"id": f"s{user}-{session}", "user": f"u{user}"}
            time = 1.75e9 + 86_400 * session
            lines.append(json.dumps({**row, "started_at": time, "messages": messages}))
    path.write_text("\n".join(lines))
    return path


@pytest.mark.server
@pytest.mark.slow
@needs_ray
def test_a_cluster_gives_equal_rows_and_who_has_no_token_stays_out(
    tmp_path: Path, namespace: list[str]
) -> None:
    script = Path(__file__).parent / "ray_in_namespace.py"
    log = write_log(tmp_path / "log.jsonl", 150)
    done = subprocess.run(
        [*namespace, sys.executable, str(script), str(log), str(tmp_path)],
        capture_output=True, text=True, check=False, timeout=240,
        env={**os.environ, "UPSHOT_KEY": "a key that is long enough", "RAY_AUTH_MODE": "token"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["rows"] == 150 * 3 * 3
    assert result["differ"] == 0
    assert result["basis"] > 0
    assert result["survived"] == ["done"]
    assert result["error"] == "the task's own words"
    assert "lets in who has no token" in result["without_token"]
    assert "could not reach the Ray cluster" in result["with_wrong_token"]


@needs_ray
def test_ray_without_token_authentication_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = write_log(tmp_path / "log.jsonl", 1)
    upshot.ingest(log, tmp_path / "lake")
    settings = upshot.load(engine={"kind": "ray"})
    for mode in ("disabled", ""):
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
        with pytest.raises(ConfigError, match="set RAY_AUTH_MODE=token"):
            upshot.link(lake=tmp_path / "lake", settings=settings)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    engine = {"kind": "ray", "token_file": tmp_path / "nowhere"}
    with pytest.raises(UpshotError, match=r"engine\.token_file"):
        upshot.link(lake=tmp_path / "lake", settings=upshot.load(engine=engine))
