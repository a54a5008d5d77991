"""How many tokens the LLM judge sends, and what its client costs.

Tokens: threads of 4 to 200 messages, cut from the real coding chats in DIR where there are any and
from generated chat otherwise, in one pass against one call per response. They are counted twice:
with a prefix cache, where what begins like an earlier prompt of the same run is not counted again
(in blocks of 16 tokens, as in vLLM), and without. Tokens are words and marks (`\\w+|[^\\w\\s]`),
counted alike on both sides of each ratio. `token_ratio` is the hindsight pass over the thread's own
tokens, prefixes cached, at its worst length; the foresight pass is reported beside it.

Client: calls per second with 64 in flight against a server process that answers at once, beside
bare aiohttp, which posts the same bytes and decodes the same JSON. Server and client have a core
each.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
import msgspec

from upshot import config
from upshot.api import judging
from upshot.hindsight.embedded.timeline import build_timeline
from upshot.hindsight.llm import judge as llm
from upshot.hindsight.llm import rubric
from upshot.llm import Client, Endpoint, Request, make_response_format
from upshot.llm.client import make_prompt
from upshot.records import RawConversation, RawMessage
from upshot.sources.reading import read

_LENGTHS = (4, 8, 20, 50, 100, 200)
_TOKEN = re.compile(r"\w+|[^\w\s]")
_BLOCK = 16
_SERVER = """
import asyncio, sys
from aiohttp import web
BODY = open(sys.argv[2], "rb").read()
async def chat(request):
    await request.read()
    return web.Response(body=BODY, content_type="application/json")
async def main():
    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    open(sys.argv[1], "w").write(str(runner.addresses[0][1]))
    await asyncio.Event().wait()
asyncio.run(main())
"""


def messages(data: Path) -> list[RawMessage]:
    """A long run of real messages, or generated ones of the same lengths."""
    path = data / "coding-chats" / "aider-chat-history.md"
    if path.is_file():
        chats = [c for c in read(path) if isinstance(c, RawConversation)]
        return [
            m
            for c in chats
            for m in c.messages
            if m.role in ("user", "assistant", "tool") and m.content.strip()
        ]
    return [
        RawMessage("user" if i % 2 == 0 else "assistant", "word " * (30 if i % 2 == 0 else 180))
        for i in range(2000)
    ]


class PrefixCache:
    """The blocks of tokens that a server has cached at the start of a prompt."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def fresh(self, tokens: list[str]) -> int:
        """Tokens that must be computed."""
        state, cached = 0, 0
        for start in range(0, len(tokens) - _BLOCK + 1, _BLOCK):
            state = hash((state, tuple(tokens[start : start + _BLOCK])))
            if state in self.seen and cached == start:
                cached = start + _BLOCK
            self.seen.add(state)
        return len(tokens) - cached


def counts(requests: list[Request], cache: PrefixCache) -> tuple[int, int]:
    """(all prompt tokens, those not in the prefix cache)."""
    whole = fresh = 0
    for request in requests:
        tokens = _TOKEN.findall("\n".join(m.content for m in request.messages))
        whole += len(tokens)
        fresh += cache.fresh(tokens)
    return whole, fresh


def tokens(data: Path) -> dict[str, float]:
    """The ratios, each over the tokens of the thread's own messages."""
    every = messages(data)
    found: dict[str, list[float]] = {}
    caches = {name: PrefixCache() for name in ("one", "each", "foresight")}
    plain = llm.Options(rubric.load_rubric(), votes=1, foresight="embedded")
    counts(
        _one_pass([RawMessage("user", "a"), RawMessage("assistant", "b")], plain), caches["one"]
    )  # the rubric is known to the server
    counts(_each([RawMessage("user", "a"), RawMessage("assistant", "b")], plain), caches["each"])
    counts(_foresight([RawMessage("user", "a"), RawMessage("assistant", "b")]), caches["foresight"])
    for length in _LENGTHS:
        for start in range(0, min(len(every) - length, 400), 97):
            part = every[start : start + length]
            own = sum(len(_TOKEN.findall(m.content)) for m in part)
            one, one_fresh = counts(_one_pass(part, plain), caches["one"])
            each, each_fresh = counts(_each(part, plain), caches["each"])
            fore, fore_fresh = counts(_foresight(part), caches["foresight"])
            for name, value in (
                ("one", one_fresh),
                ("one_uncached", one),
                ("each", each_fresh),
                ("each_uncached", each),
                ("foresight", fore_fresh),
                ("foresight_uncached", fore),
            ):
                found.setdefault(f"{name}.{length}", []).append(value / own)
    means = {name: round(statistics.mean(values), 3) for name, values in found.items()}
    worst = {
        name: max(means[f"{name}.{n}"] for n in _LENGTHS)
        for name in (
            "one",
            "one_uncached",
            "each",
            "each_uncached",
            "foresight",
            "foresight_uncached",
        )
    }
    print(json.dumps(means, indent=1), file=sys.stderr)
    return {
        "token_ratio": worst["one"],
        "token_ratio_uncached": worst["one_uncached"],
        "token_ratio_uncached.200": means["one_uncached.200"],
        "per_response_ratio": worst["each"],
        "per_response_ratio_uncached": worst["each_uncached"],
        "foresight_ratio": worst["foresight"],
        "foresight_ratio_uncached": worst["foresight_uncached"],
    }


