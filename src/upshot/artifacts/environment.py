"""The library as an environment: search, open, find, conclude; a reward at the end. No network.

What an agent may do in a replay is what an agent under training may do: `Environment` serves both,
so that a policy is trained on the very task that it is scored on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from upshot.artifacts.claims import passage_around
from upshot.artifacts.desk import Desk
from upshot.artifacts.quotes import locate
from upshot.artifacts.records import Span, Trail
from upshot.artifacts.support import best_passages
from upshot.artifacts.words import features

Tool = Literal["search", "open", "find", "conclude"]
RESULTS = 10
"""Results that a search shows: a page."""
_SHOWN = 6_000
"""Characters of a source that opening it shows; `find` reaches the rest."""
_EXCERPT = 240
_FOUND = 3
"""Passages that `find` shows."""
TOLERANCE = 0.01
"""Relative difference up to which two amounts agree: rounding on the way to them."""


class CitedPlace(msgspec.Struct, frozen=True):
    """A source that a conclusion cites, with the words it quotes, if any."""

    source: str
    quote: str = ""


class Action(msgspec.Struct, frozen=True, omit_defaults=True):
    """One call of a tool."""

    tool: Tool
    input: str = ""
    """A query, the id of a source, or what to find in the source."""
    source: str = ""
    """Of `find`."""
    text: str = ""
    """Of `conclude`: the answer in words."""
    label: str = ""
    """Of `conclude`: yes, no, or "" to abstain."""
    number: float | None = None
    citations: tuple[CitedPlace, ...] = ()


class Task(msgspec.Struct, frozen=True):
    """What an agent is given, and what is kept from it to score by."""

    id: str
    question: str
    facts: str
    as_of: str
    sources: tuple[str, ...] = ()
    """Sources that the expert cites and that can be reached."""
    passages: tuple[tuple[str, int, int], ...] = ()
    """(source, start, end) of the passages that the expert's claims rest on."""
    label: str = ""
    number: float | None = None
    calls: int = 0
    """Of the expert: searches, openings and look-ups on the trail."""


class Turn(msgspec.Struct, frozen=True):
    """What came of one action."""

    observation: str
    reward: float
    done: bool
    info: dict[str, float]


class CitedPassage(msgspec.Struct, frozen=True):
    """A citation of a conclusion as it was checked."""

    source: str
    quote: str = ""
    passage: Span | None = None
    is_real: bool = True
    """The source is in the library and was in force."""
    is_located: bool = True
    """The quotation stands in the source; so where nothing is quoted."""


def make_task(trail: Trail) -> Task:
    """The task that a trail leads through: question and facts, and the answer to score by."""
    rests = {n for step in trail.steps if step.action == "infer" for n in step.uses}
    by_number = {step.n: step for step in trail.steps}
    used = [by_number[n] for n in sorted(rests) if by_number[n].source]
    passages: list[tuple[str, int, int]] = []
    for step in used:
        span = step.passage
        if span is not None and (step.source, span.start, span.end) not in passages:
            passages.append((step.source, span.start, span.end))
    calls = sum(step.action in ("search", "open", "find") for step in trail.steps)
    return Task(
        trail.artifact,
        trail.question_text,
        trail.fact_text,
        trail.as_of,
        tuple(dict.fromkeys(step.source for step in used)),
        tuple(passages),
        trail.conclusion.label,
        trail.conclusion.number,
        calls,
    )


