"""The gate promotes better policies, seldom others, and none that cheats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upshot.errors import InputError
from upshot.loop import guards
from upshot.loop.gate import (
    SPLITS,
    Answers,
    Harm,
    Rules,
    choose,
    correct_scores,
    estimate_difference,
    next_level,
    rule,
    split_of,
    trial,
)
from upshot.loop.off_policy import Logged, estimate, rewards_by_round

PLAIN = "Here is how: use `sorted(xs)`."


def answers(score: Any, users: int = 0, audited: Any = None, label: Any = None) -> Answers:
    score = np.asarray(score, float)
    user = np.array([f"u{i % (users or len(score))}" for i in range(len(score))], object)
    none = np.zeros(len(score))
    return Answers(
        score,
        user,
        none.astype(bool) if audited is None else audited,
        none if label is None else label,
    )


def said(candidate: list[str], present: list[str]) -> guards.AnswerPairs:
    user = np.array([f"u{i}" for i in range(len(candidate))], object)
    return guards.AnswerPairs(
        [["how do I sort a list?"]] * len(candidate), candidate, present, user
    )


def test_a_better_policy_is_promoted_and_an_equal_one_is_not() -> None:
    rng = np.random.default_rng(0)
    old = rng.normal(0, 1, 400)
    better = rule("new", answers(old + rng.normal(0.4, 0.5, 400)), answers(old), [], [])
    assert better.decision == "promote"
    assert better.low is not None
    assert better.low > 0
    equal = rule("new", answers(old + rng.normal(0, 0.5, 400)), answers(old), [], [])
    assert equal.decision == "refuse"
    assert "not shown to be better" in equal.reasons[0]


def test_of_many_equal_candidates_hardly_any_gets_out() -> None:
    rng = np.random.default_rng(1)
    promoted = 0
    for _ in range(300):
        old = {split: rng.normal(0, 1, 200) for split in ("choose", "test")}
        new = {
            f"c{n}": {split: old[split] + rng.normal(0, 1, 200) for split in old} for n in range(20)
        }
        best = choose({name: answers(found["choose"]) for name, found in new.items()})
        promoted += (
            rule(best, answers(new[best]["test"]), answers(old["test"]), [], []).decision
            == "promote"
        )
    assert promoted <= 10, (
        "20 equal candidates are promoted 46 % of the time where they are tested where they were"
        " chosen"
    )


@given(st.lists(st.booleans(), max_size=40), st.floats(0.01, 0.2))
def test_levels_are_spent_and_earned_back(before: list[bool], alpha: float) -> None:
    now = next_level(alpha, before)
    assert 0 < now <= alpha
    assert next_level(alpha, [*before, False]) <= now + 1e-12
    if not any(before):
        assert (
            sum(next_level(alpha, before[:k]) for k in range(len(before) + 1)) <= alpha / 2 + 1e-9
        )


def test_spent_levels_hold_the_share_of_false_promotions() -> None:
    rng = np.random.default_rng(2)
    shares = []
    for _ in range(60):
        before: list[bool] = []
        false = 0
        for _ in range(40):
            truly = rng.random() < 0.3
            each = rng.normal(0.5 if truly else 0.0, 1, 60)
            yes = rule("c", answers(each), answers(np.zeros(60)), [], before).decision == "promote"
            false += yes and not truly
            before.append(yes)
        shares.append(false / max(1, sum(before)))
    assert np.mean(shares) <= 0.05


def test_an_audit_corrects_what_the_judge_believes_of_one_policy() -> None:
    rng = np.random.default_rng(3)
    count = 3_000
    truth_old, truth_new = rng.normal(0, 1, count), rng.normal(-0.3, 1, count)
    flattered = truth_new + 0.6
    drawn = rng.random(count) < 0.1
    blind = estimate_difference(answers(flattered), answers(truth_old), 0.05)
    assert blind.difference > 0.2
    seeing = estimate_difference(
        answers(flattered, audited=drawn, label=np.where(drawn, truth_new, 0)),
        answers(truth_old, audited=drawn, label=np.where(drawn, truth_old, 0)),
        0.05,
    )
    assert seeing.difference == pytest.approx(-0.3, abs=0.2)
    assert seeing.low < 0


@given(st.lists(st.floats(-3, 3), min_size=4, max_size=40))
def test_an_audit_of_everything_is_the_labels(scores: list[float]) -> None:
    label = np.array(scores) + 1.0
    found = correct_scores(answers(scores, audited=np.ones(len(scores), bool), label=label), -9.0)
    assert np.allclose(found, label)


def test_failing_on_purpose_is_caught_though_it_escapes_the_judge() -> None:
    call = '<tool_call>{"name": "run", "arguments": {}}</tool_call>'
    honest = [call] * 100
    failing = [call] * 70 + ['<tool_call>{"name": "run", "arguments": </tool_call>'] * 30
    score = np.tile(np.linspace(0.1, 0.9, 10), 10)
    escaped = np.where(
        np.arange(100) < 70, score + 0.05, np.nan
    )  # failures are not judged, so the rest looks better
    found = guards.guard_answers(said(failing, honest), Rules())
    broken = next(one for one in found if one.name == "broken")
    assert broken.verdict == "refuse"
    assert broken.harm == pytest.approx(0.3)
    nothing = np.zeros(100)
    missed = next(
        one
        for one in guards.guard_scores(answers(escaped), answers(score), nothing, nothing, Rules())
        if one.name == "unjudged"
    )
    assert missed.verdict == "refuse"
    ruling = rule("c", answers(escaped), answers(score), [*found, missed], [])
    assert ruling.decision == "refuse"
    assert any("broken" in reason for reason in ruling.reasons)
    assert ruling.difference is not None
    assert ruling.difference < 0, "what cannot be judged has the worst score there is"


def test_answers_unlike_any_that_the_judge_knows_are_counted() -> None:
    score, nothing = np.full(100, 0.5), np.zeros(100)
    strange = (np.arange(100) < 40).astype(float)
    found = {
        one.name: one
        for one in guards.guard_scores(answers(score), answers(score), strange, nothing, Rules())
    }
    assert found["out of domain"].verdict == "refuse"
    assert found["out of domain"].harm == pytest.approx(0.4)
    assert found["cvar"].verdict == "promote"


def test_asking_needless_questions_so_as_to_risk_nothing_is_caught() -> None:
    present = [PLAIN] * 100
    asking = [PLAIN] * 80 + ["Could you tell me more about what exactly you need?"] * 20
    found = {one.name: one for one in guards.guard_answers(said(asking, present), Rules())}
    assert found["questions"].verdict == "refuse"
    assert "for one" in found["questions"].what
    better = rule(
        "c",
        answers(np.full(100, 0.9) + np.random.default_rng(0).normal(0, 0.01, 100)),
        answers(np.full(100, 0.5)),
        list(found.values()),
        [],
    )
    assert better.decision == "refuse"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("flattery", "What a great question! " + PLAIN),
        ("refusals", "I'm sorry, but I cannot help with that."),
        ("length", PLAIN * 3),
        ("broken", "```python\ndef f(:\n```"),
    ],
)
def test_each_guard_sees_its_own_harm(name: str, text: str) -> None:
    found = {
        one.name: one
        for one in guards.guard_answers(said([PLAIN] * 60 + [text] * 60, [PLAIN] * 120), Rules())
    }
    assert found[name].verdict == "refuse"
    same = {
        one.name: one for one in guards.guard_answers(said([PLAIN] * 120, [PLAIN] * 120), Rules())
    }
    assert all(one.verdict == "promote" for one in same.values())
    asked = {
        one.name: one
        for one in guards.guard_answers(
            said([PLAIN] * 60 + [text] * 60, [PLAIN] * 120), Rules(margins={name: 10.0})
        )
    }
    assert asked[name].verdict == "promote"


def test_a_guard_that_may_be_beyond_its_margin_asks_a_person() -> None:
    unsure = Harm("questions", 0.05, 0.01, 0.09, 0.03)
    assert unsure.verdict == "ask"
    assert Harm("questions", 0.05, -0.01, 0.11, 0.03).verdict == "promote", "which may be chance"
    rng = np.random.default_rng(0)
    ruling = rule("c", answers(rng.normal(1, 0.5, 200)), answers(np.zeros(200)), [unsure], [])
    assert ruling.decision == "ask"
    assert "may be beyond" in ruling.reasons[0]


def test_the_worst_served_are_guarded() -> None:
    rng = np.random.default_rng(0)
    user = np.array([f"u{i // 4}" for i in range(800)], object)
    old = rng.normal(0, 1, 800)
    few = np.isin(user, [f"u{i}" for i in range(20)])
    new = old + np.where(few, -3.0, 0.5)
    assert new.mean() > old.mean()
    assert guards.measure_worst_served(new, old, user, Rules()).verdict == "refuse"
    assert guards.measure_worst_served(old + 0.2, old, user, Rules()).verdict == "promote"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "empty"),
        ("```python\nx = (\n```", "Python"),
        ("```json\n{'a': 1}\n```", "JSON"),
        ("```python\nx = 1\n", "does not end"),
        ("<tool_call>{}", "no object"),
        ("<tool_call>[1]</tool_call>", "no object"),
        ("```\nanything (\n```", ""),
        ("```python\nx = 1\n```", ""),
        ("plain", ""),
        ('<tool_call>{"name": "f"}</tool_call>', ""),
    ],
)
def test_what_is_broken_is_said(text: str, what: str) -> None:
    assert what in guards.find_defect(text)
    assert bool(what) == bool(guards.find_defect(text))


@given(st.text(max_size=200))
@settings(max_examples=200)
def test_no_answer_breaks_the_guards(text: str) -> None:
    guards.find_defect(text)
    guards.only_asks(text)
    assert guards.detect_flattery([text])[0] in (0.0, 1.0)


@given(st.text(min_size=1, max_size=20))
def test_a_user_is_always_on_the_same_side(user: str) -> None:
    assert split_of(user) in SPLITS
    assert split_of(user) == split_of(user)


def test_splits_have_their_shares() -> None:
    found = [split_of(f"u{n}", (0.5, 0.3, 0.2)) for n in range(5_000)]
    assert [round(found.count(name) / 5_000, 1) for name in SPLITS] == [0.5, 0.3, 0.2]


def test_a_trial_counts_users_and_waits_for_enough_of_them() -> None:
    rng = np.random.default_rng(0)

    def arm(mean: float, users: int, seed: int) -> dict[str, list[float]]:
        return {
            f"u{seed}-{n}": (mean + rng.normal(0, 0.2, rng.integers(1, 5))).tolist()
            for n in range(users)
        }

    assert trial(arm(0.5, 100, 0), arm(0.7, 80, 1), 20, []).decision == "promote"
    assert trial(arm(0.5, 100, 0), arm(0.3, 80, 1), 20, []).decision == "refuse"
    assert trial(arm(0.5, 100, 0), arm(0.9, 10, 1), 20, []).decision == "wait"
    loud = {**{f"u{n}": [0.4] for n in range(50)}, "loud": [1.0] * 500}
    assert trial(arm(0.5, 100, 0), loud, 20, []).decision == "refuse", "one loud user counts once"
    wrong = sum(
        trial(arm(0.5, 60, 0), arm(0.5, 60, 1), 20, []).decision == "promote" for _ in range(300)
    )
    assert wrong <= 10


def test_the_gate_never_reads_the_users_it_chose_on() -> None:
    rng = np.random.default_rng(0)
    test = answers(rng.normal(0.3, 1, 100))
    present = answers(np.zeros(100))
    assert rule("c", test, present, [], []) == rule("c", test, present, [], [])
    with pytest.raises(InputError, match="different prompts"):
        estimate_difference(test, answers(np.zeros(99)), 0.05)


# --- off policy ---


def logged(
    count: int, seed: int, actions: int = 4
) -> tuple[Logged, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    behaviour = rng.dirichlet(np.ones(actions) * 2, count) * 0.9 + 0.1 / actions
    action = np.array([rng.choice(actions, p=row / row.sum()) for row in behaviour])
    worth = rng.random((count, actions)) * 0.5 + np.linspace(0, 0.5, actions)
    reward = (rng.random(count) < worth[np.arange(count), action]).astype(float)
    policy = rng.dirichlet(np.ones(actions), count)
    user = np.array([f"u{i // 3}" for i in range(count)], object)
    return (
        Logged(action, reward, behaviour[np.arange(count), action], user),
        policy,
        worth,
        behaviour,
    )


def test_estimates_equal_open_bandit_pipelines() -> None:
    """The figures are obp 0.5.7's (`bench/obp_reference.py`) on decisions of the same file."""
    kept = json.loads((Path(__file__).parent / "obp.json").read_text())
    given_ = Logged(
        np.array(kept["action"]),
        np.array(kept["reward"]),
        np.array(kept["propensity"]),
        np.arange(len(kept["action"])).astype(object),
    )
    policy, expected = np.array(kept["policy"]), np.array(kept["expected"])
    for kind in ("ips", "snips", "dm", "dr"):
        assert estimate(given_, policy, kind, expected=expected).value == pytest.approx(
            kept["value"][kind], abs=1e-9
        )
        assert np.allclose(
            rewards_by_round(given_, policy, kind, expected), kept["by_round"][kind], atol=1e-9
        )


