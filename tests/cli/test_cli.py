"""The command line: every verb's example runs, wrong input is exit code 2 with one line."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from upshot.cli.app import app

ROOT = Path(__file__).parents[2]


def upshot(*arguments: str, cwd: Path = ROOT, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "upshot", *arguments], cwd=cwd, input=given, capture_output=True, text=True, check=False)


def example_of(name: str) -> list[str]:
    command = next(c for c in app.registered_commands if c.callback is not None and c.callback.__name__ == name)
    assert command.callback is not None
    line = next(line for line in (command.callback.__doc__ or "").splitlines() if "Example: upshot" in line)
    return shlex.split(line.split("Example: upshot ")[1])


def test_every_verb_has_an_example_that_runs(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    verbs = [c.callback.__name__ for c in app.registered_commands if c.callback is not None]
    assert verbs == ["run", "ingest", "link", "judge", "report", "erase"]
    for verb in verbs:
        done = upshot(*example_of(verb), cwd=tmp_path)
        assert done.returncode == 0, (verb, done.stderr)


def test_judge_works_as_a_filter() -> None:
    chat = {"id": "c1", "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}, {"role": "user", "content": "that worked, thanks"}]}
    done = upshot("judge", "-", given=json.dumps(chat) + "\n")
    (verdict,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert set(verdict) == {"id", "index", "score", "confidence", "foresight", "evidence", "label", "judge", "as_of", "observed_through", "horizon"}
    assert (verdict["id"], verdict["index"], verdict["judge"]) == ("c1", 1, "embedded/1")
    assert verdict["evidence"][0]["quote"] == "that worked"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["judge", "missing.jsonl"], "no such file"),
        (["judge", "pyproject.toml"], "looks like none of"),
        (["judge"], "name files"),
        (["run", "examples", "--lake", "x", "--format", "nope"], "unknown format"),
        (["report", "--lake", "/nonexistent/lake"], "there is no lake"),
        (["frobnicate"], "No such command"),
        (["judge", "examples/chats.jsonl", "--horizon", "0"], "--horizon"),
    ],
)
def test_wrong_input_is_exit_code_2_and_one_clear_line(arguments: list[str], said: str) -> None:
    done = upshot(*arguments)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_setting_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text("[judge]\nhorizont = 3\n")
    done = upshot("judge", "examples/chats.jsonl", "--config", str(tmp_path / "s.toml"))
    assert done.returncode == 2
    assert "horizont" in done.stderr


def test_two_workers_give_the_same_rows_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSHOT_KEY", "one key for both, so that placeholders are alike")
    for workers in ("1", "2"):
        assert upshot("run", str(ROOT / "examples" / "chats.jsonl"), "--lake", str(tmp_path / workers), "--workers", workers).returncode == 0
    from upshot.lake import Lake

    one, two = (Lake(tmp_path / name).read("verdicts").select(["id", "index", "score"]).to_pylist() for name in ("1", "2"))
    assert sorted(one, key=str) == sorted(two, key=str)
