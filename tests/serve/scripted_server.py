"""A server process that takes scores as Langfuse, Phoenix and a collector of OTLP do, and fails as
it is told: `python scripted_server.py PORTFILE`.

`POST /script` sets the faults of the next requests, one each: {"status": 429, "headers": {…}} takes
nothing; "half" takes everything and cuts the answer off; "drop" closes the connection; "slow" waits
a second first. Its "missing" are spans that Phoenix does not have, "rejected" names of scores that
are not taken. `GET /state` returns what was taken, by id, and every request.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import sys
from pathlib import Path
from typing import Any

from aiohttp import web

SCRIPT: dict[str, Any] = {}
TAKEN: dict[str, dict[str, Any]] = {}
REQUESTS: list[dict[str, Any]] = []
KEYS = "Basic " + base64.b64encode(b"pk-lf-1:sk-lf-secret").decode()


async def fail_first(request: web.Request) -> web.StreamResponse | None:
    """The fault of this request, where it takes nothing; notes the request."""
    body = await request.json()
    REQUESTS.append({"path": request.path_qs, "headers": dict(request.headers), "body": body})
    faults = SCRIPT.setdefault("faults", [])
    fault = faults.pop(0) if faults else ""
    request["half"] = fault == "half"
    if fault == "slow":
        await asyncio.sleep(1)
    if fault == "drop":
        assert request.transport is not None
        request.transport.close()
    if isinstance(fault, dict):
        text = fault.get("text", json.dumps({"message": "as scripted"}))
        return web.Response(status=fault["status"], headers=fault.get("headers"), text=text)
    return None


async def answer(request: web.Request, body: Any, status: int = 200) -> web.StreamResponse:
    if not request["half"]:
        return web.json_response(body, status=status)
    content = json.dumps(body).encode()
    response = web.StreamResponse(status=status, headers={"Content-Length": str(len(content))})
    await response.prepare(request)
    await response.write(content[: len(content) // 2])
    assert request.transport is not None
    request.transport.close()
    return response


async def ingest(request: web.Request) -> web.StreamResponse:
    """Langfuse: 207, with each event among the successes or the errors."""
    if (fault := await fail_first(request)) is not None:
        return fault
    if request.headers.get("Authorization") != KEYS:
        got = request.headers.get("Authorization", "")
        return web.json_response({"message": f"Invalid credentials {got}"}, status=401)
    successes, errors = [], []
    for event in (await request.json())["batch"]:
        body = event["body"]
        assert event["type"] == "score-create"
        assert event["timestamp"]
        assert body["traceId"]
        assert isinstance(body["value"], float if body["dataType"] == "NUMERIC" else str)
        if body["name"] in SCRIPT.get("rejected", ()):
            error = {"id": event["id"], "status": 400, "message": "Invalid request data"}
            errors.append({**error, "error": f"no score {body['name']} here"})
        else:
            TAKEN[body["id"]] = body
            successes.append({"id": event["id"], "status": 201})
    return await answer(request, {"successes": successes, "errors": errors}, 207)


async def annotate(request: web.Request) -> web.StreamResponse:
    """Phoenix: all or nothing; annotations are named by span, name and identifier."""
    if (fault := await fail_first(request)) is not None:
        return fault
    assert request.query["sync"] == "true"
    data = (await request.json())["data"]
    assert all(re.fullmatch("[0-9a-f]{16}", one["span_id"]) for one in data)
    assert all(one["annotator_kind"] in ("LLM", "CODE", "HUMAN") for one in data)
    if missing := {one["span_id"] for one in data}.intersection(SCRIPT.get("missing", ())):
        detail = f"Spans with IDs {', '.join(missing)} do not exist."
        return web.Response(status=404, text=detail)
    for one in data:
        TAKEN["/".join((one["span_id"], one["name"], one["identifier"]))] = one
    return await answer(request, {"data": [{"id": str(i)} for i in range(len(data))]})


async def export(request: web.Request) -> web.StreamResponse:
    """A collector: log records, by their unique id."""
    if (fault := await fail_first(request)) is not None:
        return fault
    rejected = 0
    for resource in (await request.json())["resourceLogs"]:
        for record in (r for scope in resource["scopeLogs"] for r in scope["logRecords"]):
            assert record["eventName"] == "gen_ai.evaluation.result"
            values = {a["key"]: next(iter(a["value"].values())) for a in record["attributes"]}
            if values["gen_ai.evaluation.name"] in SCRIPT.get("rejected", ()):
                rejected += 1
            else:
                ids = {name: record.get(name) for name in ("traceId", "spanId")}
                TAKEN[values["log.record.uid"]] = {**values, **ids}
    partial = {"rejectedLogRecords": str(rejected), "errorMessage": "as scripted"}
    return await answer(request, {"partialSuccess": partial} if rejected else {})


async def set_script(request: web.Request) -> web.Response:
    SCRIPT.clear()
    SCRIPT.update(await request.json())
    REQUESTS.clear()
    return web.json_response({})


async def show_state(_: web.Request) -> web.Response:
    return web.json_response({"taken": TAKEN, "requests": REQUESTS})


async def main(port_file: Path) -> None:
    app = web.Application(client_max_size=16 << 20)
    app.router.add_post("/api/public/ingestion", ingest)
    app.router.add_post("/v1/span_annotations", annotate)
    app.router.add_post("/v1/logs", export)
    app.router.add_post("/script", set_script)
    app.router.add_get("/state", show_state)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    part = port_file.with_suffix(".part")
    part.write_text(str(runner.addresses[0][1]))
    part.rename(port_file)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