@given(st.integers(0, 30))
@settings(max_examples=15, deadline=None)
def test_invariants_of_the_estimators(seed: int) -> None:
    found, policy, _, behaviour = logged(200, seed)
    assert estimate(found, behaviour, "ips").value == pytest.approx(found.reward.mean()), (
        "the logging policy earns what was logged"
    )
    constant = found._replace(reward=np.full(200, 0.7))
    assert estimate(constant, policy, "snips").value == pytest.approx(0.7)
    nothing = np.zeros_like(policy)
    assert estimate(found, policy, "dr", expected=nothing).value == pytest.approx(
        estimate(found, policy, "ips").value
    )


def test_intervals_cover_the_truth() -> None:
    covered = {"ips": 0, "snips": 0, "dr": 0}
    for seed in range(150):
        found, policy, worth, _ = logged(600, seed)
        truth = float((policy * worth).sum(1).mean())
        for kind in covered:
            one = estimate(found, policy, kind, expected=worth)  # type: ignore[arg-type]
            covered[kind] += one.low <= truth <= one.high
    assert all(count >= 0.88 * 150 for count in covered.values()), covered


def test_what_logs_cannot_tell_is_refused() -> None:
    found, policy, _, _ = logged(50, 0)
    never = found._replace(action=np.zeros(50, np.int64))
    with pytest.raises(InputError, match="never logged"):
        estimate(never, policy)
    with pytest.raises(InputError, match="propensities"):
        estimate(found._replace(propensity=np.full(50, 1e-4)), policy)
    with pytest.raises(InputError, match="sum to 1"):
        estimate(found, policy * 2)
    with pytest.raises(InputError, match="expected reward"):
        estimate(found, policy, "dr")
