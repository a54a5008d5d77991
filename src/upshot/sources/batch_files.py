"""Batch files of OpenAI, Anthropic, Gemini and Mistral: a request and its result a line, joined by
their id. The file with the results is read together with the one beside it that has the requests.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from upshot.io.files import Bad, Input, read_json
from upshot.io.json_text import decode
from upshot.io.json_values import is_array, is_object
from upshot.io.streams import Folder
from upshot.records import BadRecord, RawConversation
from upshot.sources import fields
from upshot.sources.detection import Fit, Sample, fit_records
from upshot.sources.notes import note, skip
from upshot.sources.payloads import EMPTY, decode_nested, find_text, read_answer, read_request
from upshot.sources.reading import describe
from upshot.sources.request_logs import Exchange, join_exchanges

NAME = "batch-files"
_MAX_BESIDE = 200
"""Files beside one that are looked at for its other half."""
_MAX_SIZE = 1 << 28
"""Bytes of such a file."""


def fit(sample: Sample) -> Fit:
    """How many of the first records are requests or results of a batch."""
    return fit_records(sample, _explain_misfit)


def _explain_misfit(record: Any) -> str:
    if not is_object(record):
        return "not an object"
    if not _id_of(record):
        return "no `custom_id`"
    return "" if _is_request(record) or _is_result(record) else "no request and no result"


def _id_of(record: Any) -> str:
    return find_text(record, "custom_id", "key")


def _is_request(record: Mapping[str, Any]) -> bool:
    return _request_of(record) is not None


def _request_of(record: Mapping[str, Any]) -> Any:
    for name in ("body", "params", "request"):
        value = decode_nested(record.get(name))
        if is_object(value):
            return value
    return None


def _is_result(record: Mapping[str, Any]) -> bool:
    return any(is_object(record.get(name)) for name in ("response", "result", "error"))


def is_side_file(sample: Sample, folder: Folder) -> bool:
    """Whether a file holds requests whose results lie in a file beside it."""
    records = [record for record in sample.records if is_object(record)]
    if not records or not all(_is_request(r) and not _is_result(r) for r in records):
        return False
    ids = {_id_of(record) for record in records}
    return any(
        _is_result(record) and _id_of(record) in ids
        for name in _names_beside(sample.name, folder)
        if (content := _read_beside(folder, name)) is not None
        for record in _read_all(content)
    )


def _names_beside(file: str, folder: Folder) -> list[str]:
    own = os.path.basename(file.rpartition("!")[2])
    ending = os.path.splitext(own)[1]
    names = [n for n in folder.list_names() if n != own and os.path.splitext(n)[1] == ending]
    return names[:_MAX_BESIDE]


def _read_beside(folder: Folder, name: str) -> bytes | None:
    """A file beside, if it is one of a batch."""
    try:
        content = folder.read(name)
    except OSError:
        return None
    if content is None or len(content) > _MAX_SIZE:
        return None
    first = _read_first(content[: 1 << 20])
    return content if first and not _explain_misfit(first[0]) else None


def _read_first(head: bytes) -> list[Mapping[str, Any]]:
    lines = head.split(b"\n")[:20]
    return list(_read_all(b"\n".join(lines)))


def _read_all(content: bytes) -> Iterator[Mapping[str, Any]]:
    for line in content.splitlines():
        if line.strip():
            try:
                record = decode(line)
            except ValueError:
                continue
            if is_object(record):
                yield record


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """A conversation for each request, with its result where there is one."""
    requests: dict[str, Any] = {}
    results: dict[str, Mapping[str, Any]] = {}
    for position, record in read_json(source):
        if isinstance(record, Bad):
            yield BadRecord(source.name, position, record.reason)
            continue
        if reason := _explain_misfit(record):
            yield BadRecord(source.name, position, reason)
            continue
        if _is_request(record):
            requests[_id_of(record)] = _request_of(record)
        if _is_result(record):
            results[_id_of(record)] = record
    if results.keys() - requests.keys():
        _add_requests(source, requests, results)
    exchanges: list[Exchange] = []
    for name in dict.fromkeys([*requests, *results]):
        try:
            exchange = _read_exchange(name, requests.get(name), results.get(name))
        except Exception as error:  # noqa: BLE001 — whatever one record holds
            yield BadRecord(source.name, f"request {name}", describe(error))
            continue
        if not exchange.request and exchange.answer:
            note("results of a batch whose requests are not beside them")
        if exchange.request or exchange.answer:
            exchanges.append(exchange)
        else:
            skip(NAME, "requests without messages")
    yield from join_exchanges(exchanges, NAME)


def _add_requests(
    source: Input, requests: dict[str, Any], results: Mapping[str, Mapping[str, Any]]
) -> None:
    for name in _names_beside(source.name, source.folder):
        content = _read_beside(source.folder, name)
        for record in _read_all(content) if content is not None else ():
            key = _id_of(record)
            if key in results and key not in requests and _is_request(record):
                requests[key] = _request_of(record)


def _read_exchange(name: str, request: Any, result: Mapping[str, Any] | None) -> Exchange:
    result = result or EMPTY
    response: Any = result.get("response") or result.get("result") or EMPTY
    body: Any = response
    for field in ("body", "message"):
        if is_object(response) and is_object(response.get(field)):
            body = response[field]
    if is_object(response) and response.get("type") in ("errored", "expired", "canceled"):
        body = None
    answer = read_answer(body) if body and not (is_array(body) or body == result) else []
    time = fields.epoch(body.get("created") or body.get("created_at")) if is_object(body) else None
    return Exchange(
        tuple(read_request(request)) if request else (),
        tuple(answer),
        user=find_text(request, "user", "metadata.user_id"),
        start=time,
        model=find_text(body, "model", "modelVersion") or find_text(request, "model"),
        refs={"request": name, **({"response": i} if (i := find_text(body, "id")) else {})},
    )
