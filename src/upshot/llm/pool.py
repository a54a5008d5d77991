"""Concurrent work on one endpoint: replies are cached; a spent budget or lost endpoint ends it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from upshot.errors import BudgetError, EndpointError, UnansweredError
from upshot.llm.budget import Budget
from upshot.llm.client import SUBJECT, Client, Reply, Request
from upshot.llm.endpoint import Endpoint
from upshot.llm.interrupts import run_interruptible
from upshot.llm.replies import Replies, request_key
from upshot.llm.structured import ask

T = TypeVar("T")
_LOG = logging.getLogger("upshot")


class CachedClient:
    """A client with a cache before it, for requests with the text of one user."""

    def __init__(self, client: Client, replies: Replies, user: str) -> None:
        self._client, self._replies, self._user = client, replies, user
        self.sent: list[bool] = []
        """For each request so far, whether it was sent: not all of it was in the cache."""

    async def complete(self, request: Request) -> Reply:
        """The reply to a request: of the cache, or completed from there and stored as it arrives.

        Raises:
            BudgetError, UnansweredError, EndpointError: as of `Client.complete`; a request that was
                not answered in this run is not sent again.
        """
        key = request_key(request)
        async with self._replies.lock(key):
            begun = self._replies.get(key)
            is_whole = begun is not None and begun.is_whole(request.n)
            self.sent.append(not is_whole)
            if begun is not None and is_whole:
                return begun
            if key in self._replies.problems:
                raise UnansweredError(self._replies.problems[key])
            try:
                return await self._client.complete(
                    request,
                    begun=begun,
                    keep=lambda reply: self._replies.put(key, self._user, reply),
                )
            except UnansweredError as error:
                self._replies.problems[key] = str(error)
                raise


async def ask_cached(
    client: Client,
    replies: Replies,
    request: Request,
    kind: type[T],
    check: Callable[[T], str],
    *,
    user: str,
) -> tuple[list[T | None], bool, int]:
    """`ask`, with every reply from the cache that is there.

    Returns the samples, whether the request was cached, and the number of repairs that were sent.
    `user`: whose text is in the request.

    Raises:
        BudgetError, UnansweredError, EndpointError: as of `ask`.
    """
    cached = CachedClient(client, replies, user)
    _, samples, _ = await ask(cached, request, kind, check)
    return samples, not cached.sent[0], sum(cached.sent[1:])


class Asker:
    """Requests structs, and never the same one twice."""

    def __init__(self, client: Client, replies: Replies) -> None:
        self._client, self._replies = client, replies
        self.unanswered: list[str] = []
        """Why requests were not answered, one reason each."""

    async def ask(
        self, request: Request, kind: type[T], check: Callable[[T], str], user: str
    ) -> list[T | None]:
        """The samples of a reply as `kind`, None where one was not given or is beyond repair.

        `user`: whose text the request holds.

        Raises:
            BudgetError, EndpointError: nothing more can be requested.
        """
        try:
            samples, _, _ = await ask_cached(
                self._client, self._replies, request, kind, check, user=user
            )
        except UnansweredError as error:
            self.unanswered.append(str(error))
            return [None] * request.n
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

    Returns the results by number, and why the run stopped early ("" if it did not). Requests that
    got no usable answer are left out; how many is logged.
    """
    return run_interruptible(
        _run_workers(count, work, endpoint, budget, replies, progress=progress)
    )


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
            SUBJECT.set(str(number))
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
            if asker.unanswered and not stopped:
                number, first = len(asker.unanswered), asker.unanswered[0]
                _LOG.warning("%s requests were not answered; first: %s", f"{number:,}", first)
    finally:
        replies.flush()
    return results, stopped
