"""Plain text: headings by their looks, notes at the end."""

from __future__ import annotations

import re

from upshot.artifacts.readers.fields import read_header
from upshot.artifacts.records import Document, Heading, Span

_HEADING = re.compile(
    r"""(?:^|(?<=\n\n))[ \t]{0,3}(?:
        (?P<title>[^\n]{2,80})\n(?P<line>={3,}|-{3,}|~{3,})[ \t]*(?=\n|\Z)
      | (?P<capitals>(?:[IVX]{1,5}|[A-Z]|\d{1,2})?[.)]?[ \t]*[A-Z][A-Z \t,&'/-]{2,60}):?[ \t]*
            (?=\n|\Z)
      | (?P<numbered>(?:[IVX]{1,5}|[A-Z]|\d{1,2}(?:\.\d{1,2})?)[.)][ \t]+[A-Z][^\n.;?]{2,70}\??)
            [ \t]*(?=\n[ \t]*\n)
      | (?P<colon>[A-Z][A-Za-z ,'/-]{2,50}):[ \t]*(?=\n)
      | (?P<short>[A-Z][a-z]+(?:[ ][A-Za-z]+){0,3})[ \t]*(?=\n[ \t]*\n)
    )""",
    re.VERBOSE,
)
_NOTE = re.compile(
    r"^[ \t]{0,3}\[?(?P<label>\d{1,3})[\].)]?[ \t]+(?P<note>\S[^\n]*(?:\n[ \t]+\S[^\n]*)*)",
    re.MULTILINE,
)
_NOTES_AT = re.compile(
    r"^[ \t]*(?:foot|end)?notes?:?[ \t]*$|^[ \t]*(?:references|sources|authorities):?[ \t]*$"
    r"|^_{3,}[ \t]*$",
    re.MULTILINE | re.IGNORECASE,
)


def read(text: str) -> Document:
    """A document of plain text."""
    header = read_header(text)
    fields = header.fields
    headings: list[Heading] = []
    for match in _HEADING.finditer(text):
        if header.covers(match.start()):
            continue
        title = next(
            match[name]
            for name in ("title", "capitals", "numbered", "colon", "short")
            if match[name]
        )
        level = 1 if match["capitals"] or match["title"] else 2
        headings.append(Heading(title.strip(" :\t"), level, match.start(), match.end()))
    notes_at = [m.end() for m in _NOTES_AT.finditer(text)]
    notes = (
        {
            m["label"]: Span(m.start("note"), m.end("note"))
            for m in _NOTE.finditer(text, notes_at[-1])
        }
        if notes_at
        else {}
    )
    return Document(text, fields.get("title", ""), tuple(headings), notes, header.span, (), fields)
