"""Search over the passages of a library, as of a day: tantivy where it is installed, else SQLite.

Both index the same stems, so that a query ranks much the same with either. Results are sources,
each with its best passage; ties go to the passage that comes first in the library.
"""

from __future__ import annotations

import importlib.util
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import date
from typing import TYPE_CHECKING, NamedTuple, Protocol

from upshot.artifacts.library import Library
from upshot.artifacts.records import Passage
from upshot.artifacts.words import content_words

if TYPE_CHECKING:
    import tantivy

_ALWAYS, _NEVER = 0, 9_999_999
"""Days of sources without a first or last day."""
_OVERFETCH = 2
"""Passages requested for each source wanted: a source has several passages that match."""
_TITLE_BOOST = 2.0
"""Weight of a word in a title beside one in a passage; tantivy's examples use the same."""
_MAX_TERMS = 48
"""Words of a query; beyond them a query is a text, and only slows down."""


class Hit(NamedTuple):
    """A source that a search returned, with its best passage."""

    passage: Passage
    score: float


class Backend(Protocol):
    """Ranks passages by number for stems, within a span of days."""

    def rank(self, stems: Sequence[str], day: int, limit: int) -> list[tuple[int, float]]:
        """(passage number, score), the best first."""
        ...


class SearchIndex:
    """An index of a library.

    >>> from upshot.artifacts.records import Source
    >>> library = Library([Source("s1", "Boats", "A boat floats."), Source("s2", "Kilns", "Hot.")])
    >>> [hit.passage.source for hit in SearchIndex(library).search("boats")]
    ['s1']
    """

    def __init__(self, library: Library, backend: str = "") -> None:
        self.library = library
        self.numbered: list[Passage] = []
        self.bodies: list[tuple[str, ...]] = []
        """Stems of each passage."""
        rows: list[tuple[str, str, int, int]] = []
        for source in library.sources.values():
            title = " ".join(content_words(source.title))
            first, last = _day(source.begins, _ALWAYS), _day(source.valid_to, _NEVER)
            for passage in library.passages(source.id):
                self.numbered.append(passage)
                words = content_words(f"{passage.heading} {library.text_of(passage)}")
                self.bodies.append(words)
                rows.append((title, " ".join(words), first, last))
        self.backend = backend or choose_backend()
        self._backend: Backend = (
            TantivyBackend(rows) if self.backend == "tantivy" else SqliteBackend(rows)
        )
        self._cache: dict[tuple[tuple[str, ...], int, int], list[Hit]] = {}

    def search(
        self, query: str, as_of: str = "", limit: int = 20, exclude: Iterable[str] = ()
    ) -> list[Hit]:
        """The sources in force on a day that match best, each once, with its best passage."""
        stems = tuple(dict.fromkeys(content_words(query)))[:_MAX_TERMS]
        excluded = set(exclude)
        day = _day(as_of, -1)
        key = (stems, day, limit + len(excluded))
        hits = self._cache.get(key)
        if hits is None:
            hits = self._cache[key] = self._search(stems, day, limit + len(excluded))
        return [hit for hit in hits if hit.passage.source not in excluded][:limit]

    def _search(self, stems: Sequence[str], day: int, limit: int) -> list[Hit]:
        if not stems:
            return []
        fetch = limit * _OVERFETCH
        while True:
            ranked = self._backend.rank(stems, day, fetch)
            best: dict[str, Hit] = {}
            for number, score in ranked:
                passage = self.numbered[number]
                best.setdefault(passage.source, Hit(passage, score))
            if len(best) >= limit or len(ranked) < fetch:
                return list(best.values())[:limit]
            fetch *= 4


def choose_backend() -> str:
    """tantivy where it is installed, else sqlite."""
    return "tantivy" if importlib.util.find_spec("tantivy") is not None else "sqlite"


def _day(day: str, otherwise: int) -> int:
    return date.fromisoformat(day).toordinal() if day else otherwise


class TantivyBackend:
    """BM25 by tantivy, in memory."""

    def __init__(self, rows: Sequence[tuple[str, str, int, int]]) -> None:
        import tantivy  # an extra, and only where a library is searched

        self._module = tantivy
        builder = tantivy.SchemaBuilder()
        for name in ("title", "body"):
            builder.add_text_field(name, tokenizer_name="whitespace", index_option="freq")
        for name in ("number", "first", "last"):
            builder.add_integer_field(name, indexed=True, fast=True)
        self._schema = builder.build()
        index = tantivy.Index(self._schema)
        writer = index.writer(64_000_000, 1)
        for number, (title, body, first, last) in enumerate(rows):
            writer.add_document(
                tantivy.Document(title=title, body=body, number=number, first=first, last=last)
            )
        writer.commit()
        writer.wait_merging_threads()
        index.reload()
        self._searcher = index.searcher()

    def rank(self, stems: Sequence[str], day: int, limit: int) -> list[tuple[int, float]]:
        """By BM25 over titles and passages."""
        result = self._searcher.search(self._query(stems, day), limit, count=False)
        addresses = [address for _, address in result.hits]
        numbers = self._searcher.fast_field_values("number", addresses)
        scored = [
            (int(number or 0), float(score or 0.0))
            for number, (score, _) in zip(numbers, result.hits, strict=True)
        ]
        return sorted(scored, key=lambda row: (-row[1], row[0]))

    def _query(self, stems: Sequence[str], day: int) -> tantivy.Query:
        t = self._module
        words: list[tuple[tantivy.Occur, tantivy.Query]] = []
        for word in stems:
            body = t.Query.term_query(self._schema, "body", word, "freq")
            title = t.Query.term_query(self._schema, "title", word, "freq")
            words.append((t.Occur.Should, body))
            words.append((t.Occur.Should, t.Query.boost_query(title, _TITLE_BOOST)))
        query = t.Query.boolean_query(words)
        if day < 0:
            return query
        kind = t.FieldType.Integer
        begun = t.Query.range_query(self._schema, "first", kind, _ALWAYS, day)
        lasting = t.Query.range_query(self._schema, "last", kind, day, _NEVER)
        bounds = [(t.Occur.Must, t.Query.const_score_query(q, 0.0)) for q in (begun, lasting)]
        return t.Query.boolean_query([(t.Occur.Must, query), *bounds])


class SqliteBackend:
    """BM25 by SQLite's FTS5, in memory."""

    def __init__(self, rows: Sequence[tuple[str, str, int, int]]) -> None:
        self._connection = sqlite3.connect(":memory:", check_same_thread=False)
        self._connection.execute(
            "CREATE VIRTUAL TABLE passages USING fts5"
            "(title, body, first UNINDEXED, last UNINDEXED, tokenize='unicode61')"
        )
        self._connection.executemany(
            "INSERT INTO passages(rowid, title, body, first, last) VALUES (?, ?, ?, ?, ?)",
            ((number + 1, *row) for number, row in enumerate(rows)),
        )

    def rank(self, stems: Sequence[str], day: int, limit: int) -> list[tuple[int, float]]:
        """By BM25 over titles and passages."""
        match = " OR ".join('"' + word.replace('"', "") + '"' for word in stems)
        rows = self._connection.execute(
            "SELECT rowid - 1, -bm25(passages, :boost, 1.0) AS score FROM passages"
            " WHERE passages MATCH :match AND (:day < 0 OR (first <= :day AND last >= :day))"
            " ORDER BY score DESC, rowid LIMIT :limit",
            {"match": match, "day": day, "limit": limit, "boost": _TITLE_BOOST},
        )
        return [(int(number), float(score)) for number, score in rows]
