"""HTML: its visible text, with headings, block quotes, code and anchored notes."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from upshot.artifacts.records import Document, Heading, Span
from upshot.artifacts.word_lists import load_words

_BLOCKS = load_words("html_blocks")
_HIDDEN = frozenset(("script", "style", "template", "head", "noscript"))
_NOTE_ID = re.compile(r"(?:fn|note|ref|cite_note)[-_:]?([\w.-]+)$", re.IGNORECASE)


class _Extractor(HTMLParser):
    """Collects visible text and where its parts begin and end."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.length = 0
        self.title = ""
        self.fields: dict[str, str] = {}
        self.headings: list[Heading] = []
        self.spans: dict[str, list[Span]] = {"pre": [], "blockquote": []}
        self.notes: dict[str, Span] = {}
        self._open: list[tuple[str, int, str]] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = {key: value or "" for key, value in attrs}
        if tag == "meta":
            key = names.get("name", names.get("property", "")).lower().rpartition(":")[2]
            if key in ("date", "title", "status") and names.get("content"):
                self.fields[key] = names["content"]
        if tag in ("meta", "link", "img", "input", "hr"):
            return
        self._hidden += tag in _HIDDEN
        if tag in _BLOCKS:
            self._break()
        if tag == "br":
            return
        note = _NOTE_ID.match(names.get("id", ""))
        self._open.append((tag, self.length, note[1] if note else ""))

    def handle_endtag(self, tag: str) -> None:
        if not any(name == tag for name, _, _ in self._open):
            return
        while self._open:
            name, start, note = self._open.pop()
            self._hidden -= name in _HIDDEN
            self._close(name, start, note)
            if name == tag:
                break
        if tag in _BLOCKS:
            self._break()

    def _close(self, name: str, start: int, note: str) -> None:
        if note:
            self.notes.setdefault(note, Span(start, self.length))
        if name in self.spans:
            self.spans[name].append(Span(start, self.length))
        if len(name) == 2 and name[0] == "h" and name[1].isdigit():
            title = "".join(self.parts)[start : self.length].strip()
            self.headings.append(Heading(title, int(name[1]), start, self.length))

    def _break(self) -> None:
        if self.length and not (self.parts and self.parts[-1].endswith("\n\n")):
            self._add("\n\n")

    def _add(self, text: str) -> None:
        self.parts.append(text)
        self.length += len(text)

    def handle_data(self, data: str) -> None:
        if any(name == "title" for name, _, _ in self._open):
            self.title += data
        if self._hidden:
            return
        is_code = any(name == "pre" for name, _, _ in self._open)
        text = data if is_code else re.sub(r"\s+", " ", data)
        if text.strip() or (text and self.parts and not self.parts[-1][-1:].isspace()):
            self._add(text)


def read(text: str) -> Document:
    """A document of HTML; its text is what a browser would show."""
    extractor = _Extractor()
    extractor.feed(text)
    extractor.close()
    fields = extractor.fields
    title = fields.get("title", extractor.title.strip())
    if not title and extractor.headings:
        title = extractor.headings[0].title
    return Document(
        "".join(extractor.parts),
        title,
        tuple(extractor.headings),
        extractor.notes,
        tuple(extractor.spans["pre"]),
        tuple(extractor.spans["blockquote"]),
        fields,
    )
