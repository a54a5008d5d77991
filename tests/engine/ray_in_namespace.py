"""Run a log here and on a Ray cluster that this script starts in its network namespace, and try to
get into clusters that must be refused. Prints one JSON line.

Usage: RAY_AUTH_MODE=token unshare --net ray_in_namespace.py LOG FOLDER
       ray_in_namespace.py enter ADDRESS TOKEN_FILE
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any

import upshot
from upshot.api.opening import executor_of
from upshot.engine.ray import Ray
from upshot.errors import ConfigError
from upshot.lake import Lake

_SIOCSIFFLAGS, _UP_AND_RUNNING = 0x8914, 0x41
_START_S = 60


def raise_loopback() -> None:
    """The namespace is new: its loopback is down, and there is no other way out or in."""
    assert [name for _, name in socket.if_nameindex()] == ["lo"]
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14s", b"lo", _UP_AND_RUNNING, b""))


@contextmanager
def cluster(port: int, folder: Path, mode: str) -> Iterator[str]:
    """A cluster of two processors; its address."""
    program = Path(sys.executable).with_name("ray")
    process = subprocess.Popen(
        [str(program), "start", "--head", "--block",
         "--node-ip-address=127.0.0.1", f"--port={port}",
         "--include-dashboard=false", "--num-cpus=2", "--object-store-memory=80000000",
         f"--temp-dir={folder / str(port)}", "--disable-usage-stats"],
        env={**os.environ, "RAY_AUTH_MODE": mode},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        ready = Path(folder / str(port) / "session_latest" / "sockets" / "raylet")
        deadline = time.monotonic() + _START_S
        while not ready.exists():
            assert process.poll() is None, "Ray ended"
            assert time.monotonic() < deadline, "Ray did not start"
            time.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()  # it ends what it started
        process.wait(30)
        for pid in session_of(process.pid):
            os.kill(pid, signal.SIGKILL)


def session_of(leader: int) -> list[int]:
    """The processes of a session."""
    return [
        int(stat.parent.name)
        for stat in Path("/proc").glob("[0-9]*/stat")
        if int(stat.read_text().rsplit(")", 1)[1].split()[3]) == leader
    ]


def rows_of(log: Path, lake: Path, settings: upshot.Settings) -> list[Any]:
    """What a lake says of each response, and which sessions it joined."""
    upshot.run(log, lake, settings)
    verdicts = Lake(lake).read("verdicts").to_pylist()
    threads = Lake(lake).read("threads").to_pylist()
    names = ("id", "index", "score", "confidence", "label", "basis")
    rows = [[row[name] for name in names] for row in verdicts]
    return sorted(
        rows + [[r["id"], -1, r["score"], 0.0, r["parent"], r["thread"]] for r in threads]
    )


def die_once(marker: str) -> str:
    path = Path(marker)
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def fail(text: str) -> str:
    raise ConfigError(text)


def try_to_enter(address: str, token_file: Path) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "enter", address, str(token_file)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def enter(address: str, token_file: Path) -> None:
    try:
        Ray(address, token_file)
        print("in")
    except ConfigError as error:
        print(error)


def main(log: Path, folder: Path, room: Path) -> None:
    raise_loopback()
    right, wrong = room / "right", room / "wrong"
    for path, letter in ((right, "a"), (wrong, "b")):
        path.write_text(letter * 64)
        path.chmod(0o600)
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(right)
    with cluster(6390, room, "disabled") as address:
        without_token = try_to_enter(address, right).communicate()[0]
    with cluster(6391, room, "token") as address:
        intruder = try_to_enter(address, wrong)
        here = rows_of(log, folder / "here", upshot.load(lake={"buckets": 4}))
        engine = {"kind": "ray", "address": address, "token_file": right}
        settings = upshot.load(lake={"buckets": 4}, engine=engine)
        there = rows_of(log, folder / "ray", settings)
        executor = executor_of(settings)
        survived = list(executor.run(die_once, [str(room / "marker")]))
        try:
            list(executor.run(fail, ["the task's own words"]))
            error = ""
        except ConfigError as raised:
            error = str(raised)
        with_wrong_token = intruder.communicate()[0]
    result = {
        "rows": len(here),
        "differ": len(list(filter(lambda pair: pair[0] != pair[1], zip_longest(here, there)))),
        "basis": len({row[5] for row in here if row[1] >= 0} - {"shipped"}),
        "survived": survived,
        "error": error,
        "without_token": without_token,
        "with_wrong_token": with_wrong_token,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    if sys.argv[1] == "enter":
        enter(sys.argv[2], Path(sys.argv[3]))
    else:
        with tempfile.TemporaryDirectory(prefix="ray-") as short:  # Ray's sockets need a short path
            main(Path(sys.argv[1]), Path(sys.argv[2]), Path(short))
