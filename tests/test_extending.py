"""Adding one of what docs/extending.md lists is one file and one line, here or in another package.

Training methods from other packages are tested in tests/policy/test_methods.py.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from upshot.lake import Lake

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
    """Another package, installed in a folder, with entry points: a log format, an exporter and a
    verifier part.
    """
    site = tmp_path / "site"
    info = site / "more_of_it-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: more-of-it\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[upshot.sources]\nshout = more_of_it.shout\n"
        "[upshot.exporters]\nlines = more_of_it.lines:LINES\n"
        "[upshot.verifiers]\nbrevity = more_of_it.brevity:measure_brevity\n"
    )
    code = site / "more_of_it"
    code.mkdir()
    (code / "__init__.py").write_text("")
    (code / "shout.py").write_text(
        "from upshot.io.files import read_lines\n"
        "from upshot.records import RawConversation, RawMessage\n"
        "from upshot.sources.detection import Fit\n"
        "def fit(sample):\n    return Fit(int(sample.head.startswith(b'SHOUT')), 1)\n"
        "def read(source):\n"
        "    texts = [line.decode().lower() for _, line in read_lines(source)][1:]\n"
        "    roles = ('user', 'assistant')\n"
        "    yield RawConversation(tuple(RawMessage(roles[i % 2], t) for i, t in enumerate(texts)))\n"  # noqa: E501
    )
    (code / "lines.py").write_text(
        "from upshot.preferences.exporters.exporter import Exporter\n"
        "LINES = Exporter('examples', lambda row: {'text': row.completion[0].content})\n"
    )
    (code / "brevity.py").write_text(
        "from upshot.verifiers.items import Part\n"
        "def measure_brevity(item, limits):\n"
        "    return Part(1 / len(item.code.splitlines()), {'lines': len(item.code.splitlines())})\n"
    )
    return site


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package, to add lines to."""
    shutil.copytree(SOURCE, tmp_path / "copy" / "upshot")
    return tmp_path / "copy"


def add_line(path: Path, after: str, line: str) -> None:
    """Add one line behind another."""
    text = path.read_text()
    assert text.count(after) == 1
    path.write_text(text.replace(after, f"{after}{line}\n"))


def test_another_package_adds_a_log_format(package: Path, tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("SHOUT\nFIX IT\nDONE\nTHAT WORKED, THANKS\n")
    done = upshot("judge", "log.txt", path=package, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["evidence"][0]["quote"] == "that worked"
    assert "shout" in upshot("judge", "--help", path=package, cwd=tmp_path).stdout


def test_another_package_adds_an_exporter(package: Path, tmp_path: Path) -> None:
    export_lines(package, tmp_path)


def test_an_exporter_is_one_file_and_one_line(copy: Path, package: Path, tmp_path: Path) -> None:
    exporters = copy / "upshot" / "preferences" / "exporters"
    shutil.copy(package / "more_of_it" / "lines.py", exporters / "lines.py")
    add_line(
        exporters / "__init__.py",
        after='        "sft": "upshot.preferences.exporters.trl:SFT",\n',
        line='        "lines": "upshot.preferences.exporters.lines:LINES",',
    )
    export_lines(copy, tmp_path)


def export_lines(path: Path, cwd: Path) -> None:
    """The exporter `lines` writes the text of an answer that worked."""
    thanks = {"role": "user", "content": "it worked"}
    log = {**CHAT, "messages": [*CHAT["messages"], thanks]}
    (cwd / "log.jsonl").write_text(json.dumps(log))
    upshot("run", "log.jsonl", "--lake", "lake", path=path, cwd=cwd).check_returncode()
    command = ("pairs", "--lake", "lake", "--for", "lines", "--test-share", "0")
    done = upshot(*command, path=path, cwd=cwd)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"text": "la la la"}


def test_a_log_format_is_one_file_and_one_line(copy: Path, package: Path, tmp_path: Path) -> None:
    shutil.copy(package / "more_of_it" / "shout.py", copy / "upshot" / "sources" / "shout.py")
    add_line(
        copy / "upshot" / "sources" / "formats.py",
        after='        "langfuse": "upshot.sources.langfuse",\n',
        line='        "shout": "upshot.sources.shout",',
    )
    (tmp_path / "log.txt").write_text("SHOUT\nFIX IT\nDONE\n")
    done = upshot("judge", "log.txt", "--format", "shout", path=copy, cwd=tmp_path)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 1), done.stderr


APPLAUSE = (
    'applause = { polarity = 1, scale = "signed", label = "positive",'
    ' from = ["log", "application"], prior = 3.0, meaning = "the audience clapped" }\n'
)


