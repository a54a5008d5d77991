"""Every command of the tutorial runs, in order, in an empty folder; with smaller numbers, so that
it takes a minute instead of half an hour.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))
from tests.conftest import share_result

import tutorial  # pyright: ignore[reportMissingImports]

SMALL = {"--steps": "20", "--people": "50", "--tasks": "30", "num_train_epochs =": "1"}


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """Every command with its output; run once, whatever the number of workers."""

    def run() -> list[tuple[str, str]]:
        blocks = tutorial.run(
            tutorial.PAGE.read_text("utf-8"),
            tmp_path_factory.mktemp("tutorial"),
            SMALL,
            "loop rollback",
            UPSHOT_KEY="k" * 32,  # the key decides which users teach and which test
        )
        return [(step.command, step.output) for _, block in blocks for step in block]

    return share_result(tmp_path_factory, "tutorial", run)


def test_every_command_of_the_tutorial_runs(commands: list[tuple[str, str]]) -> None:
    assert len(commands) >= 14
    assert {"world", "run", "judge", "pairs", "train", "loop"} <= {
        command.split()[1] for command, _ in commands if command.startswith("upshot")
    }


def test_the_loop_of_the_tutorial_turns_three_rounds(commands: list[tuple[str, str]]) -> None:
    outputs = dict(commands)
    rounds = next(output for command, output in outputs.items() if "loop run" in command)
    assert [f"Round {number}:" in rounds for number in (1, 2, 3)] == [True] * 3
    back = next(output for command, output in outputs.items() if "loop rollback" in command)
    assert "In service" in back or "all that ever served" in back
    forgotten = next(output for command, output in outputs.items() if "loop forget" in command)
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
