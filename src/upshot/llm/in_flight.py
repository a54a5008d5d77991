"""How many requests may be in flight: fewer while a server refuses some of them for their rate."""

from __future__ import annotations

import asyncio

_ANSWERS_PER_PLACE, _MIN_ANSWERS = 2, 4
"""Answers before the limit is raised: a server that has just refused is given time."""


class InFlight:
    """Places for requests.

    A refusal for the rate halves their number, down to one; answers raise it again by one at a
    time: additive increase, multiplicative decrease, as TCP does it (RFC 5681).
    """

    def __init__(self, most: int) -> None:
        self._places = asyncio.Semaphore(most)
        self._most = self.limit = most
        self._owed = 0
        """Places in use beyond the limit, which end when they are left."""
        self._answers = 0

    async def enter(self) -> None:
        """Take a place; waits for one."""
        await self._places.acquire()

    def leave(self) -> None:
        """Give a place back."""
        if self._owed:
            self._owed -= 1
        else:
            self._places.release()

    @property
    def is_over(self) -> bool:
        """Whether more requests have a place than the limit now allows."""
        return self._owed > 0

    async def slow_down(self) -> None:
        """Halve the limit."""
        limit = max(1, self.limit // 2)
        self._owed += self.limit - limit
        self.limit = limit
        while self._owed and not self._places.locked():  # free places go at once
            await self._places.acquire()
            self._owed -= 1

    def speed_up(self) -> None:
        """Count an answer, and raise the limit where there were enough."""
        if self.limit == self._most:
            return
        self._answers += 1
        if self._answers >= max(_MIN_ANSWERS, _ANSWERS_PER_PLACE * self.limit):
            self._answers = 0
            self.limit += 1
            self.leave()
