"""Addresses of pages."""

from __future__ import annotations

import re
from collections.abc import Iterator

from upshot.artifacts.citations.kind import CitationKind
from upshot.artifacts.records import Mention, Source

_ADDRESS = re.compile(r"https?://[^\s<>\"'`\]}|\\^]+")


def normalise_address(address: str) -> tuple[str, str]:
    """An address as it is looked up, and its fragment.

    >>> normalise_address("HTTPS://www.Example.org/a/b.html#part-2")
    ('example.org/a/b', 'part-2')
    """
    plain, _, fragment = address.partition("#")
    plain = re.sub(r"^https?://(?:www\.)?", "", plain.rstrip("/.,;:)"), flags=re.IGNORECASE)
    host, slash, path = plain.partition("/")
    path = re.sub(r"/?(?:index)?\.html?$", "", path)
    return f"{host.lower()}{slash if path else ''}{path}", fragment.rstrip(".,;:)")


def find(text: str) -> Iterator[Mention]:
    """Mentions of addresses."""
    for match in _ADDRESS.finditer(text):
        address = match[0].rstrip(".,;:)'")
        plain, fragment = normalise_address(address)
        pinpoint = (fragment,) if fragment else ()
        end = match.start() + len(address)
        yield Mention(match.start(), end, "urls", (f"url:{plain}",), pinpoint)


def names(source: Source) -> Iterator[str]:
    """The address that a source has."""
    for address in (source.url, source.id):
        if address.startswith("http"):
            yield f"url:{normalise_address(address)[0]}"


KIND = CitationKind("urls", find, names)
