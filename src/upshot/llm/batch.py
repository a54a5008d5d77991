"""The batch interface of an endpoint (files and batches): slower, and usually at half the price.

It fills the cache of replies. The judge then runs as usual and finds its answers there, so that
reading, repairing and reconciling are the same code, and whatever the batch did not answer is
requested one by one. A batch carries a digest of its requests: a run that was killed while one was
at work finds it again and takes its answers, where the endpoint lists its batches.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import aiohttp
import msgspec

from upshot.errors import BudgetError, EndpointError
from upshot.io.json_values import as_object, is_array, is_object
from upshot.llm.answers import decode_body, read_answer
from upshot.llm.budget import Budget, Reservation
from upshot.llm.client import Reply, Request
from upshot.llm.endpoint import Endpoint
from upshot.llm.faults import find_error
from upshot.llm.replies import Replies

_FINAL_STATUSES = ("completed", "failed", "expired", "cancelled")
_FAILED_STATUSES = ("failed", "expired", "cancelled", "cancelling")
_MAX_REQUESTS = 50_000
_MAX_BYTES = 190 << 20
"""OpenAI's limits of one batch: 50,000 requests and 200 MB."""
_LINE_BYTES = 120
"""Of a line beside its request."""
_MAX_LISTED = 100
"""Batches that are searched for one of an earlier run, the latest."""
_MAX_POLL_FAILURES = 10
"""In a row, after which a batch at work is given up; a later run finds it again."""
_DIGEST = "upshot_requests"
"""Name of the digest in a batch's metadata."""
Requests = Mapping[str, tuple[str, Request]]
"""Key → user, request."""


