"""Sending scores to one address: again where that may help, in halves where some are refused."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import msgspec

from upshot.errors import ConfigError
from upshot.llm.faults import find_error, read_error
from upshot.serve.back.target import Answer, Target
from upshot.serve.scores import Score

_MAX_WAIT_S = 60.0
"""Longest wait between two attempts; where a server asks for more, the push ends and says so."""
_MAX_CONNECT_S = 20.0
"""To connect: a host that takes longer is not there."""
_MAX_BODY = 16 << 20
"""Bytes of an answer: a hundred times what the longest takes."""
_PASSING = frozenset((408, 425, 429))
"""Statuses below 500 after which the same request may succeed."""
_NEVER = frozenset((501, 505))
"""Statuses from 500 after which it never will."""
_SEPARABLE = frozenset((400, 404, 409, 413, 422))
"""Statuses that may be about some of the scores only."""
_MAX_REFUSED = 10
"""Scores refused one by one, with none accepted, after which it is about more than those."""
_ADVICE = {
    401: "check the keys in the environment",
    403: "the keys may not write scores there",
    404: "check the address",
    405: "check the address",
}
_TAG = re.compile(r"<[^<>]*>")


class Retries(NamedTuple):
    """How often and how patiently a request is sent."""

    timeout_s: float
    attempts: int
    backoff_s: float


class Address(NamedTuple):
    """A system at an address, and the headers with its keys."""

    target: Target
    base_url: str
    headers: Mapping[str, str]

    @property
    def url(self) -> str:
        """Where requests are posted; the base address may name it already."""
        path, _, query = self.target.path.partition("?")
        base = self.base_url.removesuffix(path)
        return f"{base}{path}" + (f"?{query}" if query else "")


def check_base_url(target: Target, base_url: str) -> str:
    """The base address without a slash at its end.

    Raises:
        ConfigError: it is none, or holds what belongs into the environment.
    """
    if not base_url:
        raise ConfigError(
            f"could not push to {target.name}: no address is named; give --base-url, or set"
            f" {target.addresses[0]}"
        )
    parts = urlsplit(base_url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"could not push to {target.name}: its address is no whole URL; write one such as"
            " https://traces.example.com"
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigError(
            f"could not push to {target.name}: its address holds a name, a password or a query;"
            " keys come from the environment alone"
        )
    return urlunsplit(parts).rstrip("/")


class _Reply(NamedTuple):
    """What one attempt gave."""

    status: int = 0
    """0: there was no answer."""
    content: bytes = b""
    headers: Mapping[str, str] = {}
    problem: str = ""


class Channel:
    """Posts scores to an address; use it as an async context."""

    def __init__(self, address: Address, retries: Retries) -> None:
        self._address, self._retries = address, retries
        self._accepted = self._refused = 0

    async def __aenter__(self) -> Channel:
        limit = self._retries.timeout_s
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=limit, sock_connect=min(limit, _MAX_CONNECT_S)),
            headers={"Content-Type": "application/json", **self._address.headers},
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def post(self, scores: Sequence[Score]) -> Answer:
        """Send scores, and say what became of each; those that are in none of the answer's lists
        were not taken.
        """
        reply = await self._post_patiently(self._address.target.encode(scores), scores)
        if isinstance(reply, Answer):
            self._accepted += len(reply.accepted)
            return reply
        fault = _explain(reply, self._secrets())
        if reply.status not in _SEPARABLE:
            return Answer(stop=self._describe(reply.status, fault))
        named = [score for score in scores if _names(reply, self._address.target, score)]
        if len(scores) > 1:
            rest = [score for score in scores if score not in named]
            answer = await self._post_parts(_halve(scores) if not named else [rest])
            if named:
                answer = answer._replace(refused=[*named, *answer.refused], reason=fault)
            return answer
        self._refused += 1
        if not self._accepted and self._refused >= _MAX_REFUSED:
            return Answer((), scores, fault, self._describe(reply.status, fault))
        return Answer((), scores, fault)

    async def _post_parts(self, parts: Sequence[Sequence[Score]]) -> Answer:
        whole = Answer()
        for part in filter(None, parts):
            answer = await self.post(part)
            whole = Answer(
                [*whole.accepted, *answer.accepted],
                [*whole.refused, *answer.refused],
                whole.reason or answer.reason,
                answer.stop,
            )
            if answer.stop:
                break
        return whole

    async def _post_patiently(self, content: bytes, scores: Sequence[Score]) -> Answer | _Reply:
        """The answer of success, or the reply that says that sending it again is no use."""
        reply, problem = _Reply(), ""
        for attempt in range(self._retries.attempts):
            if attempt:
                asked_s = read_error("", reply.status or 500, reply.headers).wait_s or 0.0
                if asked_s > _MAX_WAIT_S:
                    problem += f"; it asks to wait {asked_s:.0f} s"
                    break
                own_s = min(_MAX_WAIT_S, self._retries.backoff_s * 2 ** (attempt - 1))
                await asyncio.sleep(max(asked_s, own_s * random.uniform(0.5, 1.0)))
            reply = await self._try(content)
            if 200 <= reply.status < 300:
                try:
                    body: Any = msgspec.json.decode(reply.content) if reply.content else None
                    return self._address.target.read_answer(body, scores)
                except ValueError as error:
                    problem = f"status {reply.status}: {error}"
            elif reply.status and not _is_passing(reply.status):
                return reply
            else:
                problem = reply.problem or _explain(reply, self._secrets())
        tries = f" ({self._retries.attempts} attempts)" if self._retries.attempts > 1 else ""
        return Answer(stop=self._describe(0, f"{problem}{tries}"))

    async def _try(self, content: bytes) -> _Reply:
        try:
            async with self._session.post(
                self._address.url, data=content, allow_redirects=False
            ) as response:
                answer = await response.content.read(_MAX_BODY)
                while len(answer) < _MAX_BODY and (more := await response.content.read(_MAX_BODY)):
                    answer += more
                return _Reply(response.status, answer, response.headers)
        except TimeoutError:
            return _Reply(problem=f"no whole answer within {self._retries.timeout_s:g} s")
        except (aiohttp.ClientError, OSError) as error:
            return _Reply(problem=f"{type(error).__name__}: {error}")

    def _describe(self, status: int, problem: str) -> str:
        advice = _ADVICE.get(status, "run it again later")
        if 300 <= status < 400:
            advice = "write the address that it redirects to as --base-url"
        name, url = self._address.target.name, self._address.base_url
        return (
            f"could not push to {name} at {url}: {problem}; {advice}. What was taken is recorded,"
            " the rest is still to be sent"
        )

    def _secrets(self) -> list[str]:
        """What of the headers must not be shown."""
        values = [part for value in self._address.headers.values() for part in value.split()]
        return [value for value in values if value not in ("Basic", "Bearer")]


def _is_passing(status: int) -> bool:
    return status in _PASSING or (status >= 500 and status not in _NEVER)


def _explain(reply: _Reply, secrets: Sequence[str]) -> str:
    """What a status other than success means, in the server's words."""
    try:
        body: Any = msgspec.json.decode(reply.content)
    except ValueError:
        body = None
    page = _TAG.sub(" ", reply.content[:4_000].decode("utf-8", "replace")).strip()
    problem = read_error(find_error(body) or page, reply.status, reply.headers).problem
    for secret in secrets:
        problem = problem.replace(secret, "…")
    return problem


def _names(reply: _Reply, target: Target, score: Score) -> bool:
    """Whether a refusal names a score's id there."""
    return target.locate(score.refs).encode() in reply.content


def _halve(scores: Sequence[Score]) -> list[Sequence[Score]]:
    half = len(scores) // 2
    return [scores[:half], scores[half:]]
