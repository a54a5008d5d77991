"""Commits are atomic, no row doubles, and what must not be in a lake is not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

import upshot
from upshot.api import judging
from upshot.errors import LakeError, NotFoundError
from upshot.lake import Lake
from upshot.privacy import Pseudonyms, clean
from upshot.records import RawConversation
from upshot.sources.ingest import Cleaning, IngestReport, ingest

Chat = Callable[..., RawConversation]
CLEANING = Cleaning("a key for tests, long enough", True, True, "")


def ingest_chats(lake: Lake, *conversations: RawConversation) -> IngestReport:
    return ingest(conversations, lake, CLEANING)


def test_the_same_conversation_twice_is_one(tmp_path: Path, chat: Chat) -> None:
    lake = Lake(tmp_path / "lake", 4)
    ingest_chats(lake, chat("u: a", "a: b"))
    report = ingest_chats(lake, chat("u: a", "a: b"))
    assert (report.conversations, report.known) == (0, 1)
    assert lake.read("messages").num_rows == 2


def test_a_longer_version_replaces_the_shorter_whichever_comes_first(
    tmp_path: Path, chat: Chat
) -> None:
    short, long = chat("u: a", "a: b"), chat("u: a", "a: b", "u: c", "a: d")
    for number, order in enumerate(((short, long), (long, short))):
        lake = Lake(tmp_path / str(number), 4)
        for conversation in order:
            ingest_chats(lake, conversation)
        assert lake.read("conversations").num_rows == 1
        assert lake.read("messages").num_rows == 4


def test_a_retried_append_changes_nothing(tmp_path: Path, chat: Chat) -> None:
    lake = Lake(tmp_path / "lake", 4)
    lake.create()
    batch = clean([chat("u: a", "a: b")], Pseudonyms("a key for tests, long enough"), None, 4)
    assert lake.append("messages", batch.messages, ("work", 1))
    version = lake.version("messages")
    assert not lake.append("messages", batch.messages, ("work", 1))
    assert lake.version("messages") == version


def test_older_versions_can_be_read_and_compaction_keeps_the_rows(
    tmp_path: Path, chat: Chat
) -> None:
    lake = Lake(tmp_path / "lake", 1)
    ingest_chats(lake, chat("u: a", "a: b", id="c1"))
    version = lake.version("conversations")
    ingest_chats(lake, chat("u: a", "a: b", id="c2"))
    assert lake.read("conversations", version=version).num_rows == 1
    before = sorted(map(str, lake.read("messages")["digest"].to_pylist()))
    assert lake.compact("messages") == 1
    assert sorted(map(str, lake.read("messages")["digest"].to_pylist())) == before


_WRITER = """
import sys
from upshot.lake import Lake
from upshot.records import RawConversation, RawMessage
from upshot.sources.ingest import Cleaning, ingest
lake = Lake(sys.argv[1], 4)
first = int(sys.argv[2])
for i in range(first, first + 8):
    turns = RawMessage("user", f"question {i}"), RawMessage("assistant", f"answer {i}")
    chat = RawConversation(turns, f"c{i}", f"u{i}")
    ingest([chat], lake, Cleaning("a key for tests, long enough", True, True, ""))
"""


def test_two_processes_may_write_at_once(tmp_path: Path) -> None:
    target = str(tmp_path / "lake")
    Lake(target, 4).create()
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, target, str(first)]) for first in (0, 4)
    ]
    assert [writer.wait(120) for writer in writers] == [0, 0]
    lake = Lake(target)
    assert sorted(map(str, lake.read("conversations")["id"].to_pylist())) == sorted(
        f"c{i}" for i in range(12)
    )
    assert lake.read("messages").num_rows == 24


def test_killed_at_any_moment_a_rerun_finishes_and_nothing_doubles(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with open(log, "w") as handle:
        for i in range(3000):
            turns = [
                {"role": "user", "content": f"question {i} " + "x" * 200},
                {"role": "assistant", "content": "y" * 300},
                {"role": "user", "content": "thanks, that worked"},
            ]
            handle.write(
                json.dumps({"id": f"c{i}", "user": f"u{i % 50}", "messages": turns}) + "\n"
            )
    settings = tmp_path / "s.toml"
    settings.write_text("[lake]\nbuckets = 4\nchunk_mb = 0.2\n")
    command = [
        sys.executable,
        "-m",
        "upshot",
        "run",
        str(log),
        "--lake",
        str(tmp_path / "lake"),
        "--config",
        str(settings),
    ]
    for wait in (1.2, 1.6, 2.2):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
        time.sleep(wait)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0
    lake = Lake(tmp_path / "lake")
    assert lake.read("conversations").num_rows == 3000
    assert lake.read("messages").num_rows == 9000
    assert lake.read("verdicts").num_rows == 3000


def test_the_log_of_the_lake_keeps_no_text(two_users: tuple[Path, Path]) -> None:
    log, lake = two_users
    upshot.run(log, lake, upshot.load(lake={"buckets": 2}))
    for path in lake.rglob("_delta_log/*.json"):
        assert b"giraffe" not in path.read_bytes()


def test_raw_names_and_the_key_never_reach_the_lake(two_users: tuple[Path, Path]) -> None:
    log, lake = two_users
    upshot.run(log, lake)
    key = lake.with_name("lake.key")
    assert oct(key.stat().st_mode & 0o777) == "0o600"
    users = set(map(str, Lake(lake).read("messages")["user"].to_pylist()))
    assert all(user.startswith("u_") for user in users)
    assert not any(
        path.read_bytes().count(key.read_bytes()) for path in lake.rglob("*") if path.is_file()
    )


def test_a_missing_lake_or_user_is_said_plainly(
    tmp_path: Path, two_users: tuple[Path, Path]
) -> None:
    with pytest.raises(NotFoundError, match="there is no lake"):
        judging.judge_lake(tmp_path / "none")
    log, lake = two_users
    upshot.ingest(log, lake)
    with pytest.raises(NotFoundError, match="holds nothing of that user"):
        upshot.erase("nobody", lake)
    with pytest.raises(NotFoundError, match="the lake holds"):
        Lake(lake).uri("tables")


def test_errors_can_be_pickled() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(LakeError("x")))
    assert isinstance(error, RuntimeError)
    assert msgspec.json.encode(str(error)) == b'"x"'
