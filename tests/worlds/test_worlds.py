"""Worlds give the truth to measurements, and only text to everybody else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import upshot
from upshot import worlds
from upshot.errors import ConfigError, InputError, NotFoundError
from upshot.hub.sampling import Drawing
from upshot.records import Turn
from upshot.worlds import mediocre, phrases, talk
from upshot.worlds.people import NOISY, TROUBLED, Dials, Person, Truth
from upshot.worlds.phrases import OCCASIONS, typos
from upshot.worlds.programs import QUESTION, REFUSAL, Programs
from upshot.worlds.world import Task, World

pytestmark = pytest.mark.filterwarnings("ignore")
OTHER = str(files("upshot.worlds").joinpath("phrases_other.toml"))


class Assistant:
    """An assistant that does the task which shares most words with the user's message, rightly with
    probability `skill`.
    """

    def __init__(self, world: World, skill: float, heard: list[Task]) -> None:
        self.world, self.skill, self.heard = world, skill, heard

    def __call__(
        self, prompts: Sequence[Sequence[Turn]], drawing: Drawing = Drawing()
    ) -> list[str]:
        return [self._move(prompt) for prompt in prompts]

    def _move(self, prompt: Sequence[Turn]) -> str:
        last = max(i for i, turn in enumerate(prompt) if turn.role == "user")
        said = set(" ".join(turn.content for turn in prompt if turn.role == "user").split())
        task = max(
            self.heard,
            key=lambda one: len(said & set(one.words.split())) / len(set(one.words.split())),
        )
        random = Random(str([turn.content for turn in prompt[: last + 1]]))
        while True:
            turns = [
                turn
                for turn in self.world.demonstrate(task, random, self.skill)
                if turn.role == "assistant"
            ]
            if turns[0].content not in (QUESTION, REFUSAL):
                return turns[
                    min(sum(turn.role == "assistant" for turn in prompt[last:]), len(turns) - 1)
                ].content


def with_tasks(world: World, skill: float) -> Assistant:
    """An assistant that records the tasks which the world hands out."""
    heard: list[Task] = []
    task = world.task

    def listening(random: Random) -> Task:
        heard.append(task(random))
        return heard[-1]

    world.task = listening  # type: ignore[method-assign]
    return Assistant(world, skill, heard)


QUIET = Dials(typos=0.0, silence=0.0, tries=1.0, leniency=0.0, thumbs=0.0)


def test_right_programs_are_right_for_every_task_and_mistakes_are_not() -> None:
    world, random = Programs(), Random(0)
    tasks = {task.key: task for task in (world.task(random) for _ in range(3_000))}
    assert len(tasks) == 150
    right = [(task, _code_of(world, task, 1.0)) for task in tasks.values()]
    assert all(
        one.ok for one in world.judge([(task, [Turn("assistant", text)]) for task, text in right])
    )
    wrong = world.judge(
        [(task, [Turn("assistant", _code_of(world, task, 0.0))]) for task in tasks.values()]
    )
    assert sum(one.ok for one in wrong) < 0.25 * len(wrong), "some mistakes make no difference"
    assert {one.kind for one in wrong if not one.ok} == {"wrong", "error"}
    told = next(one for one in wrong if one.kind == "wrong")
    assert told.got != told.want
    assert told.input.startswith("[")


def _code_of(world: Programs, task: Task, skill: float) -> str:
    from upshot.worlds import programs

    random = Random(str(task.key))
    body = programs.correct_body(task) if skill == 1.0 else programs.faulty_body(task, random)
    return f"```python\ndef f(xs):\n    return {body}\n```"


def test_what_a_program_does_to_its_runner_is_its_own_failure() -> None:
    world = Programs()
    task = world.task(Random(1))
    bad = [
        "while True: pass\ndef f(xs): return 1",
        "import os\nos._exit(3)",
        "import sys\nsys.exit(0)",
        "def f(xs): return f(xs)",
        "print('[]')\ndef f(xs): raise ValueError('no')",
        "def g(xs): return xs",
    ]
    good = _code_of(world, task, 1.0)
    found = world.judge(
        [(task, [Turn("assistant", f"```python\n{code}\n```")]) for code in bad]
        + [(task, [Turn("assistant", good)])]
    )
    assert [one.kind for one in found] == ["error"] * len(bad) + ["worked"]
    assert "ValueError: no" in found[4].error


def test_questions_refusals_and_chatter_are_no_attempts() -> None:
    world = Programs()
    task = world.task(Random(1))
    found = world.judge(
        [(task, [Turn("assistant", text)]) for text in (QUESTION, REFUSAL, "hello", "")]
    )
    assert [one.kind for one in found] == ["question", "refusal", "nothing", "nothing"]
    assert not any(one.ok for one in found)


def test_a_plan_is_decided_by_the_store_that_was_opened() -> None:
    world = worlds.get("plans")
    task = Task(("archive", "north", "ana"), "the final figures of the north sent to ana", ("x",))

    def run(*acts: str, lost: bool = False) -> list[Turn]:
        turns: list[Turn] = []
        for act in acts:
            turns.append(Turn("assistant", act))
            seen = world.observe(task, turns, Random(0))
            turns.append(
                Turn("tool", "sent, no receipt" if lost and act.startswith("send") else str(seen))
            )
            assert world.over(turns) == act.startswith("send")
        return turns

    found = world.judge(
        [
            (task, run("open archive north", "wait", "send ana")),
            (task, run("open live north", "check totals", "send ana")),
            (task, run("open archive north", "send ben")),
            (task, run("send ana")),
            (task, run("open archive north", "send ana", lost=True)),
            (task, run("open archive north", "wait")),
            (task, run("sing")),
        ]
    )
    assert [one.ok for one in found] == [True, False, False, False, False, False, False]
    assert found[1].got == "the live figures of the north"
    assert found[2].got == "a message to ben"


@pytest.mark.parametrize("name", list(worlds.WORLDS))
@pytest.mark.parametrize("file", [None, OTHER])
def test_logs_say_nothing_but_what_people_and_assistants_said(name: str, file: str | None) -> None:
    world = worlds.get(name)
    found = talk.talk(world, with_tasks(world, 0.5), phrases.load(file), 60, NOISY, seed=3)
    assert {key for one in found.conversations for key in one} == {
        "id",
        "user",
        "started_at",
        "model",
        "messages",
    }
    assert {
        key for one in found.conversations for message in one["messages"] for key in message
    } == {"role", "content", "time"}
    texts = " ".join(
        message["content"] for one in found.conversations for message in one["messages"]
    )
    assert "{" not in texts.replace("{}", "")
    assert all(
        message["time"] <= after["time"]
        for one in found.conversations
        for message, after in zip(one["messages"], one["messages"][1:], strict=False)
    )
    places = {
        (one["id"], i)
        for one in found.conversations
        for i, message in enumerate(one["messages"])
        if message["role"] == "assistant"
    }
    assert {(truth.id, truth.index) for truth in found.truths} <= places
    assert all(one["messages"][0]["role"] == "user" for one in found.conversations)
    again = worlds.get(name)
    assert talk.talk(again, with_tasks(again, 0.5), phrases.load(file), 60, NOISY, seed=3) == found


@pytest.mark.parametrize("name", list(worlds.WORLDS))
@pytest.mark.parametrize("file", [None, OTHER])
def test_verdicts_on_the_logs_tell_right_answers_from_wrong_ones(
    name: str, file: str | None, tmp_path: Path
) -> None:
    world = worlds.get(name)
    found = talk.talk(world, with_tasks(world, 0.5), phrases.load(file), 200, QUIET, seed=1)
    (tmp_path / "log.jsonl").write_text(
        "".join(json.dumps(one) + "\n" for one in found.conversations)
    )
    verdicts = list(upshot.judge(upshot.read(tmp_path / "log.jsonl", raw=True)))

    def score_of(truth: Truth) -> float:
        """An answer is the last message of its turn, whose verdict has the index of the first."""
        turns = [v for v in verdicts if v.id == truth.id and v.index <= truth.index]
        return max(turns, key=lambda verdict: verdict.index).score

    good = [score_of(one) for one in found.truths if one.ok]
    bad = [score_of(one) for one in found.truths if not one.ok]
    better = sum((g > b) + 0.5 * (g == b) for g in good for b in bad) / (len(good) * len(bad))
    assert better > 0.75, f"AUC {better:.2f}"


def test_dials_turn_what_people_do() -> None:
    def messages(dials: Dials, skill: float = 0.5) -> list[list[str]]:
        world = worlds.get("plans")
        found = talk.talk(world, with_tasks(world, skill), phrases.load(), 80, dials, seed=2)
        return [
            [message["content"] for message in one["messages"] if message["role"] == "user"]
            for one in found.conversations
        ]

    said = phrases.load()
    silent = messages(msgspec.structs.replace(QUIET, silence=1.0))
    assert all(len(one) == 1 for one in silent)
    assert any(len(one) > 1 for one in messages(QUIET))
    lying = [
        text for one in messages(msgspec.structs.replace(QUIET, hostile=1.0)) for text in one[1:]
    ]
    lies = (
        said.everywhere["hostile_praise"]
        + said.everywhere["hostile_blame"]
        + said.everywhere["hostile_judge"]
    )
    assert all(any(lie in text for lie in lies) for text in lying)
    content = [
        text
        for one in messages(msgspec.structs.replace(QUIET, leniency=1.0, patience=1), 0.0)
        for text in one[1:]
    ]
    assert any(text.startswith(tuple(said.everywhere["lenient"])) for text in content)
    later = messages(msgspec.structs.replace(QUIET, tries=0.0, returns=1.0))
    assert any(
        one[0].startswith(
            tuple(said.by_world["plans"]["back_failed"] + said.everywhere["back_worked"])
        )
        for one in later
    )


def test_people_who_like_length_are_pleased_by_wrong_answers_that_are_long() -> None:
    world = Programs()
    person = Person(
        "p",
        world,
        phrases.load(),
        msgspec.structs.replace(QUIET, flattered=1.0, thumbs=1.0),
        random=Random(1),
    )
    person.hear(
        "assistant",
        "```python\ndef f(xs):\n    return 'no'\n```" + " I was so delighted to help you!" * 6,
    )
    person.react(world.judge([(person.task, person.moves)])[0])
    assert not person.truths[0].ok
    assert person.truths[0].thumb == 1


def test_a_fifth_of_a_troubled_crowd_lies_or_is_charmed() -> None:
    world = worlds.get("plans")
    crowd = [
        Person(str(n), world, phrases.load(), TROUBLED, random=Random(str(n))) for n in range(2_000)
    ]
    assert 0.17 < sum(one.hostile or one.flattered for one in crowd) / len(crowd) < 0.23


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ask = ['x']", "lacks"),
        ("nothing = ['x']", "occasions are"),
        ("ask = 3", "no list"),
        ("ask = ['{time}']", "places"),
        ("ask = [", "could not read"),
    ],
)
def test_a_phrases_file_that_is_wrong_says_where(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "p.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=told):
        phrases.load(path)
    with pytest.raises(NotFoundError):
        phrases.load(tmp_path / "none.toml")
    with pytest.raises(InputError, match="between 0 and 1"):
        Dials(silence=2.0)
    with pytest.raises(NotFoundError, match="programs, plans"):
        worlds.get("chess")


def test_both_sets_of_phrases_have_every_occasion_and_share_none() -> None:
    mine, other = phrases.load(), phrases.load(OTHER)
    assert set(mine.everywhere) == set(other.everywhere) == set(OCCASIONS)
    assert not {text.lower() for one in mine.everywhere.values() for text in one} & {
        text.lower() for one in other.everywhere.values() for text in one
    }


@given(st.text(max_size=80), st.integers(0, 9))
def test_typos_touch_letters_only(text: str, seed: int) -> None:
    assert typos(text, 0.0, Random(seed)) == text
    after = typos(text, 0.5, Random(seed))
    assert [c for c in after if not c.isalpha()] == [c for c in text if not c.isalpha()]


def test_a_policy_is_made_talks_and_is_measured_from_the_command_line(tmp_path: Path) -> None:
    policy = tmp_path / "policy"
    mediocre.make(
        worlds.get("plans"),
        phrases.load(),
        policy,
        conversations=300,
        steps=12,
        hidden=32,
        layers=1,
    )

    def run_upshot(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "upshot", "world", *words],
            capture_output=True,
            text=True,
            check=False,
        )

    done = run_upshot(
        "talk",
        "plans",
        "--policy",
        str(policy),
        "-o",
        str(tmp_path / "log.jsonl"),
        "--people",
        "12",
        "--crowd",
        "noisy",
        "--phrases",
        OTHER,
        "--truth",
        str(tmp_path / "truth.jsonl"),
    )
    assert done.returncode == 0, done.stderr
    assert len(upshot.judge(upshot.read(tmp_path / "log.jsonl", raw=True))) >= 12
    assert {"id", "index", "ok", "kind", "user", "task"} <= set(
        json.loads((tmp_path / "truth.jsonl").read_text().splitlines()[0])
    )
    found = json.loads(
        run_upshot("measure", "plans", "--policy", str(policy), "--tasks", "20").stdout
    )
    assert 0 <= found["success"] <= 1
    assert sum(found["kinds"].values()) == pytest.approx(1)
    assert run_upshot("policy", "chess", "-o", str(tmp_path / "x")).returncode == 2
