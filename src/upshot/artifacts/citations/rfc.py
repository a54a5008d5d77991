"""Requests for Comments: `RFC 7230, Section 3.2`, `:rfc:`2119``, addresses of their pages."""

from __future__ import annotations

import re
from collections.abc import Iterator

from upshot.artifacts.citations.kind import CitationKind
from upshot.artifacts.records import Mention, Source

_ROLE = re.compile(r":rfc:`(?:[^`<]*<)?\s*(\d{1,5})(?:#section-(?P<section>[\d.]+))?>?`")
_PLAIN = re.compile(
    r"(?:(?:[Ss]ection|§)[ ](?P<before>\d+(?:\.\d+)*)[ ]of[ ])?\bRFC[ \u00a0-]?(?P<number>\d{1,5})"
    r"(?:,?[ ](?:[Ss]ection|[Ss]ec\.|§)[ ]?(?P<after>\d+(?:\.\d+)*))?"
)
_ADDRESS = re.compile(
    r"https?://(?:tools\.ietf\.org/html/|(?:www\.)?ietf\.org/rfc/|datatracker\.ietf\.org/doc/html/"
    r"|(?:www\.)?rfc-editor\.org/rfc/)rfc(\d{1,5})(?:\.\w+)?(?:#section-(?P<section>[\d.]+\d))?"
)
_NAME = re.compile(r"rfc[-_ ]?0*(\d{1,5})\b", re.IGNORECASE)


def find(text: str) -> Iterator[Mention]:
    """Mentions of RFCs."""
    for pattern in (_ROLE, _ADDRESS):
        for match in pattern.finditer(text):
            pinpoint = (match["section"],) if match["section"] else ()
            yield Mention(match.start(), match.end(), "rfc", (f"rfc:{int(match[1])}",), pinpoint)
    for match in _PLAIN.finditer(text):
        section = match["after"] or match["before"]
        key = f"rfc:{int(match['number'])}"
        yield Mention(match.start(), match.end(), "rfc", (key,), (section,) if section else ())


def names(source: Source) -> Iterator[str]:
    """The RFC's number, by the id or the start of the title."""
    match = _NAME.match(source.id) or _NAME.match(source.title)
    if match is not None:
        yield f"rfc:{int(match[1])}"


KIND = CitationKind("rfc", find, names)
