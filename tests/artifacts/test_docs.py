"""Every command of docs/artifacts.md runs, in order, and the policy it leads to can replay."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import upshot

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

import tutorial  # pyright: ignore[reportMissingImports]

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_command_of_the_page_runs(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    page = (ROOT / "docs" / "artifacts.md").read_text("utf-8")
    blocks = [block for _, block in tutorial.run(page, tmp_path)]
    outputs = {step.command: step.output for block in blocks for step in block}
    assert len(outputs) == 7
    reconstruct = next(text for command, text in outputs.items() if "reconstruct" in command)
    assert "30 trails written" in reconstruct
    assert "29 trails can be exported" in reconstruct
    replay = next(text for command, text in outputs.items() if "upshot replay" in command)
    assert "without key" in replay
    assert (tmp_path / "trails.html").stat().st_size > 100_000


@pytest.mark.train
def test_a_policy_in_a_folder_replays(tmp_path: Path, base: str) -> None:
    memos = ROOT / "examples" / "memos"
    first = upshot.reconstruct(memos / "memos" / "01-elm-quay.md", sources=memos / "code")
    report = upshot.replay(
        first.trails, sources=memos / "code", policy=base, controls=["none"], max_calls=1
    )
    (replay,) = report.replays
    assert len(replay.actions) == 1
    assert replay.scores["source_recall"] <= 1
