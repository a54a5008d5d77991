"""Replays: the agent sees only what the tools show; scores and controls say what it did."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.artifacts.library import MEMO, SECTIONS, make_desk, trail_of

import upshot
from upshot.artifacts import Action, Environment, make_task
from upshot.artifacts.agents import RulesAgent
from upshot.artifacts.environment import CitedPlace
from upshot.artifacts.replay import (
    changed_without_key,
    estimate,
    find_key_source,
    replay_trail,
    run_agent,
)
from upshot.config import load
from upshot.errors import InputError


@pytest.fixture
def trails(tmp_path: Path) -> Path:
    (tmp_path / "library.jsonl").write_text("".join(json.dumps(r) + "\n" for r in SECTIONS))
    trail = trail_of(MEMO.replace("52 berths and", "52 berths, and"))
    path = tmp_path / "trails.jsonl"
    path.write_bytes(__import__("msgspec").json.encode(trail) + b"\n")
    return path


def test_the_agent_of_rules_finds_the_sources_and_the_conclusion() -> None:
    trail = trail_of(MEMO)
    replay, closed, without_key, random = replay_trail(trail, make_desk(), RulesAgent, prior="yes")
    assert (replay.conclusion.label, replay.conclusion.number) == ("yes", 8000.0)
    assert replay.scores["conclusion"] == 1
    assert {"harbour-12", "harbour-14"} <= set(replay.opened)
    assert replay.scores["quote_fidelity"] == 1
    assert closed.opened == ()
    assert closed.scores["source_recall"] == 0
    assert without_key.removed not in without_key.opened
    assert without_key.conclusion.label != "yes"
    assert random.scores["source_recall"] == 0


def test_the_key_source_is_one_whose_loss_changes_the_conclusion() -> None:
    trail = trail_of(MEMO)
    assert find_key_source(trail, make_desk().library) == "harbour-12"


def test_an_environment_gives_nothing_away_and_ends() -> None:
    trail = trail_of(MEMO)
    env = Environment(make_task(trail), make_desk(), max_calls=3)
    given = env.reset()
    assert "8,000" not in json.dumps(given)
    assert "harbour" not in json.dumps(given)
    turn = env.step({"tool": "search", "input": "mooring levy"})
    assert "[harbour-12]" in turn.observation
    assert "harbour-12-old" not in turn.observation  # no longer in force
    assert not turn.done
    assert (
        "not open" in env.step({"tool": "find", "source": "harbour-12", "input": "x"}).observation
    )
    last = env.step({"tool": "dance"})
    assert last.done
    assert last.reward == 0
    assert last.info["abstained"] == 1
    with pytest.raises(ValueError, match="done"):
        env.step({"tool": "search", "input": "again"})


def test_the_reward_is_gated_by_made_up_sources_and_misquotes() -> None:
    trail = trail_of(MEMO)

    def reward(*citations: CitedPlace) -> float:
        env = Environment(make_task(trail), make_desk())
        for source in ("harbour-12", "harbour-14", "gull-v-harbour-master"):
            env.step(Action("open", source))
        action = Action("conclude", label="yes", number=8000.0, citations=citations)
        return env.step(action).reward

    good = CitedPlace("harbour-12", "4 percent of the gross berth receipts")
    assert reward(good) == pytest.approx(1.0)
    assert reward(good, CitedPlace("harbour-99")) == 0
    assert reward(CitedPlace("harbour-12", "5 percent of the gross berth receipts")) == 0
    assert reward() == pytest.approx(0.7)


def test_a_replay_is_the_same_each_time() -> None:
    trail, desk = trail_of(MEMO), make_desk()
    one = run_agent(RulesAgent(), make_task(trail), desk)
    two = run_agent(RulesAgent(), make_task(trail), desk)
    assert one.actions == two.actions


def test_files_to_file_and_every_export(trails: Path, tmp_path: Path) -> None:
    report = upshot.replay(trails, sources=tmp_path / "library.jsonl", seeds=2)
    assert len(report.replays) == 8
    value = estimate(report.replays, "none", "conclusion")
    assert (value.mean, value.count) == (1.0, 2)
    assert changed_without_key(report.replays) == 1
    path = tmp_path / "replays.jsonl"
    encode = __import__("msgspec").json.encode
    path.write_bytes(b"".join(encode(row) + b"\n" for row in report.replays))
    for row in upshot.trails_export(target="credit", replays=path):
        parts = (row["prior"], *row["credits"], row["luck"])
        assert math.fsum(parts) == row["outcome"]
        assert len(row["steps"]) == len(row["credits"])
    (pair,) = upshot.trails_export(target="preferences", replays=path)
    assert pair["margin"] > 0.1
    (chat,) = upshot.trails_export(trails, "sft")
    roles = [message["role"] for message in chat["messages"]]
    assert roles[:2] == ["system", "user"]
    assert "tool" in roles
    imitated = {r for r, train in zip(roles, chat["train"], strict=True) if train}
    assert imitated == {"assistant"}
    assert "8,000" not in chat["messages"][1]["content"]
    (task,) = upshot.trails_export(trails, "verifiers")
    assert task["label"] == "yes"
    assert task["split"] in ("train", "test")


def test_a_trail_that_fails_its_gates_is_not_exported(tmp_path: Path) -> None:
    trail = trail_of(MEMO.replace("4 percent of the gross", "5 percent of the gross"))
    assert not trail.is_exportable
    path = tmp_path / "trails.jsonl"
    path.write_bytes(__import__("msgspec").json.encode(trail))
    with pytest.raises(InputError, match="nothing exported"):
        upshot.trails_export(path, "sft")


def test_mistakes_say_what_to_do(trails: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--replays"):
        upshot.trails_export(trails, "credit")
    with pytest.raises(InputError, match="unknown control"):
        upshot.replay(trails, sources=tmp_path / "library.jsonl", controls=["none", "sleep"])
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"artifact": 5}\n')
    with pytest.raises(InputError, match=r"line 1.*upshot reconstruct"):
        upshot.replay(bad, sources=tmp_path / "library.jsonl")
    with pytest.raises(InputError, match="no trail"):
        upshot.report_trails([], tmp_path / "p.html")


def test_a_model_at_an_endpoint_replays(
    trails: Path, tmp_path: Path, scripted: Callable[..., str]
) -> None:
    llm = {"base_url": scripted(mode="researcher", invents=True), "model": "m"}
    report = upshot.replay(trails, sources=tmp_path / "library.jsonl", settings=load(None, llm=llm))
    replay = next(row for row in report.replays if row.control == "none")
    assert [action.tool for action in replay.actions] == ["search", "open", "conclude"]
    assert [place.is_real for place in replay.cited] == [True, False]
    assert replay.scores["reward"] == 0  # it cites a source that is not there
    closed = next(row for row in report.replays if row.control == "closed-book")
    assert len(closed.actions) == 1
    assert report.spent is not None
    assert report.spent.calls >= 4


def test_a_model_that_talks_nonsense_runs_out_of_calls(
    trails: Path, tmp_path: Path, scripted: Callable[..., str]
) -> None:
    llm = {"base_url": scripted(mode="researcher", nonsense=True), "model": "m"}
    report = upshot.replay(
        trails,
        sources=tmp_path / "library.jsonl",
        settings=load(None, llm=llm),
        controls=["none"],
        max_calls=2,
    )
    assert report.replays[0].scores["abstained"] == 1


def test_the_page_is_one_file_and_safe(tmp_path: Path) -> None:
    evil = MEMO.replace("Ana operates", '<script>alert(1)</script> "><img src=x> Ana operates')
    out = tmp_path / "page.html"
    assert upshot.report_trails([trail_of(evil), trail_of("No heading. § 12 applies.")], out) == 2
    page = out.read_text()
    assert "<script" not in page
    assert "<img" not in page
    assert page.count("<mark") == page.count("</mark>")
    assert "harbour-12" in page
