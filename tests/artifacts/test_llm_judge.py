"""A language model adds questions, reasons and votes; what does not hold is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.artifacts.library import MEMO, SECTIONS

import upshot
from upshot.api.artifacts import Reconstruction
from upshot.artifacts.llm_judge import Claims, StepJudged, check_claims
from upshot.config import load

NO_ISSUES = MEMO.replace("## Issues", "## Numbers").replace("1. Whether", "1.").replace("?", ".")


@pytest.fixture
def judge(tmp_path: Path, scripted: Callable[..., str]) -> Callable[..., Reconstruction]:
    (tmp_path / "library.jsonl").write_text("".join(json.dumps(r) + "\n" for r in SECTIONS))

    def run(text: str, **script: object) -> Reconstruction:
        (tmp_path / "memo.md").write_text(text)
        llm = {"base_url": scripted(mode="memo_reader", **script), "model": "m"}
        return upshot.reconstruct(
            tmp_path / "memo.md",
            sources=tmp_path / "library.jsonl",
            judge="llm",
            settings=load(None, llm=llm),
        )

    return run


def test_it_adds_questions_and_reasons_and_changes_no_source(
    judge: Callable[..., Reconstruction],
) -> None:
    result = judge(NO_ISSUES)
    trail = result.trails[0]
    assert trail.maker == "llm/1"
    assert trail.question == "Is it small?"
    asked = [issue for issue in trail.issues if issue.origin == "llm" and issue.answer]
    span = asked[0].answer
    assert span is not None
    assert trail.text[span.start : span.end] == "The marina therefore is not a small marina."
    assert {s.source for s in trail.steps if s.source} >= {"harbour-12", "harbour-14"}
    assert any(s.why == "so it says" for s in trail.steps if s.action == "infer")
    assert not trail.checks["support"].problems


def test_an_answer_that_is_not_in_the_text_is_refused(
    judge: Callable[..., Reconstruction],
) -> None:
    result = judge(NO_ISSUES, answer="The marina is enormous.")
    assert result.cost is not None
    assert result.cost.refused_spans == 1
    assert not [i for i in result.trails[0].issues if i.origin == "llm" and i.answer]


def test_a_question_that_gives_away_the_answer_is_refused(
    judge: Callable[..., Reconstruction],
) -> None:
    result = judge(NO_ISSUES, question="Is the levy due for 2020 $8,000?")
    assert result.cost is not None
    assert result.cost.refused_questions >= 1
    assert all("8,000" not in issue.question for issue in result.trails[0].issues)


def test_votes_against_a_claim_are_problems_of_support(
    judge: Callable[..., Reconstruction],
) -> None:
    result = judge(MEMO, vote="no")
    problems = result.trails[0].checks["support"].problems
    assert any("the model finds it unsupported" in problem for problem in problems)


def test_every_claim_must_be_answered_and_no_other() -> None:
    answer = Claims([StepJudged(1, "yes", "")])
    assert check_claims(answer, {1}) == ""
    assert "lacks step 2" in check_claims(answer, {1, 2})
    assert "no step 1" in check_claims(answer, {2})
