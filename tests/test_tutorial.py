"""Every command of the tutorial runs, in its order, in an empty folder; smaller, so that it takes a
minute instead of half an hour.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))
import tutorial  # pyright: ignore[reportMissingImports]

pytestmark = pytest.mark.xdist_group("tutorial")
SMALL = {"--steps": "20", "--people": "50", "--tasks": "30", "num_train_epochs =": "1"}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[tutorial.Said]:
    page = tutorial.PAGE.read_text("utf-8")
    ran = tutorial.run(
        page, tmp_path_factory.mktemp("tutorial"), SMALL, "loop rollback", UPSHOT_KEY="k" * 32
    )  # who teaches and who tests depends on the key
    return [one for _, block in ran for one in block]


def test_every_command_of_the_tutorial_runs(said: list[tutorial.Said]) -> None:
    assert len(said) >= 14
    assert {"world", "run", "judge", "pairs", "train", "loop"} <= {
        one.command.split()[1] for one in said if one.command.startswith("upshot")
    }


def test_the_loop_of_the_tutorial_turns_three_rounds(said: list[tutorial.Said]) -> None:
    told = next(one.output for one in said if "loop run" in one.command)
    assert [f"Round {number}:" in told for number in (1, 2, 3)] == [True] * 3
    back = next(one.output for one in said if "loop rollback" in one.command)
    assert "In service" in back or "all that ever served" in back
    forgotten = next(one.output for one in said if "loop forget" in one.command)
    assert "Forgotten" in forgotten


def test_the_output_shown_is_that_of_these_commands() -> None:
    page = tutorial.PAGE.read_text("utf-8")
    shown = [line[2:].partition("   # ")[0] for line in page.splitlines() if line.startswith("$ ")]
    commands = [
        line
        for block in page.split("```sh\n")[1:]
        for line in block.partition("```")[0].splitlines()
    ]
    assert shown == commands
