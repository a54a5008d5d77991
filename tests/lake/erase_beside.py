"""Erase a user at a random moment while other processes run and judge on the same lake.

Usage: erase_beside.py LAKE LOG FOLDER USER ROUNDS SEED; prints a JSON line for each round.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pyarrow.dataset  # noqa: F401  # before the fork: no child needs to load it

import upshot
import upshot.hindsight.pipeline  # before the fork
from upshot.api import judging
from upshot.errors import UpshotError
from upshot.lake import Lake


def start(work: Callable[[], object]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    except UpshotError:
        traceback.print_exc()
    finally:
        os._exit(code)


def wait(*pids: int) -> list[int]:
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def erase_later(lake: Path, user: str, delay: float) -> None:
    time.sleep(delay)
    judging.erase(user, lake)


def count(lake: Path, user: str, out: Path) -> None:
    """Of each table the rows, and how many of them are the user's."""
    pseudonym = Lake(lake).read("conversations")["user"].to_pylist()
    assert user not in pseudonym
    rows: dict[str, list[int]] = {}
    for table in ("conversations", "messages", "verdicts", "threads", "events"):
        users = Lake(lake).read_all_versions(table, None, ["user"])["user"].to_pylist()
        rows[table] = [Lake(lake).read(table).num_rows, users.count(user)]
    out.write_text(json.dumps(rows))


def main(template: Path, log: Path, folder: Path, user: str, rounds: int) -> None:
    settings = upshot.load(lake={"chunk_mb": 0.003})
    for number in range(rounds):
        lake, out = folder / f"lake-{number}", folder / f"{number}.json"
        shutil.copytree(template, lake)
        shutil.copy(template.with_name(f"{template.name}.key"), folder / f"{lake.name}.key")
        delay = random.random() * 1.5
        codes = wait(
            start(lambda lake=lake: judging.run(log, lake, settings)),
            start(lambda lake=lake: list(judging.judge(lake=lake, settings=settings))),
            start(lambda lake=lake, delay=delay: erase_later(lake, user, delay)),
        )
        codes += wait(start(lambda lake=lake: judging.run(log, lake, settings)))
        codes += wait(start(lambda lake=lake, out=out: count(lake, user, out)))
        print(json.dumps({"delay": delay, "codes": codes, "rows": json.loads(out.read_text())}))


if __name__ == "__main__":
    random.seed(int(sys.argv[6]))
    paths = [Path(argument) for argument in sys.argv[1:4]]
    main(paths[0], paths[1], paths[2], sys.argv[4], int(sys.argv[5]))
