"""The batch interface: within the budget, through troubles, and found again after a kill."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from upshot.errors import EndpointError
from upshot.llm import Budget, Endpoint, Replies, Request, request_key, run_batch
from upshot.llm.client import make_prompt

Scripted = Callable[..., str]


def make_requests(count: int) -> dict[str, tuple[str, Request]]:
    requests = [
        Request("m", make_prompt(("system", "s"), ("user", f"{n} " * 500)), 50)
        for n in range(count)
    ]
    return {request_key(request): ("u", request) for request in requests}


def fetch_orders(address: str) -> list[int]:
    """Requests of each batch that was ordered."""
    with urllib.request.urlopen(address.removesuffix("/v1") + "/orders") as response:
        return json.load(response)


def run(address: str, count: int, tokens: int | None = None, **options: Any) -> tuple[int, Replies]:
    end, replies = Endpoint(address, "m"), Replies()
    options = {"poll_s": 0.01, **options}
    number = asyncio.run(
        run_batch(end, make_requests(count), replies, Budget(end, tokens), **options)
    )
    return number, replies


def test_a_batch_holds_what_the_budget_holds(scripted: Scripted) -> None:
    address = scripted(mode="instant", answer="{}", batches=True)
    number, _ = run(address, 20, tokens=5_000)
    assert fetch_orders(address) == [number]
    assert 0 < number < 20


def test_lines_that_cannot_be_read_are_passed_over(scripted: Scripted) -> None:
    noise = ["{", "null", "[]", '{"custom_id": "other"}', '{"custom_id": 3, "response": null}']
    address = scripted(mode="instant", answer="{}", batches=True, noise=noise)
    number, replies = run(address, 3)
    assert number == 3
    assert all(replies.get(key) for key in make_requests(3))


def test_a_poll_that_fails_is_repeated(scripted: Scripted) -> None:
    address = scripted(mode="instant", answer="{}", batches=True, troubles=[500, 502])
    assert run(address, 2)[0] == 2


def test_a_run_that_was_killed_finds_its_batch_again(scripted: Scripted) -> None:
    address = scripted(mode="instant", answer="{}", batches=True, lists=True)

    async def end_early() -> None:
        end = Endpoint(address, "m")
        await asyncio.wait_for(
            run_batch(end, make_requests(3), Replies(), Budget(end), poll_s=60.0), 2.0
        )

    with pytest.raises(TimeoutError):
        asyncio.run(end_early())
    assert run(address, 3)[0] == 3
    assert fetch_orders(address) == [3]
    assert run(address, 4)[0] == 4  # other requests are another batch
    assert fetch_orders(address) == [3, 4]


def test_an_endpoint_without_batches_says_what_to_do(scripted: Scripted) -> None:
    with pytest.raises(EndpointError, match="without --batch"):
        run(scripted(mode="instant", answer="{}"), 1)
