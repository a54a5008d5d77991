"""What is sent, by which id, and when it is sent again."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upshot.lake import Lake
from upshot.serve.back import TARGETS
from upshot.serve.back.target import read_otel_id
from upshot.serve.outbox import Outbox
from upshot.serve.scores import Score, describe_evidence

SCORE = Score(
    "u1",
    "c1",
    1,
    "helped",
    0.5,
    "positive",
    "thanks: “thank you”",
    0.6,
    "embedded/2",
    datetime(2026, 5, 1, tzinfo=UTC),
    {"trace": "0" * 31 + "1", "span": "0" * 15 + "1"},
)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    made = Lake(tmp_path_factory.mktemp("outbox") / "lake", buckets=1)
    made.create()
    Outbox(made, 0, TARGETS["phoenix"], "http://a").record([SCORE])
    return made


@given(value=st.floats(0, 1), label=st.sampled_from(["positive", "complaint"]))
@settings(deadline=None, max_examples=50)
def test_a_score_is_due_when_it_has_moved_by_a_twentieth_or_its_label_has_changed(
    lake: Lake, value: float, label: str
) -> None:
    outbox = Outbox(lake, 0, TARGETS["phoenix"], "http://a")
    score = msgspec.structs.replace(SCORE, value=round(value, 4), label=label)
    moved = abs(round(value, 4) - 0.5) >= 0.05 - 1e-9
    assert outbox.is_due(score) == (moved or label != "positive")


def test_a_score_is_due_in_another_place_and_at_another_address(lake: Lake) -> None:
    there = Outbox(lake, 0, TARGETS["phoenix"], "http://a")
    moved = msgspec.structs.replace(SCORE, refs={"span": "f" * 16})
    assert not there.is_due(SCORE)
    assert there.is_due(moved)
    assert Outbox(lake, 0, TARGETS["phoenix"], "http://b").is_due(SCORE)
    assert Outbox(lake, 0, TARGETS["otlp"], "http://a").is_due(SCORE)


def test_the_newest_row_of_the_outbox_counts(tmp_path: Path) -> None:
    made = Lake(tmp_path / "lake", buckets=1)
    made.create()
    outbox = Outbox(made, 0, TARGETS["phoenix"], "http://a")
    outbox.record([SCORE])
    outbox.record([msgspec.structs.replace(SCORE, value=0.9)])
    for _ in range(2):
        again = Outbox(made, 0, TARGETS["phoenix"], "http://a")
        assert again.is_due(SCORE)
        assert not again.is_due(msgspec.structs.replace(SCORE, value=0.9))
        made.compact("outbox")
    assert made.count_rows("outbox") == 1


def test_an_id_is_that_of_response_and_kind_and_a_revision_that_of_the_value_too() -> None:
    moved = msgspec.structs.replace(SCORE, value=0.9)
    fact = msgspec.structs.replace(SCORE, kind="worked")
    assert SCORE.id == moved.id != fact.id
    assert SCORE.revision != moved.revision
    assert SCORE.revision == msgspec.structs.replace(SCORE).revision


@given(number=st.integers(1, 2**64 - 1))
def test_ids_of_opentelemetry_are_read_in_both_spellings(number: int) -> None:
    import base64

    digits = f"{number:016x}"
    plain = base64.b64encode(bytes.fromhex(digits)).decode()
    assert read_otel_id(digits.upper(), 8) == read_otel_id(plain, 8) == digits
    assert read_otel_id(digits, 16) == digits.zfill(32)


@pytest.mark.parametrize("text", ["", "0" * 16, "xyz", "0af7", "not a span at all", "ob-1"])
def test_what_is_no_id_of_opentelemetry_is_none(text: str) -> None:
    assert read_otel_id(text, 8) == ""


def test_a_comment_has_the_weightiest_quotes_each_once() -> None:
    rows = [("thanks", "thanks", 0.1), ("worked", "it works", 0.9), ("worked", "it works", 0.5)]
    rows += [("commit", "", 0.8), ("praise", "x" * 500, 0.4)]
    evidence = [{"kind": kind, "quote": quote, "weight": weight} for kind, quote, weight in rows]
    first, second, third = describe_evidence(evidence).split("; ")
    assert first == "it worked: “it works”"
    assert second == "it was committed"
    assert third.startswith("praise: “xxx")
    assert len(third) < 220
    assert describe_evidence([]) == ""
