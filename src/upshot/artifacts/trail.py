"""The cheapest path from an artifact's question to the sources that it cites.

A path may use three kinds of edges: a query made only of the question, the facts and passages read
so far (it costs the logarithm of the source's place among its results), a citation followed in a
passage read, and a term that a passage uses and another source defines. So a query cannot give away
what it is to find, nothing is used before it was reached, and a source that no edge reaches is
reported as what the expert simply knew.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from upshot.artifacts.citations import find_mentions
from upshot.artifacts.library import Library
from upshot.artifacts.records import Passage
from upshot.artifacts.search import SearchIndex
from upshot.artifacts.words import Rarity, content_words

RESULTS = 20
"""Results of a query that are looked through, as a person would."""
_QUERY_WORDS = 14
"""Words of a query, the rarest of its text: people's queries on legal databases have 4 to 15."""
_MAX_BRIDGES = 6
"""Sources that may be opened on the way to one that no query reaches."""
_MAX_TEXTS = 48
"""Texts of a start that queries are made of."""
_TERM = re.compile(
    r"\bterms?\s+[“\"](?P<term>[^”\"]{3,60})[”\"]\s+(?:means|includes|has|shall mean)", re.I
)
_ANY_TERM = re.compile(r"[“\"](?P<term>[^”\"]{3,60})[”\"]\s+(?:means|shall mean)\b", re.I)


class Edge(NamedTuple):
    """One way to a source."""

    cost: float
    source: str
    passage: Passage
    """What is read of the source first."""
    kind: str
    """query, citation or term."""
    via: str
    """The query, the words of the citation, or the term."""
    origin: str
    """Id of the source whose passage it starts from; "" for question and facts."""
    rank: int


class Visit(NamedTuple):
    """A source reached, by which edge."""

    edge: Edge
    is_bridge: bool


class PathFinder:
    """Reaches sources from the texts of a start, the cheapest first."""

    def __init__(
        self,
        index: SearchIndex,
        rarity: Rarity,
        as_of: str,
        *,
        exclude: Iterable[str] = (),
    ) -> None:
        self._index, self._rarity, self._as_of = index, rarity, as_of
        self._library = index.library
        self._exclude = set(exclude)
        self.visits: dict[str, Visit] = {}
        """Sources reached, in order."""
        self._edges: dict[str, Edge] = {}
        self._used: set[str] = set()

    def start_from(self, texts: Iterable[str]) -> None:
        """Add texts that are known at the start: a question, facts."""
        for text in [text for text in dict.fromkeys(texts) if text not in self._used][:_MAX_TEXTS]:
            self._used.add(text)
            self._add_queries(text, "")

    def read(self, passage: Passage) -> None:
        """Add a passage of a source that is open; what it cites and uses can be reached from it."""
        text = self._library.text_of(passage)
        if text in self._used:
            return
        self._used.add(text)
        self._follow_citations(text, passage.source)
        self._follow_terms(text, passage.source)
        self._add_queries(text, passage.source)

    def reach(self, targets: Iterable[str]) -> list[str]:
        """Reach sources by the cheapest edges; returns those that none leads to."""
        missing = [target for target in dict.fromkeys(targets) if target not in self.visits]
        bridges = _MAX_BRIDGES
        while missing:
            ready = [target for target in missing if target in self._edges]
            if ready:
                best = min(ready, key=lambda t: (self._edges[t].cost, t))
                self._visit(self._edges[best], is_bridge=False)
                missing.remove(best)
                continue
            if not bridges:
                break
            bridge = self._choose_bridge()
            if bridge is None:
                break
            bridges -= 1
            self._visit(bridge, is_bridge=True)
        return missing

    def path_to(self, source: str) -> list[Edge]:
        """The edges from the start to a source that was reached."""
        path: list[Edge] = []
        while source:
            edge = self.visits[source].edge
            path.append(edge)
            source = edge.origin
        return path[::-1]

    def _visit(self, edge: Edge, *, is_bridge: bool) -> None:
        self.visits[edge.source] = Visit(edge, is_bridge)
        self.read(edge.passage)
        if is_bridge:  # a person looks through an open source for what else it refers to
            for passage in self._library.passages(edge.source)[:_MAX_TEXTS]:
                self._follow_citations(self._library.text_of(passage), edge.source)

    def _choose_bridge(self) -> Edge | None:
        ways = [
            edge
            for source, edge in self._edges.items()
            if source not in self.visits and edge.rank <= _MAX_BRIDGES
        ]
        return min(ways, key=lambda e: (e.cost, e.source)) if ways else None

    def _add_queries(self, text: str, origin: str) -> None:
        query = make_query(text, self._rarity)
        if not query:
            return
        hits = self._index.search(query, self._as_of, RESULTS, self._exclude)
        for rank, hit in enumerate(hits, 1):
            cost = math.log2(1 + rank)
            source = hit.passage.source
            self._offer(Edge(cost, source, hit.passage, "query", query, origin, rank))

    def _offer(self, edge: Edge) -> None:
        if edge.source == edge.origin or edge.source in self._exclude:
            return
        basis = self._edges.get(edge.source)
        if basis is None or edge.cost < basis.cost:
            self._edges[edge.source] = edge

    def _follow_citations(self, text: str, origin: str) -> None:
        for source, words in cited_in_text(self._library, text, self._as_of):
            passages = self._library.passages(source)
            if passages:
                self._offer(Edge(1.0, source, passages[0], "citation", words, origin, 1))

    def _follow_terms(self, text: str, origin: str) -> None:
        low = text.lower()
        for term, definitions in defined_terms(self._library).items():
            if term not in low:
                continue
            for passage in definitions:
                if self._library[passage.source].is_in_force(self._as_of):
                    self._offer(Edge(1.0, passage.source, passage, "term", term, origin, 1))


