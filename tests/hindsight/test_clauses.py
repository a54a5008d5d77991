"""A cue reads its clause, a person's words are theirs alone, and what answers the assistant's own
question is no verdict.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import upshot
from upshot.hindsight.embedded import clauses, cues
from upshot.records import RawConversation, RawMessage, Verdict

ANSWER = "Here is the function, with a cache."


def kinds_of(text: str, answer: str = ANSWER) -> set[str]:
    """The cues that report something."""
    asked = [clauses.asks(answer)]
    matches = clauses.read_matches(cues.find_cues([text]), [text], [answer], asked)
    return {cues.load_cues().kinds[kind].name for kind in matches.kind.tolist()}


def judge(*turns: str, **user: Any) -> Verdict:
    """The verdict on the first response of alternating turns, which a person begins."""
    messages = tuple(
        RawMessage("user" if number % 2 == 0 else "assistant", text)
        for number, text in enumerate(turns)
    )
    return upshot.judge([RawConversation(messages, id="c", user="u")])[0]


@pytest.mark.parametrize(
    "text",
    [
        "Did that work?",
        "is everything fine on the staging server?",
        "If it works, merge it",
        "once the tests pass tag a release",
        "make sure it works on windows",
        "it never worked",
        "this has not helped",
        "it doesn't look great",
        "I want it to be perfect",
        'the log says "all tests pass" in green',
        "print `it works` at the end",
    ],
)
def test_success_that_nobody_reports_is_no_praise(text: str) -> None:
    assert not kinds_of(text) & {"worked", "praise"}


@pytest.mark.parametrize(
    "text",
    [
        "that worked, thanks!",
        "it works now. can you also add paging?",
        "perfect",
        "After the restart it works fine",
        "if I read it right, it works now",
    ],
)
def test_success_that_is_reported_counts(text: str) -> None:
    assert kinds_of(text) & {"worked", "praise"}


@pytest.mark.parametrize(
    "text",
    [
        "if it fails print a warning",
        "does it crash on empty input?",
        "it no longer crashes",
        "what happens when the upload fails?",
        'catch "connection failed" there',
        "it did not fail this time",
    ],
)
def test_a_failure_that_nobody_reports_is_no_complaint(text: str) -> None:
    assert not kinds_of(text) & {"failed", "complaint", "correction"}


@pytest.mark.parametrize(
    "text",
    [
        "it still crashes",
        "why does it still return an empty list?",
        "when I open it, it crashes",
        "now every row is empty",
        "I get the same error",
        "why am I seeing two of them still?",
    ],
)
def test_a_failure_that_is_reported_counts(text: str) -> None:
    assert "failed" in kinds_of(text)


@pytest.mark.parametrize(
    "text",
    [
        "The list works. The title should say Orders rather than Items.",
        "Next, the button should be blue instead of red",
        "Please add a check, it must not load twice",
    ],
)
def test_a_new_requirement_is_no_correction(text: str) -> None:
    assert not kinds_of(text) & {"correction", "correction_with_answer"}


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("Two ways: by hand or with a library. Which one do you prefer?", "the second one"),
        ("I can also write the tests. Shall I?", "yes please"),
        ("Should I commit this?", "commit and push"),
        ("Options:\n1. rename\n2. delete\n3. keep\nWhich?", "1 and 3"),
        ("Findings: 1 dead code, 2 wrong default, 3 no test.", "fix 2 and 3"),
    ],
)
def test_an_offer_that_is_taken_up_is_good_news(answer: str, text: str) -> None:
    verdict = judge("review this", answer, text)
    assert verdict.score > 0.6
    assert verdict.evidence[0].quote == text


@pytest.mark.parametrize("text", ["No, without it.", "no", "I don't want breakfast"])
def test_an_answer_to_the_assistants_question_is_no_verdict(text: str) -> None:
    verdict = judge("book a room", "Sure. Do you want breakfast?", text)
    assert not (verdict.score < 0.4 and verdict.confidence > 0.3)


@pytest.mark.parametrize("text", ["run the tests", "double check your changes", "commit and push"])
def test_a_routine_request_made_again_is_no_repeat(text: str) -> None:
    verdict = judge(text, "I ran them and fixed an import.", text)
    assert not (verdict.score < 0.4 and verdict.confidence > 0.3)


def test_sarcasm_is_no_praise() -> None:
    verdict = judge("tidy the table", "Done.", "Oh great, now half of it is gone. Wonderful.")
    assert verdict.score < 0.4


def test_thanks_that_end_a_failure_are_manners() -> None:
    verdict = judge("cancel my order", "Sorry, I can't do that.", "ok, thanks anyway, bye")
    assert verdict.score < 0.6 or verdict.confidence < 0.3


def test_what_was_pasted_is_not_what_was_said() -> None:
    pasted = "> perfect, that worked, thanks!\n\nwhat did she mean by this?"
    assert judge("summarise the thread", "She agreed.", pasted).confidence < 0.3


def test_a_pasted_error_is_news_of_the_answer() -> None:
    pasted = (
        "```\nTraceback (most recent call last):\n"
        '  File "a.py", line 3, in <module>\n    load()\nKeyError: 7\n```'
    )
    verdict = judge("write a loader", "Here it is.", pasted)
    assert verdict.score < 0.4
    assert verdict.evidence[0].kind == "pasted_error"


def test_a_command_to_the_harness_says_nothing() -> None:
    assert judge("write a loader", "Here it is.", "/clear").confidence == 0
    assert judge("write a loader", "Here it is.", "/undo").score < 0.5


def test_what_a_harness_wrote_is_nobodys_reaction() -> None:
    text = "This session is being continued from a previous conversation. All tests pass, great."
    assert judge("write a loader", "Here it is.", text).confidence == 0


@hypothesis_settings(deadline=None, max_examples=200)
@given(
    st.lists(st.text(alphabet="ab. ?!\n\"`'’nowrksfail", max_size=60), max_size=5),
    st.sampled_from(["", ANSWER, "Which one?"]),
)
def test_matches_stay_in_order_and_inside_their_texts(texts: list[str], answer: str) -> None:
    asked = [clauses.asks(answer)] * len(texts)
    matches = clauses.read_matches(cues.find_cues(texts), texts, [answer] * len(texts), asked)
    assert list(zip(matches.text, matches.start, strict=True)) == sorted(
        zip(matches.text, matches.start, strict=True)
    )
    for text, start, end in zip(matches.text, matches.start, matches.end, strict=True):
        assert 0 <= start <= end <= len(texts[int(text)])
    assert len({len(np.asarray(column)) for column in matches}) == 1
