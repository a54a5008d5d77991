"""The batch interface of an endpoint (files and batches): slower, and usually at half the price.

It fills the cache of replies. The judge then runs as usual and finds its answers there, so that
reading, repairing and reconciling are the same code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
import msgspec

from upshot.errors import EndpointError
from upshot.llm.budget import Budget
from upshot.llm.client import Reply, Request, read_reply
from upshot.llm.endpoint import Endpoint
from upshot.llm.replies import Replies

_FINAL_STATUSES = ("completed", "failed", "expired", "cancelled")
_MAX_REQUESTS = 50_000
_MAX_BYTES = 190 << 20
"""OpenAI's limits of one batch: 50,000 requests and 200 MB."""


async def run_batch(
    endpoint: Endpoint,
    requests: Mapping[str, tuple[str, Request]],
    replies: Replies,
    budget: Budget,
    *,
    poll_s: float = 20.0,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Send requests (key → user, request) as batches and store the replies; returns their number.

    Raises:
        EndpointError: the endpoint has no batch interface, or a batch failed as a whole.
    """
    received = 0
    timeout = aiohttp.ClientTimeout(total=endpoint.timeout_s * 5)
    async with aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}, timeout=timeout
    ) as session:
        for part in _split_requests(requests):
            batch = await _submit_batch(session, endpoint, part)
            while batch["status"] not in _FINAL_STATUSES:
                await asyncio.sleep(poll_s)
                batch = await _request_json(session, "GET", endpoint.url(f"batches/{batch['id']}"))
                counts: dict[str, Any] = batch.get("request_counts") or {}
                if progress:
                    progress(received + int(counts.get("completed", 0)), len(requests))
            if batch["status"] != "completed" and not batch.get("output_file_id"):
                raise EndpointError(
                    f"could not finish batch {batch['id']}: it {batch['status']}:"
                    f" {batch.get('errors')}"
                )
            if batch.get("output_file_id"):
                received += await _collect_replies(
                    session, endpoint, batch["output_file_id"], part, replies, budget=budget
                )
    replies.flush()
    return received


def _split_requests(
    requests: Mapping[str, tuple[str, Request]],
) -> list[dict[str, tuple[str, Request]]]:
    parts: list[dict[str, tuple[str, Request]]] = [{}]
    size = 0
    for key, item in requests.items():
        size += len(msgspec.json.encode(item[1])) + 120
        if parts[-1] and (len(parts[-1]) >= _MAX_REQUESTS or size > _MAX_BYTES):
            parts.append({})
            size = 0
        parts[-1][key] = item
    return [part for part in parts if part]


async def _submit_batch(
    session: aiohttp.ClientSession, endpoint: Endpoint, part: Mapping[str, tuple[str, Request]]
) -> dict[str, Any]:
    lines = b"\n".join(
        msgspec.json.encode(
            {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": request}
        )
        for key, (_, request) in part.items()
    )
    form = aiohttp.FormData()
    form.add_field("purpose", "batch")
    form.add_field("file", lines, filename="upshot.jsonl", content_type="application/jsonl")
    file = await _request_json(session, "POST", endpoint.url("files"), data=form)
    ordered = {
        "input_file_id": file["id"],
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
    }
    return await _request_json(session, "POST", endpoint.url("batches"), json=ordered)


async def _collect_replies(
    session: aiohttp.ClientSession,
    endpoint: Endpoint,
    file: str,
    part: Mapping[str, tuple[str, Request]],
    replies: Replies,
    *,
    budget: Budget,
) -> int:
    content = await _request_bytes(session, "GET", endpoint.url(f"files/{file}/content"))
    received = 0
    for line in content.splitlines():
        row = msgspec.json.decode(line)
        response: dict[str, Any] = row.get("response") or {}
        if response.get("status_code") != 200 or row.get("custom_id") not in part:
            continue
        user, request = part[row["custom_id"]]
        size = len(msgspec.json.encode(request))
        reply: Reply = read_reply(msgspec.json.encode(response["body"]), size)
        if len(reply.texts) >= request.n:
            replies.put(row["custom_id"], user, reply)
            received += 1
        budget.count(size, reply.prompt_tokens, reply.cached_tokens, reply.completion_tokens)
    return received


async def _request_json(
    session: aiohttp.ClientSession, method: str, url: str, **options: Any
) -> dict[str, Any]:
    return msgspec.json.decode(await _request_bytes(session, method, url, **options))


async def _request_bytes(
    session: aiohttp.ClientSession, method: str, url: str, **options: Any
) -> bytes:
    try:
        async with session.request(method, url, **options) as response:
            content = await response.read()
            if response.status >= 400:
                raise EndpointError(
                    f"could not use the batch interface at {url}: status {response.status}:"
                    f" {content[:300].decode('utf-8', 'replace')}; run without --batch"
                )
            return content
    except (aiohttp.ClientError, TimeoutError) as error:
        raise EndpointError(f"could not use the batch interface at {url}: {error}") from error
