"""An endpoint that answers as real ones do at their worst, by a script, and keeps a ledger of what
a provider would charge: `python bench/faulty_endpoint.py PORTFILE SCRIPT.json`.

A script is {"turns": [turn, …], "rules": [{"contains": text, "turns": […]}, …]}: requests that hold
a rule's text take its turns, others the script's; the last turn repeats. A turn is an object:

    status, reason, headers     of the response; 200 where left out
    body                        text, or JSON; left out: an answer that fits the request's schema
    message, choice, usage      merged into that answer; `usage` null: none; `choices` replaces all
    content                     its text, with `{answer}` where the fitting JSON goes; `as`: in
                                "parts", or as the "json" that it is
    hex                         the whole response in hexadecimal, status line included
    cut                         bytes after which the connection is closed; `length`: a false length
    chunked, pause_s            as chunks of 16 bytes, so long apart
    delay_s                     before the response
    charges                     false: the provider takes nothing for it

`bytes_per_token` (4) is the provider's tokenizer, `knows_n` false gives one sample whatever is
asked. `GET /ledger` returns requests, tokens, and when which request was answered.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

_NUMBERS = re.compile(r"Judge responses? ([\d, ]+)\.")


class Endpoint:
    """The state of a server."""

    def __init__(self, script: dict[str, Any]) -> None:
        self.script = script
        self.taken: dict[str, int] = {}
        self.in_flight = self.peak = self.requests = self.tokens = 0
        self.answers: list[tuple[str, float]] = []
        """Digest of a request's messages, and when its answer was sent."""
        self.bodies: list[dict[str, Any]] = []

    def next_turn(self, text: str) -> dict[str, Any]:
        rules = self.script.get("rules", [])
        rule = next((rule for rule in rules if rule["contains"] in text), self.script)
        name = rule.get("contains", "")
        turns = rule.get("turns") or [{}]
        number = self.taken.get(name, 0)
        self.taken[name] = number + 1
        return turns[min(number, len(turns) - 1)]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (head := await reader.readuntil(b"\r\n\r\n")) and not writer.is_closing():
                size = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
                content = await reader.readexactly(int(size[1]) if size else 0)
                if head.startswith(b"GET /ledger"):
                    self.write(writer, 200, "OK", {}, json.dumps(self.ledger()).encode())
                else:
                    await self.answer(head, content, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    def ledger(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "tokens": self.tokens,
            "peak": self.peak,
            "answers": self.answers,
            "bodies": self.bodies,
        }

    async def answer(self, head: bytes, content: bytes, writer: asyncio.StreamWriter) -> None:
        text = content.decode()
        body = json.loads(text)
        self.requests += 1
        self.bodies.append(body)
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        turn = self.next_turn(text)
        try:
            await asyncio.sleep(turn.get("delay_s", self.script.get("delay_s", 0)))
            answer, written = self.make_answer(turn, body, len(content))
            if turn.get("charges", turn.get("status", 200) == 200):
                rate = self.script.get("bytes_per_token", 4.0)
                self.tokens += int(len(content) / rate) + int(written / rate) + 1
            messages = json.dumps([body["messages"], body.get("seed")]).encode()
            await self.send(turn, answer, writer)
            if turn.get("status", 200) == 200:
                digest = hashlib.blake2b(messages, digest_size=8).hexdigest()
                self.answers.append((digest, time.time()))
        finally:
            self.in_flight -= 1

    def make_answer(
        self, turn: dict[str, Any], body: dict[str, Any], size: int
    ) -> tuple[bytes, float]:
        """The body of a response, and how much the model has written for it."""
        samples = body.get("n", 1) if self.script.get("knows_n", True) else 1
        fitting = fill_schema(body)
        allowed = body.get("max_tokens", body.get("max_completion_tokens", 400)) * samples
        if "body" in turn:
            answer = turn["body"]
            content = answer if isinstance(answer, str) else json.dumps(answer)
            # What a provider charges for an answer that nobody can read: all it could have been.
            rate = self.script.get("bytes_per_token", 4.0)
            return content.encode("utf-8", "surrogatepass"), allowed * rate
        text: Any = turn.get("content", "{answer}").replace("{answer}", fitting)
        if turn.get("as"):
            text = json.loads(text) if turn["as"] == "json" else [{"type": "text", "text": text}]
        choices = [
            {
                "index": index,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": text, **turn.get("message", {})},
                **turn.get("choice", {}),
            }
            for index in range(samples)
        ]
        rate = self.script.get("bytes_per_token", 4.0)
        written = len(json.dumps(choices[0]["message"])) * samples if choices else 0
        usage = {
            "prompt_tokens": int(size / rate),
            "completion_tokens": int(written / rate) + 1,
        }
        answer = {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": "another-model",
            "choices": turn.get("choices", choices),
            "usage": turn.get("usage", usage),
        }
        if turn.get("stream"):
            return stream_answer(answer, turn["stream"]), written
        return json.dumps(answer).encode(), written

    async def send(
        self, turn: dict[str, Any], content: bytes, writer: asyncio.StreamWriter
    ) -> None:
        if "hex" in turn:
            writer.write(bytes.fromhex(turn["hex"]))
            writer.close()
            return
        status, headers = turn.get("status", 200), dict(turn.get("headers", {}))
        whole = content
        if "cut" in turn:
            content = content[: turn["cut"]]
        if turn.get("chunked"):
            headers["Transfer-Encoding"] = "chunked"
            self.write(writer, status, turn.get("reason", "X"), headers, None)
            for start in range(0, len(content), 16):
                part = content[start : start + 16]
                writer.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
                await writer.drain()
                await asyncio.sleep(turn.get("pause_s", 0))
            if "cut" not in turn:
                writer.write(b"0\r\n\r\n")
        else:
            headers["Content-Length"] = str(turn.get("length", len(whole)))
            self.write(writer, status, turn.get("reason", "X"), headers, content)
        if "cut" in turn or "length" in turn or turn.get("close"):
            await writer.drain()
            writer.close()

    def write(
        self,
        writer: asyncio.StreamWriter,
        status: int,
        reason: str,
        headers: dict[str, str],
        content: bytes | None,
    ) -> None:
        headers = {"Content-Type": "application/json", **headers}
        if content is not None:
            headers.setdefault("Content-Length", str(len(content)))
        lines = [f"HTTP/1.1 {status} {reason}", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
        writer.write("\r\n".join(lines).encode() + (content or b""))


def fill_schema(body: dict[str, Any]) -> str:
    """JSON that fits the schema of a request: every response is good, without evidence."""
    question = "\n".join(str(message["content"]) for message in body["messages"])
    numbers = [int(n) for n in (_NUMBERS.findall(question) or ["1"])[-1].split(", ")]
    schema = body.get("response_format", {}).get("json_schema", {}).get("schema", {})

    def fill(part: dict[str, Any], name: str, number: int) -> Any:
        if "$ref" in part:
            part = schema["$defs"][part["$ref"].rsplit("/", 1)[-1]]
        if "enum" in part:
            return part["enum"][0]
        if part.get("type") == "object":
            return {key: fill(p, key, number) for key, p in part["properties"].items()}
        if part.get("type") == "array":
            return [] if name == "evidence" else [fill(part["items"], name, n) for n in numbers]
        if part.get("type") in ("number", "integer"):
            return number if name == "response" else 8
        if part.get("type") == "boolean":
            return True
        return "no feedback" if name == "label" else "words"

    if not schema:
        guess = "Predict" in question
        rows = [
            {"response": n, "goal": "g", "happened": "h", "label": "no feedback", "score": 8}
            | {"refusal": "no", "evidence": []}
            for n in numbers
        ]
        return json.dumps({"score": 8} if guess else {"verdicts": rows})
    return json.dumps(fill(schema, "", numbers[0]))


def stream_answer(answer: dict[str, Any], how: str) -> bytes:
    """An answer as server-sent events; `how` is "whole", "unended" or "error"."""
    events: list[str] = [": keep-alive"]
    for choice in answer["choices"]:
        text = choice["message"]["content"]
        for start in range(0, len(text), 40):
            piece = {"index": choice["index"], "delta": {"content": text[start : start + 40]}}
            events.append("data: " + json.dumps({"choices": [piece]}))
    if how == "error":
        events.append('data: {"error": {"message": "the engine stopped", "code": 500}}')
    if how == "whole":
        events.append("data: " + json.dumps({"choices": [], "usage": answer["usage"]}))
        events.append("data: [DONE]")
    return "\n\n".join([*events, ""]).encode()


async def main() -> None:
    """Serve until killed."""
    endpoint = Endpoint(json.loads(Path(sys.argv[2]).read_text()))
    server = await asyncio.start_server(endpoint.serve, "127.0.0.1", 0, limit=1 << 26)
    draft = Path(sys.argv[1] + ".part")
    draft.write_text(str(server.sockets[0].getsockname()[1]))
    draft.rename(sys.argv[1])
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
