"""The sources: read from a folder or file, split into passages, looked up by name and day.

A source is one text as it was in force over one period; several versions of a section are several
sources. Where an input gives a code as many small records under the same section's heading, the
records of a section become one source.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
from dateutil import parser as date_parser

from upshot.artifacts.readers import SUFFIXES, detect, read_document
from upshot.artifacts.records import Passage, Source, SourcePart
from upshot.artifacts.words import normalise_key
from upshot.errors import InputError, NotFoundError, RecordError
from upshot.io.files import Bad, expand_paths, open_input, read_json
from upshot.io.json_values import is_object
from upshot.records import BadRecord

MAX_PASSAGE = 1_200
"""Characters up to which paragraphs under one heading are one passage: a screenful, and what the
floor in the benchmark was measured with.
"""
_SPLIT = re.compile(r"\n[ \t]*\n")
_ENUMERATOR = re.compile(r"[ \t>*_-]*\(([A-Za-z]{1,5}|\d{1,3})\)(?=[\s(\u2002*_])")
_SECTION_HEADING = re.compile(r"^#{1,6} §[\s\u202f]*[\w.-]+?\. [^\n]*$", re.MULTILINE)
_HEADING_MARK = re.compile(r"^#{1,6}[ \t]+", re.MULTILINE)
_ROMAN = re.compile(r"(?=[ivx])(?:x{0,3})(?:ix|iv|v?i{0,3})")


def parse_date(value: object) -> str:
    """An ISO day of what a header or record gives; "" of nothing.

    Raises:
        RecordError: it is no date.

    >>> parse_date("March 3, 2024"), parse_date("2024"), parse_date(None)
    ('2024-03-03', '2024-01-01', '')
    """
    text = str(value or "").strip()
    if not text:
        return ""
    if re.fullmatch(r"\d{4}", text):
        return f"{text}-01-01"
    if re.match(r"\d{4}-\d\d-\d\d(?!\d)", text):
        text = text[:10]
    try:
        return date_parser.parse(text).date().isoformat()
    except (ValueError, OverflowError) as error:
        raise RecordError(f"{text[:40]!r} is no date; write it as 2024-03-31") from error


def hash_text(*parts: str) -> str:
    """Twelve hexadecimal digits of a text's content."""
    return hashlib.blake2b("\0".join(parts).encode("utf-8", "replace"), digest_size=6).hexdigest()


def passage_id(source: Source, passage: Passage) -> str:
    """A passage's id, by its content."""
    return hash_text(source.text[passage.start : passage.end])


class Library:
    """Sources by id and by the names under which they are cited.

    >>> library = Library([Source("s12", "§ 12. Berths", "(a) A berth is a place to moor.")])
    >>> [p.path for p in library.passages("s12")]
    [('a',)]
    """

    def __init__(self, sources: Iterable[Source]) -> None:
        self.sources: dict[str, Source] = {}
        self.bad: list[BadRecord] = []
        """Records that could not be read, or that contradict another one."""
        for source in sources:
            self._add(source)
        self._names: dict[str, list[str]] = {}
        self._passages: dict[str, tuple[Passage, ...]] = {}
        self.cache: dict[str, Any] = {}
        """What other modules derive from sources: normalised texts, indexes of words."""

    def _add(self, source: Source) -> None:
        other = self.sources.get(source.id)
        if other is None:
            self.sources[source.id] = source
        elif other.text != source.text:
            self.bad.append(
                BadRecord("sources", source.id, f"two sources have the id {source.id!r}; the first")
            )

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, source_id: str) -> Source:
        return self.sources[source_id]

    def name_sources(self, names: Mapping[str, Iterable[str]]) -> None:
        """Set under which names each source is cited: {source id: keys}."""
        table: defaultdict[str, list[str]] = defaultdict(list)
        for source_id, keys in names.items():
            for key in dict.fromkeys(keys):
                table[key].append(source_id)
        self._names = dict(table)

    def look_up(self, key: str) -> Sequence[str]:
        """Ids of the sources of a name, whatever the day."""
        return self._names.get(key, ())

    def has_kind(self, kind: str) -> bool:
        """Whether any source has a name of a kind (`section`, `pep`)."""
        kinds = self.cache.get("kinds")
        if kinds is None:
            kinds = self.cache["kinds"] = frozenset(key.partition(":")[0] for key in self._names)
        return kind in kinds

    def passages(self, source_id: str) -> tuple[Passage, ...]:
        """A source's passages, in order."""
        cached = self._passages.get(source_id)
        if cached is None:
            cached = tuple(split_passages(self.sources[source_id]))
            self._passages[source_id] = cached
        return cached

    def text_of(self, passage: Passage) -> str:
        """A passage's text."""
        return self.sources[passage.source].text[passage.start : passage.end]

    def without(self, source_ids: Iterable[str]) -> Library:
        """The same library without some sources."""
        gone = set(source_ids)
        smaller = Library(s for s in self.sources.values() if s.id not in gone)
        smaller.name_sources(
            {
                source_id: [key for key, ids in self._names.items() if source_id in ids]
                for source_id in smaller.sources
            }
            if len(self._names) < 2_000
            else self._invert(gone)
        )
        return smaller

    def _invert(self, gone: set[str]) -> dict[str, list[str]]:
        names: defaultdict[str, list[str]] = defaultdict(list)
        for key, ids in self._names.items():
            for source_id in ids:
                if source_id not in gone:
                    names[source_id].append(key)
        return names


