"""The ids by which other systems know a response."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import upshot


def refs_of(messages: list[dict[str, Any]], **others: Any) -> dict[int, dict[str, str]]:
    chat = {"id": "c1", "user": "u1", "messages": messages, **others}
    return {verdict.index: dict(verdict.refs) for verdict in upshot.judge([chat])}


def test_a_response_has_the_ids_of_its_message_and_of_its_conversation() -> None:
    messages = [
        {"role": "user", "content": "fix it", "refs": {"request": "r1"}},
        {"role": "assistant", "content": "done", "refs": {"span": "s1", "trace": "t2"}},
        {"role": "user", "content": "thanks"},
        {"role": "assistant", "content": "welcome"},
    ]
    refs = refs_of(messages, refs={"trace": "t1", "session": "x1"})
    assert refs[1] == {"session": "x1", "trace": "t2", "span": "s1"}
    assert refs[3] == {"session": "x1", "trace": "t1"}


def test_the_name_of_a_system_around_ids_is_left_out() -> None:
    messages = [
        {"role": "user", "content": "fix it"},
        {"role": "assistant", "content": "done", "refs": {"langfuse": {"observation": "o1"}}},
    ]
    refs = refs_of(messages, refs={"langfuse": {"trace": "t1"}})
    assert refs[1] == {"trace": "t1", "observation": "o1"}


def test_an_id_that_redaction_has_changed_is_left_out() -> None:
    uuid = "81275221-1066-4863-b351-3c8ea15c2ccb"  # a number of a card
    messages = [
        {"role": "user", "content": "fix it"},
        {"role": "assistant", "content": "done", "refs": {"observation": uuid, "trace": "t1"}},
    ]
    assert refs_of(messages)[1] == {"trace": "t1"}


def agent(*spans: str, last: str = "all done") -> list[dict[str, Any]]:
    """A turn of two steps with a call each and a last message, which have these spans."""
    call = {"id": "k", "type": "function", "function": {"name": "ls", "arguments": "{}"}}
    texts = ["", "", last]
    answers: list[dict[str, Any]] = [
        {"role": "assistant", "content": text, **({"refs": {"span": span}} if span else {})}
        for text, span in zip(texts, spans, strict=True)
    ]
    tool = {"role": "tool", "content": "a.py", "tool_call_id": "k"}
    first, second, third = answers
    return [
        {"role": "user", "content": "tidy up"},
        {**first, "tool_calls": [call]},
        tool,
        {**second, "tool_calls": [call]},
        tool,
        third,
        {"role": "user", "content": "thanks, that worked"},
    ]


def test_of_an_agents_turn_the_last_message_with_words_counts_else_the_first_with_an_id() -> None:
    assert refs_of(agent("s1", "s2", "s3")) == {1: {"span": "s3"}}
    assert refs_of(agent("s1", "s2", "")) == {1: {"span": "s1"}}
    assert refs_of(agent("", "s2", "")) == {1: {"span": "s2"}}
    assert refs_of(agent("", "", "")) == {1: {}}


def test_what_follows_a_person_is_no_part_of_the_response_before() -> None:
    messages = agent("s1", "s2", "")
    messages += [{"role": "assistant", "content": "welcome", "refs": {"span": "s9"}}]
    assert refs_of(messages)[1] == {"span": "s1"}


def test_a_lake_says_the_same_as_files(tmp_path: Path) -> None:
    chats = [
        {"id": "c1", "user": "u1", "messages": agent("s1", "s2", "s3"), "refs": {"trace": "t1"}},
        {"id": "c2", "user": "u2", "messages": agent("", "", "")},
    ]
    upshot.run(chats, tmp_path / "lake")
    stored = {(v.id, v.index): v.refs for v in upshot.verdicts(tmp_path / "lake")}
    assert stored == {(v.id, v.index): v.refs for v in upshot.judge(chats)}
    assert stored["c1", 1] == {"trace": "t1", "span": "s3"}
