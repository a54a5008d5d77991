"""The header of a text: front matter, or lines of `Key: value` before the first blank line."""

from __future__ import annotations

import re
from typing import NamedTuple

from upshot.artifacts.records import Span
from upshot.artifacts.word_lists import load_words

_FRONT = re.compile(r"---\n(.*?)\n---[ \t]*(?:\n|$)", re.DOTALL)
_LINE = re.compile(r"^(?:\*\*)?([A-Za-z][A-Za-z -]{0,20}?):(?:\*\*)?[ \t]+(\S.*?)[ \t]*$")
_TITLE = re.compile(r"\n*[^\n]{3,150}\n(?:[=\-~*#]{3,}[ \t]*\n)?\s*")
_MAX_HEADER = 10_000
"""Characters within which a header ends."""
NAMES = load_words("header_keys")
"""Keys that make a line part of a header; a first line of prose may hold a colon as well."""


class Header(NamedTuple):
    """A header's fields and where it stands; start and end are equal where there is none."""

    fields: dict[str, str]
    start: int
    end: int

    @property
    def span(self) -> tuple[Span, ...]:
        """Where the header stands, if it is there."""
        return (Span(self.start, self.end),) if self.end > self.start else ()

    def covers(self, position: int) -> bool:
        """Whether a position lies in the header."""
        return self.start <= position < self.end


def read_header(text: str) -> Header:
    """The header of a text: before everything, or right below its title.

    >>> read_header("# Boats\\n\\nDate: 2024-03-31\\nRe: mooring\\n\\nA boat.")
    Header(fields={'date': '2024-03-31', 're': 'mooring'}, start=9, end=38)
    """
    front = _FRONT.match(text)
    if front is not None:
        return Header(_parse_lines(front[1].split("\n")), 0, front.end())
    header = _read_lines(text, len(text) - len(text.lstrip("\n")))
    title = _TITLE.match(text)
    if not header.fields and title is not None:
        header = _read_lines(text, title.end())
    return header


def _read_lines(text: str, start: int) -> Header:
    lines: list[str] = []
    position = start
    for line in text[start : start + _MAX_HEADER].split("\n"):
        match = _LINE.match(line)
        if match is not None and match[1].lower().replace(" ", "-") in NAMES:
            lines.append(line)
        elif lines and line[:1].isspace() and line.strip():
            lines[-1] += " " + line.strip()  # a continued value
        elif lines or line.strip():
            break
        position += len(line) + 1
    if not lines:
        return Header({}, start, start)
    return Header(_parse_lines(lines), start, min(position, len(text)))


def _parse_lines(lines: list[str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in lines:
        match = _LINE.match(line)
        if match is not None:
            fields.setdefault(match[1].lower().replace(" ", "-"), match[2].strip("\"'"))
    return fields