def split_passages(source: Source) -> Iterator[Passage]:
    """A source by its structure: headings, enumerated parts, paragraphs of a screenful."""
    document = read_document(source.text, _markup_of(source))
    headings = list(document.headings)
    bounds = [0, *(heading.end for heading in headings), len(source.text)]
    titles = ["", *(heading.title for heading in headings)]
    starts = [heading.start for heading in headings] + [len(source.text)]
    base: tuple[str, ...] = ()
    for number, title in enumerate(titles):
        enumerator = _ENUMERATOR.match(title + " ")
        base = (enumerator[1],) if enumerator is not None else base if number else ()
        yield from _split_block(source, bounds[number], starts[number], title, base)


def _markup_of(source: Source) -> str:
    kind = detect(source.text)
    return "text" if kind == "html" else kind


def _split_block(
    source: Source, start: int, end: int, title: str, base: tuple[str, ...]
) -> Iterator[Passage]:
    path = base
    left = right = -1
    held: tuple[str, ...] = base
    for a, b in _paragraphs(source.text, start, end):
        enumerated = _ENUMERATOR.match(source.text, a, b)
        if enumerated is not None:
            path = _descend(path, base, source.text[a:b])
        joins = enumerated is None and left >= 0 and path == held and b - left <= MAX_PASSAGE
        if joins:
            right = b
            continue
        if left >= 0:
            yield Passage(source.id, left, right, title, held)
        left, right, held = a, b, path
    if left >= 0:
        yield Passage(source.id, left, right, title, held)