@pytest.mark.parametrize("feedback", [{"applause": 1}, {"kind": "applause", "value": 1}])
def test_a_signal_kind_is_one_line(copy: Path, tmp_path: Path, feedback: dict[str, object]) -> None:
    (tmp_path / "plain.jsonl").write_text(json.dumps(CHAT))
    before = json.loads(upshot("judge", "plain.jsonl", path=copy, cwd=tmp_path).stdout)
    messages = [CHAT["messages"][0], {**CHAT["messages"][1], "feedback": feedback}]
    (tmp_path / "log.jsonl").write_text(json.dumps({**CHAT, "messages": messages}))
    with open(copy / "upshot" / "records" / "signals.toml", "a") as table:
        table.write(APPLAUSE)
    after = json.loads(upshot("judge", "log.jsonl", path=copy, cwd=tmp_path).stdout)
    assert after["score"] > before["score"] + 0.1
    assert [e["kind"] for e in after["evidence"]] == ["applause"]
    assert after["label"] == "positive"


def test_an_application_may_report_the_new_kind_too(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(json.dumps(CHAT))
    event = {"id": "c1", "index": 1, "kind": "applause", "value": 1}
    (tmp_path / "events.jsonl").write_text(json.dumps(event))
    with open(copy / "upshot" / "records" / "signals.toml", "a") as table:
        table.write(APPLAUSE)
    for command in (["log.jsonl"], ["--events", "events.jsonl"]):
        upshot("ingest", *command, "--lake", "lake", path=copy, cwd=tmp_path).check_returncode()
    done = upshot("judge", "--lake", "lake", path=copy, cwd=tmp_path)
    assert [e["kind"] for e in json.loads(done.stdout)["evidence"]] == ["applause"], done.stderr


def test_a_redaction_type_is_one_line(copy: Path, tmp_path: Path) -> None:
    texts = ("my badge is ZZ-123456-Q", "not ZZ-123457-Q, which fails its check", "ＺＺ-123456-Q")
    roles = ("user", "assistant", "user")
    messages = [{"role": r, "content": text} for r, text in zip(roles, texts, strict=True)]
    (tmp_path / "log.jsonl").write_text(json.dumps({**CHAT, "messages": messages}))
    add_line(
        copy / "upshot" / "privacy" / "patterns.py",
        after="\nTYPES: tuple[RedactionType, ...] = (\n",
        line='    RedactionType("BADGE", r"ZZ-[0-9]{6}-Q", lambda text: int(text[3:9]) % 2 == 0),',
    )
    done = upshot("ingest", "log.jsonl", "--lake", "lake", path=copy, cwd=tmp_path)
    assert json.loads(done.stdout)["redactions"] == {"BADGE": 2}, done.stderr
    lake = Lake(tmp_path / "lake")
    stored = [t for b in range(lake.buckets) for t in lake.read("messages", b)["text"].to_pylist()]
    badge = re.fullmatch(r"my badge is (<BADGE_\d+>)", str(stored[0]))
    assert badge is not None
    assert stored[1:] == [texts[1], badge[1]]


SUBMISSION = {
    "id": "double",
    "entry_point": "double",
    "code": "def double(n):\n    return 2 * n\n",
    "tests": "def check(candidate):\n    assert candidate(4) == 8\n    assert candidate(0) == 0\n",
}


@pytest.mark.sandbox
def test_a_verifier_part_is_one_file_and_one_line(
    copy: Path, package: Path, tmp_path: Path
) -> None:
    shutil.copy(package / "more_of_it" / "brevity.py", copy / "upshot" / "verifiers" / "brevity.py")
    add_line(
        copy / "upshot" / "verifiers" / "parts.py",
        after='        "speed": "upshot.verifiers.speed:measure_speed",\n',
        line='        "brevity": "upshot.verifiers.brevity:measure_brevity",',
    )
    verify_brevity(copy, tmp_path)


@pytest.mark.sandbox
def test_another_package_adds_a_verifier_part(package: Path, tmp_path: Path) -> None:
    verify_brevity(package, tmp_path)


def verify_brevity(path: Path, cwd: Path) -> None:
    """The part `brevity` is offered, measured, and counts in the outcome and in a formula."""
    (cwd / "items.jsonl").write_text(json.dumps(SUBMISSION))
    command = ("verify", "items.jsonl", "--with", "tests,brevity")
    done = upshot(*command, path=path, cwd=cwd)
    outcome = json.loads(done.stdout)
    assert outcome["parts"]["brevity"] == {"value": 0.5, "facts": {"lines": 2}, "why": ""}
    assert outcome["outcome"] == 0.75  # half for passing, half of the other half
    done = upshot(*command, "--formula", "brevity", path=path, cwd=cwd)
    assert json.loads(done.stdout)["outcome"] == 0.5
    assert "brevity" in upshot("verify", "--help", path=path, cwd=cwd).stdout


def test_an_unknown_kind_of_feedback_is_refused_where_it_is_read(tmp_path: Path) -> None:
    feedback = {"kind": "applause", "value": 1}
    messages = [CHAT["messages"][0], {**CHAT["messages"][1], "feedback": feedback}]
    (tmp_path / "log.jsonl").write_text(json.dumps({**CHAT, "messages": messages}))
    done = upshot("judge", "log.jsonl", path=SOURCE.parent, cwd=tmp_path)
    assert done.returncode == 2
    assert "applause" in done.stderr
