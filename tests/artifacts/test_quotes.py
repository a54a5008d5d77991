"""A quotation is located to the character, through what typesetting changes, and no further."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.artifacts.library import SECTIONS, artifact_of, make_library

from upshot.artifacts.citations.resolve import find_citations
from upshot.artifacts.quotes import Normal, find_quotes, locate, nearest
from upshot.artifacts.records import Quote
from upshot.artifacts.structure import read_outline

LIBRARY = make_library()
WORDS = str(SECTIONS[1]["text"]).split()


def quotes(text: str) -> list[Quote]:
    artifact = artifact_of(text)
    outline = read_outline(artifact.document)
    return find_quotes(artifact, outline, find_citations(artifact, LIBRARY), LIBRARY)


@pytest.mark.parametrize(
    ("quotation", "how"),
    [
        ("a levy of 4 percent of the gross berth receipts", "exact"),
        ("a levy of 4 percent\nof the gross  berth receipts", "spacing"),
        ("a levy of 4 percent of the gross berth re-\nceipts", "spacing"),
        ("on every operator of a marina ... 4 percent of the gross", "ellipsis"),
        ("[t]here is imposed on every operator of a marina", "ellipsis"),
        ("imposed on every operator … of the calendar year.", "ellipsis"),
    ],
)
def test_it_is_located_through_what_typesetting_changes(quotation: str, how: str) -> None:
    (quote,) = quotes(f"The rule is “{quotation}”. § 12(a).")
    assert (quote.status, quote.source, quote.how) == ("located", "harbour-12", how)


@given(st.integers(0, len(WORDS) - 8), st.integers(6, 16))
@settings(deadline=None, max_examples=60)
def test_every_run_of_words_is_located_and_every_changed_word_is_not(start: int, size: int) -> None:
    words = WORDS[start : start + size]
    text = " ".join(words)
    place = locate(LIBRARY, "harbour-12", text)
    assert place is not None
    stands = LIBRARY["harbour-12"].text[place[0].start : place[0].end]
    assert stands.split() == text.rstrip(".,;:").split() or stands.split() == words
    changed = [*words[:2], "zebra", *words[3:]]
    assert locate(LIBRARY, "harbour-12", " ".join(changed)) is None
    share, _, _ = nearest(LIBRARY, "harbour-12", " ".join(changed))
    assert share >= 0.6


@given(st.text("ab ﬁ-–—\n\t“”…*Iİ>_\u00ad", max_size=60))
@settings(deadline=None)
def test_a_normal_text_knows_where_each_character_was(text: str) -> None:
    normal = Normal(text)
    places = [normal.origin(place) for place in range(len(normal.text))]
    assert places == sorted(places)
    assert all(0 <= place < len(text) for place in places)
    for place, char in enumerate(normal.text):
        if char in "ab":
            assert text[places[place]].lower() == char


@pytest.mark.parametrize("before", ["must", "a levy of 5 percent", "a fee of 4 percent"])
def test_a_changed_word_is_a_misquote_that_says_what_the_source_has(before: str) -> None:
    quotation = "imposed on every operator of a marina a levy of 4 percent of the gross"
    changed = {
        "must": quotation.replace("every", "any"),
        "a levy of 5 percent": quotation.replace("4", "5"),
        "a fee of 4 percent": quotation.replace("levy", "fee"),
    }[before]
    (quote,) = quotes(f"Section 12 says it is “{changed}”.")
    assert quote.status == "misquote"
    assert "became" in quote.difference


def test_words_of_another_source_are_told_from_the_one_cited() -> None:
    (quote,) = quotes("Section 12 has “a place at which a vessel can lie afloat”.")
    assert (quote.status, quote.source) == ("elsewhere", "gull-v-harbour-master")


def test_words_in_quotation_marks_without_a_citation_are_left_alone() -> None:
    (quote,) = quotes("The client spoke of “a place at the very end of the quay”.")
    assert quote.status == "unattributed"
    assert quotes("The so-called “small marina” is defined in § 14(b).") == []


def test_a_block_quote_counts() -> None:
    text = "Section 14 says:\n\n> Section 12 does not apply to a small marina.\n\nSo it is.\n"
    (quote,) = quotes(text)
    assert (quote.status, quote.source) == ("located", "harbour-14")
