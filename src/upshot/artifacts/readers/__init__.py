"""Texts with markup: each reader finds headings, notes, literal text and block quotes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from upshot.artifacts.readers import html, markdown, rst, text
from upshot.artifacts.records import Document
from upshot.errors import InputError

READERS: Mapping[str, Callable[[str], Document]] = {
    "markdown": markdown.read,
    "rst": rst.read,
    "html": html.read,
    "text": text.read,
}
SUFFIXES: Mapping[str, str] = {
    ".md": "markdown",
    ".markdown": "markdown",
    ".rst": "rst",
    ".htm": "html",
    ".html": "html",
    ".txt": "text",
    "": "text",
}
"""The reader of each file name's ending."""
_HTML = re.compile(r"\s*(?:<!doctype html|<html|<body|<h1)", re.IGNORECASE)
_MARKDOWN = re.compile(r"^(?:#{1,6} \S|\[\^\w+\]:|```|> )", re.MULTILINE)
_RST = re.compile(r"^(?:\.\. \S|(?P<title>\S.*)\n(?:={3,}|-{3,}|~{3,}|\^{3,})$)", re.MULTILINE)


def read_document(content: str, kind: str = "") -> Document:
    """A document of text whose markup is named, or told from the text.

    Raises:
        InputError: there is no such markup.

    >>> read_document("# Facts\\n\\nA boat.", "markdown").headings[0].title
    'Facts'
    """
    kind = {"md": "markdown", "txt": "text", "htm": "html"}.get(kind, kind) or detect(content)
    if kind not in READERS:
        raise InputError(f"could not read text as {kind!r}: there are {', '.join(READERS)}")
    clean = content.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")
    return READERS[kind](clean)


def detect(content: str) -> str:
    """Which reader a text is for.

    >>> detect("Facts\\n=====\\n\\nA boat."), detect("A boat.")
    ('rst', 'text')
    """
    head = content[:20_000]
    if _HTML.match(head):
        return "html"
    if _RST.search(head) and not re.search(r"^#{1,6} \S", head, re.MULTILINE):
        return "rst"
    return "markdown" if _MARKDOWN.search(head) else "text"
