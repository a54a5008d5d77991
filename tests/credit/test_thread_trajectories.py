"""Threads of a lake are runs: their outcome is what the world reported, else the verdicts', and
credits name responses.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

import upshot
from upshot.api import judging
from upshot.errors import InputError


def lake_of(folder: Path, *chats: dict, judged: bool = True) -> Path:
    (folder / "chats.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in chats))
    upshot.ingest(folder / "chats.jsonl", folder / "lake")
    judging.link_lake(folder / "lake")
    if judged:
        judging.judge_lake(folder / "lake")
    return folder / "lake"


def chat(name: str, last: str, *middle: str) -> dict:
    turns = ["sort my list of names", *middle, "use sorted()", last]
    return {
        "id": name,
        "user": f"u-{name}",
        "messages": [
            {"role": "user" if i % 2 == 0 else "assistant", "content": text}
            for i, text in enumerate(turns)
        ],
    }


def test_verdicts_are_the_outcome_where_the_world_is_silent(tmp_path: Path) -> None:
    lake = lake_of(
        tmp_path,
        chat("c1", "that worked, thank you!", "use sort", "that gives an error: TypeError"),
        chat("c2", "it still crashes, useless", "use sort", "that fails"),
    )
    credits = {credit.id: credit for credit in upshot.credit(lake=lake, reviewer="uniform").credits}
    assert {credit.responses for credit in credits.values()} == {
        (("c1", 1), ("c1", 3)),
        (("c2", 1), ("c2", 3)),
    }
    by_chat = {credit.responses[0][0]: credit for credit in credits.values()}
    assert by_chat["c1"].outcome > by_chat["c2"].outcome + 0.2
    assert all(
        math.fsum((credit.prior, *credit.credits, credit.luck)) == credit.outcome
        for credit in credits.values()
    )


def test_what_the_world_says_comes_before_verdicts(tmp_path: Path) -> None:
    lake = lake_of(tmp_path, chat("c1", "that worked, thank you!", "use sort", "and then?"))
    (tmp_path / "events.jsonl").write_text(
        json.dumps({"id": "c1", "index": 3, "kind": "deploy_failed"}) + "\n"
    )
    upshot.ingest_events(tmp_path / "events.jsonl", lake)
    (credit,) = upshot.credit(lake=lake, reviewer="last").credits
    assert credit.outcome == pytest.approx(0.1)


def test_threads_of_which_nothing_is_known_are_left_out(tmp_path: Path) -> None:
    lake = lake_of(
        tmp_path, chat("c1", "and now in Rust", "use sort", "and for tuples?"), judged=False
    )
    assert upshot.credit(lake=lake, reviewer="uniform").credits == []


def test_a_file_or_a_lake_and_not_both(tmp_path: Path) -> None:
    for arguments in ({}, {"runs": tmp_path / "x", "lake": tmp_path / "y"}):
        with pytest.raises(InputError, match="not both"):
            upshot.credit(**arguments)  # type: ignore[arg-type]
