"""The steps of a trail: how each source is reached, what is read of it, what follows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from upshot.artifacts.claims import Claim, Ground
from upshot.artifacts.desk import Desk
from upshot.artifacts.records import Action, Passage, Quote, Span, Step
from upshot.artifacts.trail import Edge, PathFinder
from upshot.artifacts.words import content_words


class StepWriter:
    """Writes the steps of a trail: how each source is reached, what is read, what follows."""

    def __init__(self, desk: Desk, finder: PathFinder, quotes: Sequence[Quote], basis: str) -> None:
        self._desk, self._finder, self._quotes = desk, finder, quotes
        self._known = set(content_words(basis))
        """Stems of what may be looked for: of question, facts, and whatever was read."""
        self.steps: list[Step] = []
        self._opened: dict[str, int] = {}
        self._read: dict[tuple[str, int], int] = {}
        self._queries: dict[str, int] = {}
        self._results: dict[str, list[int]] = {}

    def write(self, claims: Sequence[Claim]) -> list[Step]:
        """The steps of claims, in their order."""
        for claim in claims:
            rests_on: list[int] = []
            for ground in claim.grounds:
                if ground.source in self._finder.visits:
                    rests_on.append(self._rest_on(claim, ground))
            if claim.role == "conclusion" and not claim.grounds:
                continue  # said once more at the end
            if not claim.grounds:
                rests_on = self._earlier(claim)
            n = self._add(
                "infer",
                claim.issue,
                claim=claim.text,
                at=claim.at,
                uses=tuple(sorted(set(rests_on))),
            )
            self._results.setdefault(claim.issue, []).append(n)
        return self.steps

    def _add(self, action: Action, issue: str, **fields: Any) -> int:
        n = len(self.steps) + 1
        self.steps.append(Step(n, issue, action, **fields))
        return n

    def _earlier(self, claim: Claim) -> list[int]:
        """What a claim without a source rests on: the claims before it, of its issue first."""
        own = self._results.get(claim.issue, [])
        return own[-3:] if own else [step.n for step in self.steps if step.action == "infer"][-3:]

    def _rest_on(self, claim: Claim, ground: Ground) -> int:
        opened = 0
        for edge in self._finder.path_to(ground.source):
            opened = self._open(claim.issue, edge)
        passage = ground.passage
        if passage is None:
            return opened
        read = self._find(claim.issue, passage, opened)
        if ground.quote < 0:
            return read
        quote = self._quotes[ground.quote]
        return self._add(
            "quote",
            claim.issue,
            input=quote.text,
            source=quote.source,
            passage=quote.at,
            text=self._text(quote.source, quote.at),
            at=Span(quote.start, quote.end),
            uses=(read,),
        )

    def _open(self, issue: str, edge: Edge) -> int:
        if edge.source in self._opened:
            return self._opened[edge.source]
        origin = self._opened.get(edge.origin)
        uses = () if origin is None else (origin,)
        if edge.kind == "query":
            if edge.via not in self._queries:
                what = "the facts" if origin is None else self._title(edge.origin)
                self._queries[edge.via] = self._add(
                    "search", issue, input=edge.via, uses=uses, why=f"these words are of {what}"
                )
            uses = (self._queries[edge.via],)
            why = f"result {edge.rank} of the search"
        elif edge.kind == "citation":
            why = f"{self._title(edge.origin)} refers to {edge.via}"
        else:
            why = f"it defines “{edge.via}”, which {self._title(edge.origin)} uses"
        span = Span(edge.passage.start, edge.passage.end)
        n = self._add(
            "open",
            issue,
            input=edge.source,
            source=edge.source,
            passage=span,
            text=self._text(edge.source, span),
            uses=uses,
            rank=edge.rank,
            why=why,
        )
        self._opened[edge.source] = n
        self._learn(edge.source, span, n)
        return n

    def _find(self, issue: str, passage: Passage, opened: int) -> int:
        key = (passage.source, passage.start)
        if key in self._read:
            return self._read[key]
        span = Span(passage.start, passage.end)
        n = self._add(
            "find",
            issue,
            input=self._search_words(passage),
            source=passage.source,
            passage=span,
            text=self._text(passage.source, span),
            uses=(opened,),
            why="the place in it that the claim rests on",
        )
        self._learn(passage.source, span, n)
        return n

    def _learn(self, source: str, span: Span, n: int) -> None:
        self._read.setdefault((source, span.start), n)
        self._known.update(content_words(self._text(source, span)))

    def _search_words(self, passage: Passage) -> str:
        """Words of a passage that are known already, so that they give nothing away."""
        rarity = self._desk.rarity
        words: dict[str, str] = {}
        for word in re.findall(r"[^\W\d_]{3,}", self._desk.library.text_of(passage)):
            for stem in content_words(word):
                if stem in self._known:
                    words.setdefault(stem, word.lower())
        best = sorted(words, key=lambda stem: (-rarity.weight(stem), stem))[:6]
        return " ".join(words[stem] for stem in sorted(best)) or passage.heading

    def _text(self, source: str, span: Span | None) -> str:
        return "" if span is None else self._desk.library[source].text[span.start : span.end]

    def _title(self, source: str) -> str:
        return self._desk.library[source].title or source
