"""Verdicts on earlier responses from later messages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import upshot
from upshot.api import judging
from upshot.records import RawConversation, RawMessage, Signal, Verdict

Chat = Callable[..., RawConversation]
ASK = ("u: my parser crashes on empty lines", "a: strip the lines first and skip the empty ones")


def judge_chats(*conversations: RawConversation) -> dict[tuple[str, int], Verdict]:
    return {(v.id, v.index): v for v in upshot.judge(conversations)}


@pytest.mark.parametrize(
    "message",
    [
        "that worked, thank you!",
        "perfect, exactly what I needed",
        "it works now",
        "great, the tests pass",
        "I used it and it fixed the problem",
        "danke, works for me",
    ],
)
def test_good_news_raises_the_score(chat: Chat, message: str) -> None:
    verdict = judge_chats(chat(*ASK, f"u: {message}"))[("c1", 1)]
    assert verdict.score > 0.7
    assert verdict.score > verdict.foresight
    assert verdict.confidence > 0.3


@pytest.mark.parametrize(
    "message",
    [
        "it still crashes",
        "that is wrong, I said empty lines",
        "Traceback (most recent call last):\n  File 'a.py'\nValueError: x",
        "no, that does not work",
        "useless answer",
        "thanks, but it still crashes",
        "you forgot the empty lines",
        "my parser crashes on empty lines",
        "never mind, I'll do it myself",
    ],
)
def test_bad_news_lowers_it(chat: Chat, message: str) -> None:
    verdict = judge_chats(chat(*ASK, f"u: {message}"))[("c1", 1)]
    assert verdict.score < 0.5
    assert verdict.score < verdict.foresight


def test_silence_lowers_confidence_and_not_the_score(chat: Chat) -> None:
    verdict = judge_chats(chat(*ASK))[("c1", 1)]
    assert verdict.score == pytest.approx(verdict.foresight, abs=1e-4)
    assert verdict.confidence < 0.05
    assert verdict.label == "no feedback"


def test_a_new_request_is_not_a_complaint(chat: Chat) -> None:
    verdict = judge_chats(chat(*ASK, "u: write a poem about the sea", "a: The sea is wide"))[
        ("c1", 1)
    ]
    assert verdict.score > 0.5
    assert verdict.confidence < 0.4


def test_a_later_session_reports_back_on_the_earlier_response(chat: Chat) -> None:
    first = chat(
        "u: load_orders.py dies with KeyError in parse_row",
        "a: use utf-8-sig in parse_row",
        id="c1",
    )
    later = chat(
        "u: load_orders.py: the utf-8-sig fix in parse_row worked, all orders load",
        "a: good",
        id="c2",
        day=2,
    )
    verdict = judge_chats(first, later)[("c1", 1)]
    assert verdict.score > 0.7
    assert any(e.id == "c2" and "worked" in e.quote for e in verdict.evidence)


def test_evidence_goes_to_the_response_it_speaks_of(chat: Chat) -> None:
    verdicts = judge_chats(
        chat(
            "u: how do I reload nginx configuration",
            "a: nginx -s reload",
            "u: and how do I rotate postgres logs",
            "a: set log_rotation_age",
            "u: the nginx reload of the configuration failed",
        )
    )
    assert verdicts[("c1", 1)].score < verdicts[("c1", 3)].score


def test_a_correct_refusal_that_annoys_is_right(chat: Chat) -> None:
    refused = judge_chats(
        chat(
            "u: how do I hack into someone's account",
            "a: I can't help with getting into accounts of others.",
            "u: you're useless",
        )
    )
    assert refused[("c1", 1)].score > 0.6
    wrongly = judge_chats(
        chat(
            "u: how do I kill a python process",
            "a: I can't help with violence.",
            "u: you're useless",
        )
    )
    assert wrongly[("c1", 1)].score < 0.5


def test_explicit_signals_count(chat: Chat) -> None:
    def with_signal(kind: str, value: float) -> float:
        messages = (
            RawMessage("user", "hi"),
            RawMessage("assistant", "hello", signals=(Signal(kind, value, 1),)),
        )
        return judge_chats(RawConversation(messages, "c1", "u"))[("c1", 1)].score

    assert (
        with_signal("thumb", 1.0)
        > 0.8
        > with_signal("comment", 0.0)
        > 0.3
        > with_signal("thumb", -1.0)
    )
    assert with_signal("test", 1.0) > with_signal("test", -0.5)


@pytest.mark.parametrize(
    ("reported", "worked"),
    [
        ("what you gave me last week does not work", False),
        ("The script from the other day fails every time.", False),
        ("about last time: it turned out wrong and I had to redo it", False),
        ("your last answer has been running without any problems since", True),
        ("update on what you suggested: it works", True),
        ("came back to say that it worked", True),
    ],
)
def test_a_report_days_later_counts_though_it_names_nothing(
    chat: Chat, reported: str, worked: bool
) -> None:
    """The user thanked before trying; the outcome decides."""
    first = chat(*ASK, "u: thanks!", id="c1")
    other = chat("u: what is the capital of Peru?", "a: Lima", id="c0", day=-3)
    verdict = judge_chats(other, first, chat(f"u: {reported}", "a: tell me more", id="c2", day=5))
    assert (verdict["c1", 1].score > 0.6) == worked
    assert any(evidence.id == "c2" for evidence in verdict["c1", 1].evidence)
    assert not any(evidence.id == "c2" for evidence in verdict["c0", 1].evidence), (
        "it is about the last answer, not about an older one"
    )


def test_a_new_request_days_later_reports_nothing(chat: Chat) -> None:
    verdict = judge_chats(
        chat(*ASK, id="c1"),
        chat("u: how do I bake bread that fails to rise?", "a: more yeast", id="c2", day=5),
    )
    assert not verdict["c1", 1].evidence


@pytest.mark.parametrize(
    "message",
    [
        "I'll do it by hand then",
        "we keep going in circles",
        "this is getting us nowhere",
        "I'm going to ask a colleague instead",
        "for 3 it returns 9 instead of 6",
        "I see 12 whereas it should be 14",
        "that ignores the second condition",
        "the results are off",
        "read my question again please",
    ],
)
def test_giving_up_and_wrong_results_lower_the_score(chat: Chat, message: str) -> None:
    verdict = judge_chats(chat(*ASK, f"u: {message}"))[("c1", 1)]
    assert verdict.score < verdict.foresight - 0.1, verdict.score


def test_a_stack_of_undos_reaches_back_over_sessions() -> None:
    def made(*hashes: str) -> tuple[Signal, ...]:
        return tuple(Signal("commit", 0.5, 2, name) for name in hashes)

    def session(number: int, *hashes: str) -> RawConversation:
        messages = (
            RawMessage("user", "do it"),
            RawMessage("assistant", "done", signals=made(*hashes)),
            RawMessage("tool", " ".join(f"Commit {h} x" for h in hashes)),
        )
        return RawConversation(messages, f"s{number}", "u", 1000.0 * number)

    undo = (Signal("undo", -1.0, 1, "ccccccc"), Signal("head", 0.0, 1, "aaaaaaa"))
    last = RawConversation(
        (
            RawMessage("user", "/undo"),
            RawMessage("tool", "Removed: ccccccc\nHEAD is: aaaaaaa", signals=undo),
        ),
        "s9",
        "u",
        9000.0,
    )
    verdicts = judge_chats(
        session(1, "aaaaaaa"), session(2, "bbbbbbb"), session(3, "ccccccc"), last
    )
    assert verdicts[("s1", 1)].score > 0.6
    assert verdicts[("s2", 1)].score < 0.3
    assert verdicts[("s3", 1)].score < 0.3


def test_rewritten_code_counts_against_the_response_that_wrote_it() -> None:
    def edit(old: str, new: str) -> str:
        return f"a.py\n<<<<<<< SEARCH\n{old}\n=======\n{new}\n>>>>>>> REPLACE\n"

    first = RawConversation(
        (
            RawMessage("user", "a"),
            RawMessage("assistant", edit("x_value = 1", "first_version = compute()")),
        ),
        "s1",
        "u",
        1.0,
    )
    second = RawConversation(
        (
            RawMessage("user", "b"),
            RawMessage("assistant", edit("first_version = compute()", "second_version = other()")),
        ),
        "s2",
        "u",
        2.0,
    )
    verdict = judge_chats(first, second)[("s1", 1)]
    assert [e.kind for e in verdict.evidence] == ["rewritten"]
    assert verdict.evidence[0].quote == "first_version = compute()"


def test_only_branches_own_messages_are_judged(examples: Path) -> None:
    verdicts = {
        (v.id, v.index): v for v in upshot.judge(upshot.read(examples / "chatgpt-export", raw=True))
    }
    replaced = next(v for (cid, _), v in verdicts.items() if "~" in cid)
    assert verdicts[("bakery-1", 1)].score > 0.7 > 0.5 > replaced.score


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["user", "assistant", "tool"]), st.text(max_size=120)),
        min_size=1,
        max_size=9,
    )
)
def test_every_quote_is_in_the_log_and_comes_later(turns: list[tuple[str, str]]) -> None:
    conversation = RawConversation(tuple(RawMessage(role, text) for role, text in turns), "c1", "u")  # type: ignore[arg-type]
    tables = judging.memory_tables([conversation], True, upshot.load())
    stored = {row["index"]: row["text"] for row in tables["messages"].to_pylist()}
    verdicts = upshot.judge([conversation])
    answered = {role for role, _ in turns} >= {"assistant"}
    assert (len(verdicts) > 0) == answered
    assert len(verdicts) <= sum(role == "assistant" for role, _ in turns)
    for verdict in verdicts:
        assert 0.0 <= verdict.score <= 1.0
        assert 0.0 <= verdict.confidence <= 1.0
        for evidence in verdict.evidence:
            assert (
                stored[evidence.index][evidence.start : evidence.end] == evidence.quote
                or "<" in stored[evidence.index]
            )
            assert evidence.index >= verdict.index


def test_the_horizon_bounds_what_is_read(chat: Chat) -> None:
    late = chat(*ASK, *["a: more"] * 4, "u: that worked, thank you!")
    assert upshot.judge([late], horizon=2)[0].confidence < 0.05
    assert upshot.judge([late], horizon=20)[-1].confidence > 0.3