async def run_batch(
    endpoint: Endpoint,
    requests: Requests,
    replies: Replies,
    budget: Budget,
    *,
    poll_s: float = 20.0,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Send requests as batches and store the replies; returns their number.

    Requests whose largest expected cost the budget does not hold are not sent.

    Raises:
        EndpointError: the endpoint has no batch interface, or a batch failed as a whole.
    """
    received = 0
    timeout = aiohttp.ClientTimeout(total=endpoint.timeout_s * 5)
    headers = {n: v for n, v in endpoint.headers().items() if n != "Content-Type"}
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
        for part in _split_requests(requests):
            part = await _fit_requests(part, budget)
            if not part:
                break
            batch = await _find_batch(session, endpoint, part)
            if batch is None:
                batch = await _submit_batch(session, endpoint, part)
            finished = await _await_batch(
                session,
                endpoint,
                batch,
                poll_s,
                lambda done, before=received: progress and progress(before + done, len(requests)),
            )
            file = finished.get("output_file_id")
            if not isinstance(file, str) or not file:
                continue  # every request failed; they are sent one by one
            lines = await _request_bytes(session, "GET", endpoint.url(f"files/{file}/content"))
            received += _collect_replies(lines.splitlines(), part, replies, budget)
    replies.flush()
    return received


def _split_requests(requests: Requests) -> list[dict[str, tuple[str, Request]]]:
    parts: list[dict[str, tuple[str, Request]]] = [{}]
    size = 0
    for key, item in requests.items():
        line = len(msgspec.json.encode(item[1])) + _LINE_BYTES
        if parts[-1] and (len(parts[-1]) >= _MAX_REQUESTS or size + line > _MAX_BYTES):
            parts.append({})
            size = 0
        size += line
        parts[-1][key] = item
    return [part for part in parts if part]


async def _fit_requests(part: Requests, budget: Budget) -> dict[str, tuple[str, Request]]:
    """The first requests of a part that fit into the budget together."""
    if not budget.limited:
        return dict(part)
    fitting: dict[str, tuple[str, Request]] = {}
    size = tokens = 0
    for key, item in part.items():
        size += len(msgspec.json.encode(item[1]))
        tokens += item[1].max_tokens * item[1].n
        try:
            budget.cancel(await budget.reserve(size, tokens))
        except BudgetError:
            break
        fitting[key] = item
    return fitting


def _digest_requests(part: Iterable[str]) -> str:
    return hashlib.blake2b("\n".join(sorted(part)).encode(), digest_size=16).hexdigest()


async def _find_batch(
    session: aiohttp.ClientSession, endpoint: Endpoint, part: Requests
) -> dict[str, Any] | None:
    """The batch of an earlier run with just these requests; None where there is none."""
    try:
        listed = await _request_json(session, "GET", endpoint.url(f"batches?limit={_MAX_LISTED}"))
    except EndpointError:  # it keeps no list
        return None
    digest = _digest_requests(part)
    rows: Any = listed.get("data")
    for row in rows if is_array(rows) else ():
        if (
            is_object(row)
            and as_object(row.get("metadata")).get(_DIGEST) == digest
            and isinstance(row.get("id"), str)
            and row.get("status") not in _FAILED_STATUSES
        ):
            return dict(row)
    return None


async def _submit_batch(
    session: aiohttp.ClientSession, endpoint: Endpoint, part: Requests
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
    order = {
        "input_file_id": _read_id(file, "file"),
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
        "metadata": {_DIGEST: _digest_requests(part)},
    }
    batch = await _request_json(session, "POST", endpoint.url("batches"), json=order)
    _read_id(batch, "batch")
    return batch


async def _await_batch(
    session: aiohttp.ClientSession,
    endpoint: Endpoint,
    batch: dict[str, Any],
    poll_s: float,
    on_progress: Callable[[int], object],
) -> dict[str, Any]:
    """The batch once it is finished; a poll that fails is repeated."""
    address = endpoint.url(f"batches/{_read_id(batch, 'batch')}")
    failures = 0
    while batch.get("status") not in _FINAL_STATUSES:
        await asyncio.sleep(poll_s)
        try:
            batch = await _request_json(session, "GET", address)
            failures = 0
        except EndpointError:
            failures += 1
            if failures >= _MAX_POLL_FAILURES:
                raise
            continue
        done = as_object(batch.get("request_counts")).get("completed")
        on_progress(done if isinstance(done, int) else 0)
    if batch["status"] != "completed" and not batch.get("output_file_id"):
        raise EndpointError(
            f"could not finish batch {batch.get('id')}: it {batch['status']}:"
            f" {batch.get('errors')}; run without --batch"
        )
    return batch


def _collect_replies(
    lines: Iterable[bytes], part: Requests, replies: Replies, budget: Budget
) -> int:
    """Store the replies of an output file; lines that cannot be read are passed over."""
    received = 0
    for line in lines:
        try:
            row = as_object(decode_body(line))
        except ValueError:
            continue
        key, response = row.get("custom_id"), as_object(row.get("response"))
        if not isinstance(key, str) or key not in part:
            continue
        user, request = part[key]
        is_answer = response.get("status_code", 200) == 200
        answer = read_answer(msgspec.json.encode(response.get("body")))
        size = len(msgspec.json.encode(request))
        charge = budget.assess(
            Reservation(size, request.max_tokens, request.n),
            answer.usage,
            is_charged=is_answer,
            generated=answer.generated,
        )
        budget.count(charge, is_usable=bool(answer.texts))
        if is_answer and answer.texts:
            replies.put(key, user, Reply(answer.texts[: request.n], *charge))
            received += 1
    return received


def _read_id(answer: Mapping[str, Any], what: str) -> str:
    name = answer.get("id")
    if not isinstance(name, str) or not name:
        problem = find_error(answer) or "its answer has no id"
        raise EndpointError(
            f"could not use the batch interface: no {what} was made: {str(problem)[:300]}; run"
            " without --batch"
        )
    return name


async def _request_json(
    session: aiohttp.ClientSession, method: str, url: str, **options: Any
) -> dict[str, Any]:
    content = await _request_bytes(session, method, url, **options)
    try:
        return dict(as_object(decode_body(content)))
    except ValueError as error:
        raise EndpointError(
            f"could not use the batch interface at {url}: {error}; run without --batch"
        ) from error


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
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise EndpointError(f"could not use the batch interface at {url}: {error}") from error
