"""A limit on tokens and money.

The largest expected cost of a request is reserved before it is sent. What a tokenizer makes of a
prompt is not known, so prompts are estimated in bytes: by the server's own counts once there are
any; a byte is a token where it answers without counting, for no tokenizer makes more. The first
request goes alone; later ones go together as long as all that are in flight may cost twice what is
expected. So an estimate that fails costs at most the excess of one request.
"""

from __future__ import annotations

import asyncio
import math
from typing import NamedTuple

import msgspec

from upshot.errors import BudgetError, ConfigError
from upshot.llm.answers import Usage
from upshot.llm.endpoint import Endpoint

_BYTES_PER_TOKEN = 3.5
"""Expected; English has about 4 bytes per token, code 3."""
_FIRST_BYTES_PER_TOKEN = 2.0
"""Of the first request: fewer have only scripts that a tokenizer was not made for."""
_MIN_BYTES_PER_TOKEN = 1.0
"""Within a limit, of requests that the server has answered without counting."""
_MAX_BYTES_PER_TOKEN = 12.0
"""Where a server counts fewer tokens than that, it did not count the prompt."""
_MAX_TOKENS_PER_BYTE = 2.0
"""Byte-level tokenizers make one at most; templates add a few."""
_MARGIN = 1.15
"""On the most tokens per byte so far, which vary between prompts."""
_SURPRISE = 2.0
"""How many times their estimates all requests in flight together may cost within the budget."""
_UNREAD_TOKENS = 500
"""Of a sample that cannot be read, at least: a server that answers so may not keep to `max_tokens`
either.
"""
_MIN_SIZE = 500
"""Bytes of a request from which on its tokens per byte say something of others."""


class Spent(msgspec.Struct):
    """Requests, tokens and money spent."""

    calls: int = 0
    """Requests that were sent, whatever came back."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Prompt tokens that the server found in its prefix cache."""
    completion_tokens: int = 0
    usd: float = 0.0
    unusable: int = 0
    """Calls that gave no usable answer; their tokens count as far as the server may charge them."""

    @property
    def tokens(self) -> int:
        """Prompt and completion tokens."""
        return self.prompt_tokens + self.completion_tokens


class Reservation(NamedTuple):
    """The largest expected cost of a request in flight."""

    size: int
    """Bytes of the request."""
    max_tokens: int
    """Completion tokens that the request allows each sample."""
    samples: int
    prompt: int = 0
    completion: int = 0
    usd: float = 0.0


class Charge(NamedTuple):
    """What a request cost, as counted."""

    prompt: int
    cached: int
    completion: int


