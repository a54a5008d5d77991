"""A mistake ends with an exit code that scripts can trust, one clear line, and no traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GOOD = {
    "id": "c1",
    "user": "ana",
    "messages": [
        {"role": "user", "content": "how do I sort a list?"},
        {"role": "assistant", "content": "call sorted(items)"},
        {"role": "user", "content": "that worked, thanks"},
    ],
}
BAD_LINE = '{"messages": [{"role": "user", "content": "cut off'


def upshot(
    *arguments: str, cwd: Path, text: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "upshot", *arguments],
        cwd=cwd,
        input=text,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the inputs of the mistakes: good and bad files, a lake."""
    here = tmp_path_factory.mktemp("place")
    (here / "good.jsonl").write_text(json.dumps(GOOD) + "\n")
    (here / "bad.jsonl").write_text(BAD_LINE + "\n" + BAD_LINE + "\n")
    (here / "mixed.jsonl").write_text(json.dumps(GOOD) + "\n" + BAD_LINE + "\n")
    (here / "empty.jsonl").write_text("")
    (here / "prose.txt").write_text("Dear diary,\nnothing happened today.\n")
    (here / "unanswered.jsonl").write_text('{"messages": [{"role": "user", "content": "hello?"}]}')
    (here / "typo.toml").write_text("[judge]\nhorizont = 3\n")
    (here / "broken.toml").write_text("[judge\n")
    (here / "secret.toml").write_text('[llm]\nkey = "sk-1"\n')
    (here / "bad-events.jsonl").write_text('{"id": "c9", "index": 1, "kind": "merged"}\n')
    (here / "mixed-events.jsonl").write_text(
        '{"id": "c1", "index": 1, "kind": "merged"}\n{"id": "c1", "index": 1, "kind": "applause"}\n'
    )
    (here / "labels.jsonl").write_text('{"id": "c1", "index": 1, "label": 7}\n')
    (here / "pairs.jsonl").write_text(
        '{"prompt": [{"role": "user", "content": "hi"}], "chosen": [{"role": "assistant",'
        ' "content": "yes"}], "rejected": [{"role": "assistant", "content": "no"}]}\n'
    )
    (here / "tasks.jsonl").write_text('{"id": "t", "task": "write f", "tests": "assert f()"}\n')
    (here / "a-file").write_text("not a lake")
    (here / "a-file.txt").write_text("§ 1. A boat is a ship.")
    (here / "a-folder").mkdir()
    (here / "empty-folder").mkdir()
    made = upshot("run", "good.jsonl", "--lake", "lake", cwd=here)
    assert made.returncode == 0, made.stderr
    return here


