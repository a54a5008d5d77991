"""The library: passages by structure, sources by day, the same results from both engines."""

from __future__ import annotations

import gzip
import json
from itertools import pairwise
from pathlib import Path

import pytest
from tests.artifacts.library import make_desk, make_library

from upshot.artifacts.citations import index_names
from upshot.artifacts.desk import Desk
from upshot.artifacts.library import Library, make_source, read_library
from upshot.artifacts.records import Source
from upshot.errors import InputError, NotFoundError, RecordError


def test_enumerated_parts_are_passages_with_their_path() -> None:
    text = "(a) One\n\n(1) two\n\n(A) three\n\n(i) four\n\n(B) five\n\n(2) six\n\n(b) seven"
    library = Library([Source("s", "§ 1. S", text)])
    assert [p.path for p in library.passages("s")] == [
        ("a",),
        ("a", "1"),
        ("a", "1", "A"),
        ("a", "1", "A", "i"),
        ("a", "1", "B"),
        ("a", "2"),
        ("b",),
    ]


def test_passages_cover_a_source_without_overlap() -> None:
    text = "\n\n".join(f"Paragraph {n} says something of {n * 'many '}boats." for n in range(60))
    library = Library([Source("s", "S", text)])
    passages = library.passages("s")
    assert all(a.end <= b.start for a, b in pairwise(passages))
    assert "".join(text.split()) == "".join("".join(map(library.text_of, passages)).split())


@pytest.mark.parametrize("backend", ["tantivy", "sqlite"])
def test_a_search_returns_what_was_in_force(backend: str) -> None:
    if backend == "tantivy":
        pytest.importorskip("tantivy")
    index = make_desk(backend=backend).index
    assert index.search("mooring levy marina", "2021-01-01")[0].passage.source == "harbour-12"
    old = [hit.passage.source for hit in index.search("mooring levy marina", "2018-01-01")]
    assert old[0] == "harbour-12-old"
    assert "harbour-12" not in old
    assert index.search("", "2021-01-01") == []


def test_both_engines_agree_on_the_first_result() -> None:
    pytest.importorskip("tantivy")
    one, two = make_desk(backend="tantivy").index, make_desk(backend="sqlite").index
    for query in ("berth dry afloat", "lantern ship duty", "showers receipts", "small marina"):
        assert one.search(query)[0].passage.source == two.search(query)[0].passage.source


def test_an_id_that_comes_twice_with_other_text_is_reported() -> None:
    library = make_library({"id": "harbour-12", "title": "x", "text": "another text"})
    assert [record.position for record in library.bad] == ["harbour-12"]
    assert library["harbour-12"].title == "§ 12. Mooring levy"


def test_dates_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(RecordError, match="contradict"):
        make_source({"text": "x", "valid_from": "2021-01-01", "valid_to": "2020-01-01"})
    with pytest.raises(RecordError, match="no date"):
        make_source({"text": "x", "date": "soon"})


def test_a_folder_is_read_and_what_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "s12.md").write_text("---\ntitle: § 12. Levy\nvalid-from: 2020-01-01\n---\nA levy.")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / "more.jsonl").write_text('{"id": "s13", "text": "A duty."}\n{"id": "s14"}\n')
    library = read_library(tmp_path)
    assert set(library.sources) == {"s12", "s13"}
    assert library["s12"].valid_from == "2020-01-01"
    assert sorted(record.position for record in library.bad) == ["file", "line 2"]


def test_a_library_that_is_missing_or_empty_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="--sources"):
        read_library(tmp_path / "nowhere")
    (tmp_path / "a.jsonl").write_text('{"id": 1}\n')
    with pytest.raises(InputError, match="holds no source"):
        read_library(tmp_path)


def test_the_united_states_code_is_read_section_by_section(data: Path) -> None:
    library = index_names(read_library(data / "artifacts" / "us-code-title-26.jsonl.gz"))
    (section,) = library.look_up("section:25d")
    source = library[section]
    assert source.title.startswith("§\u202f25D. Residential clean energy credit")
    assert len(source.parts) > 5
    paths = {passage.path for passage in library.passages(section)}
    assert {("a",), ("d", "1"), ("d", "2")} <= paths
    with gzip.open(data / "artifacts" / "us-code-title-26.jsonl.gz", "rt") as handle:
        ids = {str(json.loads(line)["id"]) for line in handle}
    assert {part.id for part in source.parts} <= ids


def test_without_removes_a_source_from_search_and_names() -> None:
    desk = make_desk().without("harbour-14")
    assert desk.library.look_up("section:14") == ()
    assert "harbour-14" not in [h.passage.source for h in desk.index.search("small marina berths")]
    assert isinstance(desk, Desk)