class Budget:
    """Tokens and money for a run; None: no limit.

    Raises:
        ConfigError: money is limited, and the endpoint has no prices.
    """

    def __init__(
        self, endpoint: Endpoint, tokens: int | None = None, usd: float | None = None
    ) -> None:
        if usd is not None and not (endpoint.usd_in or endpoint.usd_out):
            raise ConfigError(
                f"could not keep to ${usd:g}: the endpoint has no prices; set llm.usd_in and"
                " llm.usd_out, or limit tokens with --budget-tokens"
            )
        self.endpoint = endpoint
        self.spent = Spent()
        self._tokens, self._usd = tokens, usd
        self.limited = tokens is not None or usd is not None
        self._in_flight = 0
        self._reserved_tokens = 0
        self._reserved_usd = 0.0
        self._is_measured = False
        """Whether a request has come back, so that the next need not go alone."""
        self._density = 0.0
        """The most tokens per byte that the server has counted in a prompt."""
        self._excess = 1.0
        """The most completion tokens that the server has counted, over those allowed."""
        self._freed = asyncio.Event()

    def estimate(self, size: int) -> int:
        """Expected prompt tokens of a request of `size` bytes."""
        return math.ceil(size / _BYTES_PER_TOKEN)

    def estimate_most(self, size: int) -> int:
        """The most prompt tokens to expect of `size` bytes, by the server's counts so far."""
        if self._density:
            return math.ceil(size * self._density * _MARGIN)
        if not self.limited:
            return self.estimate(size)
        return math.ceil(
            size / (_MIN_BYTES_PER_TOKEN if self._is_measured else _FIRST_BYTES_PER_TOKEN)
        )

    async def reserve(self, size: int, max_tokens: int, samples: int = 1) -> Reservation:
        """Reserve the largest expected cost of a request of `size` bytes for so many samples; waits
        while requests in flight may free some budget.

        Raises:
            BudgetError: it does not fit, and nothing in flight could change that.
        """
        while True:
            completion = math.ceil(max_tokens * samples * self._excess)
            prompt = self.estimate_most(size)
            usd = self._price(prompt, 0, completion)
            new = Reservation(size, max_tokens, samples, prompt, completion, usd)
            if not self.limited or self._fits(new):
                break
            if not self._in_flight:
                raise BudgetError(
                    f"stopped at the budget: {self.spent.tokens:,} tokens and"
                    f" ${self.spent.usd:.4f} are spent, and the next request may take"
                    f" {prompt + completion:,} tokens; what was answered so far is kept, run"
                    " again with a larger budget to go on"
                )
            self._freed.clear()
            await self._freed.wait()
        self._in_flight += 1
        self._reserved_tokens += new.prompt + new.completion
        self._reserved_usd += new.usd
        return new

    def settle(
        self,
        reserved: Reservation,
        usage: Usage,
        *,
        is_charged: bool = True,
        generated: int | None = None,
        is_usable: bool = False,
    ) -> Charge:
        """Replace a reservation by what the request cost: the server's counts where they are
        possible, else what was sent and received.

        `is_charged`: false where the server did not take the request, so that nothing but its own
        counts costs. `generated`: bytes that the model wrote; None: not known, and the whole
        completion counts.
        """
        self._is_measured = self._is_measured or is_charged
        charge = self.assess(reserved, usage, is_charged=is_charged, generated=generated)
        self.count(charge, is_usable=is_usable)
        self.cancel(reserved)
        return charge

    def cancel(self, reserved: Reservation) -> None:
        """Drop the reservation of a request that was never sent."""
        self._in_flight -= 1
        self._reserved_tokens -= reserved.prompt + reserved.completion
        self._reserved_usd -= reserved.usd
        self._freed.set()

    def count(self, charge: Charge, *, is_usable: bool = True) -> None:
        """Add the cost of one request."""
        spent = self.spent
        spent.prompt_tokens += charge.prompt
        spent.cached_tokens += charge.cached
        spent.completion_tokens += charge.completion
        spent.usd += self._price(*charge)
        spent.calls += 1
        spent.unusable += not is_usable

    def assess(
        self, reserved: Reservation, usage: Usage, *, is_charged: bool, generated: int | None
    ) -> Charge:
        """What a request cost, of the arguments of `settle`; learns from the server's counts."""
        size, prompt, completion = reserved.size, usage.prompt, usage.completion
        max_completion = reserved.max_tokens * reserved.samples
        if not prompt or prompt * _MAX_BYTES_PER_TOKEN < size:
            prompt = self.estimate_most(size) if is_charged else (prompt or 0)
        elif size >= _MIN_SIZE:
            self._density = min(_MAX_TOKENS_PER_BYTE, max(self._density, prompt / size))
        least = 0 if generated is None else generated / _MAX_BYTES_PER_TOKEN
        if completion is None or completion < least or (generated is None and not completion):
            unread = max(max_completion * self._excess, _UNREAD_TOKENS * reserved.samples)
            written = math.ceil(unread) if generated is None else self.estimate_most(generated)
            completion = max(completion or 0, written if is_charged else 0)
        elif max_completion:
            self._excess = max(self._excess, completion / max_completion)
        return Charge(prompt, min(usage.cached, prompt), completion)

    def _fits(self, new: Reservation) -> bool:
        if self._in_flight and not self._is_measured:
            return False
        factor = _SURPRISE if self._in_flight else 1.0
        tokens = factor * (self._reserved_tokens + new.prompt + new.completion)
        usd = factor * (self._reserved_usd + new.usd)
        return (self._tokens is None or self.spent.tokens + tokens <= self._tokens) and (
            self._usd is None or self.spent.usd + usd <= self._usd
        )

    def _price(self, prompt: int, cached: int, completion: int) -> float:
        end = self.endpoint
        cheap = end.usd_in if end.usd_cached is None else end.usd_cached
        return ((prompt - cached) * end.usd_in + cached * cheap + completion * end.usd_out) / 1e6
