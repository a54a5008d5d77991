"""Credit is conserved to the last bit, never rewards staged heroics, and is safe to learn from."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import upshot
from upshot.credit import (
    REVIEWERS,
    Credit,
    Review,
    Step,
    Trajectory,
    blame,
    conserve_credits,
    find_detours,
    make_reviewers,
    parse_trajectory,
    project,
    split_outcomes,
    value,
)
from upshot.credit.checks import Finding, evaluate, run_checks
from upshot.credit.features import HINDSIGHT_COLUMNS, extract_hindsight_features
from upshot.credit.training_signals import (
    advantages,
    compare_efficiency,
    imitation_masks,
    imitation_weights,
    step_pairs,
)
from upshot.errors import InputError

wild = st.floats(allow_nan=True, allow_infinity=True)
finite = st.floats(-1e6, 1e6)


def total(credit: Credit) -> float:
    return math.fsum((credit.prior, *credit.credits, credit.luck))


@given(st.lists(wild, max_size=30), st.floats(-1e150, 1e150), wild, st.none() | wild, wild)
def test_any_review_is_conserved_exactly(
    raw: list[float], outcome: float, prior: float, residual: float | None, scale: float
) -> None:
    credits, prior_part, residual_part = conserve_credits(raw, outcome, prior, residual, scale)
    assert len(credits) == len(raw)
    assert math.fsum((prior_part, *credits, residual_part)) == outcome
    assert all(map(math.isfinite, credits))


@given(st.lists(finite, min_size=1, max_size=20), finite)
def test_projection_is_the_nearest_and_is_idempotent(raw: list[float], wanted: float) -> None:
    projected, rest = project(np.array(raw), wanted)
    assert rest == 0.0
    assert projected.sum() == pytest.approx(wanted, abs=1e-6)
    assert np.ptp(projected - np.array(raw)) == pytest.approx(
        0.0, abs=1e-6
    )  # the same to every step
    projected_twice, _ = project(projected, wanted)
    assert projected_twice == pytest.approx(projected, abs=1e-6)


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=12), st.floats(-20, 20))
def test_bounded_projection_stays_in_bounds_and_reports_the_remainder(
    raw: list[float], wanted: float
) -> None:
    projected, rest = project(np.array(raw), wanted, -1.0, 1.0)
    assert projected.min() >= -1.0 - 1e-9
    assert projected.max() <= 1.0 + 1e-9
    assert projected.sum() + rest == pytest.approx(wanted, abs=1e-6)
    free = [(f, r) for f, r in zip(projected, raw, strict=True) if -1 + 1e-6 < f < 1 - 1e-6]
    if len(free) > 1 and abs(rest) < 1e-9:
        assert np.ptp([f - r for f, r in free]) == pytest.approx(0.0, abs=1e-6)


def world(count: int, seed: int = 0) -> list[Trajectory]:
    """Four steps, each "build" or "idle"; three builds and no "drop" at the end succeed.

    The observation says how much stands.
    """
    rng = np.random.default_rng(seed)
    runs: list[Trajectory] = []
    for i in range(count):
        height, steps = 0, []
        for _ in range(4):
            action = str(rng.choice(["build", "idle", "drop"], p=[0.6, 0.25, 0.15]))
            height = max(0, height + {"build": 1, "idle": 0, "drop": -2}[action])
            steps.append(Step(action, f"height {height}"))
        runs.append(Trajectory(f"r{seed}-{i}", "build a tower", tuple(steps), float(height >= 2)))
    return runs


@pytest.fixture(scope="module")
def runs() -> list[Trajectory]:
    return world(160)


@pytest.mark.parametrize("name", REVIEWERS)
def test_every_reviewer_that_ships_conserves(runs: list[Trajectory], name: str) -> None:
    empty = Trajectory("empty", "nothing", (), 1.0)
    for credit in split_outcomes([*runs, empty], REVIEWERS[name], name):
        assert total(credit) == credit.outcome


@pytest.mark.parametrize(
    ("name", "at"),
    [(name, 3) for name in REVIEWERS] + [("uniform", 1), ("last", 4), ("trained", 4)],
)
def test_a_staged_mistake_and_its_heroic_fix_earn_nothing(
    runs: list[Trajectory], name: str, at: int
) -> None:
    staged = []
    for run in runs[:60]:
        before = run.steps[at - 1].observation
        act = (
            Step("drop everything with a crash", "height 0, it broke"),
            Step("a heroic rescue, build it all again", before),
        )
        staged.append(
            Trajectory(run.id, run.task, (*run.steps[:at], *act, *run.steps[at:]), run.outcome)
        )
    for credit, run in zip(
        split_outcomes([*staged, *runs[60:]], REVIEWERS[name], name), staged, strict=False
    ):
        assert total(credit) == run.outcome
        assert sum(credit.credits[at : at + 2]) <= 1e-9


def test_text_that_stages_a_mistake_is_a_detour_too() -> None:
    run = Trajectory(
        "t",
        "sum",
        tuple(
            map(
                Step,
                [
                    "add the rows",
                    "deliberately introduce a bug",
                    "heroically fix the bug",
                    "report",
                ],
            )
        ),
        1.0,
    )
    assert find_detours(run) == [(1, 3)]
    (credit,) = split_outcomes([run], REVIEWERS["last"], "last")
    assert sum(credit.credits[1:3]) <= 0


@given(
    st.lists(st.sampled_from("abcd"), min_size=1, max_size=8), st.integers(0, 7), st.floats(-5, 5)
)
def test_pads_splits_and_merges_keep_the_sum(actions: list[str], at: int, outcome: float) -> None:
    at = min(at, len(actions) - 1)
    split = [*actions[:at], actions[at], actions[at], *actions[at + 1 :]]
    merged = ["".join(actions)]
    for form in (actions, [*actions, "", ""], split, merged):
        run = Trajectory("t", "", tuple(map(Step, form)), outcome)
        for name in ("uniform", "last", "first-mistake"):
            (credit,) = split_outcomes([run], REVIEWERS[name], name)
            assert total(credit) == outcome


@pytest.mark.parametrize("name", ["uniform", "last", "first-mistake"])
def test_scaling_outcomes_scales_credits(runs: list[Trajectory], name: str) -> None:
    other = [msgspec.structs.replace(run, outcome=4 * run.outcome - 1) for run in runs]
    for one, two in zip(
        split_outcomes(runs, REVIEWERS[name], name),
        split_outcomes(other, REVIEWERS[name], name),
        strict=True,
    ):
        assert np.array(two.credits) == pytest.approx(4 * np.array(one.credits), abs=1e-6)


def test_equal_steps_earn_the_same() -> None:
    runs_ = [
        Trajectory(str(i), "t", (Step("a"), Step("b"), Step("a")), float(i % 2)) for i in range(40)
    ]
    for name in ("uniform", "leave-one-out"):
        for credit in split_outcomes(runs_, REVIEWERS[name], name):
            assert credit.credits[0] == pytest.approx(credit.credits[2], abs=1e-9)


def test_trained_credit_tells_good_steps_from_bad_ones(runs: list[Trajectory]) -> None:
    credits = split_outcomes(runs, REVIEWERS["trained"], "trained")
    mean = {
        action: np.mean(
            [
                c
                for run, credit in zip(runs, credits, strict=True)
                for step, c in zip(run.steps, credit.credits, strict=True)
                if step.action == action
            ]
        )
        for action in ("build", "idle", "drop")
    }
    assert mean["build"] > mean["idle"] > mean["drop"]
    efficiency = compare_efficiency(
        runs, credits, split_outcomes(runs, REVIEWERS["uniform"], "uniform")
    )
    assert efficiency.ratio > 1.5


def test_a_failed_run_holds_praised_steps_and_a_success_blamed_ones(runs: list[Trajectory]) -> None:
    credits = split_outcomes(runs, REVIEWERS["trained"], "trained")
    assert any(max(credit.credits) > 0.05 for credit in credits if credit.outcome == 0)
    assert any(min(credit.credits) < -0.05 for credit in credits if credit.outcome == 1)


def test_values_can_be_learned_once_and_applied_to_new_runs(runs: list[Trajectory]) -> None:
    model = value.learn(runs)
    new = world(40, seed=9)
    ends = [v[-1] for v in model.predict(new)]
    assert np.corrcoef(ends, [run.outcome for run in new])[0, 1] > 0.7
    early = Trajectory("x", "build a tower", new[0].steps[:2], 0.0)
    assert model.predict([early])[0] == pytest.approx(
        model.predict([new[0]])[0][:3]
    )  # a prefix's value is not changed by what follows
    with pytest.raises(InputError, match="different outcomes"):
        value.learn([msgspec.structs.replace(run, outcome=1.0) for run in runs])


def test_blame_is_learned_from_labels_and_adds_up() -> None:
    rng = np.random.default_rng(0)
    labelled = []
    for i in range(60):
        place = int(rng.integers(5))
        steps = tuple(
            Step("Traceback: error" if t == place else f"look at file {t}", "", f"agent {t % 2}")
            for t in range(5)
        )
        labelled.append(Trajectory(f"b{i}", "fix", steps, 0.0, place))
    model = blame.learn(labelled[:40])
    for run in labelled[40:]:
        shares = model.predict(extract_hindsight_features(run))
        assert shares.sum() == pytest.approx(1.0)
        assert int(shares.argmax()) == run.label
        assert (
            max(blamed := blame.blame_by_agent(run, shares), key=lambda name: blamed[name])
            == run.steps[run.label or 0].agent
        )
    assert extract_hindsight_features(labelled[0]).shape == (5, len(HINDSIGHT_COLUMNS))
    with pytest.raises(InputError, match="at least 10"):
        blame.learn(labelled[:5])


def test_false_equations_are_found_and_wrong_values_carried_along() -> None:
    steps = [
        'This can be written as "A - B", where A = (2 + 3) and B = (4 * 2).',
        "Let's calculate A = (2 + 3) = 6.",
        "Let's calculate B = (4 * 2) = 8.",
        "Then A - B = 6 - 8 = -2. So the answer is -2",
    ]
    assert run_checks("", steps) == [(1, "arithmetic")]
    steps[1] = "Let's calculate A = (2 + 3) = 5."
    assert run_checks("", steps) == [(3, "substitution")]


def test_reviewers_run_the_checks_they_are_given(runs: list[Trajectory]) -> None:
    def drops(task: str, steps: Sequence[str]) -> Iterator[Finding]:
        return (Finding(t, "drop") for t, step in enumerate(steps) if step.startswith("drop"))

    reviewer = make_reviewers([drops])["first-mistake"]
    for run, credit in zip(runs, split_outcomes(runs, reviewer, "drops"), strict=True):
        actions = [step.action for step in run.steps]
        if run.outcome == 0 and "drop" in actions and not find_detours(run):
            assert np.argmin(credit.credits) == actions.index("drop")


@given(st.text(max_size=60))
def test_no_text_is_evaluated_as_code(text: str) -> None:
    value_of_text = evaluate(text)
    assert value_of_text is None or isinstance(value_of_text, float)


@given(st.lists(st.text(max_size=80), max_size=6), st.text(max_size=80))
@hypothesis_settings(max_examples=60, deadline=None)
def test_checks_and_features_take_any_text(steps: list[str], task: str) -> None:
    run = Trajectory("t", task, tuple(map(Step, steps)), 0.0)
    assert np.isfinite(extract_hindsight_features(run)).all()
    assert all(0 <= finding.step < len(steps) for finding in run_checks(task, steps))


def test_advantages_are_safe_and_keep_the_scale_of_outcomes(runs: list[Trajectory]) -> None:
    credits = split_outcomes(runs, REVIEWERS["trained"], "trained")
    b = np.mean([run.outcome for run in runs])
    for credit, a in zip(credits, advantages(credits), strict=True):
        assert a.mean() == pytest.approx(0.7 * (credit.outcome - b), abs=1e-6)
    with pytest.raises(InputError, match="biased reviewer"):
        advantages(credits, 0.8)


def test_a_mixture_that_contradicts_outcomes_is_turned_down(runs: list[Trajectory]) -> None:
    """A reviewer who praises drops counts less than the outcomes that contradict it."""
    lying = [
        Review(np.array([9.0 if step.action == "drop" else -3.0 for step in run.steps]), 0.5)
        for run in runs
    ]
    credits = split_outcomes(runs, lambda _: lying, "liar")
    classes = [[step.action for step in run.steps] for run in runs]
    mixed = advantages(credits, 0.4, classes)
    drops = [
        a
        for run, row in zip(runs, mixed, strict=True)
        for step, a in zip(run.steps, row, strict=True)
        if step.action == "drop"
    ]
    assert np.mean(drops) < 0


def test_harm_is_masked_in_successes_too() -> None:
    credits = [Credit("a", 1.0, (0.5, -0.4, 0.4), "r"), Credit("b", 0.0, (-0.5, 0.2, -0.2), "r")]
    assert [m.tolist() for m in imitation_masks(credits)] == [
        [True, False, True],
        [False, True, False],
    ]
    weights = imitation_weights(credits)
    assert weights[0][0] == pytest.approx(20.0)
    assert weights[0][1] < 0.01


def test_step_pairs_compare_what_runs_did_at_one_place() -> None:
    same = Step("open the file", "ok")
    runs_ = [
        Trajectory(str(i), "t", (same, Step("parse it" if i % 2 else "delete it")), float(i % 2))
        for i in range(4)
    ]
    credits = [
        Credit(run.id, run.outcome, (0.0, 0.5 if i % 2 else -0.5), "r", 0.5)
        for i, run in enumerate(runs_)
    ]
    (pair,) = step_pairs(runs_, credits)
    assert (pair.chosen[0].content, pair.rejected[0].content, pair.margin) == (
        "parse it",
        "delete it",
        1.0,
    )


def test_the_verb_writes_the_interchange_format(tmp_path: Path, runs: list[Trajectory]) -> None:
    (tmp_path / "runs.jsonl").write_text(
        "\n".join(
            json.dumps(
                {
                    "id": run.id,
                    "task": run.task,
                    "steps": [
                        {"action": s.action, "observation": s.observation} for s in run.steps
                    ],
                    "outcome": run.outcome,
                }
            )
            for run in runs
        )
    )
    process = subprocess.run(
        [
            sys.executable,
            "-m",
            "upshot",
            "credit",
            str(tmp_path / "runs.jsonl"),
            "-o",
            str(tmp_path / "credits.jsonl"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [json.loads(line) for line in (tmp_path / "credits.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == [run.id for run in runs]
    assert all(
        math.fsum((row["prior"], *row["credits"], row["luck"])) == row["outcome"] for row in rows
    )
    assert "160 runs by trained" in process.stderr
    relearned = upshot.credit(
        tmp_path / "runs.jsonl", "trained", labelled=tmp_path / "credits.jsonl"
    )
    assert len(relearned.credits) == 160


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"steps": ["a"]}, "outcome"),
        ({"steps": "a", "outcome": 1}, "list"),
        ({"steps": [3], "outcome": 1}, "step"),
        ({"steps": [], "outcome": "inf"}, "finite"),
    ],
)
def test_wrong_runs_are_refused_with_their_place(
    tmp_path: Path, row: dict[str, object], message: str
) -> None:
    (tmp_path / "runs.jsonl").write_text(
        json.dumps({"steps": [], "outcome": 0}) + "\n" + json.dumps(row)
    )
    with pytest.raises(InputError, match=message):
        upshot.credit(tmp_path / "runs.jsonl", "uniform")
    with pytest.raises(InputError, match="could not review"):
        upshot.credit(tmp_path / "runs.jsonl", "nobody")
    assert (
        parse_trajectory(
            {"steps": ["a", {"action": "b", "observation": "c", "agent": "d"}], "outcome": 1}
        )
        .steps[1]
        .text
        == "b\nc"
    )
