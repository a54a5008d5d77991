"""Markdown: headings, fences, block quotes, footnotes and reference links."""

from __future__ import annotations

import re
from collections.abc import Sequence

from upshot.artifacts.readers.fields import read_header
from upshot.artifacts.records import Document, Heading, Span

_HEADING = re.compile(
    r"""^(?:
        (?P<marks>\#{1,6})[ \t]+(?P<atx>[^\n]*?)[ \t]*\#*[ \t]*$
      | (?P<setext>[^\s>#|*-][^\n]*)\n(?P<line>={3,}|-{3,})[ \t]*$
      | (?P<bold>\*\*[^*\n]{2,80}\*\*):?[ \t]*$
    )""",
    re.MULTILINE | re.VERBOSE,
)
_FENCE = re.compile(r"^(```+|~~~+)[^\n]*\n.*?(?:^\1[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
_QUOTE = re.compile(r"(?:^>[^\n]*(?:\n|\Z))+", re.MULTILINE)
_NOTE = re.compile(r"^\[\^?([\w.-]+)\]:[ \t]*([^\n]*(?:\n(?:[ \t]+\S[^\n]*))*)", re.MULTILINE)
_BOLD_LEVEL = 7
"""Of a line in bold: below every real heading."""


def read(text: str) -> Document:
    """A document of Markdown; its text is the Markdown itself."""
    header = read_header(text)
    fields = header.fields
    literal = [Span(m.start(), m.end()) for m in _FENCE.finditer(text)]
    headings: list[Heading] = []
    for match in _HEADING.finditer(text):
        if header.covers(match.start()) or any(
            span.start <= match.start() < span.end for span in literal
        ):
            continue
        title = match["atx"] or match["setext"] or (match["bold"] or "").strip("*: ")
        if match["marks"]:
            level = len(match["marks"])
        elif match["line"]:
            level = 1 if match["line"][0] == "=" else 2
        else:
            level = _BOLD_LEVEL
        headings.append(Heading(title.strip("* "), level, match.start(), match.end()))
    return Document(
        text,
        fields.get("title", _title_of(text, headings)),
        tuple(headings),
        {m[1]: Span(m.start(2), m.end(2)) for m in _NOTE.finditer(text)},
        tuple(sorted((*header.span, *literal))),
        tuple(Span(m.start(), m.end()) for m in _QUOTE.finditer(text)),
        fields,
    )


def _title_of(text: str, headings: Sequence[Heading]) -> str:
    """The first heading where it opens the text and is the only one of its level."""
    if not headings or text[: headings[0].start].strip():
        return ""
    first = headings[0]
    return "" if any(h.level == first.level for h in headings[1:]) else first.title
