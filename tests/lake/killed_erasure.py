"""Erase a user in a child process that is killed at its n-th step, then erase them again.

Usage: killed_erasure.py LAKE FOLDER USER; prints a JSON line for each step.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.dataset  # noqa: F401  # before the fork: no child needs to load it

from upshot.api import judging
from upshot.lake import Lake

_STEPS = ("append", "replace", "vacuum")


def in_child(work: Callable[[], object]) -> int:
    """The exit code of a forked child; negative: the signal that killed it."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)


def kill_at(step: int, lake: Path, user: str) -> None:
    """Erase, and be killed before the step of that number."""
    count = 0

    def counted(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return method(*args, **options)

        return call

    for name in _STEPS:
        setattr(Lake, name, counted(getattr(Lake, name)))
    tidy, tidy_and_count = Lake.tidy_log, counted(Lake.tidy_log)

    def tidy_log(lake: Lake, table: str) -> None:
        (tidy_and_count if table in ("conversations", "messages") else tidy)(lake, table)

    setattr(Lake, "tidy_log", tidy_log)  # noqa: B010  # pyright: a method may not be assigned
    judging.erase(user, lake)


def erase_anew(lake: Path, user: str, out: Path) -> None:
    """Erase and write what is left."""
    judging.erase(user, lake)
    store = Lake(lake)
    rows = {
        table: store.read(table).num_rows for table in ("conversations", "messages", "verdicts")
    }
    out.write_text(json.dumps(rows))


def main(template: Path, folder: Path, user: str) -> None:
    step = 0
    code = -signal.SIGKILL
    while code == -signal.SIGKILL:
        step += 1
        lake, out = folder / f"lake-{step}", folder / f"{step}.json"
        shutil.copytree(template, lake)
        shutil.copy(template.with_name(f"{template.name}.key"), folder / f"lake-{step}.key")
        code = in_child(lambda step=step, lake=lake: kill_at(step, lake, user))
        assert in_child(lambda lake=lake, out=out: erase_anew(lake, user, out)) == 0, step
        traces = [
            str(path)
            for path in lake.rglob("*")
            if path.is_file() and user.encode() in path.read_bytes()
        ]
        print(json.dumps({"step": step, "rows": json.loads(out.read_text()), "traces": traces}))
        shutil.rmtree(lake)
    assert code == 0, code


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
