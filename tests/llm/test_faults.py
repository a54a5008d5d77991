"""The client before endpoints that fail, each a real server process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from llm_faults import read_ledger  # pyright: ignore[reportMissingImports]
from upshot.errors import ConfigError, EndpointError, UnansweredError
from upshot.llm import (
    SUBJECT,
    Budget,
    Client,
    Endpoint,
    Replies,
    Reply,
    Request,
    ask_cached,
    make_response_format,
)
from upshot.llm.client import make_prompt

Faulty = Callable[..., str]


class Answer(msgspec.Struct):
    score: float


def make_request(text: str = "u", n: int = 1) -> Request:
    messages = make_prompt(("system", "s"), ("user", text))
    return Request("m", messages, 50, 0.5, n, 7, make_response_format(Answer, "answer"))


def make_endpoint(address: str, **options: Any) -> Endpoint:
    return Endpoint(address, "m", **{"backoff_s": 0.01, "attempts": 3, "timeout_s": 5.0, **options})


def send(end: Endpoint, *requests: Request, budget: Budget | None = None) -> list[Any]:
    """Send requests one after the other; their replies or errors."""

    async def run() -> list[Any]:
        outcomes: list[Any] = []
        async with Client(end, budget) as client:
            for request in requests:
                try:
                    outcomes.append(await client.complete(request))
                except (EndpointError, UnansweredError) as error:
                    outcomes.append(error)
        return outcomes

    return asyncio.run(run())


def send_together(end: Endpoint, count: int) -> list[Any]:
    async def run() -> list[Any]:
        async with Client(end) as client:
            calls = [client.complete(make_request(str(number))) for number in range(count)]
            return await asyncio.gather(*calls, return_exceptions=True)

    return asyncio.run(run())


EMPTY = [{"choices": []}, {"choices": None}, {"message": {"content": None}}, {"body": ""}]


@pytest.mark.parametrize("turn", EMPTY)
def test_an_empty_reply_ends_after_the_stated_attempts(
    faulty: Faulty, turn: dict[str, Any]
) -> None:
    address = faulty(turn)
    (error,) = send(make_endpoint(address), make_request())
    assert isinstance(error, UnansweredError)
    assert "in 3 attempts" in str(error)
    assert read_ledger(address)["requests"] == 3


@pytest.mark.parametrize(
    "turn",
    [
        *EMPTY,
        {"status": 500, "body": "boom"},
        {"status": 502, "body": "<html><title>Bad Gateway</title></html>"},
        {"cut": 40},
        {"length": 10},
        {"length": 100_000},
        {"chunked": True, "cut": 40},
        {"hex": ""},
        {"hex": "00ff00ff"},
        {"body": '{"choices": [{"message"'},
        {"status": 200, "body": {"error": {"message": "busy", "code": 503}}},
        {"stream": "unended"},
    ],
)
def test_a_passing_fault_costs_an_attempt(faulty: Faulty, turn: dict[str, Any]) -> None:
    address = faulty(turn, {})
    budget = Budget(make_endpoint(address))
    (reply,) = send(budget.endpoint, make_request(), budget=budget)
    assert isinstance(reply, Reply)
    assert len(reply.texts) == 1
    assert read_ledger(address)["requests"] == 2
    assert (budget.spent.calls, budget.spent.unusable) == (2, 1)


@pytest.mark.parametrize(
    ("turn", "says"),
    [
        ({"status": 401, "body": {"error": {"message": "bad key"}}}, "UPSHOT_LLM__KEY"),
        ({"status": 403, "body": "no"}, "may not use this model"),
        ({"status": 404, "body": "no"}, "ends in /v1"),
        ({"status": 302, "body": "", "headers": {"Location": "http://b/v1"}}, "http://b/v1"),
        ({"status": 308, "body": ""}, "redirects"),
        ({"status": 402, "body": {"error": {"message": "pay first"}}}, "pay first"),
        (
            {
                "status": 429,
                "body": {"error": {"message": "all gone", "code": "insufficient_quota"}},
            },
            "all gone",
        ),
        ({"status": 200, "body": {"error": {"message": "all gone", "code": 402}}}, "all gone"),
    ],
)
def test_what_no_request_survives_ends_the_run_at_once(
    faulty: Faulty, turn: dict[str, Any], says: str
) -> None:
    address = faulty(turn)
    errors = send(make_endpoint(address), make_request(), make_request("another"))
    assert {type(error) for error in errors} == {EndpointError}
    assert says in str(errors[0])
    assert read_ledger(address)["requests"] == 1


@pytest.mark.parametrize(
    "turn",
    [
        {"status": 400, "body": {"error": {"message": "x", "code": "context_length_exceeded"}}},
        {"status": 413, "body": "payload too large"},
        {"status": 400, "body": {"error": {"message": "x", "code": "content_filter"}}},
        {"message": {"content": None, "refusal": "I will not"}},
        {"content": "", "choice": {"finish_reason": "content_filter"}},
    ],
)
def test_what_one_request_cannot_have_is_asked_once_and_the_next_goes_on(
    faulty: Faulty, turn: dict[str, Any]
) -> None:
    address = faulty(rules=[{"contains": "BAD", "turns": [turn]}])
    bad = [make_request(f"BAD {number}") for number in range(5)]
    *errors, reply = send(make_endpoint(address), *bad, make_request("good"))
    assert {type(error) for error in errors} == {UnansweredError}
    assert isinstance(reply, Reply)
    assert read_ledger(address)["requests"] == 6


def test_three_in_a_row_without_an_answer_end_the_run(faulty: Faulty) -> None:
    address = faulty({"status": 500, "body": "boom"})
    outcomes = send(make_endpoint(address), *[make_request(str(n)) for n in range(6)])
    kinds = [type(outcome) for outcome in outcomes]
    assert kinds == [UnansweredError] * 2 + [EndpointError] * 4
    assert read_ledger(address)["requests"] == 9


def test_one_subject_may_have_any_number_of_requests_that_fail(faulty: Faulty) -> None:
    address = faulty(rules=[{"contains": "BAD", "turns": [{"choices": []}]}])

    async def run() -> list[Any]:
        async with Client(make_endpoint(address)) as client:

            async def ask_about(subject: str) -> list[Any]:
                SUBJECT.set(subject)
                calls = [client.complete(make_request(f"{subject} {n}")) for n in range(9)]
                return await asyncio.gather(*calls, return_exceptions=True)

            return [await asyncio.create_task(ask_about(name)) for name in ("BAD", "good")]

    bad, good = asyncio.run(run())
    assert {type(outcome) for outcome in bad} == {UnansweredError}
    assert {type(outcome) for outcome in good} == {Reply}


def test_an_endpoint_that_is_not_there_ends_the_run() -> None:
    errors = send(make_endpoint("http://127.0.0.1:9/v1"), make_request(), make_request("b"))
    assert {type(error) for error in errors} == {EndpointError}


def test_rate_limits_slow_requests_down_until_all_are_answered(faulty: Faulty) -> None:
    refusal = {"status": 429, "body": "slow down", "headers": {"Retry-After": "0.01"}}
    address = faulty(*[refusal, refusal, {}] * 60)
    outcomes = send_together(make_endpoint(address, concurrency=12, attempts=6), 24)
    assert {type(outcome) for outcome in outcomes} == {Reply}


@pytest.mark.parametrize("value", ["nan", "-5", "inf", "soon", "0", "1e400", ""])
def test_a_wait_that_makes_no_sense_is_not_waited(faulty: Faulty, value: str) -> None:
    address = faulty({"status": 429, "body": "x", "headers": {"Retry-After": value}}, {})
    started = time.monotonic()
    (reply,) = send(make_endpoint(address), make_request())
    assert isinstance(reply, Reply)
    assert time.monotonic() - started < 3


def test_a_wait_that_makes_sense_is_waited(faulty: Faulty) -> None:
    address = faulty({"status": 429, "body": "x", "headers": {"Retry-After": "0.6"}}, {})
    started = time.monotonic()
    send(make_endpoint(address), make_request())
    assert time.monotonic() - started > 0.6


def test_a_trickle_ends_at_the_time_out(faulty: Faulty) -> None:
    address = faulty({"chunked": True, "pause_s": 0.3}, {})
    started = time.monotonic()
    (reply,) = send(make_endpoint(address, timeout_s=0.5), make_request())
    assert isinstance(reply, Reply)
    assert time.monotonic() - started < 4


def test_an_answer_without_end_is_not_read_to_its_end(faulty: Faulty) -> None:
    address = faulty({"body": "x" * (17 << 20)}, {})
    (reply,) = send(make_endpoint(address, timeout_s=30), make_request())
    assert isinstance(reply, Reply)


def test_thoughts_get_room_where_they_used_up_the_tokens(faulty: Faulty) -> None:
    cut = {
        "content": "",
        "message": {"reasoning_content": "hm " * 20},
        "choice": {"finish_reason": "length"},
    }
    address = faulty(cut, {})
    replies = send(make_endpoint(address), make_request(), make_request("b"))
    assert [type(reply) for reply in replies] == [Reply, Reply]
    assert [body["max_tokens"] for body in read_ledger(address)["bodies"]] == [50, 2_098, 2_098]


def test_room_that_does_not_fit_the_context_is_given_up(faulty: Faulty) -> None:
    cut = {"content": "<think>", "choice": {"finish_reason": "length"}}
    full = {"status": 400, "body": {"error": {"message": "maximum context length is 1000"}}}
    address = faulty(cut, full, {})
    (reply,) = send(make_endpoint(address), make_request())
    assert isinstance(reply, Reply)
    assert [body["max_tokens"] for body in read_ledger(address)["bodies"]] == [50, 2_098, 50]


def test_samples_that_lack_are_asked_for_and_what_was_given_stays(faulty: Faulty) -> None:
    good = {"message": {"role": "assistant", "content": '{"score": 4}'}}
    address = faulty({"choices": [good, {"message": {"content": None}}]}, {"choices": []})
    (reply,) = send(make_endpoint(address), make_request(n=2))
    assert reply.texts == ('{"score": 4}',)
    assert reply.missing == 1
    assert reply.is_whole(2)
    assert read_ledger(address)["requests"] == 1 + 3


@pytest.mark.parametrize("message", ["Unsupported parameter: 'response_format'", "bad request"])
def test_fields_are_dropped_by_many_requests_at_once(faulty: Faulty, message: str) -> None:
    refusal = {"status": 400, "body": {"error": {"message": message}}}
    address = faulty(rules=[{"contains": '"response_format"', "turns": [refusal]}])
    outcomes = send_together(make_endpoint(address, concurrency=8), 16)
    assert {type(outcome) for outcome in outcomes} == {Reply}


def test_a_field_that_was_accepted_is_not_suspected(faulty: Faulty) -> None:
    refusal = {"status": 400, "body": {"error": {"message": "bad request"}}}
    address = faulty(rules=[{"contains": "BAD", "turns": [refusal]}])
    send(make_endpoint(address), make_request(), make_request("BAD"), make_request("c"))
    bodies = read_ledger(address)["bodies"]
    assert len(bodies) == 3
    assert all("response_format" in body for body in bodies)


def test_a_context_length_error_does_not_cost_the_schema(faulty: Faulty) -> None:
    refusal = {"status": 400, "body": {"error": {"message": "the context window is 8 tokens"}}}
    address = faulty(refusal, {})
    send(make_endpoint(address), make_request(), make_request("b"))
    assert "response_format" in read_ledger(address)["bodies"][-1]


def test_the_same_request_is_sent_once_by_all_who_want_it(faulty: Faulty) -> None:
    address = faulty({"delay_s": 0.1})
    replies = Replies()

    async def run() -> list[Any]:
        async with Client(make_endpoint(address)) as client:
            calls = [
                ask_cached(client, replies, make_request(), Answer, lambda _: "", user="u")
                for _ in range(5)
            ]
            return await asyncio.gather(*calls)

    outcomes = asyncio.run(run())
    assert [samples for samples, _, _ in outcomes] == [[Answer(8)]] * 5
    assert read_ledger(address)["requests"] == 1


def test_a_request_that_was_not_answered_is_not_sent_again_in_the_same_run(faulty: Faulty) -> None:
    address = faulty({"choices": []})
    replies = Replies()

    async def run() -> None:
        async with Client(make_endpoint(address)) as client:
            for _ in range(3):
                with pytest.raises(UnansweredError):
                    await ask_cached(
                        client, replies, make_request(), Answer, lambda _: "", user="u"
                    )

    asyncio.run(run())
    assert read_ledger(address)["requests"] == 3


def test_parts_of_a_reply_and_repairs_are_kept_as_they_arrive(faulty: Faulty) -> None:
    address = faulty({"content": "no JSON"}, {"choices": []}, {}, knows_n=False)
    end, request = make_endpoint(address, attempts=1), make_request(n=2)
    kept: list[int] = []

    class Counting(Replies):
        def put(self, key: str, user: str, reply: Reply) -> None:
            super().put(key, user, reply)
            kept.append(len(reply.texts))

    replies = Counting()

    async def ask() -> tuple[list[Answer | None], bool, int]:
        async with Client(end) as client:
            return await ask_cached(client, replies, request, Answer, lambda _: "", user="u")

    assert asyncio.run(ask()) == ([Answer(8), None], False, 1)
    assert kept == [1, 1, 1]  # the first sample, its lack of a second, and the repair
    assert asyncio.run(ask()) == ([Answer(8), None], True, 0)
    assert read_ledger(address)["requests"] == 3


@pytest.mark.parametrize("key", ["sk-\n\x00x", "clé"])
def test_a_key_that_no_header_can_hold_is_a_mistake(key: str) -> None:
    with pytest.raises(ConfigError, match="UPSHOT_LLM__KEY"):
        make_endpoint("http://localhost/v1", key=key).check()


def test_a_newline_after_the_key_and_a_whole_address_do_no_harm(faulty: Faulty) -> None:
    address = faulty()
    end = make_endpoint(f"{address}/chat/completions ", key="sk-1\n")
    (reply,) = send(end, make_request())
    assert isinstance(reply, Reply)


@pytest.mark.parametrize("address", ["localhost:8000", "http://", "http://[::1", "ftp://a/v1"])
def test_what_is_no_address_is_a_mistake(address: str) -> None:
    with pytest.raises(ConfigError, match="whole address"):
        make_endpoint(address).check()


def test_half_a_surrogate_pair_in_a_prompt_can_be_sent(faulty: Faulty) -> None:
    (reply,) = send(make_endpoint(faulty()), make_request("\ud83d?"))
    assert isinstance(reply, Reply)
