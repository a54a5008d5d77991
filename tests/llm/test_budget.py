"""A budget holds whatever the tokenizer is and whatever the server says that it cost."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upshot.errors import BudgetError, ConfigError
from upshot.llm import Budget, Endpoint
from upshot.llm.answers import Usage

ENDPOINT = Endpoint("http://localhost/v1", "m", usd_in=1.0, usd_out=2.0)


async def spend(
    budget: Budget, prompts: list[int], bytes_per_token: float, *, counts: bool, workers: int
) -> tuple[int, int]:
    """Send prompts until the budget ends; what the provider charges, and its largest request."""
    charged = largest = 0
    waiting = iter(prompts)
    rng = random.Random(len(prompts))

    async def work() -> None:
        nonlocal charged, largest
        for size in waiting:
            try:
                reserved = await budget.reserve(size, 50)
            except BudgetError:
                return
            await asyncio.sleep(0 if rng.random() < 0.5 else 0.001)
            cost = int(size / bytes_per_token) + 40
            charged, largest = charged + cost, max(largest, cost)
            usage = Usage(int(size / bytes_per_token), 0, 40) if counts else Usage()
            budget.settle(reserved, usage, generated=40 if counts else None, is_usable=counts)

    await asyncio.gather(*(work() for _ in range(workers)))
    return charged, largest


@given(
    st.lists(st.integers(600, 20_000), min_size=30, max_size=60),
    st.floats(1.0, 8.0),
    st.integers(1, 16),
    st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_no_tokenizer_overruns_a_budget_by_more_than_the_first_request(
    prompts: list[int], bytes_per_token: float, workers: int, counts: bool
) -> None:
    limit = sum(prompts) // 4
    budget = Budget(ENDPOINT, tokens=limit)
    charged, largest = asyncio.run(
        spend(budget, prompts, bytes_per_token, counts=counts, workers=workers)
    )
    assert charged <= max(limit, largest)


def test_a_server_that_counts_is_used_to_the_end() -> None:
    budget = Budget(ENDPOINT, tokens=100_000)
    asyncio.run(spend(budget, [4_000] * 400, 4.0, counts=True, workers=8))
    assert 97_000 < budget.spent.tokens <= 100_000
    assert budget.spent.unusable == 0


def test_money_is_a_budget_as_tokens_are() -> None:
    budget = Budget(ENDPOINT, usd=0.02)
    asyncio.run(spend(budget, [4_000] * 400, 4.0, counts=True, workers=8))
    assert 0.018 < budget.spent.usd <= 0.02


def test_money_without_prices_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="usd_in"):
        Budget(Endpoint("http://localhost/v1", "m"), usd=1.0)


@pytest.mark.parametrize(
    ("usage", "generated", "is_charged", "tokens"),
    [
        (Usage(900, 0, 20), 80, True, (900, 20)),
        (Usage(0, 0, 0), 80, True, (4_000, 80)),  # a byte a token, where it does not count
        (Usage(), None, True, (4_000, 500)),
        (Usage(3, 0, 2), 80, True, (4_000, 80)),  # fewer than any tokenizer makes
        (Usage(), 0, False, (0, 0)),
        (Usage(900, 0, 0), 0, False, (900, 0)),
        (Usage(900, 100, 70), None, True, (900, 70)),
    ],
)
def test_a_request_costs_what_was_counted_or_what_was_sent_and_received(
    usage: Usage, generated: int | None, is_charged: bool, tokens: tuple[int, int]
) -> None:
    async def run() -> Any:
        budget = Budget(ENDPOINT, tokens=10**6)
        reserved = await budget.reserve(4_000, 50)
        charge = budget.settle(reserved, usage, is_charged=is_charged, generated=generated)
        assert budget.spent.calls == budget.spent.unusable == 1
        return charge

    charge = asyncio.run(run())
    assert (charge.prompt, charge.completion) == tokens


def test_without_a_limit_what_is_not_counted_is_estimated_as_usual() -> None:
    async def run() -> None:
        budget = Budget(ENDPOINT)
        budget.settle(await budget.reserve(3_500, 50), Usage(), generated=35)
        assert (budget.spent.prompt_tokens, budget.spent.completion_tokens) == (1_000, 10)

    asyncio.run(run())


def test_a_request_alone_may_take_all_that_is_left() -> None:
    async def run() -> None:
        budget = Budget(ENDPOINT, tokens=1_500)
        first = await budget.reserve(2_000, 100)
        second = asyncio.ensure_future(budget.reserve(1_000, 20))
        await asyncio.sleep(0.01)
        assert not second.done()  # the first goes alone
        budget.settle(first, Usage(500, 0, 20), generated=60)
        budget.cancel(await second)
        with pytest.raises(BudgetError, match="520 tokens"):
            await budget.reserve(4_000, 20)

    asyncio.run(run())
