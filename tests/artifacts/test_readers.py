"""Readers find headings, notes and quotations in each markup, and sections get their roles."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.artifacts.library import MEMO

from upshot.artifacts.readers import READERS, detect, read_document
from upshot.artifacts.structure import read_outline

RST = """Facts
=====

A boat::

    code that is no prose

Analysis
--------

It floats [1]_.

.. [1] PEP 8
"""
TEXT = """Date: 2021-03-31

FACTS

Ana has a boat. It is 12 m long, e.g. in Sec. 4.

ANALYSIS

It floats.[1]

NOTES

[1] PEP 8, Style Guide
    for Python Code
"""
HTML = """<!doctype html><html><head><title>A boat</title><meta name="date" content="2021-03-31">
<style>p {}</style></head><body><h2>Facts</h2><p>Ana has a&nbsp;boat.</p><h2>Conclusion</h2>
<blockquote>It floats.</blockquote><p>So it does.<p id="fn1">PEP 8</body></html>"""


def titles(text: str, kind: str) -> list[str]:
    return [heading.title for heading in read_document(text, kind).headings]


def test_each_markup_has_its_headings() -> None:
    assert titles(MEMO, "markdown")[1:] == ["Facts", "Issues", "Analysis", "Conclusion"]
    assert titles(RST, "rst") == ["Facts", "Analysis"]
    assert titles(TEXT, "text") == ["FACTS", "ANALYSIS", "NOTES"]
    assert titles(HTML, "html") == ["Facts", "Conclusion"]


def test_the_markup_is_told_from_the_text() -> None:
    assert [detect(text) for text in (MEMO, RST, TEXT, HTML)] == ["markdown", "rst", "text", "html"]


def test_notes_literal_text_block_quotes_and_fields_are_told_apart() -> None:
    rst = read_document(RST)
    assert RST[rst.notes["1"].start : rst.notes["1"].end] == "PEP 8"
    assert "code" in RST[rst.literal[0].start : rst.literal[0].end]
    text = read_document(TEXT)
    assert text.fields["date"] == "2021-03-31"
    assert TEXT[text.notes["1"].start : text.notes["1"].end].startswith("PEP 8, Style Guide\n")
    html = read_document(HTML)
    assert (html.title, html.fields["date"]) == ("A boat", "2021-03-31")
    assert html.text[html.block_quotes[0].start : html.block_quotes[0].end].strip() == "It floats."
    assert html.text[html.notes["1"].start : html.notes["1"].end].strip() == "PEP 8"
    assert "p {}" not in html.text


def test_sections_have_roles_and_sentences_places() -> None:
    document = read_document(MEMO, "markdown")
    outline = read_outline(document)
    roles = [sentence.role for sentence in outline.sentences]
    assert roles[0] == "facts"
    assert {"facts", "issue", "analysis", "conclusion"} == set(roles)
    parts = [MEMO[s.start : s.end] for s in outline.sentences]
    assert "The levy due for 2020 is $8,000." in parts


def test_a_letter_without_headings_has_roles_by_its_words() -> None:
    letter = (
        "Dear Ana,\n\nYou told us that you run a marina with 52 berths.\n\nYou ask whether a levy"
        " is due.\n\nSection 12 imposes a levy of 4 percent.\n\nWe therefore conclude that it is"
        " due.\n\nKind regards"
    )
    roles = [s.role for s in read_outline(read_document(letter, "text")).sentences]
    assert roles == ["other", "facts", "issue", "analysis", "conclusion", "other"]


@pytest.mark.parametrize("kind", list(READERS))
@given(text=st.text("ab.#=-*>[]:\n ^`<p/h1>_~\"'§1(", max_size=300))
@settings(deadline=None, max_examples=60)
def test_whatever_the_text_spans_lie_within_it_and_in_order(kind: str, text: str) -> None:
    document = read_document(text, kind)
    outline = read_outline(document)
    last = 0
    for sentence in outline.sentences:
        assert last <= sentence.start < sentence.end <= len(document.text)
        last = sentence.end
    for span in (*document.notes.values(), *document.literal, *document.block_quotes):
        assert 0 <= span.start <= span.end <= len(document.text)
