"""BIG-Bench-Mistake and Who & When as runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from upshot.credit.trajectories import Step, Trajectory


def mistakes(data: Path) -> Iterator[tuple[str, list[Trajectory]]]:
    """Each task of BIG-Bench-Mistake; the outcome is whether the answer is right."""
    for path in sorted((data / "credit").glob("bbm-*.jsonl")):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        yield (
            path.stem.removeprefix("bbm-"),
            [
                Trajectory(
                    f"{path.stem}-{i}",
                    row["input"],
                    tuple(map(Step, row["steps"])),
                    float(row["answer"] == row["target"]),
                    -1 if row["mistake_index"] is None else row["mistake_index"],
                )
                for i, row in enumerate(rows)
            ],
        )


def who_and_when(data: Path) -> list[tuple[Trajectory, str]]:
    """Each failed run with the agent to blame."""
    out: list[tuple[Trajectory, str]] = []
    for path in sorted((data / "credit").glob("who-and-when*.jsonl")):
        for i, line in enumerate(path.read_text().splitlines()):
            row = json.loads(line)
            steps = tuple(
                Step(turn["content"] or "", "", turn.get("name") or turn["role"])
                for turn in row["history"]
            )
            out.append(
                (
                    Trajectory(
                        f"{path.stem}-{i}",
                        row["question"],
                        steps,
                        float(bool(row["is_correct"])),
                        int(row["mistake_step"]),
                    ),
                    row["mistake_agent"],
                )
            )
    return out