class Environment:
    """One task in a library; `reset`, then `step` until done.

    Raises of `step`:
        ValueError: the task is done already.
    """

    def __init__(self, task: Task, desk: Desk, *, max_calls: int = 40) -> None:
        self.task, self._desk = task, desk
        self.library = desk.library
        self.max_calls = max_calls
        self._exclude = [task.id]
        self.reset()

    def reset(self) -> dict[str, Any]:
        """Begin anew; returns what the agent is given."""
        self.opened: list[str] = []
        self.results: list[str] = []
        self.actions: list[Action] = []
        self.observations: list[str] = []
        self.cited: list[CitedPassage] = []
        self.conclusion: Action | None = None
        self.is_done = False
        return {
            "question": self.task.question,
            "facts": self.task.facts,
            "as_of": self.task.as_of,
            "calls": self.max_calls,
        }

    def step(self, action: Action | Mapping[str, Any]) -> Turn:
        """Carry out one action. The reward comes with the conclusion, and is 0 where the calls
        run out before one.
        """
        if self.is_done:
            raise ValueError("the task is done; reset the environment")
        try:
            action_taken = action if isinstance(action, Action) else msgspec.convert(action, Action)
        except msgspec.ValidationError as error:
            action_taken, observation = Action("search"), f"That is no action: {error}"
        else:
            observation = self._carry_out(action_taken)
        self.actions.append(action_taken)
        self.observations.append(observation)
        info: dict[str, float] = {}
        reward = 0.0
        if self.is_done:
            info = self.measure()
            reward = info["reward"]
        elif len(self.actions) >= self.max_calls:
            self.is_done = True
            info = self.measure()
        return Turn(observation, reward, self.is_done, info)

    def _carry_out(self, action: Action) -> str:
        if action.tool == "search":
            return self._search(action.input)
        if action.tool == "open":
            return self._open(action.input or action.source)
        if action.tool == "find":
            return self._find(action.source, action.input)
        self.conclusion = action
        self.cited = [self._check_citation(place) for place in action.citations]
        self.is_done = True
        return "The task is done."

    def _search(self, query: str) -> str:
        hits = self._desk.index.search(query, self.task.as_of, RESULTS, self._exclude)
        lines: list[str] = []
        for hit in hits:
            source = self._desk.library[hit.passage.source]
            self.results.append(source.id)
            excerpt = " ".join(self._desk.library.text_of(hit.passage).split())[:_EXCERPT]
            lines.append(f"[{source.id}] {source.title}: {excerpt}")
        return "\n".join(lines) or "Nothing matches."

    def _is_open_to(self, source: str) -> bool:
        library = self._desk.library
        return (
            source in library.sources
            and source not in self._exclude
            and library[source].is_in_force(self.task.as_of)
        )

    def _open(self, source: str) -> str:
        if not self._is_open_to(source):
            return f"There is no source {source!r} that was in force on {self.task.as_of}."
        if source not in self.opened:
            self.opened.append(source)
        text = self._desk.library[source].text
        more = len(text) - _SHOWN
        rest = f"\n… {more:,} more characters; use find." if more > 0 else ""
        return f"{self._desk.library[source].title}\n{text[:_SHOWN]}{rest}"

    def _find(self, source: str, words: str) -> str:
        if source not in self.opened:
            return f"{source!r} is not open."
        library = self._desk.library
        passages = library.passages(source)
        texts = [library.text_of(passage) for passage in passages]
        ranked = best_passages(features(words), texts, self._desk.rarity)[:_FOUND]
        return "\n".join(texts[index] for score, index in ranked if score > 0) or "Nothing matches."

    def _check_citation(self, place: CitedPlace) -> CitedPassage:
        if not self._is_open_to(place.source):
            return CitedPassage(place.source, place.quote, None, False, False)
        if not place.quote.strip():
            return CitedPassage(place.source)
        located = locate(self._desk.library, place.source, place.quote)
        if located is None:
            return CitedPassage(place.source, place.quote, None, True, False)
        passage = passage_around(self._desk.library, place.source, located[0])
        span = None if passage is None else Span(passage.start, passage.end)
        return CitedPassage(place.source, place.quote, span)

    def measure(self) -> dict[str, float]:
        """Every measure of the run so far, and the reward: a gate (nothing made up, no misquote)
        times .3 source recall + .3 supported citations + .4 conclusion. Measures of what was
        opened, cited or quoted are left out where nothing was.
        """
        task, cited = self.task, self.cited
        wanted = set(task.sources)
        sources = {place.source for place in cited}
        places = {(p.source, p.passage.start) for p in cited if p.passage is not None}
        wanted_places = {(source, start) for source, start, _ in task.passages}
        gate = float(all(place.is_real and place.is_located for place in cited))
        recall = _share(wanted & set(self.opened), wanted)
        supported = self._supported()
        agrees = self._agrees()
        pinpoints = [
            (p.source, p.passage.start) in wanted_places
            for p in cited
            if p.passage is not None and p.source in wanted
        ]
        scores = {
            "source_recall": recall,
            "cited_recall": _share(wanted & sources, wanted),
            "passage_recall": _share(wanted_places & places, wanted_places),
            "supported": supported,
            "conclusion": agrees,
            "abstained": float(self.conclusion is None or not self.conclusion.label),
            "calls": float(len(self.actions)),
            "calls_ratio": len(self.actions) / max(1, task.calls),
            "reward": gate * (0.3 * recall + 0.3 * supported + 0.4 * agrees),
        }
        if self.opened:
            scores["opened_precision"] = _share(wanted & set(self.opened), set(self.opened))
        if cited:
            scores["cited_precision"] = _share(wanted & sources, sources)
        if pinpoints:
            scores["pinpoint"] = sum(pinpoints) / len(pinpoints)
        quotes = [float(place.is_located) for place in cited if place.quote]
        if quotes:
            scores["quote_fidelity"] = sum(quotes) / len(quotes)
        return scores

    def _supported(self) -> float:
        """Share of the citations that a word of the conclusion rests on: real, located, opened."""
        sound = [
            place.is_real and place.is_located and place.source in self.opened
            for place in self.cited
        ]
        return sum(sound) / len(sound) if sound else 0.0

    def _agrees(self) -> float:
        """Whether the conclusion is the expert's: the label, and the number where there is one."""
        action_taken, task = self.conclusion, self.task
        if action_taken is None or not action_taken.label or action_taken.label != task.label:
            return 0.0
        if task.number is None or task.label == "no":
            return 1.0
        if action_taken.number is None:
            return 0.0
        return float(abs(action_taken.number - task.number) <= TOLERANCE * abs(task.number) + 0.01)


def _share(part: set[Any], whole: set[Any]) -> float:
    return len(part) / len(whole) if whole else 1.0


def sentences_in(observation: str) -> list[str]:
    """The paragraphs of an observation.

    >>> sentences_in("(a) One.\\n\\n(b) Two.")
    ['(a) One.', '(b) Two.']
    """
    return [part for part in re.split(r"\n\s*\n|\n", observation) if part.strip()]
