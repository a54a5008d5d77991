"""reStructuredText: underlined headings, literal blocks, footnotes, citations and link targets."""

from __future__ import annotations

import re

from upshot.artifacts.readers.fields import read_header
from upshot.artifacts.records import Document, Heading, Span

_HEADING = re.compile(
    r"^(?:(?P<over>([=\-`:'\"~^_*+#])\2{2,})[ \t]*\n)?"
    r"(?P<title>[^\s.][^\n]*?)[ \t]*\n(?P<line>([=\-`:'\"~^_*+#])\5{2,})[ \t]*$",
    re.MULTILINE,
)
_LITERAL = re.compile(
    r"""(?:^|(?<=\n))(?:
        \.\.[ ](?:code|code-block|sourcecode|parsed-literal|math|csv-table|image|figure|raw)
        [^\n]*::[^\n]*\n
      | [^\n]*::[ \t]*\n
    )
    (?:[ \t]*\n)*
    (?P<body>(?:(?:[ \t]+[^\n]*|[ \t]*)(?:\n|\Z))+)""",
    re.VERBOSE,
)
_NOTE = re.compile(
    r"^\.\.[ \t]+(?:\[\#?(?P<label>[\w.-]+)\][ \t]+|_`?(?P<link>[^:`\n]+)`?:[ \t]*)"
    r"(?P<note>[^\n]*(?:\n(?:[ \t]+\S[^\n]*))*)",
    re.MULTILINE,
)
_OLD_NOTE = re.compile(
    r"^[ \t]*\[(?P<label>\d+)\][ \t]+(?P<note>\S[^\n]*(?:\n[ \t]+(?!\[)\S[^\n]*)*)", re.MULTILINE
)
"""As texts write them that follow no markup: `[1] PEP 8, Style Guide`, a line to itself."""


def read(text: str) -> Document:
    """A document of reStructuredText; its text is the markup itself."""
    header = read_header(text)
    fields = header.fields
    literal = [Span(m.start("body"), m.end("body")) for m in _LITERAL.finditer(text)]
    levels: list[str] = []
    headings: list[Heading] = []
    for match in _HEADING.finditer(text):
        title = match["title"]
        if header.covers(match.start()):
            continue
        if len(match["line"]) < min(len(title), 3) or set(title) <= {match["line"][0]}:
            continue
        mark = match["line"][0] + ("o" if match["over"] else "")
        if mark not in levels:
            levels.append(mark)
        headings.append(Heading(title.strip(), levels.index(mark) + 1, match.start(), match.end()))
    notes = {m["label"]: Span(m.start("note"), m.end("note")) for m in _OLD_NOTE.finditer(text)}
    for match in _NOTE.finditer(text):
        label = match["label"] or match["link"].strip()
        notes[label] = Span(match.start("note"), match.end("note"))
    return Document(
        text,
        fields.get("title", ""),
        tuple(headings),
        notes,
        tuple(sorted((*header.span, *literal))),
        (),
        fields,
    )
