"""The JSON that language models write is read as it is meant, in one call."""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upshot.llm.model_json import decode_leniently, extract_json, parse_reply, strip_thoughts


class Answer(msgspec.Struct):
    score: int
    quote: str = ""


class Answers(msgspec.Struct):
    answers: list[Answer]


def parse(text: str) -> Answer | None:
    value, _ = parse_reply(text, Answer, lambda answer: "" if answer.score < 10 else "too large")
    return value


@pytest.mark.parametrize(
    "text",
    [
        '{"score": 3}',
        '\ufeff{"score": 3}\n',
        '```json\n{"score": 3}\n```',
        '~~~\n{"score": 3}\n~~~ I hope this helps {really}.',
        '{"score": 3,}',
        '{"score": 3, "quote": "",\n}',
        '{"score": "3"}',
        '{"score": 3.0}',
        "{'score': 3, 'quote': ''}",
        '{"score": 3, "other": None, "more": True,}',
        '{"score": 3, "other": NaN}',
        '{"score": 3} // three of ten',
        '{/* of ten */ "score": 3, # no comment in JSON\n}'.replace("# no comment in JSON", "//"),
        '<think>{"score": 1} or so</think>{"score": 3}',
        '<thinking effort="low">{"score": 1}</thinking>\n{"score": 3}',
        '[THINK]{"score": 1}[/THINK]{"score": 3}',
        'so {"score": 1} no</think>{"score": 3}',
        '<|channel|>analysis<|message|>{"score": 1}<|end|>'
        '<|start|>assistant<|channel|>final<|message|>{"score": 3}<|return|>',
        'First {"score": 1}, but no: {"score": 3}',
        'A {placeholder} and a list [1] first. {"score": 3}',
        'never closed { then {"score": 3}',
        '5" long: {"score": 3}',
        '{"result": {"score": 3}}',
        '[{"score": 3}]',
        json.dumps('{"score": 3}'),
        '{"score": 3, "score": 3}',
    ],
)
def test_what_stands_around_or_inside_of_it_does_not_matter(text: str) -> None:
    answer = parse(text)
    assert answer is not None
    assert answer.score == 3


@pytest.mark.parametrize(
    ("text", "quote"),
    [
        ('{"score": 3, "quote": "<think>no</think>"}', "<think>no</think>"),
        ('```json\n{"score": 3, "quote": "a <think> b"}\n```', "a <think> b"),
        ('{"score": 3, "quote": "a, } // b",}', "a, } // b"),
        ('{"score": 3, "quote": "C:\\_x \\(y\\)"}', "C:\\_x \\(y\\)"),
        ('{"score": 3, "quote": "two\nlines"}', "two\nlines"),
        ('{"score": 3, "quote": "\\ud83d"}', "\ufffd"),
        ("{'score': 3, 'quote': 'it\\'s None'}", "it's None"),
    ],
)
def test_a_quotation_is_left_as_it_is(text: str, quote: str) -> None:
    assert parse(text) == Answer(3, quote)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I would rather not.",
        '{"score": 3',
        '{"answers": [{"score": 3}, {"score',
        "<think>",
        '<think>{"score": 3} perhaps',
        '<think>{"score": 3}</think> I cannot say.',
        '{"score": "high"}',
        "null",
        "3",
        "{}",
    ],
)
def test_half_an_answer_and_a_draft_are_none(text: str) -> None:
    assert parse(text) is None


def test_the_last_right_value_counts_before_a_wrong_one() -> None:
    assert parse('{"score": 3} is better than {"score": 30}') == Answer(3)
    value, problem = parse_reply('{"score": 30}', Answer, lambda answer: "too large")
    assert (value, problem) == (Answer(30), "too large")


def test_a_bare_list_is_the_list_that_was_asked_for() -> None:
    value, problem = parse_reply('[{"score": 1}, {"score": 2}]', Answers, lambda _: "")
    assert (value, problem) == (Answers([Answer(1), Answer(2)]), "")


@given(st.text(), st.text(), st.integers())
@settings(deadline=None)
def test_json_is_found_in_whatever_stands_around_it(before: str, after: str, score: int) -> None:
    for mark in "{[<":
        before = before.replace(mark, "")
    after = after.replace("}", "").replace("<", "").replace("{", "").replace("[", "")
    assert json.loads(extract_json(f'{before}{{"score": {score}}}{after}')) == {"score": score}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(VALUES.filter(lambda value: isinstance(value, (dict, list))))
@settings(deadline=None)
def test_sound_json_and_pythons_literals_are_read_as_they_are(value: Any) -> None:
    assert decode_leniently(json.dumps(value)) == value
    assert decode_leniently(json.dumps(value, indent=1).replace("\n", " \n")) == value


@given(st.text())
@settings(deadline=None)
def test_no_reply_is_an_exception(text: str) -> None:
    parse(text)
    strip_thoughts(text)


@pytest.mark.parametrize("text", ["{" * 100_000, "[" * 100_000, '{"a":' * 9_000 + "}" * 9_000])
def test_brackets_without_end_cost_seconds_at_most(text: str) -> None:
    started = time.process_time()
    assert parse(text) is None
    assert time.process_time() - started < 10
