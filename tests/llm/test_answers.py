"""Reading what endpoints answer: every shape is a text or a fault, and none is an exception."""

from __future__ import annotations

import json
import time
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upshot.llm.answers import Answer, Usage, read_answer
from upshot.llm.faults import advise, find_error, read_error, requested_wait

NAMES = st.sampled_from(
    [
        "choices",
        "message",
        "content",
        "text",
        "type",
        "usage",
        "prompt_tokens",
        "error",
        "delta",
        "finish_reason",
        "refusal",
        "reasoning",
        "tool_calls",
        "function",
        "code",
        "x",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


def answer_with(**message: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "finish_reason": "stop", "message": message}]}


def read(body: Any) -> Answer:
    return read_answer(json.dumps(body).encode())


@pytest.mark.parametrize(
    ("body", "texts"),
    [
        (answer_with(content="yes"), ("yes",)),
        (
            answer_with(content=[{"type": "text", "text": "y"}, {"type": "text", "text": "es"}]),
            None,
        ),
        (answer_with(content=["y", "es"]), None),
        (answer_with(content=[{"type": "output_text", "text": {"value": "yes"}}]), None),
        (answer_with(content=[{"type": "thinking", "thinking": "no"}, {"text": "yes"}]), None),
        (answer_with(content={"text": "yes"}), None),
        (answer_with(content={"score": 1}), ('{"score":1}',)),
        (answer_with(content=[{"score": 1}]), ('[{"score":1}]',)),
        (answer_with(content=7), ("7",)),
        (answer_with(content="yes", reasoning_content="is it no?", reasoning="no"), None),
        (answer_with(content=None, parsed={"score": 1}), ('{"score":1}',)),
        (answer_with(content="", tool_calls=[{"function": {"arguments": "yes"}}]), None),
        (answer_with(content=None, reasoning_content=' {"score": 1} '), ('{"score": 1}',)),
        ({"choices": [{"text": "yes"}]}, None),
        ({"choices": [{"message": "yes"}]}, None),
        ({"choices": [{"delta": {"content": "yes"}}]}, None),
        ({"choices": {"message": {"content": "yes"}}}, None),
        ([answer_with(content="yes")], None),
        ({**answer_with(content="yes"), "error": None}, None),
        ({"choices": [{"message": {"content": ""}}, {"message": {"content": "yes"}}]}, None),
    ],
)
def test_the_text_is_taken_from_wherever_servers_put_it(
    body: Any, texts: tuple[str, ...] | None
) -> None:
    answer = read(body)
    assert answer.texts == (texts or ("yes",))
    assert answer.fault is None


@pytest.mark.parametrize(
    ("body", "kind", "problem"),
    [
        ({"choices": []}, "passing", "without choices"),
        ({"choices": None}, "passing", "without choices"),
        ({"choices": [None]}, "passing", "without text"),
        ({"choices": "yes"}, "passing", "without choices"),
        ({"choices": [{"message": None}]}, "passing", "without text"),
        ({}, "passing", "without choices"),
        ([], "passing", "without choices"),
        (3, "passing", "without choices"),
        (answer_with(content=None), "passing", "without text"),
        (answer_with(content=" \n"), "passing", "without text"),
        (answer_with(content="<think>and so on"), "passing", "without text"),
        (answer_with(content=None, reasoning_content="hm {"), "passing", "without text"),
        (answer_with(content=None, refusal="I cannot"), "request", "I cannot"),
        (answer_with(content=[{"type": "refusal", "refusal": "never"}]), "request", "never"),
        ({"choices": [{"message": {}, "finish_reason": "SAFETY"}]}, "request", "withheld"),
        (
            {"choices": [{"message": {"content": "par"}, "finish_reason": "content_filter"}]},
            "request",
            "withheld",
        ),
        ({"error": {"message": "Busy upstream", "code": 503}}, "rate", "Busy upstream"),
        ({"error": "out of luck"}, "passing", "out of luck"),
        ({"errors": [{"message": "out of luck"}]}, "passing", "out of luck"),
        ({"object": "error", "message": "out of luck", "code": 400}, "rejected", "out of luck"),
        ({"detail": "out of luck"}, "passing", "out of luck"),
        ({**answer_with(content="par"), "error": {"message": "died"}}, "passing", "died"),
        ({"choices": [{"message": {"content": "p"}, "error": {"code": 502}}]}, "passing", "502"),
        ({"choices": [{"message": {"content": "p"}, "finish_reason": "error"}]}, "passing", ""),
    ],
)
def test_an_answer_without_a_text_says_what_it_lacks(body: Any, kind: str, problem: str) -> None:
    answer = read(body)
    assert answer.texts == ()
    assert answer.fault is not None
    assert answer.fault.kind == kind
    assert problem in answer.fault.problem


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" \r\n ",
        b"\xff\xfe\x00",
        b"<html>login</html>",
        b'{"choices": [{"message": {"content": "ye',
        b"[" * 100_000,
        b'{"usage": ' + b"9" * 5_000 + b"}",
        b"data: {",
        b"data:\n\ndata: [DONE]",
    ],
)
def test_what_is_no_answer_is_a_passing_fault(content: bytes) -> None:
    answer = read_answer(content)
    assert answer.fault is not None
    assert answer.fault.kind == "passing"


