"""A client of OpenAI-compatible chat completions: limits, retries with back-off, lesser servers.

If a server refuses an optional field (a JSON schema, several samples, a seed), the request is sent
again without it, and so are later ones. Overhead over bare aiohttp: `bench/judge_cost.py`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

import aiohttp
import msgspec

from upshot.errors import EndpointError
from upshot.llm.budget import Budget
from upshot.llm.endpoint import Endpoint

_RETRIED = frozenset((408, 409, 425, 429, 500, 502, 503, 504, 529))
"""Statuses of overload, time-out and failure, after which the same request may succeed."""
_MAX_WAIT_S = 60.0
"""Between two attempts, whatever the server asks for."""
_OPTIONAL = ("response_format", "n", "seed", "temperature", "max_tokens", "stream_options")
"""Fields that a server may not support, in the order in which they are dropped where it does not
name the one it refuses.
"""


class ChatMessage(msgspec.Struct, frozen=True):
    """One message of a prompt."""

    role: str
    content: str


class Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request of a chat completion, in the field names of the protocol."""

    model: str
    messages: tuple[ChatMessage, ...]
    max_tokens: int
    temperature: float | None = None
    n: int = 1
    """Samples; the prompt is paid for once if the server supports `n`."""
    seed: int | None = None
    response_format: msgspec.Raw | None = None
    """JSON, as `make_response_format` returns it."""


class Reply(msgspec.Struct, frozen=True):
    """A server's answer."""

    texts: tuple[str, ...]
    """One per sample; a sample that was cut off at `max_tokens` is included as far as it goes."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage | None = None


_DECODER = msgspec.json.Decoder(_Completion)
_ENCODER = msgspec.json.Encoder()


class Client:
    """Sends requests to one endpoint; use it as an async context."""

    def __init__(self, endpoint: Endpoint, budget: Budget | None = None) -> None:
        self.endpoint = endpoint.check()
        self.budget = budget or Budget(endpoint)
        self._url = endpoint.url("chat/completions")
        self._unknown: frozenset[str] = frozenset()
        self._not_before = 0.0

    async def __aenter__(self) -> Client:
        self._places = asyncio.Semaphore(self.endpoint.concurrency)
        self._session = aiohttp.ClientSession(
            # Requests wait for a place of ours, before their time-out starts.
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=self.endpoint.timeout_s),
            headers=self.endpoint.headers(),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def complete(self, request: Request) -> Reply:
        """Request a completion, one sample at a time where the server does not support several.

        Raises:
            BudgetError: it does not fit the budget; nothing was sent.
            EndpointError: the server refused, or did not answer in all attempts.
        """
        reply = await self._once(request)
        while len(reply.texts) < request.n:
            seed = None if request.seed is None else request.seed + len(reply.texts)
            sample = await self._once(msgspec.structs.replace(request, n=1, seed=seed))
            reply = _join_replies(reply, sample)
        return reply

    async def _once(self, request: Request) -> Reply:
        body = self.body(request)
        if not self.budget.limited:
            reply = await self._post(request, body)
            self.budget.count(
                len(body), reply.prompt_tokens, reply.cached_tokens, reply.completion_tokens
            )
            return reply
        reserved = await self.budget.reserve(len(body), request.max_tokens * request.n)
        reply = Reply(())
        try:
            reply = await self._post(request, body)
        finally:
            await self.budget.settle(
                reserved,
                len(body),
                reply.prompt_tokens,
                reply.cached_tokens,
                reply.completion_tokens,
            )
        return reply

    def body(self, request: Request) -> bytes:
        """The request's bytes, without fields that this server does not support."""
        if not self._unknown and not self.endpoint.stream:
            return _ENCODER.encode(request)
        fields = msgspec.json.decode(_ENCODER.encode(request))
        if self.endpoint.stream:
            fields.update(stream=True, stream_options={"include_usage": True})
        if "max_tokens" in self._unknown:
            fields["max_completion_tokens"] = fields["max_tokens"]
        return _ENCODER.encode(
            {name: value for name, value in fields.items() if name not in self._unknown}
        )

    async def _post(self, request: Request, body: bytes) -> Reply:
        attempt = 0
        while True:
            if self._not_before and (wait := self._not_before - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            problem, retry_after = "", None
            try:
                async with self._places, self._session.post(self._url, data=body) as response:
                    content = await response.read()
                    status = response.status
                    if status == 200:
                        return (
                            read_stream(content, len(body))
                            if self.endpoint.stream
                            else read_reply(content, len(body))
                        )
                    retry_after = _requested_wait(response.headers)
                    problem = f"status {status}: {content[:300].decode('utf-8', 'replace')}"
            except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError) as error:
                status = 0
                problem = f"{type(error).__name__}: {error}"
            if status in (400, 422) and (unknown := self._refused(request, problem)):
                self._unknown |= {unknown}
                body = self.body(request)
                continue
            attempt += 1
            if status and status not in _RETRIED:
                raise EndpointError(
                    f"could not ask {self.endpoint.model} at {self._url}:"
                    f" {problem}{_advise(status)}"
                )
            if attempt >= self.endpoint.attempts:
                raise EndpointError(
                    f"could not ask {self.endpoint.model} at {self._url} in {attempt} attempts:"
                    f" {problem}"
                )
            await self._rest(attempt, status, retry_after)

    async def _rest(self, attempt: int, status: int, retry_after: float | None) -> None:
        """Wait before the next attempt; if the server is overloaded, all requests wait."""
        wait = min(_MAX_WAIT_S, self.endpoint.backoff_s * 2 ** (attempt - 1)) * (
            0.5 + random.random() / 2
        )
        wait = max(wait, min(retry_after or 0.0, _MAX_WAIT_S))
        if status == 429 or retry_after:
            self._not_before = max(self._not_before, time.monotonic() + wait)
        await asyncio.sleep(wait)

    def _refused(self, request: Request, problem: str) -> str:
        """The optional field that the server refuses, or the next one that it may refuse."""
        fields = {
            **msgspec.structs.asdict(request),
            "stream_options": True if self.endpoint.stream else None,
        }
        sent = [
            name
            for name in _OPTIONAL
            if name not in self._unknown and fields.get(name) not in (None, 1)
        ]
        named = [
            name
            for name in sent
            if f"'{name}'" in problem
            or f'"{name}"' in problem
            or f"`{name}`" in problem
            or f"{name} " in problem
        ]
        suspected = named or [name for name in sent if name in ("response_format", "n", "seed")]
        return suspected[0] if suspected else ""


