"""Citations are resolved to one source that was in force, or listed with the reason."""

from __future__ import annotations

import pytest
from tests.artifacts.library import artifact_of, make_library

from upshot.artifacts.citations import find_mentions
from upshot.artifacts.citations.resolve import find_citations
from upshot.artifacts.records import Citation


def cite(text: str, date: str = "2021-03-31") -> list[Citation]:
    return find_citations(artifact_of(text, date), make_library())


def summary(text: str, date: str = "2021-03-31") -> list[tuple[str, str, tuple[str, ...]]]:
    return [(c.source, c.status, c.pinpoint) for c in cite(text, date)]


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("I.R.C. § 25D(d)(1)", ["section:25d"]),
        ("26 U.S.C. § 61", ["section:61"]),
        ("sections 61(a), 162 and 263", ["section:61", "section:162", "section:263"]),
        ("§§ 12(a) and 14", ["section:12", "section:14"]),
        ("Treas. Reg. § 1.61-1(a)", ["reg:1.61-1"]),
        ("Rev. Rul. 99-7 and Rev. Proc. 2020-3", ["ruling:rev rul 99-7", "ruling:rev proc 2020-3"]),
        ("Notice 2014-21; T.D. 9876", ["ruling:notice 2014-21", "ruling:td 9876"]),
        ("PEPs 3, 12 and 14 and :pep:`257`", ["pep:3", "pep:12", "pep:14", "pep:257"]),
        ("https://peps.python.org/pep-0008/", ["pep:8"]),
        ("RFC 7230, Section 3.2 and :rfc:`2119`", ["rfc:7230", "rfc:2119"]),
        ("Gregory v. Helvering, 293 U.S. 465, 469 (1935)", ["case:293 us 465"]),
        ("see https://www.Example.org/a/b.html#c.", ["url:example.org/a/b"]),
        ("Gull v. Harbour Master,\n31 H.R. 204 (2017)", ["case:31 hr 204"]),
    ],
)
def test_every_kind_is_mentioned_as_practice_writes_it(text: str, keys: list[str]) -> None:
    assert [mention.keys[0] for mention in find_mentions(text)] == keys


def test_a_section_means_the_version_in_force_on_the_day() -> None:
    assert summary("Under § 12(a) a levy is due.") == [("harbour-12", "resolved", ("a",))]
    assert summary("Under § 12(a) a levy is due.", "2018-05-05")[0][0] == "harbour-12-old"


def test_what_is_not_in_the_library_or_not_yet_is_listed() -> None:
    assert summary("§ 99") == [("", "missing", ())]
    assert [c.status for c in cite("Rev. Rul. 2022-4 settles it.")] == ["younger"]


def test_two_versions_in_force_are_ambiguous_and_name_both() -> None:
    twin = {"id": "other-14", "title": "§ 14. Ferries", "text": "A ferry is no ship."}
    library = make_library(twin)
    (citation,) = find_citations(artifact_of("Under § 14 it is small."), library)
    assert citation.status == "ambiguous"
    assert set(citation.candidates) == {"harbour-14", "other-14"}


def test_several_subsections_after_one_number_are_several_places() -> None:
    assert summary("§ 14(a), (b)") == [
        ("harbour-14", "resolved", ("a",)),
        ("harbour-14", "resolved", ("b",)),
    ]


def test_id_and_supra_lead_back() -> None:
    text = (
        "A berth floats. Gull v. Harbour Master, 31 H.R. 204 (2017). Id. at 206. The levy is"
        " due. § 12. Id. (b). As Gull, supra, at 207 holds, it floats."
    )
    assert [(c.source, c.pinpoint) for c in cite(text)] == [
        ("gull-v-harbour-master", ()),
        ("gull-v-harbour-master", ("206",)),
        ("harbour-12", ()),
        ("harbour-12", ("b",)),
        ("gull-v-harbour-master", ("207",)),
    ]


def test_id_after_two_sources_is_ambiguous() -> None:
    assert summary("It floats. § 12; § 14. Id.")[-1][1] == "ambiguous"


def test_id_with_nothing_before_it_is_missing() -> None:
    assert summary("Id. at 4.") == [("", "missing", ("4",))]


def test_notes_are_followed_whatever_their_order() -> None:
    text = (
        "The levy is due.[^2] A berth floats.[^1] As note 2 says, supra note 2.\n\n"
        "[^2]: Section 12(a) of the Harbour Act.\n[^1]: Gull v. Harbour Master, 31 H.R. 204.\n"
    )
    assert [c.source for c in cite(text)] == ["harbour-12", "gull-v-harbour-master", "harbour-12"]


def test_a_note_may_give_a_title() -> None:
    library = make_library({"id": "s9", "title": "On the nature of berths", "text": "They float."})
    text = 'It floats [1]_.\n\n.. [1] A. Gull, "On the Nature of Berths", 1999\n'
    assert [c.source for c in find_citations(artifact_of(text, kind="rst"), library)] == ["s9"]


def test_an_artifact_does_not_cite_itself() -> None:
    library = make_library({"id": "pep-0008", "title": "Style", "text": "See PEP 8 for style."})
    artifact = artifact_of("See PEP 8 for style.", id="pep-0008")
    assert [c.status for c in find_citations(artifact, library)] == ["self"]


def test_section_numbers_of_its_own_are_no_citations_where_the_library_has_no_sections() -> None:
    library = make_library()
    library.name_sources({"gull-v-harbour-master": ["case:gull v harbour master"]})
    assert find_citations(artifact_of("See section 3 below."), library) == []
