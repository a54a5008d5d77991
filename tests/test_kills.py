"""Killed at random moments, verbs lose nothing, double nothing, and leave no process behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_killed_verbs_finish_with_the_rows_of_an_undisturbed_run() -> None:
    command = [sys.executable, str(ROOT / "bench" / "kills.py"), "--kills", "24"]
    done = subprocess.run(
        [*command, "--verbs", "ingest,judge,reward,erase", "--seed", str(time.time_ns() % 1000)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    metrics = json.loads(done.stdout.splitlines()[-1])["metrics"]
    assert metrics["kills"] >= 24
    bad = {name: metrics[name] for name in ("lost", "doubled", "different", "orphans")}
    assert bad == dict.fromkeys(bad, 0), done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_a_run_with_its_code_and_a_sentence(
    number: signal.Signals, code: int, workers: int, tmp_path: Path
) -> None:
    log, lake = tmp_path / "log.jsonl", tmp_path / "lake"
    turns = [("user", "why?"), ("assistant", "since " + "y " * 400), ("user", "that worked")]
    messages = [{"role": role, "content": text} for role, text in turns]
    rows = ({"id": f"c{n}", "user": f"u{n % 50}", "messages": messages} for n in range(4000))
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [str(Path(sys.executable).with_name("upshot")), "ingest", str(log), "--lake"]
    process = subprocess.Popen(
        [*command, str(lake), "--workers", str(workers)],
        env={**os.environ, "UPSHOT_LAKE__CHUNK_MB": "0.05"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while len(list((lake / "conversations" / "_delta_log").glob("*.json"))) < 3:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    errors = process.communicate()[1]
    assert process.returncode == code, errors
    assert "what was committed is whole" in errors
    deadline = time.monotonic() + 10
    while is_session_alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_session_alive(process.pid)


def is_session_alive(leader: int) -> bool:
    """Whether any process of a session lives."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            return True
    return False
