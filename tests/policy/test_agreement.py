"""Other users' agreement corrects verdicts where verdicts follow it, and leaves them alone where
they do not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upshot.policy.agreement import MIN_GOOD, Curve, agree, fit
from upshot.policy.recipe import Recipe
from upshot.records import Example, Source, Turn

pytestmark = pytest.mark.filterwarnings("ignore")


def crowd(
    rng: np.random.Generator, answers: int, gap: float, praised: float, blamed: float, silent: float
) -> tuple[Any, Any, Any, Any]:
    """Truth, likelihood (good responses are likelier by `gap` standard deviations), and verdicts
    with their weights.
    """
    good = rng.random(answers) < 0.45
    likelihood = rng.normal(size=answers) + gap * good
    wrong = rng.random(answers) < np.where(good, blamed, praised)
    said = np.where(good ^ wrong, 0.95, 0.05)
    spoke = rng.random(answers) >= silent
    return (
        good,
        (likelihood - likelihood.mean()) / likelihood.std(),
        np.where(spoke, said, 0.5),
        np.where(spoke, 0.9, 0.0),
    )


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.floats(1.5, 3.0),
    st.floats(0.0, 0.25),
    st.floats(0.0, 0.25),
    st.floats(0.0, 0.6),
)
def test_verdicts_that_follow_the_likelihood_are_mended_by_it(
    seed: int, gap: float, praised: float, blamed: float, silent: float
) -> None:
    good, likelihood, score, weight = crowd(
        np.random.default_rng(seed), 2_000, gap, praised, blamed, silent
    )
    found = fit(likelihood, score, weight).posterior(likelihood, score, weight)
    before, after = np.mean((score - good) ** 2), np.mean((found - good) ** 2)
    assert after < max(before, 0.09), "verdicts that are right are hardly doubted"
    if praised + blamed > 0.3:
        assert after < 0.9 * before
    assert abs(float(found.mean()) - float(good.mean())) < 0.12


def test_honest_verdicts_stand() -> None:
    good, likelihood, score, weight = crowd(np.random.default_rng(2), 2_000, 2.0, 0.0, 0.0, 0.0)
    found = fit(likelihood, score, weight).posterior(likelihood, score, weight)
    assert ((found > 0.5) == good).mean() > 0.97


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 0.3))
def test_a_likelihood_that_says_nothing_changes_nothing(seed: int, wrong: float) -> None:
    _, likelihood, score, weight = crowd(np.random.default_rng(seed), 400, 0.0, wrong, wrong, 0.3)
    curve = fit(likelihood, score, weight)
    assert (
        curve.slope == 0
        or np.abs(curve.good(likelihood) - curve.good(likelihood).mean()).mean() < 0.2
    )


def test_a_likelihood_that_speaks_against_the_verdicts_is_not_believed() -> None:
    _, likelihood, score, weight = crowd(np.random.default_rng(1), 2_000, 2.0, 0.1, 0.1, 0.2)
    assert fit(-likelihood, score, weight).slope == 0


@given(st.floats(0, 1), st.floats(-5, 5), st.floats(0, 0.45), st.floats(0, 0.45))
def test_more_praise_never_makes_an_answer_worse(
    score: float, likelihood: float, praised: float, blamed: float
) -> None:
    curve = Curve(2.0, -0.5, praised, blamed)
    found = curve.posterior(
        np.full(2, likelihood), np.array([score, min(1.0, score + 0.2)]), np.ones(2)
    )
    assert found[1] >= found[0] - 1e-9
    assert np.isfinite(found).all()


def rows(count: int, liars: int) -> list[Example]:
    """Right responses add one, wrong ones say anything; some users lie, every third writes
    nothing.
    """
    rng = np.random.default_rng(0)
    out: list[Example] = []
    for n in range(count):
        right = bool(rng.random() < 0.5)
        said = "it works" if right else "".join(rng.choice(list("abcdefghijklmnop"), 8))
        praised = right != (n % liars == 0)
        silent = n % 3 == 0
        out.append(
            Example(
                (Turn("user", "how do I do it?"),),
                (Turn("assistant", said),),
                0.5 if silent else 0.9 if praised else 0.1,
                0.0 if silent else 0.9,
                Source("test", (f"u{n}",)),
            )
        )
    return out


def test_a_liars_praise_stops_teaching_and_silent_users_answers_begin_to(
    base: str, tmp_path: Path
) -> None:
    given_ = rows(600, 7)
    recipe = msgspec.convert(
        {
            "base": base,
            "method": "kto",
            "trainer": {
                "learning_rate": 3e-3,
                "per_device_train_batch_size": 16,
                "max_steps": 15,
                "save_strategy": "no",
                "desirable_weight": 2.0,
            },
        },
        Recipe,
    )
    found = agree(recipe, given_, tmp_path / "agreement")
    right = np.array([row.completion[0].content == "it works" for row in given_])
    before, after = (
        np.array([row.score >= 0.7 for row in given_]),
        np.array([row.score >= 0.7 for row in found.rows]),
    )
    assert right[after].mean() > 0.98 > right[before].mean()
    assert (after & right).sum() > 1.2 * (before & right).sum()
    assert found.details["no_longer_good"] == (before & ~after).sum()
    assert [msgspec.structs.replace(row, score=0.0, weight=0.0) for row in found.rows] == [
        msgspec.structs.replace(row, score=0.0, weight=0.0) for row in given_
    ]
    assert not (tmp_path / "agreement").exists(), "teachers hold users"


@pytest.mark.parametrize(("count", "why"), [(0, "at least"), (60, "at least")])
def test_few_answers_are_left_as_they_are(base: str, tmp_path: Path, count: int, why: str) -> None:
    given_ = rows(count, 1_000)
    found = agree(
        msgspec.convert({"base": base, "method": "sft"}, Recipe), given_, tmp_path / "agreement"
    )
    assert found.rows == given_
    assert why in found.details["why"]


def test_praise_alone_teaches_no_agreement(base: str, tmp_path: Path) -> None:
    given_ = [
        msgspec.structs.replace(row, score=0.9, weight=1.0) for row in rows(4 * MIN_GOOD, 1_000)
    ]
    found = agree(
        msgspec.convert({"base": base, "method": "sft"}, Recipe), given_, tmp_path / "agreement"
    )
    assert found.rows == given_
    assert found.details["why"] == "no answer is called bad"
