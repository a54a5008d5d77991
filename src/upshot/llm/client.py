"""A client of OpenAI-compatible chat completions that survives what real endpoints answer.

Every request counts: against the budget, and against the attempts that one completion may take. A
completion that gets no usable answer is left out, and the run goes on; an endpoint that answers
nothing at all, or says that it never will, ends it. If a server refuses an optional field (a JSON
schema, several samples, a seed), the request is sent again without it, and so are later ones.
Overhead over bare aiohttp: `bench/judge_cost.py`; behaviour under faults: `bench/llm_faults.py`.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Callable
from contextvars import ContextVar
from itertools import compress
from typing import NoReturn

import aiohttp
import msgspec

from upshot.errors import EndpointError, UnansweredError
from upshot.llm.answers import Answer, decode_body, read_answer
from upshot.llm.budget import Budget, Charge, Reservation
from upshot.llm.endpoint import Endpoint
from upshot.llm.faults import Fault, advise, find_error, read_error
from upshot.llm.in_flight import InFlight

_MAX_WAIT_S = 60.0
"""Between two attempts, whatever the server asks for."""
_MAX_CONNECT_S = 20.0
"""To connect: a host that takes longer is not there."""
_MAX_ANSWER_BYTES = 16 << 20
"""Of one answer: a hundred times what the longest takes."""
_MAX_FAILED_SUBJECTS = 3
"""Subjects in a row without any answer after which the endpoint is given up: that one gets none may
be its own fault, by what is in it.
"""
_MAX_FAILED_REQUESTS = 2
"""Requests in a row about one subject after which no more about it are sent."""
_OPTIONAL = ("response_format", "n", "seed", "temperature", "max_tokens", "stream_options")
"""Fields that a server may not support."""
_SUSPECTS = ("response_format", "n", "seed")
"""Those that are left out one after the other where a server rejects a request and names none."""
_OTHER_NAMES = {
    "response_format": ("json_schema", "json_object", "json schema", "structured output", "guided"),
    "max_tokens": ("max_completion_tokens",),
}
"""What servers call a field when they refuse it."""
_FIRST_ROOM, _MAX_ROOM = 2_048, 32_768
"""Tokens added to `max_tokens` for thoughts, once they have left no room for an answer: the first
addition, which is made four times larger as often as needed, and the largest.
"""


SUBJECT: ContextVar[str] = ContextVar("subject", default="")
"""What the requests of a task are about, for instance a conversation. If it is such that no request
about it is answered, they fail together and count as one. "": each request is a subject.
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


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """A server's answer."""

    texts: tuple[str, ...]
    """One per sample; a sample that was cut off at `max_tokens` is included as far as it goes."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    missing: int = 0
    """Samples that the server did not give in all attempts."""

    def is_whole(self, samples: int) -> bool:
        """Whether nothing is left to request of so many samples."""
        return len(self.texts) + self.missing >= samples


class Client:
    """Sends requests to one endpoint; use it as an async context."""

    def __init__(self, endpoint: Endpoint, budget: Budget | None = None) -> None:
        self.endpoint = endpoint.check()
        self.budget = budget or Budget(endpoint)
        self._url = endpoint.url("chat/completions")
        self._unknown: frozenset[str] = frozenset()
        """Optional fields that the server does not support."""
        self._accepted: frozenset[str] = frozenset()
        """Optional fields of requests that were answered."""
        self._room, self._max_room = 0, _MAX_ROOM
        self._not_before = 0.0
        self._failures: dict[str, list[str]] = {}
        """Subjects in a row that got no answer, and the messages of their failures."""
        self._end: EndpointError | None = None
        """Why no more requests are sent."""

    async def __aenter__(self) -> Client:
        self._in_flight = InFlight(self.endpoint.concurrency)
        self._ended = asyncio.Event()
        limit = self.endpoint.timeout_s
        self._session = aiohttp.ClientSession(
            # Requests wait for a place of ours, before their time-out starts.
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=limit, sock_connect=min(limit, _MAX_CONNECT_S)),
            headers=self.endpoint.headers(),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def complete(
        self,
        request: Request,
        *,
        begun: Reply | None = None,
        keep: Callable[[Reply], None] = lambda reply: None,
    ) -> Reply:
        """Request a completion, sample by sample where the server does not give all at once.

        `begun`: samples of an earlier run. `keep` gets the reply as far as it is, after every
        answer: it is paid for. Samples that the server does not give are counted in `missing`.

        Raises:
            BudgetError: it does not fit the budget; nothing was sent.
            UnansweredError: no sample was given in all attempts, or none will ever be.
            EndpointError: the endpoint answers nothing.
        """
        problems = self._failures.get(SUBJECT.get(), [])
        if len(problems) >= _MAX_FAILED_REQUESTS:
            raise UnansweredError(problems[-1])
        reply = begun or Reply(())
        while not reply.is_whole(request.n):
            begins = not reply.texts
            seed = None if request.seed is None else request.seed + len(reply.texts)
            part = request if begins else msgspec.structs.replace(request, n=1, seed=seed)
            try:
                reply = _join_replies(reply, await self._exchange(part))
            except UnansweredError:
                if begins:
                    raise
                reply = msgspec.structs.replace(reply, missing=request.n - len(reply.texts))
            keep(reply)
        return reply

    def body(self, request: Request, left_out: frozenset[str] = frozenset()) -> bytes:
        """The request's bytes, without fields that this server does not support."""
        left_out |= self._unknown
        if not left_out and not self.endpoint.stream and not self._room:
            return _ENCODER.encode(request)
        fields = msgspec.json.decode(_ENCODER.encode(request))
        fields["max_tokens"] += self._room
        if self.endpoint.stream:
            fields.update(stream=True, stream_options={"include_usage": True})
        if "max_tokens" in left_out:
            fields["max_completion_tokens"] = fields["max_tokens"]
        return _ENCODER.encode(
            {name: value for name, value in fields.items() if name not in left_out}
        )

    async def _exchange(self, request: Request) -> Reply:
        """One reply to a request, in as many attempts as it may take."""
        await self._in_flight.enter()
        try:
            return await self._try_all(request)
        finally:
            self._in_flight.leave()

    async def _try_all(self, request: Request) -> Reply:
        attempt = 0
        trial: frozenset[str] = frozenset()
        """Optional fields that are left out on suspicion."""
        while True:
            await self._wait_turn()
            room, sent = self._room, self._optional_fields(request, trial)
            answer, charge = await self._send(request, trial)
            fault = answer.fault
            if fault is None:
                self._note_success(request, trial, sent, answer)
                return Reply(answer.texts, *charge)
            attempt += 1
            if fault.kind == "rejected" and (names := self._refused_fields(sent, fault)):
                self._unknown |= names
                attempt -= 1  # known from now on, so this happens once for each field
                continue
            if fault.is_too_long and room:  # without room for thoughts it may fit
                self._room = self._max_room = 0
            elif fault.kind == "rejected" and (suspect := self._next_suspect(sent)):
                trial |= {suspect}
            elif fault.kind in ("endpoint", "request", "rejected"):
                self._give_up(fault, attempt)
            if answer.is_cut:
                self._room = max(self._room, min(self._max_room, max(_FIRST_ROOM, room * 4)))
            if attempt >= self.endpoint.attempts:
                self._give_up(fault, attempt)
            if fault.kind in ("rate", "passing", "unreachable") and not answer.is_cut:
                await self._rest(attempt, fault)

    def _note_success(
        self, request: Request, trial: frozenset[str], sent: frozenset[str], answer: Answer
    ) -> None:
        self._failures.clear()
        self._in_flight.speed_up()
        self._unknown |= trial
        if "n" in sent and answer.choices == 1:
            self._unknown |= {"n"}
        self._accepted |= sent

    def _give_up(self, fault: Fault, attempts: int) -> NoReturn:
        """Leave a request out, or end the run."""
        where = f"could not ask {self.endpoint.model} at {self._url}"
        often = f" in {attempts} attempts" if attempts > 1 else ""
        message = f"{where}{often}: {fault.problem}"
        if fault.kind == "request":  # the endpoint is sound
            self._failures.clear()
            hint = (
                "; a smaller llm.window_tokens makes prompts shorter" if fault.is_too_long else ""
            )
            raise UnansweredError(message + hint)
        subject = SUBJECT.get() or str(sum(map(len, self._failures.values())))
        self._failures.setdefault(subject, []).append(message)
        is_over = len(self._failures) >= _MAX_FAILED_SUBJECTS
        if fault.kind in ("endpoint", "unreachable") or is_over:
            self._end = EndpointError(message)
            self._ended.set()
            raise self._end
        raise UnansweredError(message)

    async def _wait_turn(self) -> None:
        """Wait until the endpoint may be asked.

        Raises:
            EndpointError: it was given up.
        """
        while (wait := self._not_before - time.monotonic()) > 0 and self._end is None:
            await self._sleep(wait)
        if self._end is not None:
            raise EndpointError(str(self._end))

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but not beyond the end of the run."""
        try:
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        except TimeoutError:
            pass

    async def _rest(self, attempt: int, fault: Fault) -> None:
        """Wait before the next attempt; if the server is overloaded, all requests wait."""
        wait = min(_MAX_WAIT_S, self.endpoint.backoff_s * 2 ** min(attempt - 1, 16))
        wait *= 0.5 + random.random() / 2
        wait = max(wait, min(fault.wait_s or 0.0, _MAX_WAIT_S))
        if fault.kind == "rate" or fault.wait_s:
            self._not_before = max(self._not_before, time.monotonic() + wait)
        if fault.kind == "rate":
            await self._in_flight.slow_down()
        if not self._in_flight.is_over:
            await self._sleep(wait)
            return
        self._in_flight.leave()
        try:
            await self._sleep(wait)
        finally:
            await asyncio.shield(self._in_flight.enter())

    async def _send(self, request: Request, left_out: frozenset[str]) -> tuple[Answer, Charge]:
        """Send a request once; returns what came back and what it counts."""
        body = self.body(request, left_out)
        samples = 1 if "n" in self._unknown | left_out else request.n
        reserved = await self.budget.reserve(len(body), request.max_tokens + self._room, samples)
        if self._end is not None:
            self.budget.cancel(reserved)
            raise EndpointError(str(self._end))
        answer, is_charged = Answer(), True
        try:
            answer, is_charged = await self._post(body)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            kind = "endpoint" if isinstance(error, aiohttp.ClientSSLError) else "unreachable"
            self.budget.cancel(reserved)
            return Answer(fault=Fault(kind, str(error))), Charge(0, 0, 0)
        except asyncio.CancelledError:
            self._settle(reserved, answer, is_charged)
            raise
        return answer, self._settle(reserved, answer, is_charged)

    def _settle(self, reserved: Reservation, answer: Answer, is_charged: bool) -> Charge:
        return self.budget.settle(
            reserved,
            answer.usage,
            is_charged=is_charged,
            generated=answer.generated,
            is_usable=bool(answer.texts),
        )

    async def _post(self, body: bytes) -> tuple[Answer, bool]:
        """The answer to a body, and whether the server may charge for it."""
        content = bytearray()
        try:
            async with self._session.post(self._url, data=body, allow_redirects=False) as response:
                async for part in response.content.iter_any():
                    content += part
                    if len(content) > _MAX_ANSWER_BYTES:
                        limit = f"an answer over {_MAX_ANSWER_BYTES >> 20} MB"
                        return Answer(fault=Fault("passing", limit)), True
                    if content.endswith(_STREAM_ENDS):
                        break
                if 200 <= response.status < 300:
                    return read_answer(bytes(content)), True
                return _read_failure(response, bytes(content))
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            raise
        except aiohttp.InvalidURL as error:
            return Answer(fault=Fault("endpoint", f"{error} is no address")), False
        except TimeoutError:
            problem = f"no whole answer within {self.endpoint.timeout_s:g} s"
            return Answer(fault=Fault("passing", problem)), True
        except (aiohttp.ClientError, OSError, EOFError, ValueError) as error:
            problem = f"{type(error).__name__}: {error}"
            return Answer(fault=Fault("passing", problem)), True

    def _optional_fields(self, request: Request, trial: frozenset[str]) -> frozenset[str]:
        """The optional fields that are sent with a request now."""
        is_sent = (
            request.response_format is not None,
            request.n > 1,
            request.seed is not None,
            request.temperature is not None,
            True,
            self.endpoint.stream,
        )
        return frozenset(compress(_OPTIONAL, is_sent)).difference(self._unknown, trial)

    def _refused_fields(self, sent: frozenset[str], fault: Fault) -> frozenset[str]:
        """Fields of those sent that the server does not support: the one that it names, or those
        that it has refused since they were sent; empty where there are none.
        """
        if fault.field in sent:
            return frozenset((fault.field,))
        text = fault.problem.lower()
        for name in (name for name in _OPTIONAL if name in sent):
            words = "|".join((name, *_OTHER_NAMES.get(name, ())))
            pattern = rf"['\"`]{name}['\"`]" if len(name) == 1 else rf"\b(?:{words})\b"
            if re.search(pattern, text):
                return frozenset((name,))
        return sent & self._unknown

    def _next_suspect(self, sent: frozenset[str]) -> str:
        """The next field to leave out, of those that no answered request has had."""
        return next((name for name in _SUSPECTS if name in sent - self._accepted), "")


_ENCODER = msgspec.json.Encoder()
_TAG = re.compile(r"<(?:style|script)\b.*?</(?:style|script)>|<[^<>]*>", re.DOTALL | re.IGNORECASE)
_STREAM_ENDS = (b"data: [DONE]", b"data: [DONE]\n", b"data: [DONE]\n\n", b"data: [DONE]\r\n\r\n")


def make_prompt(*messages: tuple[str, str]) -> tuple[ChatMessage, ...]:
    """Messages from (role, content); half a surrogate pair, which no JSON can hold, becomes "?".

    >>> make_prompt(("user", "hi"))[0].role
    'user'
    """
    return tuple(
        ChatMessage(role, content.encode("utf-8", "replace").decode()) for role, content in messages
    )


def _read_failure(response: aiohttp.ClientResponse, content: bytes) -> tuple[Answer, bool]:
    """What a status other than success means, and whether the server may charge for it.

    It takes no money for what it refuses; what a gateway reports may have been paid for behind it.
    """
    status = response.status
    try:
        body = decode_body(content)
    except ValueError:
        body = None
    page = _TAG.sub(" ", content[:4_000].decode("utf-8", "replace")).strip()
    error = find_error(body) or page or str(response.reason)
    fault = read_error(error, status, response.headers)
    location = response.headers.get("Location", "")
    if status < 400:
        fault = fault._replace(kind="endpoint", problem=f"status {status}")
    if fault.kind == "endpoint":
        fault = fault._replace(problem=fault.problem + advise(status, location))
    usage = read_answer(content).usage if body is not None else Answer().usage
    is_charged = status >= 500 and fault.kind == "passing"
    return Answer(usage=usage, generated=0, fault=fault), is_charged


def _join_replies(first: Reply, second: Reply) -> Reply:
    return Reply(
        first.texts + second.texts,
        first.prompt_tokens + second.prompt_tokens,
        first.cached_tokens + second.cached_tokens,
        first.completion_tokens + second.completion_tokens,
    )
