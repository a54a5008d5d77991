"""Adding a thing is one file and one line, here or in another package."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "upshot"
CHAT = {
    "id": "c1",
    "messages": [
        {"role": "user", "content": "sing"},
        {"role": "assistant", "content": "la la la"},
    ],
}


def upshot(*arguments: str, path: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line with a folder before the installed packages."""
    return subprocess.run(
        [sys.executable, "-m", "upshot", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(path)},
    )


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Another package, installed in a folder: a format and an exporter through entry points."""
    site = tmp_path / "site"
    info = site / "more_of_it-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: more-of-it\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[upshot.sources]\nshout = more_of_it.shout\n"
        "[upshot.exporters]\nlines = more_of_it.lines:LINES\n"
        "[upshot.methods]\n"
    )
    code = site / "more_of_it"
    code.mkdir()
    (code / "__init__.py").write_text("")
    (code / "shout.py").write_text(
        "from upshot.io.files import read_lines\n"
        "from upshot.records import RawConversation, RawMessage\n"
        "def matches(head):\n    return head.startswith(b'SHOUT')\n"
        "def read(source):\n"
        "    texts = [line.decode().lower() for _, line in read_lines(source.stream)][1:]\n"
        "    roles = ('user', 'assistant')\n"
        "    yield RawConversation(tuple(RawMessage(roles[i % 2], t) for i, t in enumerate(texts)))\n"  # noqa: E501
    )
    (code / "lines.py").write_text(
        "from upshot.preferences.exporters.exporter import Exporter\n"
        "LINES = Exporter('examples', lambda row: {'text': row.completion[0].content})\n"
    )
    return site


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package, to add lines to."""
    shutil.copytree(SOURCE, tmp_path / "copy" / "upshot")
    return tmp_path / "copy"


def test_another_package_adds_a_log_format(package: Path, tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("SHOUT\nFIX IT\nDONE\nTHAT WORKED, THANKS\n")
    done = upshot("judge", "log.txt", path=package, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["evidence"][0]["quote"] == "that worked"
    assert "shout" in upshot("judge", "--help", path=package, cwd=tmp_path).stdout


def test_another_package_adds_an_exporter(package: Path, tmp_path: Path) -> None:
    rows = [{**CHAT, "messages": [*CHAT["messages"], {"role": "user", "content": "it worked"}]}]
    (tmp_path / "log.jsonl").write_text(json.dumps(rows[0]))
    assert upshot("run", "log.jsonl", "--lake", "lake", path=package, cwd=tmp_path).returncode == 0
    command = ("pairs", "--lake", "lake", "--for", "lines", "--test-share", "0")
    done = upshot(*command, path=package, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"text": "la la la"}


def test_a_log_format_is_one_file_and_one_line(copy: Path, package: Path, tmp_path: Path) -> None:
    shutil.copy(package / "more_of_it" / "shout.py", copy / "upshot" / "sources" / "shout.py")
    formats = copy / "upshot" / "sources" / "formats.py"
    line = '        "langfuse": "upshot.sources.langfuse",\n'
    text = formats.read_text()
    assert line in text
    formats.write_text(text.replace(line, line + '        "shout": "upshot.sources.shout",\n'))
    (tmp_path / "log.txt").write_text("SHOUT\nFIX IT\nDONE\n")
    done = upshot("judge", "log.txt", "--format", "shout", path=copy, cwd=tmp_path)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 1), done.stderr


def test_a_signal_kind_is_one_line(copy: Path, tmp_path: Path) -> None:
    messages = [CHAT["messages"][0], {**CHAT["messages"][1], "feedback": {"applause": 1}}]
    (tmp_path / "log.jsonl").write_text(json.dumps({**CHAT, "messages": messages}))
    before = json.loads(upshot("judge", "log.jsonl", path=copy, cwd=tmp_path).stdout)
    with open(copy / "upshot" / "records" / "signals.toml", "a") as table:
        table.write(
            '\napplause = { polarity = 1, scale = "signed", label = "positive", from = ["log"],'
            ' prior = 3.0, meaning = "the audience clapped" }\n'
        )
    done = upshot("judge", "log.jsonl", path=copy, cwd=tmp_path)
    after = json.loads(done.stdout)
    assert after["score"] > before["score"] + 0.1
    assert [e["kind"] for e in after["evidence"]] == ["applause"]
    assert after["label"] == "positive"


def test_an_unknown_kind_of_feedback_is_refused_where_it_is_read(tmp_path: Path) -> None:
    feedback = {"kind": "applause", "value": 1}
    messages = [CHAT["messages"][0], {**CHAT["messages"][1], "feedback": feedback}]
    (tmp_path / "log.jsonl").write_text(json.dumps({**CHAT, "messages": messages}))
    done = upshot("judge", "log.jsonl", path=SOURCE.parent, cwd=tmp_path)
    assert done.returncode == 2
    assert "applause" in done.stderr
