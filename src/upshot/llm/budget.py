"""A limit on tokens and money that is never exceeded.

The largest possible cost of a request is reserved before it is sent.
"""

from __future__ import annotations

import asyncio

import msgspec

from upshot.errors import BudgetError
from upshot.llm.endpoint import Endpoint

_BYTES_PER_TOKEN = 3.5
"""Before the server has counted any tokens; English has about 4 bytes per token, code 3."""
_MARGIN = 1.15
"""On the ratio of bytes to tokens so far, which varies between prompts."""


class Spent(msgspec.Struct):
    """Requests, tokens and money spent."""

    calls: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Prompt tokens that the server found in its prefix cache."""
    completion_tokens: int = 0
    usd: float = 0.0

    @property
    def tokens(self) -> int:
        """Prompt and completion tokens."""
        return self.prompt_tokens + self.completion_tokens


class Budget:
    """Tokens and money for a run; None: no limit."""

    def __init__(
        self, endpoint: Endpoint, tokens: int | None = None, usd: float | None = None
    ) -> None:
        self.endpoint = endpoint
        self.spent = Spent()
        self._tokens, self._usd = tokens, usd
        self.limited = tokens is not None or usd is not None
        self._reserved_tokens = 0
        self._reserved_usd = 0.0
        self._bytes_per_token = _BYTES_PER_TOKEN
        self._sent_bytes = 0
        self._changed = asyncio.Condition()

    def estimate(self, size: int) -> int:
        """Prompt tokens of a request of `size` bytes, by the server's counts so far."""
        return int(size / self._bytes_per_token) + 1

    async def reserve(self, size: int, max_completion: int) -> tuple[int, float]:
        """Reserve the largest possible cost; waits while requests in flight may free some budget.

        Raises:
            BudgetError: it does not fit, and nothing in flight could change that.
        """
        tokens = int(self.estimate(size) * _MARGIN) + max_completion
        usd = self._cost(tokens - max_completion, 0, max_completion)
        async with self._changed:
            while not self._fits(tokens, usd):
                if not self._reserved_tokens:
                    raise BudgetError(
                        f"stopped at the budget: {self.spent.tokens:,} tokens and"
                        f" ${self.spent.usd:.4f} are spent, and the next request may take"
                        f" {tokens:,} tokens; what was judged so far is kept, run again with a"
                        " larger budget to go on"
                    )
                await self._changed.wait()
            self._reserved_tokens += tokens
            self._reserved_usd += usd
        return tokens, usd

    async def settle(
        self, reserved: tuple[int, float], size: int, prompt: int, cached: int, completion: int
    ) -> None:
        """Replace a reservation by the server's own counts, all 0 where the request failed."""
        self.count(size, prompt, cached, completion)
        async with self._changed:
            self._reserved_tokens -= reserved[0]
            self._reserved_usd -= reserved[1]
            self._changed.notify_all()

    def count(self, size: int, prompt: int, cached: int, completion: int) -> None:
        """Add the cost of one request of `size` bytes."""
        spent = self.spent
        if prompt:
            self._sent_bytes += size
        spent.prompt_tokens += prompt
        spent.cached_tokens += cached
        spent.completion_tokens += completion
        spent.usd += self._cost(prompt, cached, completion)
        spent.calls += 1
        if spent.prompt_tokens > 2_000:
            self._bytes_per_token = self._sent_bytes / spent.prompt_tokens

    def _fits(self, tokens: int, usd: float) -> bool:
        enough = (
            self._tokens is None
            or self.spent.tokens + self._reserved_tokens + tokens <= self._tokens
        )
        return enough and (
            self._usd is None or self.spent.usd + self._reserved_usd + usd <= self._usd
        )

    def _cost(self, prompt: int, cached: int, completion: int) -> float:
        end = self.endpoint
        cheap = end.usd_in if end.usd_cached is None else end.usd_cached
        return ((prompt - cached) * end.usd_in + cached * cheap + completion * end.usd_out) / 1e6
