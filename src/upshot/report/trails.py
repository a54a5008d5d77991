"""The page of trails: each artifact on the left, its trail and the passages on the right."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import NamedTuple

from jinja2 import Environment, select_autoescape
from markupsafe import Markup, escape

from upshot.artifacts.records import Span, Step, Trail

_MAX_TEXT = 40_000
"""Characters of an artifact that the page shows."""
_MAX_PASSAGE = 700
_MARKS = {"facts": "mid", "claim": "good", "misquote": "bad", "quote": "good", "citation": "cite"}


class TrailView(NamedTuple):
    """One trail as the page shows it."""

    trail: Trail
    text: Markup
    steps: list[tuple[Step, str]]
    """Steps with what is shown of their passage."""
    resolved: int
    problems: int


def trails_to_html(trails: Sequence[Trail]) -> str:
    """One HTML file for trails; it works offline and runs nothing."""
    environment = Environment(autoescape=select_autoescape(default_for_string=True))
    template = resources.files("upshot.report").joinpath("trails.html").read_text("utf-8")
    style = resources.files("upshot.report").joinpath("template.html").read_text("utf-8")
    shared = style[style.index("<style>") + 7 : style.index("</style>")]
    views = [_view(trail) for trail in trails]
    return environment.from_string(template).render(views=views, shared=Markup(shared))  # noqa: S704


def _view(trail: Trail) -> TrailView:
    return TrailView(
        trail,
        _mark_text(trail),
        [(step, _cut(step.text)) for step in trail.steps],
        sum(citation.status == "resolved" for citation in trail.citations),
        sum(len(check.problems) for check in trail.checks.values()),
    )


def _cut(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= _MAX_PASSAGE else plain[:_MAX_PASSAGE] + " …"


def _mark_text(trail: Trail) -> Markup:
    """The artifact's text; facts, claims, quotations and citations marked and numbered."""
    spans: list[tuple[Span, str, str]] = []
    spans += [(span, "mid", "facts") for span in trail.facts]
    for step in trail.steps:
        if step.at is not None and step.action == "infer":
            spans.append((step.at, "plain", f"step {step.n}"))
    for quote in trail.quotes:
        if quote.status != "unattributed":
            css = "good" if quote.status == "located" else "bad"
            note = f"{quote.status} {quote.difference}".strip()
            spans.append((Span(quote.start, quote.end), css, note))
    for citation in trail.citations:
        css = "cite" if citation.status == "resolved" else "bad"
        note = citation.source or citation.status
        spans.append((Span(citation.start, citation.end), css, note))
    return _render(trail.text[:_MAX_TEXT], spans)


def _render(text: str, spans: Sequence[tuple[Span, str, str]]) -> Markup:
    """Text with nested marks; a mark that would cross another one's end is cut there."""
    ordered = sorted(spans, key=lambda row: (row[0].start, -row[0].end))
    parts: list[Markup] = []
    open_ends: list[int] = []
    position = 0

    def move_to(place: int) -> None:
        nonlocal position
        while open_ends and open_ends[-1] <= place:
            end = open_ends.pop()
            parts.append(escape(text[position:end]))
            parts.append(Markup("</mark>"))
            position = max(position, end)
        parts.append(escape(text[position:place]))
        position = max(position, place)

    for span, css, note in ordered:
        if span.start >= len(text) or span.end <= span.start:
            continue
        move_to(span.start)
        end = min(span.end, len(text), *(open_ends[-1:] or [len(text)]))
        parts.append(Markup('<mark class="{}" title="{}">').format(css, note))
        open_ends.append(end)
    move_to(len(text))
    return Markup("").join(parts)
