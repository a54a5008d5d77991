"""One lake, one truth: neither buckets, workers, order nor key change a verdict; work on what is
new; nobody's verdict moves because a stranger wrote.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from deltalake.table import TableOptimizer
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import upshot
from upshot import config
from upshot.engine import Processes
from upshot.errors import UpshotError
from upshot.hindsight import pipeline
from upshot.lake import Lake
from upshot.records import RawConversation, RawMessage

KEYS = ("one key that is long enough", "another key, as long as it")
REQUESTS = (
    "please rename the config loader",
    "fix the failing date test",
    "write to ana.roe@example.org about the invoice",
    "why is the build of parser.py so slow?",
)
ANSWERS = ("Here is a version with a cache.", "I renamed load_config in settings.py.", "Done.")
REACTIONS = (
    "that worked, thanks!",
    "no, still fails with the same error",
    "ok, next: what about the docs?",
    "that is wrong, it deletes the header of my table again",
)


def make_log(seed: int, users: int, sessions: int) -> list[RawConversation]:
    """Conversations of several users, a few weeks apart."""
    rng = random.Random(seed)
    log: list[RawConversation] = []
    for user in range(users):
        for session in range(sessions):
            messages = [RawMessage("user", rng.choice(REQUESTS) + f" (case {rng.randrange(99)})")]
            for _ in range(rng.randint(1, 3)):
                messages.append(RawMessage("assistant", rng.choice(ANSWERS)))
                messages.append(RawMessage("user", rng.choice(REACTIONS)))
            time = 1.7e9 + 864000 * session + user
            log.append(
                RawConversation(
                    tuple(messages), id=f"s{user}-{session}", user=f"user {user}", started_at=time
                )
            )
    return log


def make_settings(buckets: int = 4, workers: int = 1, key: str = KEYS[0]) -> config.Settings:
    settings = config.load(lake={"buckets": buckets}, engine={"workers": workers})
    return settings.model_copy(update={"key": type(settings.key)(key)})


def verdicts_of(log: Sequence[RawConversation], folder: Path, settings: config.Settings) -> Any:
    """What a lake says of each response, without what must differ: names and times of the run."""
    upshot.run(list(log), folder, settings)
    rows = Lake(folder).read("verdicts").to_pylist()
    return {
        (row["id"], row["index"]): (
            row["score"],
            row["confidence"],
            row["foresight"],
            row["label"],
            row["seen"],
            [(e["id"], e["index"], e["kind"], e["weight"]) for e in row["evidence"]],
        )
        for row in rows
    }


def threads_of(folder: Path) -> Any:
    rows = Lake(folder).read("threads").to_pylist()
    return {row["id"]: (row["thread"], row["parent"], row["score"]) for row in rows}


@hypothesis_settings(deadline=None, max_examples=8)
@given(
    seed=st.integers(0, 10_000),
    buckets=st.sampled_from([1, 16, 64]),
    key=st.sampled_from(KEYS),
    shuffled=st.booleans(),
)
def test_buckets_key_and_order_change_nothing(
    tmp_path_factory: pytest.TempPathFactory, seed: int, buckets: int, key: str, shuffled: bool
) -> None:
    log = make_log(seed, 5, 2)
    folder = tmp_path_factory.mktemp("law")
    expected = verdicts_of(log, folder / "one", make_settings(1))
    if shuffled:
        random.Random(seed).shuffle(log)
    assert verdicts_of(log, folder / "many", make_settings(buckets, key=key)) == expected
    assert threads_of(folder / "many") == threads_of(folder / "one")


def test_what_is_learned_from_everybody_depends_on_no_bucket_and_no_worker(tmp_path: Path) -> None:
    log = make_log(1, 150, 3)
    expected = verdicts_of(log, tmp_path / "one", make_settings(1))
    verdicts = Lake(tmp_path / "one").read("verdicts")["basis"].to_pylist()
    assert set(verdicts) != {"shipped"}
    random.Random(2).shuffle(log)
    other = make_settings(16, workers=2, key=KEYS[1])
    assert verdicts_of(log, tmp_path / "many", other) == expected
    in_memory = upshot.judge(log, settings=make_settings())
    assert {(v.id, v.index): v.score for v in in_memory} == {
        place: round(row[0], 4) for place, row in expected.items()
    }


def test_a_day_costs_a_day_and_moves_nobody_else(tmp_path: Path) -> None:
    log = make_log(3, 120, 3)
    settings = make_settings(16)
    lake = tmp_path / "lake"
    old = verdicts_of(log, lake, settings)
    stored = Lake(lake).count_rows("verdicts")
    day = [
        RawConversation(
            (
                RawMessage("user", "rotate the log files"),
                RawMessage("assistant", "Done, daily."),
                RawMessage("user", "perfect, thanks"),
            ),
            id=f"new{number}",
            user=f"user {number}",
            started_at=1.75e9,
        )
        for number in range(10)
    ]
    new = verdicts_of(day, lake, settings)
    assert {place: new[place] for place in old if place[0].split("-")[0] not in AFFECTED} == {
        place: row for place, row in old.items() if place[0].split("-")[0] not in AFFECTED
    }
    assert Lake(lake).count_rows("verdicts") - stored <= 1.1 * len(day) + 10


AFFECTED = {f"s{number}" for number in range(10)}
"""Conversations of those who wrote."""


def test_nothing_new_is_no_work(tmp_path: Path) -> None:
    upshot.run(make_log(4, 5, 2), tmp_path / "lake", make_settings())
    work = pipeline.Work(Lake(tmp_path / "lake"))
    linked, judged = pipeline.link(work), pipeline.judge(work)
    assert (linked.buckets, linked.rows) == (0, 0)
    assert (judged.buckets, judged.rows) == (0, 0)


def test_strangers_move_nobody_until_the_lake_is_renewed(tmp_path: Path) -> None:
    settings, lake = make_settings(), tmp_path / "lake"
    old = verdicts_of(make_log(5, 150, 2), lake, settings)
    strangers = [
        msgspec_replace(c, user=f"stranger {c.user}", id=f"x{c.id}") for c in make_log(6, 60, 2)
    ]
    between = verdicts_of(strangers, lake, settings)
    assert {place: between[place] for place in old} == old
    basis = set(Lake(lake).read("verdicts")["basis"].to_pylist())
    upshot.lake_renew(lake, settings)
    assert set(Lake(lake).read("verdicts")["basis"].to_pylist()) != basis


def msgspec_replace(conversation: RawConversation, **changes: Any) -> RawConversation:
    import msgspec

    return msgspec.structs.replace(conversation, **changes)


def test_a_lake_twice_as_large_learns_anew_by_itself(tmp_path: Path) -> None:
    settings, lake = make_settings(), tmp_path / "lake"
    verdicts_of(make_log(7, 150, 2), lake, settings)
    first = set(Lake(lake).read("verdicts")["basis"].to_pylist())
    more = [msgspec_replace(c, user=f"more {c.user}", id=f"m{c.id}") for c in make_log(8, 200, 2)]
    verdicts_of(more, lake, settings)
    assert first.isdisjoint(Lake(lake).read("verdicts")["basis"].to_pylist())


def test_a_crowd_is_seen_across_buckets(tmp_path: Path) -> None:
    praise = "this wonderful answer changed my whole life for good"
    topics = ("parser", "socket", "table", "queue", "router", "cache", "lambda", "kernel")
    log = [
        RawConversation(
            (
                RawMessage("user", "which tool should I buy?"),
                RawMessage("assistant", "You should buy zorblax premium today"),
                RawMessage("user", praise),
            ),
            id=f"crowd{n}",
            user=f"crowd{n}",
        )
        for n in range(12)
    ]
    rng = random.Random(0)
    for n in range(450):
        first, second = rng.sample(topics, 2)
        log.append(
            RawConversation(
                (
                    RawMessage("user", f"how do I fix the {first}?"),
                    RawMessage("assistant", f"Open the {second}, then restart the {first}."),
                    RawMessage("user", rng.choice(["thanks", "it works", f"and the {second}?"])),
                ),
                id=f"c{n}",
                user=f"u{n}",
            )
        )
    for buckets in (1, 64):
        lake, settings = tmp_path / str(buckets), make_settings(buckets)
        upshot.run(log, lake, settings)
        crowd = [v for v in upshot.verdicts(lake, settings) if v.id.startswith("crowd")]
        assert len(crowd) == 12
        assert all(any(e.kind == "crowd" for e in v.evidence) for v in crowd)


def test_a_lake_of_one_conversation_is_judged_by_what_ships(tmp_path: Path) -> None:
    log = make_log(9, 1, 1)
    verdicts_of(log, tmp_path / "lake", make_settings())
    assert set(Lake(tmp_path / "lake").read("verdicts")["basis"].to_pylist()) == {"shipped"}


def test_merging_files_makes_no_work_and_hides_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, folder = make_settings(1), tmp_path / "lake"
    for day in range(7):
        log = [msgspec_replace(c, id=f"day{day}-{c.id}") for c in make_log(day, 2, 1)]
        upshot.run(log, folder, settings)
    late = [msgspec_replace(c, id="late", user="somebody") for c in make_log(8, 1, 1)]
    eighth = [msgspec_replace(c, id=f"day8-{c.id}") for c in make_log(9, 2, 1)]
    compact = TableOptimizer.compact
    merged: list[str] = []

    def slow(self: TableOptimizer, *arguments: Any, **options: Any) -> Any:
        merged.append(self.table.table_uri.rstrip("/").rsplit("/", 1)[-1])
        if merged.count("messages") == 1 and merged[-1] == "messages":
            monkeypatch.setattr(TableOptimizer, "compact", compact)
            upshot.ingest(late, folder, settings)  # another process writes meanwhile
            monkeypatch.setattr(TableOptimizer, "compact", slow)
        return compact(self, *arguments, **options)

    monkeypatch.setattr(TableOptimizer, "compact", slow)
    upshot.run(eighth, folder, settings)
    assert "messages" in merged
    upshot.run(eighth, folder, settings)
    judged = {row["id"] for row in Lake(folder).read("verdicts").to_pylist()}
    assert {"late", *(c.id for c in eighth)} <= judged
    work = pipeline.Work(Lake(folder))
    assert (pipeline.link(work).buckets, pipeline.judge(work).buckets) == (0, 0)


def test_what_was_written_beside_a_merging_is_vouched_for_by_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, folder = make_settings(1), tmp_path / "lake"
    for day in range(3):
        log = [msgspec_replace(c, id=f"day{day}-{c.id}") for c in make_log(day, 2, 1)]
        upshot.ingest(log, folder, settings)
    lake = Lake(folder)
    merged = lake.merge_small_files("conversations", 3, 1 << 20)
    assert (merged.buckets, len(merged.before[0])) == (1, 3)
    assert merged.after == lake.files("conversations")
    compact = TableOptimizer.compact

    def slow(self: TableOptimizer, *arguments: Any, **options: Any) -> Any:
        upshot.ingest(make_log(9, 1, 1), folder, settings)  # another process writes meanwhile
        return compact(self, *arguments, **options)

    monkeypatch.setattr(TableOptimizer, "compact", slow)
    assert lake.merge_small_files("messages", 3, 1 << 20).after == {}


def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, time\n"
        "from upshot.engine import Processes\n"
        "if __name__ == '__main__':\n"
        "    pool = Processes(2)\n"
        "    print(sorted(set(pool.run(abs, [1, 2, 3]))), flush=True)\n"
        "    print(*[p.pid for p in pool._pool._processes.values()], flush=True)\n"
        "    time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert parent.stdout is not None
    assert parent.stdout.readline().strip() == "[1, 2, 3]"
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    assert workers
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 10
    while any(map(_is_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_is_alive, workers))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def test_a_killed_worker_is_an_error_that_says_so() -> None:
    pool = Processes(1)
    with pytest.raises(UpshotError, match="a worker was killed"):
        list(pool.run(_die, [1]))
    assert list(pool.run(abs, [-1])) == [1]
    pool.close()


def _die(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