def make_query(text: str, rarity: Rarity) -> str:
    """The rarest words of a text, in its order.

    >>> make_query("The boat is at the quay", Rarity([["boat"], ["quay"]]))
    'boat quay'
    """
    first: dict[str, str] = {}
    for match in re.finditer(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", text):
        for stem in content_words(match[0]):
            first.setdefault(stem, match[0].lower())
    basis = [stem for stem in first if rarity.counts.get(stem)]
    chosen = set(sorted(basis, key=lambda stem: (-rarity.weight(stem), stem))[:_QUERY_WORDS])
    return " ".join(dict.fromkeys(first[stem] for stem in first if stem in chosen))


def cited_in_text(library: Library, text: str, as_of: str) -> list[tuple[str, str]]:
    """(source, words) of the citations in a passage that mean exactly one source on a day."""
    cache: dict[str, list[tuple[str, str, str]]] = library.cache.setdefault("cited", {})
    if text not in cache:
        cache[text] = [
            (key, source, text[mention.start : mention.end])
            for mention in find_mentions(text)
            for key in mention.keys
            for source in library.look_up(key)
        ]
    valid: dict[str, dict[str, str]] = {}
    for key, source, words in cache[text]:
        if library[source].is_in_force(as_of):
            valid.setdefault(key, {})[source] = words
    return [next(iter(ids.items())) for ids in valid.values() if len(ids) == 1]


def defined_terms(library: Library) -> dict[str, list[Passage]]:
    """Where the library defines terms: {term in lower case: passages}."""
    terms: dict[str, list[Passage]] | None = library.cache.get("terms")
    if terms is None:
        terms = {}
        for source in library.sources:
            for passage in library.passages(source):
                for term in _defined_in(library.text_of(passage)):
                    terms.setdefault(term, []).append(passage)
        library.cache["terms"] = terms
    return terms


def _defined_in(text: str) -> Iterator[str]:
    for pattern in (_TERM, _ANY_TERM):
        for match in pattern.finditer(text):
            yield match["term"].lower()


def select_start_texts(question: str, facts: Sequence[str], questions: Iterable[str]) -> list[str]:
    """What queries may start from: the question, its issues, each fact and all facts together."""
    texts = [question, *questions, *facts]
    if facts:
        texts.append(" ".join([question, *facts])[:2_000])
    return texts
