"""The client of OpenAI-compatible endpoints, against a real server process."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from upshot.errors import BudgetError, EndpointError
from upshot.lake import Lake
from upshot.llm import (
    Budget,
    Client,
    Endpoint,
    LakeReplies,
    Reply,
    Request,
    ask,
    make_response_format,
    request_key,
)
from upshot.llm.client import make_prompt

Scripted = Callable[..., str]


class Answer(msgspec.Struct):
    score: int


REQUEST = Request(
    "m",
    make_prompt(("system", "s"), ("user", "u")),
    50,
    0.5,
    1,
    7,
    make_response_format(Answer, "answer"),
)


def make_endpoint(address: str, **options: Any) -> Endpoint:
    return Endpoint(address, "m", **{"backoff_s": 0.01, **options})


def send(end: Endpoint, request: Request = REQUEST, budget: Budget | None = None) -> Reply:
    async def run() -> Reply:
        async with Client(end, budget) as client:
            return await client.complete(request)

    return asyncio.run(run())


def fetch_calls(address: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(address.removesuffix("/v1") + "/calls") as response:
        return json.loads(response.read())


@pytest.mark.parametrize("trouble", [429, 500, 503, "drop", "garbage"])
def test_trouble_is_tried_again(scripted: Scripted, trouble: int | str) -> None:
    address = scripted(mode="instant", answer="{}", troubles=[trouble, trouble])
    assert send(make_endpoint(address)).texts == ("{}",)
    assert len(fetch_calls(address)) == 3


def test_a_server_that_hangs_times_out_and_is_tried_again(scripted: Scripted) -> None:
    assert send(
        make_endpoint(scripted(mode="instant", answer="{}", troubles=["hang"]), timeout_s=0.3)
    ).texts == ("{}",)


def test_trouble_without_end_is_an_error_that_says_what_was_seen(scripted: Scripted) -> None:
    with pytest.raises(EndpointError, match=r"in 3 attempts: status 500"):
        send(make_endpoint(scripted(mode="instant", answer="{}", troubles=[500] * 9), attempts=3))


def test_a_wrong_key_is_not_tried_again(scripted: Scripted) -> None:
    address = scripted(mode="instant", answer="{}", key="right")
    with pytest.raises(EndpointError, match="UPSHOT_LLM__KEY"):
        send(make_endpoint(address, key="wrong"))
    assert len(fetch_calls(address)) == 1
    assert send(make_endpoint(address, key="right")).texts == ("{}",)


def test_nobody_there_is_an_error() -> None:
    with pytest.raises(EndpointError, match="could not ask m at"):
        send(make_endpoint("http://127.0.0.1:9/v1", attempts=2))


@pytest.mark.parametrize("field", ["response_format", "seed", "temperature", "max_tokens"])
def test_a_server_that_knows_less_is_asked_for_less(scripted: Scripted, field: str) -> None:
    address = scripted(mode="instant", answer="{}", refuses=[field])
    assert send(make_endpoint(address)).texts == ("{}",)
    last = fetch_calls(address)[-1]
    assert field not in last
    if field == "max_tokens":
        assert last["max_completion_tokens"] == 50


def test_samples_are_asked_one_by_one_where_the_server_gives_one(scripted: Scripted) -> None:
    address = scripted(mode="instant", answer="{}", knows_n=False)
    assert len(send(make_endpoint(address), msgspec.structs.replace(REQUEST, n=3)).texts) == 3
    assert len({call["seed"] for call in fetch_calls(address)}) == 3


def test_no_more_requests_than_allowed_are_in_flight(scripted: Scripted) -> None:
    end = make_endpoint(
        scripted(mode="instant", answer="{}", delay_s=0.05), concurrency=2, timeout_s=5.0
    )

    async def run() -> float:
        async with Client(end) as client:
            started = asyncio.get_running_loop().time()
            await asyncio.gather(*(client.complete(REQUEST) for _ in range(8)))
            return asyncio.get_running_loop().time() - started

    assert asyncio.run(run()) >= 4 * 0.05


@pytest.mark.parametrize("limit", [{"tokens": 4000}, {"usd": 0.004}])
def test_a_budget_is_never_overrun_and_used_to_the_end(
    scripted: Scripted, limit: dict[str, Any]
) -> None:
    end = make_endpoint(
        scripted(mode="instant", answer="x" * 80), concurrency=8, usd_in=1.0, usd_out=1.0
    )
    budget = Budget(end, **limit)

    async def run() -> int:
        async with Client(end, budget) as client:
            results = await asyncio.gather(
                *(client.complete(REQUEST) for _ in range(400)), return_exceptions=True
            )
        assert {type(r) for r in results} == {Reply, BudgetError}
        return sum(isinstance(r, Reply) for r in results)

    finished = asyncio.run(run())
    assert budget.spent.calls == finished
    assert budget.spent.tokens <= 4000
    assert budget.spent.usd <= 0.004
    assert budget.spent.tokens > 3700


def test_a_reply_of_the_wrong_shape_is_sent_back_once(scripted: Scripted) -> None:
    async def run(address: str) -> tuple[list[Answer | None], int]:
        async with Client(make_endpoint(address)) as client:
            _, samples, repairs = await ask(
                client, REQUEST, Answer, lambda a: "" if a.score < 5 else "score must be under 5"
            )
            return samples, repairs

    assert asyncio.run(run(scripted(mode="instant", answer='{"score": 9}'))) == ([Answer(9)], 1)
    assert asyncio.run(run(scripted(mode="instant", answer="no"))) == ([None], 1)
    assert asyncio.run(run(scripted(mode="instant", answer='so: {"score": 1}'))) == ([Answer(1)], 0)


def test_replies_survive_in_the_lake_and_go_with_their_user(tmp_path: Any) -> None:
    lake = Lake(tmp_path / "lake", 4)
    replies = LakeReplies(lake)
    replies.put(request_key(REQUEST), "u_ana", Reply(("hello",), 3, 1, 2))
    replies.flush()
    replies.flush()
    assert LakeReplies(lake).get(request_key(REQUEST)) == Reply(("hello",), 3, 1, 2)
    rows = lake.read("replies")
    assert rows.num_rows == 1
