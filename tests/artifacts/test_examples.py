"""The memoranda that ship: each citation leads to its source, the planted misquotation is found."""

from __future__ import annotations

from pathlib import Path

import pytest

import upshot
from upshot.artifacts.records import Trail


@pytest.fixture(scope="module")
def trails() -> dict[str, Trail]:
    memos = Path(__file__).parents[2] / "examples" / "memos"
    result = upshot.reconstruct(memos / "memos", sources=memos / "code")
    assert not result.bad
    assert not result.bad_sources
    return {trail.artifact: trail for trail in result.trails}


def test_all_thirty_have_trails_whose_citations_are_resolved(trails: dict[str, Trail]) -> None:
    assert len(trails) == 30
    for name, trail in trails.items():
        assert trail.citations, name
        assert not trail.unresolved, name
        assert not trail.unreachable, name
        assert trail.facts, name
        assert trail.conclusion.text, name


def test_only_the_planted_misquotation_keeps_a_trail_from_export(trails: dict[str, Trail]) -> None:
    assert [name for name, trail in trails.items() if not trail.is_exportable] == ["27-canteen"]
    (problem,) = trails["27-canteen"].checks["quotes"].problems
    assert "convenience became benefit" in problem


def test_the_version_of_the_day_is_read(trails: dict[str, Trail]) -> None:
    def sources(name: str) -> set[str]:
        return {step.source for step in trails[name].steps if step.source}

    assert "merrow-10-2011" in sources("06-old-rate")
    assert "merrow-10" in sources("01-elm-quay")
    assert "merrow-70-2013" in sources("25-sailing-2020")
    assert "merrow-30" in sources("09-translator")


def test_notes_html_and_letters_are_read_as_well(trails: dict[str, Trail]) -> None:
    assert [c.source for c in trails["29-hospital"].citations] == ["merrow-90", "merrow-90"]
    assert trails["30-deposits"].conclusion.number == 5200.0
    assert trails["26-online-law"].conclusion.number == 950.0
