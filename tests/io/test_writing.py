"""Files and folders are written whole or not at all, and leave nothing beside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from upshot.errors import InputError
from upshot.io.writing import open_folder, replace_file

KILLED = """
import os, signal, sys
from upshot.io.writing import open_folder, open_output
path = sys.argv[1]
if sys.argv[2] == "folder":
    with open_folder(path) as draft:
        (draft / "weights").write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)
else:
    with open_output(path) as file:
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
"""


def write_model(path: Path, text: str) -> None:
    with open_folder(path) as draft:
        (draft / "weights").write_text(text)


def write_half(path: Path) -> None:
    with open_folder(path) as draft:
        (draft / "weights").write_text("half")
        raise InputError("could not train")


def test_a_folder_changes_at_once_and_other_files_in_it_stay(tmp_path: Path) -> None:
    model = tmp_path / "models" / "model"
    write_model(model, "old")
    (model / "notes.txt").write_text("mine")
    write_model(model, "new")
    assert {p.name: p.read_text() for p in model.iterdir()} == {
        "weights": "new",
        "notes.txt": "mine",
    }
    with pytest.raises(InputError, match="could not train"):
        write_half(model)
    assert (model / "weights").read_text() == "new"
    assert [path.name for path in model.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_a_killed_writer_left_is_gone_with_the_next(kind: str, tmp_path: Path) -> None:
    target = tmp_path / "[model].1"
    command = [sys.executable, "-c", KILLED, str(target), kind]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert not target.exists()
    assert len(list(tmp_path.iterdir())) == 1
    if kind == "folder":
        write_model(target, "new")
    else:
        replace_file(target, b"new")
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def test_the_draft_of_a_living_writer_is_left_alone(tmp_path: Path) -> None:
    with open_folder(tmp_path / "model") as draft:
        other = draft.with_name(draft.name.replace(str(os.getpid()), str(os.getppid())))
        other.mkdir()
    write_model(tmp_path / "model", "new")
    assert other.is_dir()
