"""Concurrent work on one endpoint: replies are cached; a spent budget or lost endpoint ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from upshot.errors import BudgetError, EndpointError
from upshot.llm.budget import Budget
from upshot.llm.client import Client, Request
from upshot.llm.endpoint import Endpoint
from upshot.llm.replies import Replies, request_key
from upshot.llm.structured import ask

T = TypeVar("T")


async def ask_cached(
    client: Client,
    replies: Replies,
    request: Request,
    kind: type[T],
    check: Callable[[T], str],
    *,
    user: str,
) -> tuple[list[T | None], bool, int]:
    """`ask`, unless the reply is cached.

    Returns the samples, whether they were cached, and the number of repairs. `user`: whose text is
    in the request.
    """
    key = request_key(request)
    cached = replies.get(key)
    reply, samples, repairs = await ask(client, request, kind, check, cached)
    if cached is None:
        replies.put(key, user, reply)
    return samples, cached is not None, repairs


class Asker:
    """Requests structs, and never the same one twice."""

    def __init__(self, client: Client, replies: Replies) -> None:
        self._client, self._replies = client, replies

    async def ask(
        self, request: Request, kind: type[T], check: Callable[[T], str], user: str
    ) -> list[T | None]:
        """The samples of a reply as `kind`, None where one is beyond repair.

        `user`: whose text the request holds.
        """
        samples, _, _ = await ask_cached(
            self._client, self._replies, request, kind, check, user=user
        )
        return samples


def work_through(
    count: int,
    work: Callable[[int, Asker], Awaitable[T]],
    endpoint: Endpoint,
    budget: Budget,
    replies: Replies,
    *,
    progress: Callable[[int, int], None],
) -> tuple[dict[int, T], str]:
    """Run `work` for each number below `count`.

    Returns the results by number, and why the run stopped early ("" if it did not).
    """
    return asyncio.run(_run_workers(count, work, endpoint, budget, replies, progress=progress))


async def _run_workers(
    count: int,
    work: Callable[[int, Asker], Awaitable[T]],
    endpoint: Endpoint,
    budget: Budget,
    replies: Replies,
    *,
    progress: Callable[[int, int], None],
) -> tuple[dict[int, T], str]:
    results: dict[int, T] = {}
    waiting = iter(range(count))
    stopped = ""

    async def worker(asker: Asker) -> None:
        nonlocal stopped
        for number in waiting:
            if stopped:
                return
            try:
                results[number] = await work(number, asker)
            except (BudgetError, EndpointError) as error:
                stopped = stopped or str(error)
                return
            progress(len(results), count)

    try:
        async with Client(endpoint, budget) as client:
            asker = Asker(client, replies)
            await asyncio.gather(
                *(worker(asker) for _ in range(min(endpoint.concurrency, max(1, count))))
            )
    finally:
        replies.flush()
    return results, stopped
