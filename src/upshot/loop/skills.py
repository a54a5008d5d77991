"""Skills: solutions that the world confirmed, stored with the request they solved.

A skill is a request and its answer, with evidence that it worked: a reported outcome, a test, an
adoption. They are found by the words that two requests share, over all that either has, rare words
counting more (weighted Jaccard): a word that one lacks may be what matters. Those that hardly
differ are offered to a policy as examples in its prompt. A later failure of the same answer takes
it out again.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from upshot.io import json_lines
from upshot.lake import Lake
from upshot.records import Turn, with_calls
from upshot.records.verdicts import EVEN
from upshot.stats import word_hashes

CONFIRMING = frozenset(
    {"worked", "test", "outcome", "build", "kept", "commit", "own_commit", "adopted"}
)
"""Kinds of evidence by which the world confirms."""
_ALIKE = 0.9
"""Likeness from which a solution is offered (`bench/remedies.py`: .9 of them are right)."""
_MIN_SCORE = 0.8
"""Score from which a verdict confirms; set by hand, above the usual good."""
_MIN_CHARACTERS = 12
"""Shorter answers (“yes”, “done”) are no solutions."""


class Skill(msgspec.Struct, frozen=True):
    """One solution."""

    when: str
    """The request that it solved."""
    how: str
    """The answer."""
    quotes: list[str]
    """What confirmed it."""
    users: list[str]
    """Pseudonyms of those for whom it worked."""
    failed: int = 0
    """For how many it did not."""

    @property
    def trust(self) -> float:
        """P(it works), of those who told: Laplace's rule."""
        return (len(self.users) + 1) / (len(self.users) + self.failed + 2)


class _Evidence(NamedTuple):
    """What is known of one solution while verdicts are read."""

    request: str
    answer: str
    quotes: list[str]
    users: set[str]
    failures: set[str]


def learn_skills(
    verdicts: Iterable[dict[str, Any]], texts: dict[tuple[str, int], tuple[str, str, str]]
) -> list[Skill]:
    """Skills from verdicts. `texts`: (request, answer, user) by (conversation, index)."""
    solutions: dict[tuple[str, str], _Evidence] = {}
    for verdict in verdicts:
        place = (verdict["id"], verdict["index"])
        if place not in texts:
            continue
        request, answer, user = texts[place]
        if len(answer) < _MIN_CHARACTERS:
            continue
        solution = solutions.setdefault(
            (" ".join(request.lower().split()), answer.strip()),
            _Evidence(request, answer, [], set(), set()),
        )
        good = [
            evidence["quote"]
            for evidence in verdict["evidence"]
            if evidence["kind"] in CONFIRMING and evidence["polarity"] > 0
        ]
        bad = any(evidence["polarity"] < 0 for evidence in verdict["evidence"])
        if good and not bad and verdict["score"] >= _MIN_SCORE:
            solution.users.add(user)
            solution.quotes.extend(good[:1])
        elif bad and verdict["score"] < EVEN:
            solution.failures.add(user)
    skills = [
        Skill(s.request, s.answer, s.quotes[:3], sorted(s.users), len(s.failures))
        for s in solutions.values()
        if s.users
    ]
    return sorted(
        (skill for skill in skills if skill.trust > 0.5),
        key=lambda skill: (-skill.trust, skill.when),
    )


def read_skills(lake: Lake) -> Library:
    """The skills of a lake."""
    texts: dict[tuple[str, int], tuple[str, str, str]] = {}
    verdicts: list[dict[str, Any]] = []
    for bucket in range(lake.buckets):
        rows = sorted(
            with_calls(
                lake.read("messages", bucket, ["id", "index", "role", "text", "user", "tool_calls"])
            ).to_pylist(),
            key=lambda row: (row["id"], row["index"]),
        )
        request: tuple[str, str] = ("", "")
        for row in rows:
            if row["role"] == "user":
                request = (row["id"], row["text"])
            elif row["role"] == "assistant" and request[0] == row["id"]:
                texts[row["id"], row["index"]] = (request[1], row["text"], row["user"])
        verdicts += lake.read("verdicts", bucket, ["id", "index", "score", "evidence"]).to_pylist()
    return Library(learn_skills(verdicts, texts))


class Library:
    """Skills, and what finds them."""

    def __init__(self, skills: Sequence[Skill]) -> None:
        self.skills = list(skills)
        self._terms = [frozenset(_content_words(skill.when)) for skill in self.skills]
        self._df = Counter(term for terms in self._terms for term in terms)

    def find(
        self, request: str, limit: int = 3, min_likeness: float = 0.0
    ) -> list[tuple[Skill, float]]:
        """Skills for a request, the most alike first, then the most trusted, with their likeness
        in (0, 1]; none below `min_likeness`.
        """
        words = frozenset(_content_words(request))
        pairs = [
            (skill, self._likeness(words, terms))
            for skill, terms in zip(self.skills, self._terms, strict=True)
        ]
        return sorted(
            (pair for pair in pairs if pair[1] > 0 and pair[1] >= min_likeness),
            key=lambda pair: (-pair[1], -pair[0].trust),
        )[:limit]

    def _likeness(self, a: frozenset[int], b: frozenset[int]) -> float:
        return self._weight(a & b) / self._weight(a | b) if a & b else 0.0

    def _weight(self, terms: Iterable[int]) -> float:
        return sum(
            math.log(1 + (len(self.skills) + 0.5) / (self._df[term] + 0.5)) for term in terms
        )

    def offer(
        self, prompt: Sequence[Turn], limit: int = 2, min_likeness: float = _ALIKE
    ) -> tuple[Turn, ...]:
        """A prompt with what worked for others before it, as earlier exchanges; as it is where
        nothing fits.
        """
        request = next((turn.content for turn in reversed(prompt) if turn.role == "user"), "")
        shown = [
            turn
            for skill, _ in reversed(self.find(request, limit, min_likeness))
            for turn in (Turn("user", skill.when), Turn("assistant", skill.how))
        ]
        first = 1 if prompt and prompt[0].role == "system" else 0
        return (*prompt[:first], *shown, *prompt[first:])

    def without(self, user: str) -> Library:
        """The library without what a user (by pseudonym) alone confirmed."""
        skills = [
            msgspec.structs.replace(skill, users=[name for name in skill.users if name != user])
            for skill in self.skills
        ]
        return Library([skill for skill in skills if skill.users])


def save(library: Library, path: Path) -> None:
    """Write a library as JSON lines."""
    json_lines.write(library.skills, path)


def load(path: Path) -> Library:
    """Read a library from JSON lines."""
    return Library(
        [msgspec.json.decode(line, type=Skill) for line in path.read_bytes().splitlines()]
    )


def _content_words(text: str) -> Iterator[int]:
    yield from word_hashes.drop_stop_words(word_hashes.hash_words([text])).hashes.tolist()
