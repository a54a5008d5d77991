"""Events of an application reach the response they name, once, and outlive new versions of its
conversation.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from upshot import api
from upshot.errors import NotFoundError

CHAT = {
    "id": "c1",
    "user": "u1",
    "messages": [
        {"role": "user", "content": "deploy it"},
        {"role": "assistant", "content": "Run make deploy."},
    ],
}


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def events(lake: Path) -> list[tuple[str, int, str, float]]:
    return sorted(
        (row["id"], row["index"], row["detail"], round(row["value"], 2))
        for row in api.open_lake(lake).read("events").to_pylist()
    )


def test_an_event_becomes_evidence_of_its_response(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    api.ingest(lines(tmp_path / "chat.jsonl", CHAT), lake)
    api.link_lake(lake)
    api.judge_lake(lake)
    before = next(iter(api.verdicts(lake)))
    report = api.ingest_events(
        lines(
            tmp_path / "events.jsonl",
            {"id": "c1", "index": 1, "kind": "deploy_failed", "time": "2026-05-01T10:00:00Z"},
        ),
        lake,
    )
    assert (report.events, report.quarantined) == (1, 0)
    api.judge_lake(lake)
    after = next(verdict for verdict in api.verdicts(lake) if verdict.index == 1)
    assert after.score < before.score - 0.2
    assert after.confidence > before.confidence
    assert after.label == "reported outcome"


def test_an_event_is_written_once_and_the_newest_of_a_kind_counts(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    api.ingest(lines(tmp_path / "chat.jsonl", CHAT), lake)
    first = {"id": "c1", "index": 1, "kind": "score", "value": 0.2, "time": "2026-05-01T10:00:00Z"}
    assert api.ingest_events(lines(tmp_path / "a.jsonl", first, first), lake).events == 1
    assert api.ingest_events(tmp_path / "a.jsonl", lake).events == 0
    api.ingest_events(
        lines(
            tmp_path / "b.jsonl",
            {**first, "value": -0.4, "time": "2026-05-02T10:00:00Z"},
            {"id": "c1", "index": 1, "kind": "purchase"},
        ),
        lake,
    )
    assert events(lake) == [("c1", 1, "purchase", 0.6), ("c1", 1, "score", -0.4)]


def test_events_outlive_a_longer_version_and_compaction_and_leave_with_their_user(
    tmp_path: Path,
) -> None:
    lake = tmp_path / "lake"
    api.ingest(lines(tmp_path / "chat.jsonl", CHAT), lake)
    api.ingest_events(
        lines(tmp_path / "e.jsonl", {"id": "c1", "index": 1, "kind": "thumb_up"}), lake
    )
    longer = {**CHAT, "messages": [*CHAT["messages"], {"role": "user", "content": "it worked"}]}
    api.ingest(lines(tmp_path / "chat.jsonl", longer), lake)
    assert events(lake) == [("c1", 1, "thumb_up", 1.0)]
    api.open_lake(lake).compact("events")
    assert events(lake) == [("c1", 1, "thumb_up", 1.0)]
    api.erase("u1", lake)
    assert events(lake) == []


def test_what_cannot_be_used_goes_to_quarantine_with_its_reason(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    api.ingest(lines(tmp_path / "chat.jsonl", CHAT), lake)
    path = lines(
        tmp_path / "e.jsonl",
        {"id": "c1", "index": 1, "kind": "strange"},
        {"id": "c1", "kind": "thumb_up"},
        {"id": "c1", "index": 9, "kind": "thumb_up"},
        {"id": "c2", "index": 1, "kind": "thumb_up"},
        {"id": "c1", "index": 1, "kind": "x", "value": 7},
        5,
    )
    path.write_text(path.read_text() + "not json\n")
    report = api.ingest_events(path, lake)
    assert (report.events, report.quarantined) == (0, 7)
    reasons = [row["reason"] for row in api.open_lake(lake).read("quarantine").to_pylist()]
    for part in (
        "needs a value",
        "needs id, index and kind",
        "no such response",
        "not in [-1, 1]",
        "not an object",
        "not JSON",
    ):
        assert any(part in reason for reason in reasons), part


def test_an_id_that_the_lake_had_to_replace_is_still_found(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    api.ingest(lines(tmp_path / "chat.jsonl", {**CHAT, "id": "talk with ana"}), lake)
    assert (
        api.ingest_events(
            lines(tmp_path / "e.jsonl", {"id": "talk with ana", "index": 1, "kind": "thumb_up"}),
            lake,
        ).events
        == 1
    )


def test_events_without_a_lake_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="upshot ingest"):
        api.ingest_events(
            lines(tmp_path / "e.jsonl", {"id": "c1", "index": 1, "kind": "thumb_up"}),
            tmp_path / "none",
        )
