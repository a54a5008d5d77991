"""Structured replies: requested by JSON schema, checked here, and repaired once if necessary."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar, cast

import msgspec

from upshot.llm.client import ChatMessage, Client, Reply, Request, make_prompt
from upshot.llm.endpoint import Endpoint

T = TypeVar("T")
_THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL)


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


def extract_json(text: str) -> bytes:
    """The JSON object in a reply, without a fence, thoughts or an apology around it.

    >>> extract_json('<think>{"no": 1}</think> Sure! ```json\\n{"score": 3}\\n``` done')
    b'{"score": 3}'
    """
    text = _THOUGHT.sub("", text)
    start, end = text.find("{"), text.rfind("}")
    return text[start : end + 1].encode() if 0 <= start < end else b""


def parse_reply(text: str, kind: type[T], check: Callable[[T], str]) -> tuple[T | None, str]:
    """The reply as `kind` or None, and what is wrong with it."""
    try:
        value = msgspec.json.decode(extract_json(text), type=kind)
    except msgspec.DecodeError as error:
        return None, f"not the JSON that was asked for: {error}"
    problem = check(value)
    return value, problem


async def ask(
    client: Client,
    request: Request,
    kind: type[T],
    check: Callable[[T], str],
    first: Reply | None = None,
) -> tuple[Reply, list[T | None], int]:
    """Send a request (or take the cached reply `first`) and read its samples as `kind`.

    A sample that does not fit is sent back once with the problem. `check` returns the problem of a
    decoded sample, or "". Returns the reply with repaired samples in place, the samples (None:
    beyond repair) and the number of repairs.
    """
    reply = first or await client.complete(request)
    texts = list(reply.texts[: request.n])
    samples: list[T | None] = []
    repairs = 0
    for number, text in enumerate(texts):
        value, problem = parse_reply(text, kind, check)
        if problem and first is None:
            repairs += 1
            fixed = await client.complete(_make_repair(request, text, problem))
            repaired, remaining = parse_reply(fixed.texts[0] if fixed.texts else "", kind, check)
            if repaired is not None and (value is None or not remaining):
                value, texts[number] = repaired, fixed.texts[0]
        samples.append(value)
    return (
        Reply(tuple(texts), reply.prompt_tokens, reply.cached_tokens, reply.completion_tokens),
        samples,
        repairs,
    )


def _make_repair(request: Request, text: str, problem: str) -> Request:
    instruction = (
        f"That cannot be used: {problem}. Answer again, with the whole JSON object and nothing"
        " else."
    )
    messages = (
        *request.messages,
        ChatMessage("assistant", text[-20_000:]),
        ChatMessage("user", instruction),
    )
    return msgspec.structs.replace(request, messages=messages, n=1)
