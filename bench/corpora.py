"""Readers of the corpora that benchmarks and training use: conversations, and what people or the
world reported of them.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from upshot.records import RawConversation, RawMessage


class Label(NamedTuple):
    """The label of one response."""

    conversation: str
    index: int  # pyright: ignore[reportIncompatibleMethodOverride]  # of the message
    rating: float
    """Satisfaction corpora: people's mean rating, 1 to 5 (DBDC: 1 + 4 × mean of O 1, T .5, X 0).
    """


class Corpus(NamedTuple):
    """Conversations with rated responses."""

    name: str
    conversations: list[RawConversation]
    labels: list[Label]


def satisfaction(folder: Path) -> Iterator[Corpus]:
    """Every corpus of `satisfaction/`: USS files (`.txt`) and DBDC files (`.jsonl`)."""
    for path in sorted((folder / "satisfaction").glob("*")):
        if path.suffix == ".txt":
            yield uss(path)
        elif path.suffix == ".jsonl":
            yield dbdc(path)


def uss(path: Path) -> Corpus:
    """Dialogues of USS; the rating of a user's turn belongs to the system response before it."""
    conversations: list[RawConversation] = []
    labels: list[Label] = []
    for number, block in enumerate(
        path.read_text(encoding="utf-8", errors="replace").split("\n\n")
    ):
        messages: list[RawMessage] = []
        name = f"{path.stem}-{number}"
        response = -1
        for line in block.strip().split("\n"):
            parts = line.split("\t")
            if len(parts) < 4 or (parts[0] == "USER" and parts[1] == "OVERALL"):
                continue
            if parts[0] == "SYSTEM":
                response = len(messages)
                messages.append(RawMessage("assistant", parts[1]))
                continue
            ratings = [float(r) for r in parts[3].split(",") if r.strip()]
            if response >= 0 and ratings:
                labels.append(Label(name, response, sum(ratings) / len(ratings)))
                response = -1
            messages.append(RawMessage("user", parts[1]))
        if messages:
            conversations.append(
                RawConversation(tuple(messages), name, name, float(number), source="uss")
            )
    return Corpus(path.stem, conversations, labels)


def dbdc(path: Path) -> Corpus:
    """Dialogues of the breakdown detection challenge."""
    conversations: list[RawConversation] = []
    labels: list[Label] = []
    value = {"O": 1.0, "T": 0.5, "X": 0.0}
    for number, line in enumerate(path.read_text().splitlines()):
        record = json.loads(line)
        name = f"{path.stem}-{number}"
        messages = [
            RawMessage("assistant" if t["speaker"] == "S" else "user", t["utterance"])
            for t in record["turns"]
        ]
        for index, turn in enumerate(record["turns"]):
            if turn.get("labels"):
                marks = [value[mark] for mark in turn["labels"]]
                labels.append(Label(name, index, 1 + 4 * sum(marks) / len(marks)))
        conversations.append(
            RawConversation(tuple(messages), name, name, float(number), source="dbdc")
        )
    return Corpus(path.stem, conversations, labels)


class Commit(NamedTuple):
    """What became of one commit of the coding log."""

    hash: str
    in_history: bool
    half_alive: bool | None
    """At least half of its lines alive at the next release; None where it added none or never
    arrived.
    """


def commits(folder: Path) -> list[Commit]:
    """Rows of coding-chats/outcomes.csv."""
    found: list[Commit] = []
    with open(folder / "coding-chats" / "outcomes.csv", newline="") as handle:
        for row in csv.DictReader(handle):
            added = int(row["added_lines"] or 0)
            alive = int(row["lines_surviving_at_next_release"] or 0)
            half = alive * 2 >= added if added and row["in_history"] == "1" else None
            found.append(Commit(row["commit"], row["in_history"] == "1", half))
    return found


def real_human_eval(folder: Path) -> tuple[list[RawConversation], dict[tuple[str, int], bool]]:
    """Requests of programmers, one conversation per programmer and task, and whether each response
    was copied.
    """
    path = folder / "coding-chats" / "realhumaneval-chat.csv"
    sessions: dict[str, list[tuple[float, str, str, bool, str]]] = {}
    csv.field_size_limit(1 << 30)
    with open(path, newline="") as handle:
        for row in csv.DictReader(handle):
            import ast

            asked = ast.literal_eval(row["request"])
            request = asked[-1]["content"] if asked else ""
            key = f"rhe-{row['programmer_id']}-{row['task_name']}"
            sessions.setdefault(key, []).append(
                (
                    float(row["timestamp"]),
                    request,
                    row["response"],
                    row["copy_events"] not in ("", "[]"),
                    row["model"],
                )
            )
    conversations: list[RawConversation] = []
    copied: dict[tuple[str, int], bool] = {}
    for key, turns in sessions.items():
        messages: list[RawMessage] = []
        for when, request, response, copy, _ in sorted(turns):
            messages.append(RawMessage("user", request, when + 1))
            copied[(key, len(messages))] = copy
            messages.append(RawMessage("assistant", response, when + 1))
        conversations.append(
            RawConversation(tuple(messages), key, key.rsplit("-", 1)[0], 1.0, turns[0][4], "rhe")
        )
    return conversations, copied
