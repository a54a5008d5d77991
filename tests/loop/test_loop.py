"""Rounds are complete or are finished later; a user can be forgotten; a person can change the
policy in service.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import upshot
from upshot.errors import ConfigError, InputError, NotFoundError
from upshot.hub.sampling import Drawing
from upshot.loop import config as loop_config
from upshot.loop.examine import find_passing
from upshot.loop.forget import forget, read_journal, trace_lineage
from upshot.loop.gather import LogRequest as Wanted
from upshot.loop.hotfix import Case, hotfix
from upshot.loop.skills import Library, learn_skills
from upshot.loop.state import Loop
from upshot.policy.data import Prompt
from upshot.records import Turn
from upshot.stats.sampling import draw

pytestmark = pytest.mark.filterwarnings("ignore")
GOOD, BAD = "that worked, thank you", "it still crashes"
TRAINER = {
    "learning_rate": 3e-3,
    "per_device_train_batch_size": 8,
    "max_steps": 6,
    "save_strategy": "no",
}


def talk(wanted: Wanted, path: Path, users: int = 100) -> None:
    """A log: half of the responses worked."""
    rows = []
    for n in range(users):
        good = n % 2 == 0
        where = f"in the {PARTS[n % len(PARTS)]}"  # the same words from many are a crowd's
        reaction = (
            f"Perfect, that worked {where}, thank you!"
            if good
            else f"No, that is wrong. It still crashes {where} with ValueError: nothing there"
        )
        rows.append(
            {
                "id": f"c{wanted.round}-{n}",
                "user": f"user-{n}",
                "model": wanted.policy,
                "started_at": f"2026-03-{wanted.round:02d}T10:00:00Z",
                "messages": [
                    {"role": "user", "content": f"how do I fix my build number {n}?"},
                    {"role": "assistant", "content": GOOD if good else BAD},
                    {"role": "user", "content": reaction},
                ],
            }
        )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def made(base: str, folder: Path, **more: Any) -> loop_config.Config:
    """A loop whose gate promotes everything that is not harmful, so that rounds move."""
    given = {
        "lake": str(folder / "lake"),
        "folder": str(folder / "loop"),
        "base": base,
        "gather": {"command": "none"},
        "reward": {"use": False},
        "learn": {"splits": [0.6, 0.2, 0.2]},
        "policy": {
            "method": "sft",
            "trainer": TRAINER,
            "draw": {"max_tokens": 8},
            "kl": {"prompts": 8},
        },
        "gate": {
            "least_gain": -1e9,
            "margins": dict.fromkeys(
                (
                    "length",
                    "flattery",
                    "refusals",
                    "questions",
                    "broken",
                    "unjudged",
                    "out of domain",
                    "cvar",
                ),
                1e9,
            ),
            "kl": 1e9,
        },
        **more,
    }
    return msgspec.convert(given, loop_config.Config)


def test_two_rounds_gather_learn_and_release(base: str, tmp_path: Path) -> None:
    config = made(base, tmp_path)
    done = upshot.loop_run(config, 2, collect=talk)
    assert [result.decision for result in done] == ["promote", "promote"]
    loop = Loop(tmp_path / "loop")
    first, second = loop.rounds()
    assert loop.state().serving == str(second.folder / "policy-0")
    assert [one.why for one in loop.state().history] == ["base", "promoted", "promoted"]
    for here in (first, second):
        kept = {path.name for path in here.folder.iterdir()}
        assert {
            "config.json",
            "logs",
            "gather.json",
            "read.json",
            "learn.json",
            "examples.jsonl",
            "reward",
            "policy-0",
            "gate.json",
            "release.json",
            "users.json",
            "draws",
        } <= kept
        assert set((here.record("gather") or {})["code"]) >= {"version"}
        assert (here.record("read") or {})["lake"]["conversations"] >= 0
    assert (first.record("gather") or {})["serving"] == base
    assert (second.record("gather") or {})["serving"] == str(first.folder / "policy-0")
    assert (second.record("reward") or {})["from"] == str(first.folder / "reward"), (
        "the reward model goes on learning"
    )
    examples = [
        json.loads(line) for line in (first.folder / "examples.jsonl").read_text().splitlines()
    ]
    assert {row["score"] > 0.5 for row in examples if row["completion"][0]["content"] == GOOD} == {
        True
    }
    assert {row["score"] > 0.5 for row in examples if row["completion"][0]["content"] == BAD} == {
        False
    }
    taught = {user for row in examples for user in row["source"]["users"]}
    asked = {
        json.loads(line)["user"]
        for name in ("choose", "test")
        for line in (first.folder / f"{name}.jsonl").read_text().splitlines()
    }
    assert taught
    assert asked
    assert not taught & asked, "whom a policy is tested on did not teach it"
    found = trace_lineage(loop)
    assert found[str(second.folder / "policy-0")] == ["round-0001", "round-0002"]
    status = upshot.loop_status(config)
    assert [round.decision for round in status.rounds] == ["promote", "promote"]
    assert upshot.loop_rollback(config, "ana").serving == str(first.folder / "policy-0")
    assert loop.state().history[-1].why == "rolled back by ana"


PARTS = (
    "kitchen",
    "garage",
    "attic",
    "cellar",
    "garden",
    "hall",
    "office",
    "studio",
    "stable",
    "tower",
    "yard",
    "shed",
    "porch",
    "loft",
    "den",
    "vault",
)


def crowd(wanted: Wanted, path: Path, better: bool) -> None:
    """A log of two arms: half of the responses of the policy in service work, and nearly all or
    nearly none of the candidate's.
    """
    rows = []
    for n in range(160):
        tried = bool(wanted.canary) and draw(f"arm/{wanted.round}/{n}") < wanted.share
        good = (n % 10 != 0) == better if tried else n % 2 == 0
        where = f"in the {PARTS[n % len(PARTS)]}"  # the same words from many are a crowd's
        reaction = (
            f"Perfect, that worked {where}, thank you!"
            if good
            else f"No, that is wrong. It still crashes {where} with ValueError: nothing there"
        )
        rows.append(
            {
                "id": f"c{wanted.round}-{n}",
                "user": f"user-{wanted.round}-{n}",
                "model": wanted.canary if tried else wanted.policy,
                "started_at": f"2026-03-{wanted.round:02d}T10:00:00Z",
                "messages": [
                    {"role": "user", "content": f"how do I fix my build number {n}?"},
                    {"role": "assistant", "content": GOOD if good else BAD},
                    {"role": "user", "content": reaction},
                ],
            }
        )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("better", [True, False])
def test_a_share_of_the_users_tries_a_candidate_and_what_came_of_it_decides(
    base: str, tmp_path: Path, better: bool
) -> None:
    config = made(base, tmp_path, serve={"canary": 0.4})
    config = msgspec.structs.replace(
        config, gate=msgspec.structs.replace(config.gate, least_gain=0.0)
    )
    done = upshot.loop_run(config, 2, collect=lambda wanted, path: crowd(wanted, path, better))
    first, second = Loop(tmp_path / "loop").rounds()
    assert done[0].decision == "trial"
    assert done[0].serving == base, "nobody but the trial's users gets it yet"
    assert (second.record("gather") or {})["canary"] == str(first.folder / "policy-0")
    found = second.record("trial") or {}
    assert found["decision"] == ("promote" if better else "refuse")
    assert found["users"][1] == pytest.approx(0.4 * 160, abs=20)
    assert (found["difference"] > 0) == better
    assert found["serving"] == (str(first.folder / "policy-0") if better else base)
    state = Loop(tmp_path / "loop").state()
    assert state.serving == found["serving"]
    assert state.canary == str(second.folder / "policy-0")
    assert state.tests == {"2": better}
    assert (
        msgspec.json.decode((second.folder / "policy-0" / "policy.json").read_bytes())["base"]
        == found["serving"]
    )


@pytest.mark.parametrize(
    ("canary", "harm", "then"),
    [(0.4, "", "trial"), (0.0, "", "promote"), (0.4, "length", "refuse")],
)
def test_a_candidate_answers_unseen_before_anybody_gets_it(
    base: str, tmp_path: Path, canary: float, harm: str, then: str
) -> None:
    config = made(base, tmp_path, serve={"shadow": 0.5, "canary": canary})
    done = upshot.loop_run(config, 1, collect=talk)
    loop = Loop(tmp_path / "loop")
    candidate = str(loop.rounds()[0].folder / "policy-0")
    assert done[0].decision == "shadow"
    assert (loop.state().shadow, loop.state().canary, loop.state().serving) == (candidate, "", base)
    if harm:
        config = msgspec.structs.replace(
            config,
            gate=msgspec.structs.replace(config.gate, margins={**config.gate.margins, harm: -1e9}),
        )
    upshot.loop_run(config, 1, collect=talk)
    second = loop.rounds()[1]
    found = second.record("shadow") or {}
    assert found["decision"] == ("refuse" if harm else "promote")
    assert bool(found["reasons"]) == bool(harm)
    shown = [json.loads(line) for line in (second.folder / "shadow.jsonl").read_text().splitlines()]
    assert 30 <= len(shown) <= 70
    assert {row["answer"] for row in shown} == {GOOD, BAD}, "beside what users got"
    gathered = second.record("gather") or {}
    assert gathered["canary"] == "", "no user of that round saw it"
    state = loop.state()
    if then == "trial":
        assert (state.canary, state.serving) == (candidate, base)
    elif then == "promote":
        assert [one.policy for one in state.history] == [base, candidate]
    else:
        assert [one.policy for one in state.history] == [base]
        assert state.canary != candidate


def test_another_judge_may_stand_in_for_the_verdicts(base: str, tmp_path: Path) -> None:
    config = made(base, tmp_path)
    upshot.loop_run(
        config,
        1,
        collect=talk,
        scores=lambda name, index: (1.0, 0.5) if int(name.rpartition("-")[2]) % 4 == 0 else None,
    )
    rows = [
        json.loads(line)
        for line in (tmp_path / "loop" / "round-0001" / "examples.jsonl").read_text().splitlines()
    ]
    assert rows
    assert all(
        row["score"] == 1.0
        and row["weight"] == 0.5
        and int(row["source"]["chosen"]["id"].rpartition("-")[2]) % 4 == 0
        for row in rows
    )


def test_a_round_in_which_nothing_is_good_enough_makes_no_candidate_and_the_next_goes_on(
    base: str, tmp_path: Path
) -> None:
    config = made(base, tmp_path, reward=None)
    done = upshot.loop_run(config, 1, collect=talk, scores=lambda name, index: (0.1, 1.0))
    assert done[0].decision == "refuse"
    assert "good enough" in done[0].reasons[0]
    assert done[0].serving == base
    assert upshot.loop_run(config, 1, collect=talk)[0].round == 2
    assert (tmp_path / "loop" / "round-0002" / "policy-0" / "policy.json").is_file()


def test_what_is_not_shown_to_be_better_stays_out(base: str, tmp_path: Path) -> None:
    config = made(base, tmp_path, gate={})
    done = upshot.loop_run(config, 1, collect=talk)
    assert done[0].decision == "refuse"
    assert done[0].serving == base
    assert any("not shown to be better" in reason for reason in done[0].reasons)
    assert Loop(tmp_path / "loop").state().tests == {"1": False}


def test_a_person_is_asked_and_answers(base: str, tmp_path: Path) -> None:
    config = made(base, tmp_path)
    upshot.loop_run(config, 1, collect=talk)
    loop = Loop(tmp_path / "loop")
    here = loop.rounds()[0]
    state = loop.state()
    loop.save(
        msgspec.structs.replace(
            state,
            history=state.history[:1],
            tests={"1": False},
            waiting={"1": str(here.folder / "policy-0")},
        )
    )
    with pytest.raises(InputError, match="waits for a person"):
        upshot.loop_run(config, 1, collect=talk)
    assert upshot.loop_approve(config, "ana").serving == str(here.folder / "policy-0")
    assert loop.state().tests == {"1": True}
    with pytest.raises(InputError, match="no candidate waits"):
        upshot.loop_approve(config, "ana")
    loop.save(msgspec.structs.replace(loop.state(), waiting={"1": "x"}))
    assert upshot.loop_approve(config, "ana", refuse=True).serving == str(here.folder / "policy-0")


def test_a_loop_killed_anywhere_goes_on_behind_the_last_whole_step(
    base: str, tmp_path: Path
) -> None:
    script = tmp_path / "go.py"
    script.write_text(
        "import sys, warnings\nwarnings.simplefilter('ignore')\nfrom pathlib import Path\nimport"
        " importlib.util\nspec = importlib.util.spec_from_file_location('t',"
        f" {str(Path(__file__))!r})\nt ="
        " importlib.util.module_from_spec(spec)\nspec.loader.exec_module(t)\nimport"
        " upshot\nconfig = t.made(sys.argv[1], Path(sys.argv[2]))\nupshot.loop_run(config, 1,"
        " collect=t.talk)\n"
    )
    command = [sys.executable, str(script), base, str(tmp_path)]
    kills = 0
    for step in ("gather", "read", "learn", "policy", ""):
        running = subprocess.Popen(
            command,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "UPSHOT_KEY": "k" * 32},
        )
        mark = tmp_path / "loop" / "round-0001" / f"{step}.json"
        deadline = time.monotonic() + 120
        while (
            step and running.poll() is None and not mark.is_file() and time.monotonic() < deadline
        ):
            time.sleep(0.005)
        if step and running.poll() is None:
            running.send_signal(signal.SIGKILL)
            kills += 1
        running.wait()
    assert kills >= 3
    here = Loop(tmp_path / "loop").rounds()
    assert len(here) == 1
    assert (here[0].record("release") or {})["decision"] == "promote"
    assert (here[0].record("read") or {})["conversations"] + (here[0].record("read") or {})[
        "known"
    ] == 100
    rows = [
        json.loads(line) for line in (here[0].folder / "examples.jsonl").read_text().splitlines()
    ]
    assert len(
        {(row["source"]["chosen"]["id"], row["source"]["chosen"]["index"]) for row in rows}
    ) == len(rows), "no row doubles"
    assert Loop(tmp_path / "loop").state().tests == {"1": True}


def test_a_forgotten_user_is_in_no_file_and_no_model(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSHOT_KEY", "k" * 32)
    config = made(base, tmp_path)
    upshot.loop_run(config, 2, collect=talk)
    loop = Loop(tmp_path / "loop")
    taught = msgspec.json.decode(
        (loop.rounds()[0].folder / "users.json").read_bytes(), type=list[str]
    )
    from upshot import privacy

    name = next(
        f"user-{n}"
        for n in range(0, 100, 2)
        if privacy.Pseudonyms("k" * 32).user(f"user-{n}") in taught
    )
    pseudonym = privacy.Pseudonyms("k" * 32).user(name)
    before = (loop.rounds()[0].folder / "policy-0" / "model.safetensors").read_bytes()
    found = upshot.loop_forget(config, name)
    assert found.rounds == ["round-0001", "round-0002"]
    for path in (tmp_path / "loop").rglob("*"):
        if path.is_file() and path.suffix in (".json", ".jsonl", ".md"):
            assert pseudonym not in path.read_text("utf-8"), path
    assert (loop.rounds()[0].folder / "policy-0" / "model.safetensors").read_bytes() != before
    assert loop.state().serving == str(loop.rounds()[1].folder / "policy-0")
    assert (loop.rounds()[1].folder / "policy-0" / "policy.json").is_file()
    with pytest.raises(NotFoundError):
        upshot.loop_forget(config, "nobody")


def test_a_forgetting_that_was_killed_behind_the_lake_is_called_again(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSHOT_KEY", "k" * 32)
    config = made(base, tmp_path)
    upshot.loop_run(config, 1, collect=talk)
    here = Loop(tmp_path / "loop").rounds()[0]
    pseudonym = msgspec.json.decode((here.folder / "users.json").read_bytes(), type=list[str])[0]
    upshot.erase(pseudonym, config.lake)
    assert upshot.loop_forget(config, pseudonym).rounds == ["round-0001"]
    assert pseudonym not in (here.folder / "policy-0" / "users.json").read_text()
    with pytest.raises(NotFoundError):
        upshot.loop_forget(config, pseudonym)


def test_a_forgotten_user_who_taught_nothing_is_in_no_file_and_costs_no_training(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSHOT_KEY", "k" * 32)
    config = made(base, tmp_path)
    upshot.loop_run(config, 1, collect=talk)
    here = Loop(tmp_path / "loop").rounds()[0]
    asked = json.loads((here.folder / "test.jsonl").read_text().splitlines()[0])
    name = f"user-{asked['id'].rpartition('-')[2]}"
    found = upshot.loop_forget(config, name)
    assert found.user == asked["user"]
    assert found.rounds == []
    assert found.serving == str(here.folder / "policy-0")
    for path in (tmp_path / "loop").rglob("*"):
        if path.is_file() and path.suffix in (".json", ".jsonl", ".md"):
            assert asked["user"] not in path.read_text("utf-8"), path
            assert f'"{name}"' not in path.read_text("utf-8"), path


def test_the_recipe_is_run_again_on_another_model(base: str, tmp_path: Path) -> None:
    config = made(base, tmp_path)
    upshot.loop_run(config, 1, collect=talk)
    other = Loop(tmp_path / "loop").rounds()[0].folder / "policy-0"
    table = upshot.loop_rerun(config, str(other))
    again = upshot.loop_rerun(config, base)
    assert [row.model for row in table] == [str(other)]
    assert [row.model for row in again] == [str(other), base]
    for row in again:
        assert row.gain is not None
        assert row.low is not None
        assert row.high is not None
        assert row.low <= row.gain <= row.high
        assert row.seconds > 0
        assert row.kl is not None
    with pytest.raises(NotFoundError, match="round 7"):
        upshot.loop_rerun(config, base, 7)


def test_suites_and_floors_stand_at_the_gate(base: str, tmp_path: Path) -> None:
    suite = tmp_path / "suite.jsonl"
    suite.write_text(
        "".join(
            json.dumps({"prompt": f"say anything, {n}", "matches": "^.*$"}) + "\n" for n in range(8)
        )
    )
    config = made(
        base,
        tmp_path,
        gate={
            **msgspec.to_builtins(made(base, tmp_path).gate),
            "suites": {"must hold": str(suite)},
        },
    )
    upshot.loop_run(config, 1, collect=talk)
    gate = Loop(tmp_path / "loop").rounds()[0].record("gate") or {}
    assert gate["guards"]["suite: must hold"]["harm"] == 0.0
    reward = str(tmp_path / "loop" / "round-0001" / "reward")
    config = msgspec.structs.replace(
        config,
        gate=msgspec.structs.replace(
            config.gate, floors={"harmless": reward}, tests=["math:nothing_of_this_name"]
        ),
    )
    with pytest.raises(InputError, match="import"):
        upshot.loop_run(config, 1, collect=talk)
    config = msgspec.structs.replace(
        config, gate=msgspec.structs.replace(config.gate, tests=[], panel=[reward, reward])
    )
    upshot.loop_run(config, 1, collect=talk)
    assert {"floor: harmless", "panel", "out of domain"} <= set(
        (Loop(tmp_path / "loop").rounds()[1].record("gate") or {})["guards"]
    )


def test_demands_of_a_suite() -> None:
    ask = (Turn("user", "x"),)
    rows = [
        Prompt(ask, {"matches": "[0-9]+"}),
        Prompt(ask, {"lacks": "sorry"}),
        Prompt(ask, {"matches": "a", "lacks": "b"}),
    ]
    assert find_passing(rows, ["12", "fine", "a"]).tolist() == [1, 1, 1]
    assert find_passing(rows, ["no", "so sorry", "ab"]).tolist() == [0, 0, 0]
    with pytest.raises(InputError, match="none of tests"):
        find_passing([Prompt(ask)], ["x"])
    with pytest.raises(InputError, match="no pattern"):
        find_passing([Prompt(ask, {"matches": "("})], ["x"])


def test_a_hotfix_fixes_its_cases_and_says_whether_the_rest_held(base: str, tmp_path: Path) -> None:
    cases = [Case((Turn("user", f"which colour, {n}?"),), "blue") for n in range(3)]
    rest = [Prompt((Turn("user", f"hello {n}"),), {"matches": "^.*$"}) for n in range(6)]
    done = hotfix(
        base,
        cases,
        rest,
        tmp_path / "fix",
        rounds=6,
        drawing=Drawing(6, 0.0),
        trainer={"learning_rate": 1e-2, "num_train_epochs": 10},
    )
    assert done.before == 0.0
    assert done.fixed == 1.0
    assert done.kept
    assert (tmp_path / "fix" / "adapter_config.json").is_file()
    assert (tmp_path / "fix" / "adapter_model.safetensors").stat().st_size < (
        Path(base) / "model.safetensors"
    ).stat().st_size
    with pytest.raises(InputError, match="rest holds"):
        hotfix(base, cases, [Prompt((Turn("user", "x"),))], tmp_path / "other")
    with pytest.raises(InputError, match="no cases"):
        hotfix(base, [], rest, tmp_path / "none")


def test_a_loop_is_run_from_its_file(base: str, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    talk(Wanted(base, 1, 0), tmp_path / "logs" / "a.jsonl")
    (tmp_path / "loop.toml").write_text(
        f'lake = "lake"\nfolder = "loop"\nbase = "{base}"\n[gather]\nlogs ='
        ' ["logs/*.jsonl"]\n[policy]\nmethod = "sft"\n[policy.trainer]\nmax_steps ='
        " 2\n[policy.draw]\nmax_tokens = 4\n"
    )

    def upshot(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                sys.executable,
                "-W",
                "ignore",
                "-m",
                "upshot",
                "loop",
                *words,
                "--config",
                str(tmp_path / "loop.toml"),
            ],
            capture_output=True,
            text=True,
            check=False,
        )

    done = upshot("run")
    assert done.returncode == 0, done.stderr
    assert "Round 1: refuse" in done.stderr
    found = json.loads(upshot("status", "--json").stdout)
    assert found["serving"] == base
    assert found["rounds"][0]["conversations"] == 100
    assert "refuse" in upshot("status").stderr
    again = upshot("run")
    assert again.returncode == 2
    assert "nothing is new" in again.stderr
    assert upshot("rollback").returncode == 2
    skills = subprocess.run(
        [sys.executable, "-m", "upshot", "loop", "skills", "--lake", str(tmp_path / "lake")],
        capture_output=True,
        text=True,
        check=True,
    )
    kept = [json.loads(line) for line in skills.stdout.splitlines()]
    assert {row["how"] for row in kept} == {GOOD}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("lake = 'l'", "folder"),
        ("lake = 'l'\nfolder = 'f'\nbase = 'b'\n[policy]\nmethod = 'sft'", "name logs"),
        ("lake = 3", "lake"),
        (
            (
                "lake = 'l'\nfolder = 'f'\nbase = 'b'\n[gather]\ncommand = 'x'\n[policy]\nmethod ="
                " 'magic'"
            ),
            "magic",
        ),
        (
            (
                "lake = 'l'\nfolder = 'f'\nbase = 'b'\n[gather]\ncommand = 'x'\n[policy]\nmethod ="
                " 'sft'\n[learn]\nsplits = [1.0, 0.0, 0.0]"
            ),
            "splits",
        ),
    ],
)
def test_a_loops_file_that_is_wrong_says_what(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "loop.toml").write_text(text)
    with pytest.raises(ConfigError, match=told):
        upshot.loop_config(tmp_path / "loop.toml")


def test_a_command_that_fails_is_told_with_its_words(base: str, tmp_path: Path) -> None:
    config = made(
        base,
        tmp_path,
        gather={
            "command": f"{sys.executable} -c 'import sys; sys.exit(\"no quota for {{round}}\")'"
        },
    )
    with pytest.raises(ConfigError, match="no quota for 1"):
        upshot.loop_run(config, 1)


# --- skills ---


def verdict(name: str, score: float, kind: str, polarity: int) -> dict[str, Any]:
    return {
        "id": name,
        "index": 1,
        "score": score,
        "evidence": [{"kind": kind, "polarity": polarity, "quote": "that worked"}],
    }


def test_skills_are_what_the_world_confirmed_and_nobody_refuted() -> None:
    texts = {
        "a": ("sort a list of numbers", "use sorted(numbers) for that", "u1"),
        "b": ("sort a list of numbers", "use sorted(numbers) for that", "u2"),
        "c": ("parse a date string", "use datetime.fromisoformat(text)", "u1"),
        "d": ("reverse the words", "use ' '.join(reversed(words))", "u3"),
    }
    places = {(name, 1): value for name, value in texts.items()}
    found = learn_skills(
        [
            verdict("a", 0.95, "worked", 1),
            verdict("b", 0.9, "worked", 1),
            verdict("c", 0.9, "thanks", 1),
            verdict("d", 0.9, "worked", 1),
            verdict("d", 0.1, "failed", -1),
        ],
        places,
    )
    assert [skill.how for skill in found] == ["use sorted(numbers) for that"], (
        "politeness confirms nothing, and a failure takes a skill out"
    )
    assert found[0].users == ["u1", "u2"]
    library = Library(found)
    offered = library.offer([Turn("user", "Sort a list of numbers!")])
    assert [turn.content for turn in offered] == [
        "sort a list of numbers",
        "use sorted(numbers) for that",
        "Sort a list of numbers!",
    ]
    other = (Turn("user", "sort a list of negative numbers"),)
    assert library.offer(other) == other, "one word may be what matters"
    assert len(library.offer(other, min_likeness=0.1)) == 3
    assert library.offer([Turn("user", "bake a cake")]) == (Turn("user", "bake a cake"),)
    assert library.without("u1").skills[0].users == ["u2"]
    assert library.without("u1").without("u2").skills == []
    assert np.isclose(found[0].trust, 0.75)


def test_a_forgetting_that_was_interrupted_goes_on_where_it_was(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSHOT_KEY", "k" * 32)
    config = made(base, tmp_path)
    upshot.loop_run(config, 1, collect=talk)
    loop = Loop(tmp_path / "loop")
    round = loop.rounds()[0]
    first, second = msgspec.json.decode((round.folder / "users.json").read_bytes())[:2]

    def fail(_: Any) -> None:
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        forget(loop, first, fail)
    assert not (round.folder / "policy-0").exists()
    assert first not in (round.folder / "users.json").read_text()
    with pytest.raises(InputError, match="call `upshot loop forget` again"):
        upshot.loop_run(config, 1, collect=talk)
    journal = read_journal(loop)
    assert journal is not None
    assert journal.is_erased
    assert first not in (loop.folder / "forgetting.json").read_text()
    assert upshot.loop_forget(config, second).rounds == ["round-0001"]  # finishes the other one
    assert read_journal(loop) is None
    assert (round.folder / "policy-0" / "policy.json").is_file()
    assert upshot.loop_forget(config, first).rounds == []
