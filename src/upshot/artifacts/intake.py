"""Artifacts from files: texts with markup, and JSON lines of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from upshot.artifacts.library import hash_text, parse_date, read_whole
from upshot.artifacts.readers import SUFFIXES, read_document
from upshot.artifacts.records import Artifact
from upshot.errors import RecordError
from upshot.io.files import Bad, expand_paths, open_input, read_json
from upshot.io.json_values import is_object
from upshot.records import BadRecord

MAX_CHARACTERS = 20_000_000
"""Of one artifact; a 10 MB memo is read, and what is larger is no memo."""


def read_artifacts(paths: Sequence[str | Path]) -> Iterator[Artifact | BadRecord]:
    """The artifacts of files and folders: texts, or JSON lines with `text`.

    An id that comes again with another text becomes a bad record; with the same text it is skipped.

    Raises:
        NotFoundError: nothing is there.
    """
    contents: dict[str, str] = {}
    for file in expand_paths([str(path) for path in paths]):
        for item in _read_file(file):
            if isinstance(item, BadRecord):
                yield item
                continue
            content = hash_text(item.document.text)
            if item.id not in contents:
                contents[item.id] = content
                yield item
            elif contents[item.id] != content:
                reason = f"the id {item.id!r} comes twice with different texts; the first was read"
                yield BadRecord(file, item.id, reason)


def _read_file(file: str) -> Iterator[Artifact | BadRecord]:
    name = file.removesuffix(".gz").removesuffix(".zst")
    if name.endswith((".json", ".jsonl", ".ndjson")) or file == "-":
        opened = open_input(file)
        try:
            for position, record in read_json(opened):
                yield _parse(file, position, record)
        finally:
            opened.close()
        return
    if Path(name).suffix.lower() not in SUFFIXES:
        reason = (
            "an artifact is Markdown, reStructuredText, HTML, plain text or JSON lines; take the"
            " text out of a PDF first (pdftotext)"
        )
        yield BadRecord(file, "file", reason)
        return
    try:
        content = read_whole(file)
        record = {"id": Path(name).stem, "text": content}
        yield make_artifact(record, SUFFIXES[Path(name).suffix.lower()])
    except RecordError as error:
        yield BadRecord(file, "file", str(error))


def _parse(file: str, position: str, record: Any) -> Artifact | BadRecord:
    if isinstance(record, Bad) or not is_object(record):
        return BadRecord(file, position, record.reason if isinstance(record, Bad) else "no object")
    try:
        return make_artifact(record, str(record.get("format") or ""))
    except (RecordError, ValueError) as error:
        return BadRecord(file, position, str(error))


def make_artifact(record: Any, kind: str = "") -> Artifact:
    """An artifact of a record with `text`, and `id`, `title`, `date`, `status` where it has them.

    Raises:
        RecordError: it has no text, or too much, or a date that is none or contradicts its header.
    """
    text = record.get("text")
    if not isinstance(text, str) or not text.strip():
        raise RecordError("an artifact needs `text`")
    if len(text) > MAX_CHARACTERS:
        raise RecordError(f"{len(text):,} characters are more than {MAX_CHARACTERS:,}")
    document = read_document(text, kind)
    dates = {
        parse_date(value)
        for value in (
            record.get("date"),
            document.fields.get("date", document.fields.get("created")),
        )
        if value
    }
    if len(dates) > 1:
        raise RecordError(f"its dates contradict each other: {' and '.join(sorted(dates))}")
    title = str(record.get("title") or document.title or document.fields.get("re", ""))
    title = title or document.fields.get("subject", "") or _first_line(document.text)
    return Artifact(
        str(record.get("id") or "") or hash_text(text),
        document,
        next(iter(dates), ""),
        title,
        str(record.get("status") or document.fields.get("status", "")),
    )


_MAX_TITLE = 100
"""Characters of a first line that is a title, as style guides advise at most."""


_HEADER_LINE = re.compile(r"(?:date|to|from|cc|client|author)\s*:|[\d./-]+$", re.IGNORECASE)
_SUBJECT_LINE = re.compile(r"(?:re|subject|title)\s*:\s*(?P<title>\S.*)", re.IGNORECASE)


def _first_line(text: str) -> str:
    """The subject line near the top; else the first line where it stands alone, is short, and is no
    sentence, date or salutation.
    """
    blocks = [block.strip() for block in re.split(r"\n\s*\n", text[:2_000])[:4]]
    for block in blocks:
        subject = _SUBJECT_LINE.match(block)
        if subject is not None:
            return subject["title"].strip()
    for block in blocks:
        bare = block.strip(" #*_=")
        if not bare or _HEADER_LINE.match(bare):
            continue
        is_title = "\n" not in bare and len(bare) <= _MAX_TITLE
        is_title = is_title and not bare.endswith((".", ",", ";", "?", ":"))
        return bare if is_title and not bare.startswith(("Dear ", "Hi ")) else ""
    return ""