def _paragraphs(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Paragraphs, and lines that begin with an enumerator."""
    left = start
    for match in [*_SPLIT.finditer(text, start, end), None]:
        right = match.start() if match is not None else end
        begin = left
        for line in re.finditer(
            r"\n(?=[ \t]*\((?:[A-Za-z]{1,5}|\d{1,3})\)[\s\u2002])", text[left:right]
        ):
            yield from _strip_span(text, begin, left + line.start())
            begin = left + line.end()
        yield from _strip_span(text, begin, right)
        left = match.end() if match is not None else end


def _strip_span(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    if end > start:
        yield start, end


def _level(label: str) -> int:
    """Depth of an enumerator as American statutes have it: (a), (1), (A), (i), (I).

    >>> [_level(label) for label in ("a", "1", "A", "ii")]
    [0, 1, 2, 3]
    """
    if label.isdigit():
        return 1
    if label.isupper():
        return 2 if len(label) == 1 else 4
    return 3 if len(label) > 1 and _ROMAN.fullmatch(label) else 0


def _descend(path: tuple[str, ...], base: tuple[str, ...], text: str) -> tuple[str, ...]:
    """The path of a paragraph by its enumerators, given the path before it."""
    current = list(path)
    position = 0
    while (match := _ENUMERATOR.match(text, position)) is not None:
        label = match[1]
        level = _level(label)
        if label in ("i", "v", "x") and current and _level(current[-1]) in (2, 3):
            level = 3  # (i) after (A) is a numeral; after (h) it is a letter
        while len(current) > len(base) and _level_in(current) >= level:
            current.pop()
        current.append(label)
        position = match.end()
        if position < len(text) and text[position] != "(":
            break
    return tuple(current)


def _level_in(path: Sequence[str]) -> int:
    label = path[-1]
    if label in ("i", "v", "x") and len(path) > 1 and _level(path[-2]) in (2, 3):
        return 3
    return _level(label)


def read_library(paths: Sequence[str | Path] | str | Path) -> Library:
    """The library of a folder or file: texts, or JSON lines of sources.

    Raises:
        NotFoundError: nothing is there.
        InputError: no source can be read; the message gives the first reason.
    """
    named = [paths] if isinstance(paths, (str, Path)) else list(paths)
    for path in named:
        if not Path(path).exists():
            raise NotFoundError(
                f"could not open the library {path}: there is no such folder or file; name the"
                " folder of the sources with --sources"
            )
    sources: list[Source] = []
    bad: list[BadRecord] = []
    for file in expand_paths([str(path) for path in named]):
        for item in read_source_file(file):
            (bad if isinstance(item, BadRecord) else sources).append(cast(Any, item))
    library = Library(join_parts(sources))
    library.bad[:0] = bad
    if not library.sources:
        reason = f"; first: {bad[0].position}: {bad[0].reason}" if bad else ""
        raise InputError(f"could not open the library {named[0]}: it holds no source{reason}")
    return library


def read_source_file(file: str) -> Iterator[Source | BadRecord]:
    """The sources of one file, and what of it cannot be read."""
    name = file.removesuffix(".gz").removesuffix(".zst")
    if name.endswith((".json", ".jsonl", ".ndjson")):
        yield from _read_records(file)
        return
    if Path(name).suffix.lower() not in SUFFIXES:
        yield BadRecord(file, "file", "a source is Markdown, reStructuredText, HTML or plain text")
        return
    try:
        yield _read_text_source(file, name)
    except RecordError as error:
        yield BadRecord(file, "file", str(error))


def _read_text_source(file: str, name: str) -> Source:
    content = read_whole(file)
    document = read_document(content, SUFFIXES[Path(name).suffix.lower()])
    fields: dict[str, Any] = {key.replace("-", "_"): v for key, v in document.fields.items()}
    start = document.literal[0].end if fields and document.literal else 0
    return make_source(
        {
            **fields,
            "id": fields.get("id", Path(name).stem),
            "title": document.title or fields.get("title", ""),
            "text": document.text[start:].strip("\n"),
        }
    )


def read_whole(file: str) -> str:
    """The text of a file, decompressed.

    Raises:
        RecordError: it is no text.
    """
    source = open_input(file)
    try:
        data = source.stream.read()
    finally:
        source.close()
    if b"\0" in data[:4096]:
        raise RecordError("it is not text: it holds NUL bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _read_records(file: str) -> Iterator[Source | BadRecord]:
    opened = open_input(file)
    try:
        for position, record in read_json(opened):
            if isinstance(record, Bad) or not is_object(record):
                reason = record.reason if isinstance(record, Bad) else "not an object"
                yield BadRecord(file, position, reason)
                continue
            try:
                source = make_source(record)
            except RecordError as error:
                yield BadRecord(file, position, str(error))
                continue
            if source.text.strip():
                yield source
    finally:
        opened.close()


def make_source(record: Mapping[str, Any]) -> Source:
    """A source of a record.

    Raises:
        RecordError: its text is missing, or its dates contradict each other.
    """
    text = record.get("text")
    if not isinstance(text, str):
        raise RecordError("a source needs `text`")
    title = str(record.get("title") or "")
    fields = {name: parse_date(record.get(name)) for name in ("date", "valid_from", "valid_to")}
    if fields["valid_to"] and fields["valid_to"] < max(fields["valid_from"], fields["date"]):
        raise RecordError(
            f"its dates contradict each other: in force from"
            f" {max(fields['valid_from'], fields['date'])} to {fields['valid_to']}"
        )
    return Source(
        str(record.get("id") or "") or hash_text(title, text),
        title,
        text,
        fields["date"],
        fields["valid_from"],
        fields["valid_to"],
        supersedes=str(record.get("supersedes") or record.get("replaces") or ""),
        licence=str(record.get("licence") or record.get("license") or ""),
        url=str(record.get("url") or ""),
    )


def join_parts(sources: Sequence[Source]) -> Iterator[Source]:
    """Sources, with records of a code that stand under the same section's heading put together."""
    groups: dict[str, list[Source]] = {}
    for source in sources:
        heading = None if source.title else _SECTION_HEADING.search(source.text)
        key = f"\0{source.id}" if heading is None else source.text[: heading.end()].strip()
        groups.setdefault(key, []).append(source)
    for key, group in groups.items():
        if key.startswith("\0"):
            yield from group
            continue
        yield _join_group(key, group)


def _join_group(key: str, group: Sequence[Source]) -> Source:
    lines = _HEADING_MARK.sub("", key).split("\n")
    title = lines[-1].strip()
    text = key + "\n\n"
    parts: list[SourcePart] = []
    for source in group:
        body = source.text.strip()[len(key) :].strip("\n")
        parts.append(SourcePart(source.id, len(text), len(text) + len(body)))
        text += body + "\n\n"
    first = group[0]
    source_id = normalise_key(f"{lines[0].partition('—')[0]} {title.partition('. ')[0]}")
    return msgspec.structs.replace(first, id=source_id, title=title, text=text, parts=tuple(parts))


def count_duplicates(library: Library) -> dict[str, int]:
    """How many sources share a text with another one, by text."""
    counts = Counter(hash_text(source.text) for source in library.sources.values())
    return {key: count for key, count in counts.items() if count > 1}
