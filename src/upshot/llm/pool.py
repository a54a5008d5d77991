"""Many pieces of work on one endpoint: as many at once as it takes, each reply kept, a spent budget
or a lost endpoint ends it cleanly.
"""

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
    user: str,
) -> tuple[list[T | None], bool, int]:
    """`ask`, unless the reply is kept: (the samples, was it kept, the number of repairs). `user`:
    whose text the request holds.
    """
    key = request_key(request)
    cached = replies.get(key)
    reply, samples, repairs = await ask(client, request, kind, check, cached)
    if cached is None:
        replies.put(key, user, reply)
    return samples, cached is not None, repairs


class Asker:
    """Asks for structs, and never twice for the same."""

    def __init__(self, client: Client, replies: Replies) -> None:
        self._client, self._replies = client, replies

    async def ask(
        self, request: Request, kind: type[T], check: Callable[[T], str], user: str
    ) -> list[T | None]:
        """The samples of a reply as `kind`, None where one is beyond repair.

        `user`: whose text the request holds.
        """
        samples, _, _ = await ask_cached(self._client, self._replies, request, kind, check, user)
        return samples


def work_through(
    count: int,
    work: Callable[[int, Asker], Awaitable[T]],
    endpoint: Endpoint,
    budget: Budget,
    replies: Replies,
    progress: Callable[[int, int], None],
) -> tuple[dict[int, T], str]:
    """(what was made, by number; why it stopped early, if it did)."""
    return asyncio.run(_run_workers(count, work, endpoint, budget, replies, progress))


async def _run_workers(
    count: int,
    work: Callable[[int, Asker], Awaitable[T]],
    endpoint: Endpoint,
    budget: Budget,
    replies: Replies,
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
