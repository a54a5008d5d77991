"""Every number that an ingest reports is what its lake then holds."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import upshot
from upshot.config import load
from upshot.lake import Lake
from upshot.sources.ingest import IngestReport

FILES = Path(__file__).parent / "files"


def chat(name: str, user: str, *texts: str) -> str:
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
    return json.dumps({"id": name, "user": user, "messages": messages})


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """All formats, a copy of some, growing and clashing conversations, bad records and files."""
    folder = tmp_path / "logs"
    shutil.copytree(FILES, folder / "all")
    for name in ("aider.md", "codex.jsonl", "langfuse.json", "prompt-rows.jsonl"):
        shutil.copy(FILES / name, folder / f"copy-{name}")
    lines = [
        chat("c1", "ann", "my mail is ann.bell@example.org", "noted"),
        chat("c1", "ann", "my mail is ann.bell@example.org", "noted", "call +1 202 555 0143"),
        chat("c1", "bob", "hello", "hi"),
        chat("c1", "ann", "something else", "yes"),
        chat("c2", "ann", "same", "same"),
        chat("c2", "ann", "same", "same"),
        chat("c3", "carl", "gone", "by now"),
        chat("c4", "carl", "gone", "too"),
        '{"id": "c5", "messages": 5}',
        '{"id": "c6", "messages"',
        '{"id": "c7", "user": "ann", "messages": [{"role": "user", "content": "\\ud800 hm"}]}',
    ]
    (folder / "chats.jsonl").write_text("\n".join(lines))
    (folder / "empty.json").write_text("{}")
    return folder


def compare(report: IngestReport, lake: Lake, rows_before: dict[str, int]) -> None:
    tables = {name: lake.read(name) for name in ("conversations", "messages", "quarantine")}
    counts = {name: table.num_rows for name, table in tables.items()}
    replaced: Counter[str] = Counter()
    for row in tables["conversations"]["redactions"].to_pylist():
        replaced.update(json.loads(str(row or "{}")))
    texts = [str(text) for text in tables["messages"]["text"].to_pylist()]
    assert report.conversations == counts["conversations"] - rows_before["conversations"]
    assert report.messages == counts["messages"] - rows_before["messages"]
    assert report.quarantined == counts["quarantine"]
    if not rows_before["messages"]:
        assert report.redactions == replaced
        assert report.text_mb == pytest.approx(sum(map(len, texts)) / 1e6)


@pytest.mark.parametrize(("buckets", "workers"), [(1, 1), (16, 1), (16, 2)])
def test_every_number_is_what_the_lake_holds(
    tmp_path: Path, logs: Path, buckets: int, workers: int
) -> None:
    settings = load(None, lake={"buckets": buckets}, engine={"workers": workers})
    lake = tmp_path / "lake"
    report = upshot.ingest(logs, lake, settings)
    assert report.conversations > 50
    assert report.quarantined >= 3
    assert report.clashes > 0
    compare(report, Lake(lake), Counter())
    again = upshot.ingest(logs, lake, settings)
    assert (again.conversations, again.messages, again.text_mb) == (0, 0, 0.0)
    assert again.known == report.known + report.conversations
    assert not again.redactions
    assert again.quarantined == report.quarantined == Lake(lake).read("quarantine").num_rows


def test_users_who_were_erased_are_counted_apart(tmp_path: Path, logs: Path) -> None:
    lake = tmp_path / "lake"
    first = upshot.ingest(logs, lake)
    upshot.erase("carl", lake)
    held = {name: Lake(lake).read(name).num_rows for name in ("conversations", "messages")}
    report = upshot.ingest(logs, lake)
    assert (report.conversations, report.erased) == (0, 2)
    assert report.known == first.known + first.conversations - 2
    compare(report, Lake(lake), held)
    other = tmp_path / "other"
    upshot.ingest(logs / "chats.jsonl", other)
    upshot.erase("ann", other)
    before: Any = {name: Lake(other).read(name).num_rows for name in ("conversations", "messages")}
    compare(upshot.ingest(logs, other), Lake(other), before)


def test_one_growing_conversation_counts_as_it_is_in_the_end(tmp_path: Path) -> None:
    logs, lake = tmp_path / "logs", tmp_path / "lake"
    logs.mkdir()
    texts = ["mail me at ann.bell@example.org", "noted", "or at ann@example.com", "well"]
    for number, size in enumerate((1, 2, 4, 3)):
        (logs / f"{number}.jsonl").write_text(chat("c1", "ann", *texts[:size]))
    report = upshot.ingest(logs, lake)
    assert (report.conversations, report.messages, report.known) == (1, 4, 3)
    compare(report, Lake(lake), Counter())