def make_prompt(*messages: tuple[str, str]) -> tuple[ChatMessage, ...]:
    """Messages from (role, content).

    >>> make_prompt(("user", "hi"))[0].role
    'user'
    """
    return tuple(ChatMessage(role, content) for role, content in messages)


def read_reply(content: bytes, size: int) -> Reply:
    """A completion as the protocol writes it.

    Token counts that are missing are estimated from `size`, the request's bytes.
    """
    return _to_reply(_DECODER.decode(content), size)


def _to_reply(completion: _Completion, size: int) -> Reply:
    usage = completion.usage or _Usage()
    details = usage.prompt_tokens_details
    texts = tuple([choice.message.content or "" for choice in completion.choices])
    completion_tokens = (
        usage.completion_tokens
        if usage.completion_tokens is not None
        else sum(map(len, texts)) // 4
    )
    prompt_tokens = usage.prompt_tokens if usage.prompt_tokens is not None else size // 4
    return Reply(
        texts, prompt_tokens, (details.cached_tokens or 0) if details else 0, completion_tokens
    )


class _Piece(msgspec.Struct):
    index: int = 0
    delta: _Message = msgspec.field(default_factory=_Message)
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Piece] = []
    usage: _Usage | None = None


def read_stream(content: bytes, size: int) -> Reply:
    """A completion that came as server-sent events; an incomplete one is an error.

    >>> chunk = b'data: {"choices": [{"index": 0, "delta": {"content": "hi"}}]}'
    >>> read_stream(chunk + b"\\n\\ndata: [DONE]\\n\\n", 8).texts
    ('hi',)
    """
    texts: dict[int, list[str]] = {}
    unfinished: set[int] = set()
    usage: _Usage | None = None
    for line in content.split(b"\n"):
        event = line.removeprefix(b"data:").strip()
        if event == b"[DONE]":
            unfinished.clear()
        elif line.startswith(b"data:"):
            chunk = _CHUNKS.decode(event)
            usage = chunk.usage or usage
            for piece in chunk.choices:
                texts.setdefault(piece.index, []).append(piece.delta.content or "")
                (unfinished.discard if piece.finish_reason else unfinished.add)(piece.index)
    if unfinished or not texts:
        raise msgspec.DecodeError("the stream ended before its end was announced")
    return _to_reply(
        _Completion([_Choice(_Message("".join(texts[index]))) for index in sorted(texts)], usage),
        size,
    )


_CHUNKS = msgspec.json.Decoder(_Chunk)


def _join_replies(first: Reply, second: Reply) -> Reply:
    return Reply(
        first.texts + second.texts,
        first.prompt_tokens + second.prompt_tokens,
        first.cached_tokens + second.cached_tokens,
        first.completion_tokens + second.completion_tokens,
    )


def _requested_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait for, given as a number or a date."""
    value = headers.get("Retry-After", "")
    try:
        return float(value)
    except ValueError:
        pass
    try:
        return parsedate_to_datetime(value).timestamp() - time.time()
    except ValueError:
        return None


def _advise(status: int) -> str:
    advice = {
        401: "; set UPSHOT_LLM__KEY",
        403: "; the key may not use this model",
        404: "; check the address (it ends in /v1) and the model's name",
    }
    return advice.get(status, "")
