"""What damages a lake is said with advice, and repaired from what is whole."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import upshot
from upshot.errors import LakeError, NotFoundError
from upshot.lake import Lake

UPSHOT = Path(sys.executable).with_name("upshot")
KEY = "a key that is long enough"


def write_log(path: Path, day: int, users: int = 6) -> Path:
    lines: list[str] = []
    for user in range(users):
        reaction = ("that worked, thanks!", "no, still fails with the same error")[(user + day) % 2]
        turns = [
            f"fix the date test {day}",
            "Done, I renamed it.",
            reaction,
            "And now?",
            "it works",
        ]
        roles = ["user", "assistant", "user", "assistant", "user"]
        messages = [{"role": r, "content": t} for r, t in zip(roles, turns, strict=True)]
        row = {"id": f"c{user}-{day}", "user": f"u{user}", "started_at": 1.75e9 + 86400 * day}
        lines.append(json.dumps({**row, "messages": messages}))
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """A lake of three days, and its logs."""
    folder = tmp_path_factory.mktemp("whole")
    logs = [write_log(folder / f"{day}.jsonl", day) for day in range(3)]
    for log in logs:
        upshot.run(log, folder / "lake", make_settings())
    return folder / "lake", logs


def make_settings() -> upshot.Settings:
    settings = upshot.load(lake={"buckets": 2})
    return settings.model_copy(update={"key": type(settings.key)(KEY)})


def rows_of(folder: Path) -> dict[str, list[str]]:
    """What the lake says."""
    columns = {
        "conversations": ["id", "user", "messages", "digest"],
        "messages": ["user", "id", "index", "role", "text"],
        "verdicts": ["id", "index", "score", "confidence", "label"],
        "threads": ["id", "thread", "parent", "score"],
    }
    lake = Lake(folder)
    return {
        table: sorted(map(str, lake.read(table).select(names).to_pylist()))
        for table, names in columns.items()
    }


def last_entry(lake: Path, table: str) -> Path:
    return max((lake / table / "_delta_log").glob("*.json"))


def data_file(lake: Path, table: str) -> Path:
    return min((lake / table).glob("bucket=*/*.parquet"))


def tear_entry(lake: Path, table: str) -> None:
    entry = last_entry(lake, table)
    entry.write_bytes(entry.read_bytes()[: entry.stat().st_size // 2])


def empty_entry(lake: Path, table: str) -> None:
    last_entry(lake, table).write_bytes(b"")


def drop_last_entry(lake: Path, table: str) -> None:
    last_entry(lake, table).unlink()


def drop_middle_entry(lake: Path, table: str) -> None:
    sorted((lake / table / "_delta_log").glob("*.json"))[1].unlink()


def drop_log(lake: Path, table: str) -> None:
    shutil.rmtree(lake / table / "_delta_log")
    (lake / table / "_delta_log").mkdir()


def drop_file(lake: Path, table: str) -> None:
    data_file(lake, table).unlink()


def flip_bit(lake: Path, table: str) -> None:
    path = data_file(lake, table)
    content = bytearray(path.read_bytes())
    content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    path.write_bytes(bytes(content))


DAMAGES: list[Callable[[Path, str], None]] = [
    tear_entry,
    empty_entry,
    drop_last_entry,
    drop_middle_entry,
    drop_log,
    drop_file,
    flip_bit,
]


@pytest.mark.parametrize("table", ["conversations", "messages", "verdicts"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_said_and_repaired_and_a_run_brings_back_what_is_gone(
    damage: Callable[[Path, str], None],
    table: str,
    whole: tuple[Path, list[Path]],
    tmp_path: Path,
) -> None:
    template, logs = whole
    lake = tmp_path / "lake"
    shutil.copytree(template, lake)
    assert not upshot.lake_check(lake).damages
    damage(lake, table)
    check = upshot.lake_check(lake)
    assert {one.table for one in check.damages} == {table}
    repaired = upshot.lake_check(lake, repair=True)
    assert repaired.is_repaired
    lost = [one for one in repaired.damages if one.lost]
    assert bool(lost) == (damage in (drop_file, flip_bit))
    assert not upshot.lake_check(lake).damages
    assert not (lake / ".repair").exists()
    if not lost:
        assert rows_of(lake) == rows_of(template)
    upshot.run(list(map(str, logs)), lake, make_settings())
    assert rows_of(lake) == rows_of(template)


def test_a_damaged_lake_stops_a_run_with_advice(
    whole: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    template, logs = whole
    for damage in (tear_entry, drop_last_entry, drop_file):
        lake = tmp_path / damage.__name__
        shutil.copytree(template, lake)
        damage(lake, "messages")
        with pytest.raises(LakeError, match="upshot lake check") as error:
            upshot.run(write_log(tmp_path / "new.jsonl", 9), lake, make_settings())
        assert "\n" not in str(error.value)
    assert logs


def test_messages_that_are_missing_are_counted(
    whole: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    shutil.copytree(whole[0], lake)
    shutil.rmtree(lake / "checksums")
    drop_last_entry(lake, "messages")  # nothing but the messages themselves can say so
    check = upshot.lake_check(lake)
    assert check.damages
    assert all("of its 5 messages" in damage.problem for damage in check.damages)
    repaired = upshot.lake_check(lake, repair=True)
    assert all("brings it back" in damage.lost for damage in repaired.damages)
    upshot.run(list(map(str, whole[1])), lake, make_settings())
    assert rows_of(lake) == rows_of(whole[0])


def test_an_erased_user_does_not_come_back_by_a_repair(
    whole: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    shutil.copytree(whole[0], lake)
    for table in ("messages", "erased"):
        old = tmp_path / table
        shutil.copytree(lake / table, old)
    upshot.erase("u1", lake, make_settings())
    for path in (tmp_path / "messages").glob("bucket=*/*.parquet"):
        shutil.copy2(path, lake / "messages" / path.parent.name)  # what a backup may bring
    tear_entry(lake, "messages")
    upshot.lake_check(lake, repair=True)
    assert len({row.split("'id'")[0] for row in rows_of(lake)["messages"]}) == 5


def test_a_repair_that_was_killed_is_finished(
    whole: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    shutil.copytree(whole[0], lake)
    room = lake / ".repair"
    room.mkdir()
    shutil.copytree(lake / "verdicts", room / "verdicts.whole")
    (lake / "verdicts").rename(room / "verdicts.old")  # and killed here
    upshot.lake_check(lake, repair=True)
    assert rows_of(lake) == rows_of(whole[0])
    assert not room.exists()


def test_the_verb_has_codes(whole: tuple[Path, list[Path]], tmp_path: Path) -> None:
    def run(*arguments: str) -> tuple[int, Any]:
        command = [str(UPSHOT), "lake", "check", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr

    lake = tmp_path / "lake"
    shutil.copytree(whole[0], lake)
    assert run("--lake", str(lake))[0] == 0
    tear_entry(lake, "messages")
    code, result = run("--lake", str(lake))
    assert (code, len(result["damages"])) == (1, 1)
    assert run("--lake", str(lake), "--repair")[0] == 0
    drop_file(lake, "messages")
    assert run("--lake", str(lake), "--repair")[0] == 1
    assert run("--lake", str(lake))[0] == 0
    with pytest.raises(NotFoundError):
        upshot.lake_check(tmp_path / "nowhere")


def limit_file_size() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))


def limit_to_16_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))


def limit_to_24_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))


def run_limited(
    log: Path, lake: Path, limit: Callable[[], None] | None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(UPSHOT), "run", str(log), "--lake", str(lake)],
        env={**os.environ, "UPSHOT_KEY": KEY, "UPSHOT_LAKE__BUCKETS": "2"},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "advice"),
    [
        (limit_file_size, "make room and run it again"),
        (limit_to_16_files, "raise the limit"),
        (limit_to_24_files, ""),
    ],
)
def test_a_full_disk_or_few_descriptors_leave_nothing_half_written(
    limit: Callable[[], None], advice: str, tmp_path: Path
) -> None:
    lake, log = tmp_path / "lake", write_log(tmp_path / "new.jsonl", 7, users=40)
    assert run_limited(write_log(tmp_path / "old.jsonl", 1), lake, None).returncode == 0
    done = run_limited(log, lake, limit)
    assert "Traceback" not in done.stderr
    assert (done.returncode, advice in done.stderr) == (1 if advice else 0, True)
    assert not upshot.lake_check(lake).damages
    assert run_limited(log, lake, None).returncode == 0
    assert not upshot.lake_check(lake).damages
    assert Lake(lake).read("messages").num_rows == 46 * 5


@pytest.mark.slow
def test_a_lake_that_can_only_be_read_is_read_and_not_written(
    whole: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    lake, new = tmp_path / "lake", write_log(tmp_path / "new.jsonl", 8)
    shutil.copytree(whole[0], lake)
    verbs = f"""
        mount --bind {lake} {lake} && mount -o remount,bind,ro {lake} || exit 77
        {UPSHOT} run {new} --lake {lake}; echo $?
        {UPSHOT} lake check --lake {lake} >/dev/null; echo $?
    """
    try:
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", verbs], capture_output=True, text=True, check=False,
            env={**os.environ, "UPSHOT_KEY": KEY},
        )  # fmt: skip
    except FileNotFoundError:
        pytest.skip("unshare is not installed")
    if done.returncode:
        pytest.skip("this process may mount nothing")
    assert done.stdout.split() == ["1", "0"]
    assert "this user may not write there" in done.stderr
    assert "Traceback" not in done.stderr
    assert rows_of(lake) == rows_of(whole[0])