@given(JSON | st.fixed_dictionaries({"choices": st.lists(JSON, max_size=2), "usage": JSON}))
@settings(deadline=None)
def test_nothing_that_is_json_is_an_exception(body: Any) -> None:
    answer = read_answer(json.dumps(body).encode())
    assert bool(answer.texts) == (answer.fault is None)


@given(st.binary(max_size=60), st.sampled_from([b"", b"data: ", b'{"choices":[', b": "]))
@settings(deadline=None)
def test_nothing_that_is_bytes_is_an_exception(content: bytes, start: bytes) -> None:
    answer = read_answer(start + content)
    assert bool(answer.texts) == (answer.fault is None)


@pytest.mark.parametrize(
    "content",
    [
        b'\xef\xbb\xbf{"choices": [{"message": {"content": "\xc3\xa9"}}]}',
        '{"choices": [{"message": {"content": "é"}}]}'.encode("utf-16"),
        b'{"choices": [{"message": {"content": "\\u00e9"}, "logprobs": [NaN, -Infinity]}]}',
        b'{"choices": [], "choices": [{"message": {"content": "\xc3\xa9"}}]}',
        b'\n\n  {"choices": [{"message": {"content": "\xc3\xa9"}}]}',
    ],
)
def test_marks_encodings_and_numbers_that_json_has_not_do_not_matter(content: bytes) -> None:
    assert read_answer(content).texts == ("é",)


def test_half_a_surrogate_pair_is_replaced() -> None:
    content = b'{"choices": [{"message": {"content": "{\\"a\\": \\"\\ud83d\\"}"}}]}'
    assert read_answer(content).texts == ('{"a": "\ufffd"}',)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 4}, Usage(9, 0, 4)),
        ({"prompt_tokens": "9", "completion_tokens": 3.5}, Usage(9, 0, 4)),
        ({"input_tokens": 9, "output_tokens": 4}, Usage(9, 0, 4)),
        ({"prompt_tokens": -9, "completion_tokens": 10**40}, Usage()),
        ({"prompt_tokens": True, "completion_tokens": [4]}, Usage()),
        ({"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 30}, Usage(9, 0, 21)),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 50}}, Usage(9, 9, None)),
        ({"prompt_tokens": 9, "prompt_cache_hit_tokens": 5}, Usage(9, 5, None)),
        ("many", Usage()),
        (None, Usage()),
    ],
)
def test_a_count_is_a_possible_number_or_none(usage: Any, expected: Usage) -> None:
    for text in ("{}", "words"):
        assert read({**answer_with(content=text), "usage": usage}).usage == expected


def stream(*events: Any, end: str = "data: [DONE]\n\n", break_: str = "\n\n") -> bytes:
    return ("".join(f"data: {json.dumps(e)}{break_}" for e in events) + end).encode()


def piece(text: Any, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, **more}]}


@pytest.mark.parametrize("break_", ["\n\n", "\r\n\r\n", "\n"])
def test_a_stream_is_put_together(break_: str) -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}
    content = b": waiting\n\n" + stream(piece("y"), piece("es"), usage, break_=break_)
    assert read_answer(content) == Answer(("yes",), 1, Usage(7, 0, 2), 3)