DOWN = ("--judge", "llm", "--base-url", "http://127.0.0.1:9/v1", "--model", "m")
NO_RETRY = {"UPSHOT_LLM__ATTEMPTS": "1", "UPSHOT_LLM__BACKOFF_S": "0"}
MISTAKES: dict[str, tuple[str, int, str]] = {
    "a file that is not there": ("judge missing.jsonl", 2, "no such file"),
    "a file of another kind": ("judge prose.txt", 2, "in no format that Upshot knows"),
    "an empty file": ("judge empty.jsonl", 2, "is empty"),
    "an empty folder": ("judge empty-folder", 2, "holds no files"),
    "no files": ("judge", 2, "name files"),
    "logs without a response": ("judge unanswered.jsonl", 2, "there is no response"),
    "every record bad, judged": ("judge bad.jsonl", 2, "line 1"),
    "a record bad, judged": ("judge mixed.jsonl -o some.jsonl", 1, "mixed.jsonl: line 2"),
    "every record bad, linked": ("link bad.jsonl", 2, "line 1"),
    "every record bad, ingested": ("ingest bad.jsonl --lake new", 2, "line 1"),
    "a record bad, ingested": ("ingest mixed.jsonl --lake newer", 1, "mixed.jsonl: line 2"),
    "a record bad in the main job": ("run mixed.jsonl --lake newest", 1, "mixed.jsonl: line 2"),
    "every event bad": ("ingest --events bad-events.jsonl --lake lake", 2, "no such response"),
    "an event bad": ("ingest --events mixed-events.jsonl --lake lake", 1, "applause"),
    "an unknown format": ("judge good.jsonl --format nope", 2, "unknown format"),
    "an unknown verb": ("frobnicate", 2, "No such command"),
    "an unknown option": ("judge good.jsonl --frob", 2, "--frob"),
    "a value out of range": ("judge good.jsonl --horizon 0", 2, "--horizon"),
    "columns that are no map": ("judge good.jsonl --columns x", 2, "--columns"),
    "a setting that is unknown": ("judge good.jsonl --config typo.toml", 2, "horizont"),
    "settings that are no TOML": ("judge good.jsonl --config broken.toml", 2, "not TOML"),
    "settings that hold a secret": ("judge good.jsonl --config secret.toml", 2, "UPSHOT_LLM__KEY"),
    "settings that are not there": ("judge good.jsonl --config none.toml", 2, "not a file"),
    "output into a missing folder": ("judge good.jsonl -o no/such/v.jsonl", 2, "make it first"),
    "output over a folder": ("judge good.jsonl -o a-folder", 2, "is a folder"),
    "a report into a missing folder": ("report --lake lake -o no/r.html", 2, "make it first"),
    "a lake that is not there": ("report --lake nowhere", 2, "there is no lake"),
    "a lake that is a file": ("ingest good.jsonl --lake a-file", 2, "a-file"),
    "judging a lake that is not there": ("judge --lake nowhere", 2, "there is no lake"),
    "erasing an unknown user": ("erase --user nobody --lake lake", 2, "holds nothing"),
    "labels out of range": ("calibrate --lake lake --labels labels.jsonl", 2, "line 1"),
    "one arm": ("compare --lake lake", 2, "two are needed"),
    "an audit that draws nothing": ("audit --lake lake --rate 0", 2, "raise --rate"),
    "pairs of a lake without any": ("pairs --lake lake", 2, "nothing exported"),
    "an unknown trainer": ("pairs --lake lake --for alpaca", 2, "unknown trainer"),
    "a model that is not there": ("score nothing pairs.jsonl", 2, "nothing"),
    "too little to learn from": ("train reward pairs.jsonl -o model", 2, "could not train"),
    "runs that are not there": ("credit nothing.jsonl", 2, "No such file"),
    "an unknown method": ("train policy pairs.jsonl --method magic --model x -o p", 2, "magic"),
    "no repository": ("retention a-folder", 2, "git"),
    "no loop": ("loop status --config none.toml", 2, "none.toml"),
    "artifacts that are not there": ("reconstruct none.md --sources a-file", 2, "no such file"),
    "a library that is not there": ("reconstruct prose.txt --sources none", 2, "--sources"),
    "an artifact of another kind": ("reconstruct typo.toml --sources a-file.txt", 2, "pdftotext"),
    "trails that are none": ("replay good.jsonl --sources a-file.txt", 2, "upshot reconstruct"),
    "no lake and no trails": ("report", 2, "--trails"),
    "credits without replays": ("trails export good.jsonl --for credit", 2, "--replays"),
    "an endpoint that is down": (f"judge good.jsonl {' '.join(DOWN)}", 2, "could not judge"),
    "the same on a lake": (f"judge --lake lake {' '.join(DOWN)}", 2, "could not judge"),
    "no endpoint": ("judge good.jsonl --judge llm", 2, "--base-url"),
    "attempts without an endpoint": (
        "attempt tasks.jsonl --base-url http://127.0.0.1:9/v1 --model m",
        2,
        "127.0.0.1:9",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_has_its_exit_code_and_one_clear_line(mistake: str, place: Path) -> None:
    command, code, part = MISTAKES[mistake]
    done = upshot(*command.split(), cwd=place, **NO_RETRY)
    assert done.returncode == code, (done.returncode, done.stderr)
    assert part in done.stderr
    assert "Traceback" not in done.stderr


def test_there_are_at_least_thirty_mistakes() -> None:
    assert len(MISTAKES) >= 30


def test_no_embedded_verdict_goes_out_under_the_name_of_a_model_that_is_down(place: Path) -> None:
    done = upshot("judge", "good.jsonl", *DOWN, "-o", "llm.jsonl", cwd=place, **NO_RETRY)
    assert done.returncode == 2
    assert done.stdout == ""
    assert not (place / "llm.jsonl").exists()


def test_success_to_a_file_is_one_line_and_code_0(place: Path) -> None:
    done = upshot("judge", "good.jsonl", "-o", "v.jsonl", cwd=place)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "1 verdicts written to v.jsonl.\n"


def test_quiet_says_nothing_and_json_logs_are_json(place: Path) -> None:
    silent = upshot("-q", "judge", "good.jsonl", "-o", "v.jsonl", cwd=place)
    assert (silent.returncode, silent.stderr) == (0, "")
    done = upshot("--log-format", "json", "judge", "mixed.jsonl", "-o", "v.jsonl", cwd=place)
    rows = [json.loads(line) for line in done.stderr.splitlines()]
    assert [row["level"] for row in rows] == ["info", "error"]
    assert "mixed.jsonl: line 2" in rows[1]["message"]


def test_control_characters_of_strangers_are_escaped(place: Path) -> None:
    name = "evil\x1b[2J.jsonl"
    (place / name).write_text(BAD_LINE)
    done = upshot("judge", name, cwd=place)
    assert done.returncode == 2
    assert "\x1b" not in done.stderr
    assert "\\x1b" in done.stderr


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a folder nobody may write to")
def test_a_folder_without_permission_is_named(place: Path) -> None:
    done = upshot("judge", "good.jsonl", "-o", "/sys/kernel/v.jsonl", cwd=place)
    assert done.returncode == 2, done.stderr
    assert "/sys/kernel/v.jsonl: Permission denied" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_full_disk_is_one_line_and_leaves_what_was_there(place: Path) -> None:
    done = upshot("judge", "good.jsonl", "-o", "/dev/full", cwd=place)
    assert done.returncode in (1, 2)
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr
    assert Path("/dev/full").is_char_device()


def test_output_into_a_device_or_a_pipe_is_written_straight_through(place: Path) -> None:
    assert upshot("judge", "good.jsonl", "-o", "/dev/null", cwd=place).returncode == 0
    assert Path("/dev/null").is_char_device()
    pipe = place / "pipe"
    os.mkfifo(pipe)
    rows: list[str] = []
    reader = threading.Thread(target=lambda: rows.append(pipe.read_text()))
    reader.start()
    assert upshot("judge", "good.jsonl", "-o", "pipe", cwd=place).returncode == 0
    reader.join(20)
    assert json.loads(rows[0])["id"] == "c1"


def test_a_link_to_a_file_stays_a_link(place: Path) -> None:
    (place / "real.jsonl").write_text("old")
    (place / "link.jsonl").symlink_to("real.jsonl")
    assert upshot("judge", "good.jsonl", "-o", "link.jsonl", cwd=place).returncode == 0
    assert (place / "link.jsonl").is_symlink()
    assert json.loads((place / "real.jsonl").read_text())["id"] == "c1"


def _interrupt(command: list[str], cwd: Path, wait: Callable[[], bool]) -> tuple[int, str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "upshot", *command],
        cwd=cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while not wait() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def test_ctrl_c_while_waiting_for_input_is_130_and_says_so(place: Path) -> None:
    began = time.monotonic()
    code, errors = _interrupt(["judge", "-"], place, lambda: time.monotonic() - began > 4)
    assert code == 130, errors
    assert "interrupted" in errors
    assert "Traceback" not in errors


def test_ctrl_c_at_the_start_is_130_too(place: Path) -> None:
    began = time.monotonic()
    code, errors = _interrupt(["judge", "-"], place, lambda: time.monotonic() - began > 0.12)
    assert code in (130, -signal.SIGINT), errors  # -2: before Python itself had started
    assert "Traceback" not in errors or code == -signal.SIGINT


def test_a_missing_extra_is_named_with_its_install_line(place: Path) -> None:
    hide = (
        "import sys\n"
        "class Hide:\n"  # as if it were not installed: scipy looks into sys.modules
        "    def find_spec(self, name, *_):\n"
        "        if name.partition('.')[0] == 'torch':\n"
        "            raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n"
        "sys.meta_path.insert(0, Hide())\n"
        "from upshot.cli import main\n"
        "sys.argv[1:] = ['train', 'policy', 'pairs.jsonl', '--method', 'dpo',"
        " '--model', 'x', '-o', 'p']\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", hide], cwd=place, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "pip install 'upshot-ai[train]'" in done.stderr
    assert "Traceback" not in done.stderr
