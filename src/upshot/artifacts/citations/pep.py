"""Python Enhancement Proposals: `PEP 8`, `PEPs 3 and 12`, `:pep:`257``, their addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator

from upshot.artifacts.citations.kind import CitationKind
from upshot.artifacts.records import Mention, Source

_ROLE = re.compile(r":pep:`(?:[^`<]*<)?\s*(\d{1,4})(?:#(?P<anchor>[\w-]+))?>?`")
_PLAIN = re.compile(
    r"\bPEPs?[ \u00a0-](?P<first>\d{1,4})"
    r"(?P<more>(?:(?:,[ ](?:and[ ])?|[ ]and[ ]|[ ]or[ ]|/)\d{1,4}\b)*)"
)
_ADDRESS = re.compile(
    r"https?://(?:peps\.python\.org|(?:www\.)?python\.org(?:/dev)?/peps)/pep-(\d{1,4})\S*?"
    r"(?=[\s>)\],]|\.?$)",
    re.MULTILINE,
)
_ID = re.compile(r"pep[-_ ]?0*(\d{1,4})$", re.IGNORECASE)
_TITLE = re.compile(r"PEP[ -](\d{1,4})\b")


def find(text: str) -> Iterator[Mention]:
    """Mentions of PEPs."""
    for match in _ROLE.finditer(text):
        pinpoint = (match["anchor"],) if match["anchor"] else ()
        yield Mention(match.start(), match.end(), "pep", (f"pep:{int(match[1])}",), pinpoint)
    for match in _PLAIN.finditer(text):
        first = match.end("first")
        yield Mention(match.start(), first, "pep", (f"pep:{int(match['first'])}",))
        for other in re.finditer(r"\d+", match["more"]):
            start = first + other.start()
            yield Mention(start, first + other.end(), "pep", (f"pep:{int(other[0])}",))
    for match in _ADDRESS.finditer(text):
        yield Mention(match.start(), match.end(), "pep", (f"pep:{int(match[1])}",))


def names(source: Source) -> Iterator[str]:
    """The PEP's number, by the id or the start of the title."""
    match = _ID.match(source.id) or _TITLE.match(source.title)
    if match is not None:
        yield f"pep:{int(match[1])}"


KIND = CitationKind("pep", find, names)
