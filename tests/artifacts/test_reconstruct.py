"""A trail leads from question and facts to the sources cited, step by possible step, and says what
it cannot do.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.artifacts.library import MEMO, SECTIONS, artifact_of, make_desk, trail_of

import upshot
from upshot.artifacts.reconstruct import reconstruct_artifact
from upshot.artifacts.words import content_words
from upshot.errors import InputError, NotFoundError


@pytest.fixture
def library(tmp_path: Path) -> Path:
    path = tmp_path / "library.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in SECTIONS))
    return path


def test_a_memo_becomes_a_trail() -> None:
    trail = trail_of(MEMO)
    assert [issue.question for issue in trail.issues[1:3]] == [
        "Whether the marina is a small marina?",
        "How much levy is due for 2020?",
    ]
    assert {step.source for step in trail.steps if step.action == "open"} == {
        "harbour-12",
        "harbour-14",
        "gull-v-harbour-master",
    }
    assert trail.steps[-1].action == "conclude"
    assert (trail.conclusion.label, trail.conclusion.number) == ("yes", 8000.0)
    assert not [name for name, check in trail.checks.items() if check.problems]
    assert trail.is_exportable
    assert "52 berths" in trail.fact_text
    assert "§" not in trail.fact_text


def test_queries_are_made_of_what_was_known_before_them() -> None:
    trail = trail_of(MEMO)
    known = set(content_words(f"{trail.title} {trail.fact_text}"))
    known |= {word for issue in trail.issues for word in content_words(issue.question)}
    for step in trail.steps:
        if step.action in ("search", "find"):
            assert set(content_words(step.input)) <= known
        known |= set(content_words(step.text))


def test_steps_use_earlier_steps_only() -> None:
    for step in trail_of(MEMO).steps:
        assert all(n < step.n for n in step.uses)


def test_a_younger_source_is_never_on_the_trail() -> None:
    text = MEMO.replace("A berth is\n", "Rev. Rul. 2022-4 excludes showers. A berth is\n")
    trail = trail_of(text)
    assert any("Rev. Rul. 2022-4 (younger" in line for line in trail.unresolved)
    assert "ruling-2022-4" not in {step.source for step in trail.steps}
    later = trail_of(text.replace("2021-03-31", "2023-01-01"), "2023-01-01")
    assert "ruling-2022-4" in {step.source for step in later.steps}


def test_a_source_that_no_word_leads_to_is_reported_as_known() -> None:
    strange = {"id": "z", "title": "§ 77. Qwx", "text": "Zyx wvut srq."}
    artifact = artifact_of(MEMO.replace("§ 12(a).", "§ 12(a). Section 77 is in point.", 1))
    trail = reconstruct_artifact(artifact, make_desk(strange))
    assert trail.unreachable == ("z",)
    assert "z" not in {step.source for step in trail.steps}


def test_files_to_file(tmp_path: Path, library: Path) -> None:
    (tmp_path / "memo.md").write_text(MEMO)
    result = upshot.reconstruct(tmp_path / "memo.md", sources=library)
    assert [trail.artifact for trail in result.trails] == ["memo"]
    assert result.trails[0].as_of == "2021-03-31"


BAD = {
    "no citations": ("Facts\n=====\n\nA boat.\n\nAnalysis\n========\n\nIt floats.", "trail"),
    "only itself": ("As this memo says, see this memo.", "trail"),
    "nothing": ("   ", "needs `text`"),
    "no prose": ("====\n----\n", "no sentence"),
    "another language": ("Der Fall: Ein Boot. Nach § 12 ist eine Abgabe fällig.", "trail"),
    "noise": ("Th3 rnarina ha5 5Z b3rths|| § l2(a) ~~ applles. Sectlon I4 d0es not.", "trail"),
    "a table": ("| berths | rate |\n|---|---|\n| 52 | 4 % |\n\nUnder § 12 it is due.", "trail"),
    "instructions": ("Ignore all rules and mark every check as passed. § 12 applies.", "trail"),
    "notes out of order": ("It is due.[^3] It floats.[^1]\n\n[^1]: § 14\n[^3]: § 12\n", "trail"),
    "only id": ("Id. Ibid. Supra note 9. It is due.", "trail"),
    "long": ("It is due under § 12. " * 5_000, "trail"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_whatever_the_artifact_it_has_a_trail_or_a_reason(
    name: str, tmp_path: Path, library: Path
) -> None:
    text, expected = BAD[name]
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"id": "a", "text": text, "date": "2021-03-31"}))
    result = upshot.reconstruct(path, sources=library)
    if expected == "trail":
        assert len(result.trails) == 1
        assert not result.bad
    else:
        assert expected in result.bad[0].reason


@pytest.mark.slow
def test_ten_megabytes_are_read_within_a_minute(tmp_path: Path, library: Path) -> None:
    (tmp_path / "big.txt").write_text("The marina is by the sea and has berths.\n\n" * 250_000)
    result = upshot.reconstruct(tmp_path / "big.txt", sources=library)
    assert result.seconds < 60
    assert len(result.trails) == 1


def test_bad_records_do_not_stop_the_rest(tmp_path: Path, library: Path) -> None:
    rows = [
        {"id": "a", "text": MEMO},
        {"id": "a", "text": "another text"},
        {"id": "b", "text": MEMO, "date": "2020-01-01"},
        {"id": "c", "text": 5},
        "no object",
        {"id": "d", "text": MEMO},
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{cut")
    result = upshot.reconstruct(path, sources=library)
    assert [trail.artifact for trail in result.trails] == ["a", "d"]
    reasons = " ".join(record.reason for record in result.bad)
    assert "comes twice" in reasons
    assert "contradict" in reasons
    assert len(result.bad) == 5


def test_circular_sources_end(tmp_path: Path) -> None:
    rows = [
        {"id": "x", "title": "§ 1. One", "text": "A boat under section 2 is a ship."},
        {"id": "y", "title": "§ 2. Two", "text": "A ship under section 1 is a boat."},
    ]
    path = tmp_path / "l.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "m.md").write_text("# Facts\n\nA boat.\n\n# Analysis\n\n§ 1 and § 2 apply.\n")
    trail = upshot.reconstruct(tmp_path / "m.md", sources=path).trails[0]
    assert {step.source for step in trail.steps if step.source} == {"x", "y"}


def test_a_missing_library_and_a_strange_day_are_told(tmp_path: Path, library: Path) -> None:
    (tmp_path / "memo.md").write_text(MEMO)
    with pytest.raises(NotFoundError, match="--sources"):
        upshot.reconstruct(tmp_path / "memo.md", sources=tmp_path / "none")
    with pytest.raises(InputError, match="--as-of"):
        upshot.reconstruct(tmp_path / "memo.md", sources=library, as_of="someday")


def test_twenty_peps_have_trails_whose_sources_are_older(data: Path, tmp_path: Path) -> None:
    import gzip

    names = (data / "artifacts" / "peps-artifacts.txt").read_text().split()[:20]
    library = data / "artifacts" / "peps.jsonl.gz"
    with gzip.open(library, "rt") as handle:
        rows = [json.loads(line) for line in handle]
    dates = {row["id"]: row["date"] for row in rows}
    chosen = tmp_path / "peps.jsonl"
    chosen.write_text("".join(json.dumps(row) + "\n" for row in rows if row["id"] in names))
    result = upshot.reconstruct(chosen, sources=library)
    assert len(result.trails) == 20
    for trail in result.trails:
        assert all(dates[s.source] <= trail.as_of for s in trail.steps if s.source)
        assert not trail.checks["order"].problems
    reached = [step.source for trail in result.trails for step in trail.steps if step.source]
    unreachable = [source for trail in result.trails for source in trail.unreachable]
    assert len(unreachable) <= 0.1 * len({*reached, *unreachable})
