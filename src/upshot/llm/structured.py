"""Structured replies: requested by JSON schema, checked here, and repaired once if necessary."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from typing import Any, Protocol, TypeVar, cast

import msgspec

from upshot.errors import UnansweredError
from upshot.llm.client import ChatMessage, Reply, Request, make_prompt
from upshot.llm.endpoint import Endpoint
from upshot.llm.model_json import parse_reply

T = TypeVar("T")
_MAX_SHOWN = 20_000
"""Characters of an answer that its repair shows, the last ones."""


class Completer(Protocol):
    """Whatever gives replies: a client, or one with a cache before it."""

    async def complete(self, request: Request) -> Reply:
        """The reply to a request."""
        ...


@cache
def make_response_format(kind: type[Any], name: str) -> msgspec.Raw:
    """The `response_format` of a struct, as JSON: a strict schema, every field required.

    >>> class Answer(msgspec.Struct):
    ...     score: int
    >>> bytes(make_response_format(Answer, "answer"))[:60]
    b'{"type":"json_schema","json_schema":{"name":"answer","strict'
    """
    (schema,), parts = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    whole = dict(_make_strict(parts[kind.__name__] if "$ref" in schema else schema))
    others = {key: _make_strict(value) for key, value in parts.items() if key != kind.__name__}
    if others:
        whole["$defs"] = others
    return msgspec.Raw(
        msgspec.json.encode(
            {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": whole}}
        )
    )


def _make_strict(schema: Any) -> Any:
    """A schema for strict servers: no defaults or titles, every field required, no others."""
    if isinstance(schema, list):
        return [_make_strict(item) for item in cast(list[Any], schema)]
    if not isinstance(schema, dict):
        return schema
    fields = {
        key: _make_strict(value)
        for key, value in cast(dict[str, Any], schema).items()
        if key not in ("title", "default", "description")
    }
    if fields.get("type") == "object" and "properties" in fields:
        fields["required"] = list(fields["properties"])
        fields["additionalProperties"] = False
    return fields


def load_prompt(package: str, name: str) -> str:
    """A prompt that ships in the folder `prompts` of a package."""
    return resources.files(package).joinpath("prompts", name).read_text("utf-8").strip()


def make_question(
    endpoint: Endpoint,
    system: str,
    data: Mapping[str, Any],
    kind: type[Any],
    max_tokens: int,
    *,
    temperature: float = 0.0,
    n: int = 1,
    seed: int | None = None,
) -> Request:
    """A request for a `kind`, given `data` as JSON, where text cannot imitate instructions."""
    messages = make_prompt(("system", system), ("user", msgspec.json.encode(data).decode()))
    return Request(
        endpoint.model,
        messages,
        max_tokens,
        temperature,
        n,
        seed,
        make_response_format(kind, kind.__name__.lower()),
    )


async def ask(
    client: Completer, request: Request, kind: type[T], check: Callable[[T], str]
) -> tuple[Reply, list[T | None], int]:
    """Send a request and read its samples as `kind`.

    A sample that does not fit is sent back once with the problem. `check` returns the problem of a
    decoded sample, or "". Returns the reply, as many samples as were requested (None: not given, or
    beyond repair) and the number of repairs.

    Raises:
        BudgetError, UnansweredError, EndpointError: as of `Client.complete`; but a repair that is
            not answered leaves the sample as it is.
    """
    reply = await client.complete(request)
    samples: list[T | None] = []
    repairs = 0
    for number, text in enumerate(reply.texts[: request.n]):
        value, problem = parse_reply(text, kind, check)
        if problem:
            repairs += 1
            repair = _make_repair(request, text, problem)
            if text in reply.texts[:number]:  # a sample of its own, not the same answer again
                repair = msgspec.structs.replace(repair, seed=number)
            repaired, remaining = await _parse_repair(client, repair, kind, check)
            if repaired is not None and (value is None or not remaining):
                value = repaired
        samples.append(value)
    samples += [None] * (request.n - len(samples))
    return reply, samples, repairs


async def _parse_repair(
    client: Completer, repair: Request, kind: type[T], check: Callable[[T], str]
) -> tuple[T | None, str]:
    try:
        fixed = await client.complete(repair)
    except UnansweredError as error:
        return None, str(error)
    return parse_reply(fixed.texts[0] if fixed.texts else "", kind, check)


def _make_repair(request: Request, text: str, problem: str) -> Request:
    instruction = (
        f"That cannot be used: {problem}. Answer again, with the whole JSON object and nothing"
        " else."
    )
    messages = (*request.messages, ChatMessage("assistant", text[-_MAX_SHOWN:]))
    return msgspec.structs.replace(
        request, messages=(*messages, ChatMessage("user", instruction)), n=1
    )
