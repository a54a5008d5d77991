"""What was paid for is kept, however a run ends; and what is kept is erased with its user."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import llm_faults  # pyright: ignore[reportMissingImports]
from upshot.lake import Lake
from upshot.llm import FileReplies, LakeReplies, Reply, settle_journals
from upshot.llm.interrupts import run_interruptible
from upshot.llm.journal import Journal, JournalRow, start_journal

Faulty = Callable[..., str]
REPLY = Reply(("yes",), 3, 1, 2)


@pytest.mark.parametrize("with_lake", [False, True])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_after_a_kill_nothing_is_asked_twice_beyond_the_last_second(
    tmp_path: Path, number: signal.Signals, with_lake: bool
) -> None:
    repeats, early, is_whole = llm_faults.kill_and_resume(tmp_path, number, with_lake)
    assert early > 0
    assert repeats == 0
    assert is_whole


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_run_with_its_exit_code_and_replies_in_the_table(
    faulty: Faulty, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    address = faulty({"delay_s": 0.2})
    chats, lake = tmp_path / "chats.jsonl", tmp_path / "lake"
    llm_faults.write_chats(chats, 10)
    environment = llm_faults.environment(UPSHOT_LLM__CONCURRENCY="1")
    command = [sys.executable, "-m", "upshot", "ingest", str(chats), "--lake", str(lake)]
    subprocess.run(command, check=True, capture_output=True)
    command = [*llm_faults.judge_command(chats, address)[:4], "--lake", str(lake)]
    command += llm_faults.judge_command(chats, address)[5:]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    while len(llm_faults.read_ledger(address)["answers"]) < 4:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    _, output = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in output
    assert Lake(lake, 16).read("replies").num_rows >= 3
    assert not (lake / "replies-journal").exists()


def test_a_stopped_run_says_where_its_replies_are_and_goes_on_from_them(
    faulty: Faulty, tmp_path: Path
) -> None:
    address = faulty()
    chats, out = tmp_path / "chats.jsonl", tmp_path / "out.jsonl"
    llm_faults.write_chats(chats, 10)
    command = llm_faults.judge_command(chats, address, "-o", str(out))
    environment = llm_faults.environment()

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *more], env=environment, capture_output=True, text=True)

    first = run("--budget-tokens", "6000")
    kept = out.with_name("out.jsonl.replies")
    assert first.returncode in (1, 2)
    assert str(kept) in first.stderr
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    before = llm_faults.read_ledger(address)["requests"]
    assert run().returncode == 0
    assert not kept.exists()
    assert before > 0
    assert llm_faults.read_ledger(address)["requests"] == 20
    assert len(out.read_text().splitlines()) == 10


def test_an_output_that_is_no_file_has_no_journal(faulty: Faulty, tmp_path: Path) -> None:
    chats = tmp_path / "chats.jsonl"
    llm_faults.write_chats(chats, 2)
    for out in ("-", "/dev/null"):
        command = llm_faults.judge_command(chats, faulty(), "-o", out)
        done = subprocess.run(
            command, env=llm_faults.environment(), capture_output=True, cwd=tmp_path
        )
        assert done.returncode == 0
    assert [path.name for path in tmp_path.iterdir() if "replies" in path.name] == []


def test_a_journal_is_read_up_to_where_a_kill_cut_it_off(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    rows = [JournalRow(str(n), "u", Reply((f"{n}\u2028é",), missing=n)) for n in range(3)]
    journal = Journal(path)
    for row in rows:
        journal.write(row)
    journal.close(delete=False)
    content = path.read_bytes()
    for size in (len(content), len(content) - 1, len(content) - 9):
        path.write_bytes(content[:size])
        journal = Journal(path)
        assert (
            journal.read() == rows[: 3 if size == len(content) else 2] or size >= len(content) - 1
        )
        journal.write(rows[2])
        assert journal.read()[-1] == rows[2]
        journal.close(delete=False)


def test_the_journal_of_a_process_that_lives_is_left_alone(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake", 2)
    replies = LakeReplies(lake)
    replies.put("a", "u_ana", REPLY)
    assert settle_journals(lake) == 0
    with FileReplies(tmp_path / "x") as first, FileReplies(tmp_path / "x") as second:
        first.put("b", "u", REPLY)
        second.put("c", "u", REPLY)  # in memory only
    with FileReplies(tmp_path / "x") as third:
        assert (third.get("b"), third.get("c")) == (REPLY, None)
    replies.flush()
    assert LakeReplies(lake).get("a") == REPLY


def test_what_a_killed_run_left_is_moved_into_the_table_once(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake", 2)
    lake.create()
    journal = start_journal(tmp_path / "lake" / "replies-journal")
    journal.write(JournalRow("a", "u_ana", Reply(("y",))))
    journal.write(JournalRow("a", "u_ana", Reply(("y", "n"))))
    journal.close(delete=False)  # as a kill leaves it
    assert LakeReplies(lake).get("a") == Reply(("y", "n"))
    assert LakeReplies(lake).get("a") == Reply(("y", "n"))
    assert lake.read("replies").num_rows == 1
    assert not (tmp_path / "lake" / "replies-journal").exists()


def test_a_user_is_erased_from_the_journal_of_a_killed_run(tmp_path: Path) -> None:
    chats, lake = tmp_path / "chats.jsonl", tmp_path / "lake"
    llm_faults.write_chats(chats, 4)
    command = [sys.executable, "-m", "upshot"]
    environment = {**os.environ, "UPSHOT_KEY": "a key of at least sixteen"}

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *more], env=environment, capture_output=True, text=True, check=True
        )

    run("ingest", str(chats), "--lake", str(lake))
    rows = [json.loads(line) for line in run("link", "--lake", str(lake)).stdout.splitlines()]
    assert rows
    user = next(
        row["user"] for row in Lake(lake).read("conversations").to_pylist() if row["id"] == "c1"
    )
    journal = start_journal(lake / "replies-journal")
    journal.write(JournalRow("a", user, Reply(("what she wrote, word for word, and more",))))
    journal.write(JournalRow("b", "u_other", REPLY))
    journal.close(delete=False)
    run("erase", "--user", "u1", "--lake", str(lake))
    for path in lake.rglob("*"):
        assert not path.is_file() or user.encode() not in path.read_bytes()
    assert [row["key"] for row in Lake(lake).read("replies").to_pylist()] == ["b"]


def test_a_lake_elsewhere_commits_within_a_second(tmp_path: Path) -> None:
    class Elsewhere(Lake):
        """A lake that says that it is not on this machine."""

        def __init__(self, root: Path) -> None:
            super().__init__(root, 2)
            self.is_local = False

    lake = Elsewhere(tmp_path / "lake")
    lake.create()

    async def run() -> None:
        replies = LakeReplies(lake)
        replies.put("a", "u_ana", REPLY)
        assert lake.read("replies").num_rows == 0
        await asyncio.sleep(1.3)
        assert lake.read("replies").num_rows == 1

    (tmp_path / "lake").mkdir(exist_ok=True)
    asyncio.run(run())


def test_a_handler_of_the_program_stays_in_charge() -> None:
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    try:

        async def main() -> str:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0.05)
            return "done"

        assert run_interruptible(main()) == "done"
        assert received == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_signal_cancels_and_what_was_opened_is_closed() -> None:
    ends: list[str] = []

    async def main() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(5)
        finally:
            ends.append("closed")

    with pytest.raises(SystemExit) as caught:
        run_interruptible(main())
    assert (caught.value.code, ends) == (143, ["closed"])
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_the_verb_survives_faults_within_its_budget(tmp_path: Path) -> None:
    names = {"empty choices for one", "a trailing comma", "closed now and then", "negative usage"}
    faults: list[Any] = [fault for fault in llm_faults.FAULTS if fault.name in names]
    assert len(faults) == len(names)
    for fault in faults:
        run = llm_faults.judge(fault, tmp_path, 10_000_000)
        assert llm_faults.find_failure(fault, run) == ""
        tight = llm_faults.judge(fault, tmp_path, 5_000)
        assert tight.ledger["tokens"] <= 5_000
