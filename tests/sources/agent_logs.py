"""Small logs of coding agents for the tests of their readers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from upshot.records import BadRecord, RawConversation, RawMessage
from upshot.sources.notes import collect_notes
from upshot.sources.reading import read
from upshot.sources.speakers import words_of

FILES = Path(__file__).parent / "files"


def write_lines(path: Path, *records: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(record) for record in records) + "\n")
    return path


def read_all(*paths: Path) -> list[RawConversation]:
    items = list(read(list(paths)))
    assert not [item for item in items if isinstance(item, BadRecord)], items
    return [item for item in items if isinstance(item, RawConversation)]


def read_one(*paths: Path) -> RawConversation:
    (conversation,) = read_all(*paths)
    return conversation


def count_skips(path: Path) -> dict[str, int]:
    with collect_notes() as notes:
        list(read([path]))
    return dict(notes.skipped)


def outline(conversation: RawConversation) -> list[tuple[str, str]]:
    """(role's first letter, text) of each message, a machine's user turns as `m`."""
    return [
        ("m" if m.role == "user" and m.author == "machine" else m.role[0], m.content)
        for m in conversation.messages
    ]


def words(conversation: RawConversation) -> list[str]:
    """What the person wrote, message by message."""
    users = [m for m in conversation.messages if m.role == "user"]
    return [text for m in users if (text := words_of(m).strip())]


def kinds(message: RawMessage) -> list[str]:
    return [signal.kind for signal in message.signals]


def call_names(conversation: RawConversation) -> list[str]:
    return [call.name for m in conversation.messages for call in m.tool_calls]


class Session:
    """A session of Claude Code, written line by line."""

    def __init__(self, session: str = "s-1") -> None:
        self.session = session
        self.lines: list[dict[str, Any]] = []
        self.last: str | None = None

    def add(self, uuid: str, kind: str, message: object, **more: object) -> Session:
        parent = more.pop("parent", self.last)
        self.lines.append(
            {
                "type": kind,
                "uuid": uuid,
                "parentUuid": parent,
                "sessionId": self.session,
                "timestamp": f"2026-03-02T09:{len(self.lines):02d}:00Z",
                "message": message,
                **more,
            }
        )
        self.last = uuid
        return self

    def user(self, uuid: str, content: object, **more: object) -> Session:
        return self.add(uuid, "user", {"role": "user", "content": content}, **more)

    def answer(self, uuid: str, *blocks: object, response: str = "", **more: object) -> Session:
        content = [{"type": "text", "text": b} if isinstance(b, str) else b for b in blocks]
        message = {"role": "assistant", "id": response or f"msg_{uuid}", "content": content}
        return self.add(uuid, "assistant", {**message, "model": "claude-m"}, **more)

    def result(self, uuid: str, call: str, content: object, **more: object) -> Session:
        block = {"type": "tool_result", "tool_use_id": call, "content": content}
        if "is_error" in more:
            block["is_error"] = more.pop("is_error")
        return self.user(uuid, [block], **more)

    def write(self, folder: Path, name: str = "") -> Path:
        return write_lines(folder / (name or f"{self.session}.jsonl"), *self.lines)


def make_call(name: str, call: str, **arguments: object) -> dict[str, object]:
    return {"type": "tool_use", "id": call, "name": name, "input": arguments}
