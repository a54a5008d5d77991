"""Chats whose answers other systems know, and what a server of scores has taken."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

REPLIES = (
    "that worked, thank you!",
    "no, that's wrong. It still crashes with the same error",
    "I ran it and all tests pass now, merged. mail me at ana.perez@example.com",
)
CHATS = 9


def trace_of(number: int) -> str:
    return f"{number + 1:032x}"


def span_of(number: int) -> str:
    return f"{number + 1:016x}"


def make_chat(number: int, reply: str = "", refs: dict[str, str] | None = None) -> dict[str, Any]:
    """A chat whose answer other systems know under three names."""
    own = {
        "trace": trace_of(number),
        "span": span_of(number),
        "response": f"chatcmpl-{number}",
    }
    return {
        "id": f"c{number}",
        "user": f"u{number % 4}",
        "started_at": f"2026-05-{number + 1:02}T10:00:00Z",
        "messages": [
            {"role": "user", "content": f"my script number {number} crashes, how do I fix it?"},
            {
                "role": "assistant",
                "content": f"open the file with mode {number}",
                "refs": own if refs is None else refs,
            },
            {"role": "user", "content": reply or REPLIES[number % len(REPLIES)]},
            {"role": "assistant", "content": "glad to hear, or sorry", "refs": refs or {}},
        ],
    }


def write_chats(path: Path, chats: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(chat) + "\n" for chat in chats))
    return path


class Server(NamedTuple):
    """A running server."""

    url: str

    def script(self, **script: Any) -> None:
        data = json.dumps(script).encode()
        headers = {"Content-Type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/script", data, headers))

    @property
    def taken(self) -> dict[str, dict[str, Any]]:
        return self._state()["taken"]

    @property
    def requests(self) -> list[dict[str, Any]]:
        return self._state()["requests"]

    def _state(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/state") as response:
            return json.load(response)