def _line(part: list[RawMessage]):
    tables, _ = judging.linked(
        [RawConversation(tuple(part), "c", "u")], config.load(privacy={"redact": False})
    )
    return build_timeline(tables["messages"], tables["conversations"], tables["threads"])


def _one_pass(part: list[RawMessage], options: llm.Options) -> list[Request]:
    line = _line(part)
    return llm.make_requests(line, 0, len(part), options, "m")


def _each(part: list[RawMessage], options: llm.Options) -> list[Request]:
    """One call per response: the same prompt, asking for one of them."""
    requests = []
    for request in _one_pass(part, options):
        system, user = request.messages
        log, _, question = user.content.rpartition("Judge responses ")
        for number in question.rstrip(".").split(", "):
            requests.append(
                msgspec.structs.replace(
                    request,
                    messages=make_prompt(
                        ("system", system.content), ("user", f"{log}Judge responses {number}.")
                    ),
                )
            )
    return requests


def _foresight(part: list[RawMessage]) -> list[Request]:
    line = _line(part)
    return [llm.make_foresight_request(line, p, "m") for p in line.responses.tolist()]


async def _rate(calls: int, send, flight: int = 64) -> float:
    left = iter(range(calls))

    async def worker() -> None:
        for _ in left:
            await send()

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(flight)))
    return calls / (time.perf_counter() - started)


async def client_ratio(address: str, calls: int, rounds: int) -> tuple[float, float, float]:
    """(median of paired ratios ours / bare, our rate, the bare rate)."""
    request = Request(
        "m",
        make_prompt(("system", "s" * 2000), ("user", "u" * 2000)),
        200,
        0.7,
        1,
        None,
        make_response_format(llm.Judgements, "verdicts"),
    )
    body = msgspec.json.encode(request)
    end = Endpoint(address, "m", concurrency=64)
    ratios, ours, bare = [], [], []
    async with (
        Client(end) as client,
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), headers=end.headers()
        ) as session,
    ):

        async def raw() -> None:
            async with session.post(end.url("chat/completions"), data=body) as response:
                json.loads(await response.read())

        async def mine() -> None:
            await client.complete(request)

        await _rate(500, raw)
        await _rate(500, mine)
        for turn in range(rounds):
            first, second = (mine, raw) if turn % 2 else (raw, mine)
            a, b = await _rate(calls, first), await _rate(calls, second)
            mine_rate, raw_rate = (a, b) if turn % 2 else (b, a)
            ratios.append(mine_rate / raw_rate)
            ours.append(mine_rate)
            bare.append(raw_rate)
    return statistics.median(ratios), statistics.median(ours), statistics.median(bare)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--calls", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    started = time.perf_counter()
    metrics = tokens(arguments.data)
    with tempfile.TemporaryDirectory() as folder:
        answer = {
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": '{"verdicts": []}'}}
            ],
            "usage": {"prompt_tokens": 900, "completion_tokens": 9},
        }
        (Path(folder) / "answer").write_text(json.dumps(answer))
        (Path(folder) / "server.py").write_text(_SERVER)
        server = subprocess.Popen(
            [sys.executable, f"{folder}/server.py", f"{folder}/port", f"{folder}/answer"]
        )
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) > 1:
            os.sched_setaffinity(server.pid, cores[-1:])
            os.sched_setaffinity(0, cores[:1])
        while not (Path(folder) / "port").exists() or not (Path(folder) / "port").read_text():
            time.sleep(0.05)
        address = f"http://127.0.0.1:{(Path(folder) / 'port').read_text()}/v1"
        try:
            ratio, ours, bare = asyncio.run(
                client_ratio(address, arguments.calls, arguments.rounds)
            )
        finally:
            server.kill()
            server.wait()
    metrics |= {
        "client_ratio": round(ratio, 3),
        "calls_per_s": round(ours),
        "bare_calls_per_s": round(bare),
    }
    print(
        json.dumps(
            {
                "bench": "judge_cost",
                "metrics": metrics,
                "data": str(arguments.data),
                "seconds": round(time.perf_counter() - started, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
