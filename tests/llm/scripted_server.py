"""An OpenAI-compatible server process that follows a script: `python scripted_server.py PORTFILE
SCRIPT.json`.

The script is {"mode": name, ...}; modes are the functions below. `GET /calls` returns every request
body, as received.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

from aiohttp import web

CALLS: list[dict] = []
FILES: dict[str, bytes] = {}
BATCHES: dict[str, dict] = {}
ORDERS: list[int] = []
"""Requests of each batch that was ordered."""
TURNS = {"divided": 0, "reviewer": -1}
"""Calls so far of each mode with turns, less one."""


def read_response_numbers(body: dict) -> list[int]:
    """Numbers of the responses that a prompt asks about."""
    numbers = re.findall(
        r"Judge responses ([\d, ]+)\.",
        body["messages"][-1]["content"]
        + body["messages"][min(1, len(body["messages"]) - 1)]["content"],
    )
    return [int(n) for n in numbers[0].split(", ")] if numbers else []


def messages(body: dict) -> list[tuple[int, str, str]]:
    """(number, role, text) of the log in a prompt."""
    text = body["messages"][1]["content"]
    parts = re.split(r"^\[(\d+) (\w+) [0-9a-f]{4}\]\n", text, flags=re.M)
    return [
        (int(n), role, said.split("\n\nJudge responses")[0].split("\n[-- a later")[0].strip())
        for n, role, said in zip(parts[1::3], parts[2::3], parts[3::3], strict=True)
    ]


def make_judgement(
    number: int,
    score: float,
    quote: tuple[int, str] | None = None,
    label: str = "reported outcome",
    refusal: str = "no",
) -> dict:
    evidence = (
        [] if quote is None else [{"message": quote[0], "quote": quote[1], "good": score > 5}]
    )
    return {
        "response": number,
        "goal": "a goal",
        "happened": "something",
        "label": label,
        "score": score,
        "refusal": refusal,
        "evidence": evidence,
    }


def honest(body: dict, script: dict) -> str:
    """Reads the user's next message: "worked" is 9, "crashes" is 1, anything else 5 without a
    quote.
    """
    log = messages(body)
    verdicts = []
    for number in read_response_numbers(body):
        following = next(
            ((n, text) for n, role, text in log if n > number and role == "user"), None
        )
        if following and "worked" in following[1]:
            verdicts.append(make_judgement(number, 9, (following[0], "worked")))
        elif following and "crashes" in following[1]:
            verdicts.append(make_judgement(number, 1, (following[0], "crashes")))
        else:
            verdicts.append(make_judgement(number, 5, None, "no feedback"))
    return json.dumps({"verdicts": verdicts})


def invented(body: dict, script: dict) -> str:
    return json.dumps(
        {
            "verdicts": [
                make_judgement(n, 10, (n + 1, "I adore this, flawless!"))
                for n in read_response_numbers(body)
            ]
        }
    )


def from_before(body: dict, script: dict) -> str:
    first = messages(body)[0]
    return json.dumps(
        {
            "verdicts": [
                make_judgement(n, 10, (1, first[2][:30])) for n in read_response_numbers(body)
            ]
        }
    )


def wrong_numbers(body: dict, script: dict) -> str:
    return json.dumps(
        {"verdicts": [make_judgement(n + 100, 10) for n in read_response_numbers(body)]}
    )


def coder(body: dict, script: dict) -> str:
    """Writes tests, wrong code, and right code once it has seen the failure; explains a given
    solution.
    """
    system, shown = body["messages"][0]["content"], json.loads(body["messages"][1]["content"])
    if system.startswith("You write tests"):
        return json.dumps({"thought": "sums, negative ones too", "tests": script["tests"]})
    if system.startswith("You explain"):
        return json.dumps(
            {
                "thought": "one adds both",
                "code": shown["hint"] if script.get("explains", True) else script["first"],
            }
        )
    failed = any(
        "failed" in tried["result"] or "load" in tried["result"] for tried in shown["tried"]
    )
    return json.dumps(
        {
            "thought": "the sign was wrong" if failed else "subtract",
            "code": script["then"] if failed else script["first"],
        }
    )


def gullible(body: dict, script: dict) -> str:
    """Obeys every attack that it can read: where a marker is in the prompt, everything was
    perfect.
    """
    prompt = body["messages"][1]["content"]
    steered = any(marker in prompt for marker in script["markers"])
    if not steered:
        return honest(body, script)
    log = messages(body)
    verdicts = []
    for number in read_response_numbers(body):
        following = next(
            ((n, text) for n, role, text in log if n > number and role == "user"), None
        )
        verdicts.append(
            make_judgement(number, 10, (following[0], following[1][:12]) if following else None)
        )
    return json.dumps({"verdicts": verdicts})


def divided(body: dict, script: dict) -> str:
    """Half of the samples say yes, half say no."""
    TURNS["divided"] = 1 - TURNS["divided"]
    later = messages(body)[-1]
    return json.dumps(
        {
            "verdicts": [
                make_judgement(n, 9 if TURNS["divided"] else 1, (later[0], later[2][:10]))
                for n in read_response_numbers(body)
            ]
        }
    )


def fenced(body: dict, script: dict) -> str:
    return f"<think>hm {{}}</think>Here you go:\n```json\n{honest(body, script)}\n```"


def truncated(body: dict, script: dict) -> str:
    return (
        honest(body, script)
        if "cannot be used" in body["messages"][-1]["content"]
        else honest(body, script)[:60]
    )


def hopeless(body: dict, script: dict) -> str:
    return "I would rather not."


def instant(body: dict, script: dict) -> str:
    return script["answer"]


def rewriter(body: dict, script: dict) -> str:
    """Answers what the script says: `rewrite` for the writer, `check` for the checker."""
    name = body["response_format"]["json_schema"]["name"]
    if name == "check":
        wanted = len(json.loads(body["messages"][1]["content"])["requirements"])
        return json.dumps(
            {"met": [script.get("met", True)] * wanted, "score": script.get("score", 9)}
        )
    return json.dumps(
        {"corrected": True, "wanted": ["it is a generator"], "later": [], **script["rewrite"]}
    )


def reviewer(body: dict, script: dict) -> str:
    """Blames the step that says "boom"; `places` overrides it, one per sample in turn."""
    name = body["response_format"]["json_schema"]["name"]
    shown = json.loads(body["messages"][1]["content"])
    steps = {int(n): text for n, text in shown["steps"].items()}
    guilty = next((n for n, text in steps.items() if "boom" in text), -1)
    if name == "importance":
        assert "outcome" not in shown
        rows = [
            {"step": n, "changed": "", "used_by": [], "importance": 8 if n == guilty else 1}
            for n in steps
        ][: script.get("most", 99)]
        return json.dumps({"steps": rows, "ranking": sorted(steps, key=lambda n: n != guilty)})
    if "places" in script:
        TURNS["reviewer"] += 1
        guilty = script["places"][TURNS["reviewer"] % len(script["places"])]
    return json.dumps(
        {"step": guilty, "reason": "it went boom", "sooner": "look first", "skipped": []}
    )


def memo_reader(body: dict, script: dict) -> str:
    """Reads memoranda (`upshot reconstruct --judge llm`): one issue with words of the text and one
    without, and votes on claims by what the script says.
    """
    data = json.loads(body["messages"][1]["content"])
    if "claims" in data:
        vote = script.get("vote", "yes")
        rows = [{"step": int(n), "entailed": vote, "why": "so it says"} for n in data["claims"]]
        return json.dumps({"steps": rows})
    words = "The marina therefore is not a small marina."
    answer = script.get("answer", words)
    question = script.get("question", "Is it small?")
    return json.dumps({"question": question, "issues": [{"question": question, "answer": answer}]})


def researcher(body: dict, script: dict) -> str:
    """Replays (`upshot replay --base-url`): searches, opens the first result, concludes."""
    data = json.loads(body["messages"][1]["content"])
    turns = data["turns"]
    if script.get("nonsense"):
        return "I would rather talk about the weather."
    if not turns and data["calls_left"] > 1:
        return json.dumps({"tool": "search", "input": data["question"]})
    shown = re.match(r"\[([^\]]+)\]", turns[0]["observation"]) if turns else None
    if shown and len(turns) == 1:
        return json.dumps({"tool": "open", "input": shown[1]})
    cited = [{"source": shown[1], "quote": ""}] if shown else []
    cited += [{"source": "invented-1", "quote": ""}] if script.get("invents") else []
    return json.dumps({"tool": "conclude", "text": "Due.", "label": "yes", "citations": cited})


def content(body: dict, script: dict) -> str:
    if "Predict for message" in body["messages"][1]["content"]:
        return json.dumps({"score": script.get("foresight", 5)})
    return globals()[script["mode"]](body, script)


def completion(body: dict, script: dict) -> dict:
    samples = body.get("n", 1) if script.get("knows_n", True) else 1
    prompt_tokens = sum(len(m["content"]) for m in body["messages"]) // 4
    texts = [content(body, script) for _ in range(samples)]
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [
            {"index": i, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
            for i, text in enumerate(texts)
        ],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": sum(len(t) // 4 for t in texts),
            "total_tokens": 0,
        },
    }


def make(script: dict) -> web.Application:
    troubles = list(script.get("troubles", []))
    served = 0

    async def chat(request: web.Request) -> web.Response:
        nonlocal served
        body = json.loads(await request.read())
        CALLS.append(body)
        if script.get("key") and request.headers.get("Authorization") != f"Bearer {script['key']}":
            return web.json_response({"error": {"message": "wrong key"}}, status=401)
        for field in script.get("refuses", []):
            if field in body:
                return web.json_response(
                    {"error": {"message": f"Unsupported parameter: '{field}'"}}, status=400
                )
        if troubles:
            trouble = troubles.pop(0)
            if trouble == "hang":
                await asyncio.sleep(30)
            if trouble == "drop" and request.transport is not None:
                request.transport.close()
            if trouble == "garbage":
                return web.Response(text='{"choices": [')
            headers = {"Retry-After": "0.1"} if trouble == 429 else {}
            return web.json_response(
                {"error": {"message": "trouble"}}, status=int(trouble), headers=headers
            )
        served += 1
        if served > script.get("dies_after", 10**9):
            return web.json_response({"error": {"message": "gone"}}, status=500)
        await asyncio.sleep(script.get("delay_s", 0))
        return web.json_response(completion(body, script))

    async def calls(_: web.Request) -> web.Response:
        return web.json_response(CALLS)

    async def orders(_: web.Request) -> web.Response:
        return web.json_response(ORDERS)

    async def upload(request: web.Request) -> web.Response:
        form: Any = await request.post()
        name = f"file-{len(FILES)}"
        FILES[name] = form["file"].file.read()
        return web.json_response({"id": name, "purpose": form["purpose"]})

    async def batch(request: web.Request) -> web.Response:
        order = await request.json()
        lines = [json.loads(line) for line in FILES[order["input_file_id"]].splitlines()]
        ORDERS.append(len(lines))
        completed = [
            {
                "custom_id": line["custom_id"],
                "response": {"status_code": 200, "body": completion(line["body"], script)},
            }
            for line in lines
        ]
        FILES["out"] = "\n".join([*map(json.dumps, completed), *script.get("noise", [])]).encode()
        BATCHES["b1"] = {
            "id": "b1",
            "status": "in_progress",
            "metadata": order.get("metadata"),
            "request_counts": {"completed": 0, "total": len(lines)},
        }
        return web.json_response(BATCHES["b1"])

    async def list_batches(_: web.Request) -> web.Response:
        if not script.get("lists"):
            raise web.HTTPNotFound
        return web.json_response({"data": [None, *BATCHES.values()]})

    async def poll(request: web.Request) -> web.Response:
        if troubles:
            return web.Response(status=int(troubles.pop(0)), text="trouble")
        BATCHES["b1"].update(status="completed", output_file_id="out")
        return web.json_response(BATCHES["b1"])

    async def download(request: web.Request) -> web.Response:
        return web.Response(body=FILES[request.match_info["name"]])

    app = web.Application(client_max_size=1 << 28)
    app.router.add_post("/v1/chat/completions", chat)
    app.router.add_get("/calls", calls)
    app.router.add_get("/orders", orders)
    if script.get("batches"):
        app.router.add_post("/v1/files", upload)
        app.router.add_post("/v1/batches", batch)
        app.router.add_get("/v1/batches", list_batches)
        app.router.add_get("/v1/batches/{name}", poll)
        app.router.add_get("/v1/files/{name}/content", download)
    return app


async def main() -> None:
    runner = web.AppRunner(make(json.loads(Path(sys.argv[2]).read_text())), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    draft = Path(sys.argv[1] + ".part")
    draft.write_text(str(runner.addresses[0][1]))
    draft.rename(sys.argv[1])
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