def test_a_stream_ends_by_its_reason_too() -> None:
    events = (piece([{"type": "text", "text": "ye"}]), piece("s", finish_reason="stop"))
    assert read_answer(stream(*events, end="")).texts == ("yes",)


@pytest.mark.parametrize(
    "content",
    [
        stream(piece("ye"), end=""),
        stream(piece("ye"), end="data: {broken\n\n"),
        stream(piece("ye"), {"error": {"message": "the engine died"}}, end=""),
        stream(piece("ye"), piece(None, finish_reason="error")),
    ],
)
def test_half_a_stream_is_no_answer(content: bytes) -> None:
    answer = read_answer(content)
    assert answer.texts == ()
    assert answer.fault is not None


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (429, {"message": "slow down"}, "rate"),
        (429, {"message": "no", "code": "insufficient_quota"}, "endpoint"),
        (429, {"message": "no", "type": "insufficient_quota", "code": None}, "endpoint"),
        (429, {"message": "You exceeded your current quota"}, "endpoint"),
        (
            429,
            {"message": "You exceeded your current quota", "status": "RESOURCE_EXHAUSTED"},
            "rate",
        ),
        (429, {"message": "Request too large for m on tokens per min"}, "request"),
        (402, "payment required", "endpoint"),
        (400, {"message": "Your credit balance is too low"}, "endpoint"),
        (400, {"message": "x", "code": "context_length_exceeded"}, "request"),
        (400, {"message": "This model's maximum context length is 4096 tokens"}, "request"),
        (400, {"message": "prompt is too long: 9 tokens > 8 maximum"}, "request"),
        (400, {"message": "The input token count (9) exceeds the maximum"}, "request"),
        (413, "Payload Too Large", "request"),
        (500, {"message": "the request exceeds the available context size"}, "request"),
        (400, {"message": "x", "innererror": {"code": "ResponsibleAIPolicyViolation"}}, "request"),
        (403, {"message": "input flagged", "metadata": {"reasons": ["violence"]}}, "request"),
        (400, {"message": "Unsupported value: 'seed'", "param": "seed"}, "rejected"),
        (422, [{"loc": ["body", "n"], "msg": "extra field"}], "rejected"),
        (400, {"message": "the model `m` does not exist"}, "endpoint"),
        (400, {"message": "Overloaded", "type": "overloaded_error"}, "rate"),
        (401, {"message": "no"}, "endpoint"),
        (403, "<html>blocked for your safety</html>", "endpoint"),
        (404, {"message": "no"}, "endpoint"),
        (501, "not implemented", "endpoint"),
        (503, "loading", "rate"),
        (529, {"type": "overloaded_error"}, "rate"),
        (500, "boom", "passing"),
        (502, "bad gateway", "passing"),
        (524, "", "passing"),
        (408, "", "passing"),
    ],
)
def test_an_error_is_final_passing_or_about_one_request(status: int, error: Any, kind: str) -> None:
    assert read_error(error, status).kind == kind


@given(JSON, st.integers(200, 599))
@settings(deadline=None)
def test_no_error_is_an_exception(error: Any, status: int) -> None:
    assert read_error(error, status).problem
    find_error(error)


def test_a_wait_is_read_in_every_spelling_and_nonsense_is_none() -> None:
    assert requested_wait({"Retry-After": "3"}) == 3
    assert requested_wait({"Retry-After": " 0.5 "}) == 0.5
    assert requested_wait({"Retry-After-Ms": "250", "Retry-After": "9"}) == 0.25
    soon = requested_wait({"Retry-After": formatdate(time.time() + 50, usegmt=True)})
    assert soon is not None
    assert 40 < soon < 60
    past = formatdate(time.time() - 50, usegmt=True)
    for value in ("", "0", "-4", "nan", "inf", "1e999", "soon", past, "Wed, 99 Foo 2 x"):
        assert requested_wait({"Retry-After": value}) is None


def test_a_redirect_names_where_to() -> None:
    assert "http://elsewhere/v1" in advise(307, "http://elsewhere/v1")
