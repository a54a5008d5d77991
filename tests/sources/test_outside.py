"""Events of an application reach the response that they name, once, and survive new versions of its
conversation.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import upshot
from upshot.api import judging, opening
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
        for row in opening.open_lake(lake).read("events").to_pylist()
    )


def test_an_event_becomes_evidence_of_its_response(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    upshot.ingest(lines(tmp_path / "chat.jsonl", CHAT), lake)
    judging.link_lake(lake)
    judging.judge_lake(lake)
    before = next(iter(upshot.verdicts(lake)))
    report = upshot.ingest_events(
        lines(
            tmp_path / "events.jsonl",
            {"id": "c1", "index": 1, "kind": "deploy_failed", "time": "2026-05-01T10:00:00Z"},
        ),
        lake,
    )
    assert (report.events, report.quarantined) == (1, 0)
    judging.judge_lake(lake)
    after = next(verdict for verdict in upshot.verdicts(lake) if verdict.index == 1)
    assert after.score < before.score - 0.2
    assert after.confidence > before.confidence
    assert after.label == "reported outcome"


def test_an_event_is_written_once_and_the_newest_of_a_kind_counts(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    upshot.ingest(lines(tmp_path / "chat.jsonl", CHAT), lake)
    first = {
        "id": "c1",
        "index": 1,
        "kind": "outcome",
        "value": 0.2,
        "time": "2026-05-01T10:00:00Z",
    }
    assert upshot.ingest_events(lines(tmp_path / "a.jsonl", first, first), lake).events == 1
    assert upshot.ingest_events(tmp_path / "a.jsonl", lake).events == 0
    upshot.ingest_events(
        lines(
            tmp_path / "b.jsonl",
            {**first, "value": -0.4, "time": "2026-05-02T10:00:00Z"},
            {"id": "c1", "index": 1, "kind": "purchase"},
        ),
        lake,
    )
    assert events(lake) == [("c1", 1, "outcome", -0.4), ("c1", 1, "purchase", 0.6)]


def test_events_outlive_a_longer_version_and_compaction_and_leave_with_their_user(
    tmp_path: Path,
) -> None:
    lake = tmp_path / "lake"
    upshot.ingest(lines(tmp_path / "chat.jsonl", CHAT), lake)
    upshot.ingest_events(
        lines(tmp_path / "e.jsonl", {"id": "c1", "index": 1, "kind": "thumb_up"}), lake
    )
    longer = {**CHAT, "messages": [*CHAT["messages"], {"role": "user", "content": "it worked"}]}
    upshot.ingest(lines(tmp_path / "chat.jsonl", longer), lake)
    assert events(lake) == [("c1", 1, "thumb_up", 1.0)]
    opening.open_lake(lake).compact("events")
    assert events(lake) == [("c1", 1, "thumb_up", 1.0)]
    upshot.erase("u1", lake)
    assert events(lake) == []


def test_what_cannot_be_used_goes_to_quarantine_with_its_reason(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    upshot.ingest(lines(tmp_path / "chat.jsonl", CHAT), lake)
    path = lines(
        tmp_path / "e.jsonl",
        {"id": "c1", "index": 1, "kind": "applause", "value": 1},
        {"id": "c1", "index": 1, "kind": "outcome"},
        {"id": "c1", "index": 1, "kind": "rating", "value": 4},
        {"id": "c1", "kind": "thumb_up"},
        {"id": "c1", "index": 9, "kind": "thumb_up"},
        {"id": "c2", "index": 1, "kind": "thumb_up"},
        {"id": "c1", "index": 1, "kind": "outcome", "value": 7},
        5,
    )
    path.write_text(path.read_text() + "not json\n")
    report = upshot.ingest_events(path, lake)
    assert (report.events, report.quarantined) == (0, 9)
    reasons = [row["reason"] for row in opening.open_lake(lake).read("quarantine").to_pylist()]
    for part in (
        "none that an application reports",
        "needs a value",
        "needs value and range",
        "needs id, index and kind",
        "no such response",
        "not in [-1, 1]",
        "not an object",
        "not JSON",
    ):
        assert any(part in reason for reason in reasons), part


def test_an_id_that_the_lake_had_to_replace_is_still_found(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    upshot.ingest(lines(tmp_path / "chat.jsonl", {**CHAT, "id": "talk with ana"}), lake)
    assert (
        upshot.ingest_events(
            lines(tmp_path / "e.jsonl", {"id": "talk with ana", "index": 1, "kind": "thumb_up"}),
            lake,
        ).events
        == 1
    )


TRACES = [
    {
        "id": f"t{number}",
        "projectId": "p",
        "sessionId": "s1",
        "timestamp": f"2026-05-01T10:0{number}:00Z",
        "input": [{"role": "user", "content": f"question {number}"}],
        "output": {"role": "assistant", "content": f"answer {number}"},
        "observations": [],
    }
    for number in (1, 2)
]


@pytest.mark.parametrize(
    ("event", "kind", "value"),
    [
        ({"trace_id": "t1", "kind": "thumb_down"}, "thumb_down", -1.0),
        ({"langfuse": {"trace": "t1"}, "kind": "outcome", "value": 0.5}, "outcome", 0.5),
        ({"refs": {"trace": "t1"}, "kind": "ticket_reopened"}, "ticket_reopened", -0.7),
        ({"traceId": "t1", "name": "user-feedback", "value": 0}, "thumb", -1.0),
    ],
)
def test_an_event_may_name_its_response_by_the_trace(
    tmp_path: Path, event: dict[str, object], kind: str, value: float
) -> None:
    lake = tmp_path / "lake"
    (tmp_path / "traces.json").write_text(json.dumps(TRACES))
    upshot.ingest(tmp_path / "traces.json", lake)
    upshot.ingest_events(lines(tmp_path / "e.jsonl", event), lake)
    written = [row for row in events(lake) if row[2] == kind]
    assert [(row[1], row[3]) for row in written] == [(1, pytest.approx(value, abs=0.35))]
    assert upshot.ingest_events(tmp_path / "e.jsonl", lake).known == 1


def test_an_event_of_an_unknown_trace_is_kept_apart(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    upshot.ingest(lines(tmp_path / "chat.jsonl", CHAT), lake)
    event = {"trace_id": "t9", "kind": "thumb_up"}
    report = upshot.ingest_events(lines(tmp_path / "e.jsonl", event), lake)
    assert (report.events, report.quarantined) == (0, 1)
    assert "t9" in report.first_reason


def test_events_without_a_lake_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="upshot ingest"):
        upshot.ingest_events(
            lines(tmp_path / "e.jsonl", {"id": "c1", "index": 1, "kind": "thumb_up"}),
            tmp_path / "none",
        )
