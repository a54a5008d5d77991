"""Skills: solutions that the world confirmed, kept with when they apply, and found again for new
tasks.

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
from typing import Any

import msgspec

from upshot.io import json_lines
from upshot.lake import Lake
from upshot.records import Turn
from upshot.stats import words as tokens

CONFIRMING = frozenset(
    {"worked", "test", "outcome", "build", "kept", "commit", "own_commit", "adopted"}
)
"""Kinds of evidence by which the world confirms."""
_ALIKE = 0.9
"""Likeness from which a solution is offered (`bench/remedies.py`: .9 of them are right)."""
_LEAST_SCORE = 0.8
_SHORT = 12


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


def learn(
    verdicts: Iterable[dict[str, Any]], texts: dict[tuple[str, int], tuple[str, str, str]]
) -> list[Skill]:
    """Skills from verdicts. `texts`: (request, answer, user) by (conversation, index)."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for verdict in verdicts:
        place = (verdict["id"], verdict["index"])
        if place not in texts:
            continue
        request, answer, user = texts[place]
        if len(answer) < _SHORT:
            continue
        entry = found.setdefault(
            (" ".join(request.lower().split()), answer.strip()),
            {"when": request, "how": answer, "quotes": [], "users": set(), "failed": set()},
        )
        good = [
            one["quote"]
            for one in verdict["evidence"]
            if one["kind"] in CONFIRMING and one["polarity"] > 0
        ]
        bad = [one for one in verdict["evidence"] if one["polarity"] < 0]
        if good and not bad and verdict["score"] >= _LEAST_SCORE:
            entry["users"].add(user)
            entry["quotes"] += good[:1]
        elif bad and verdict["score"] < 0.5:
            entry["failed"].add(user)
    skills = [
        Skill(one["when"], one["how"], one["quotes"][:3], sorted(one["users"]), len(one["failed"]))
        for one in found.values()
        if one["users"]
    ]
    return sorted(
        (skill for skill in skills if skill.trust > 0.5),
        key=lambda skill: (-skill.trust, skill.when),
    )


def of_lake(lake: Lake) -> Library:
    """The skills of a lake."""
    texts: dict[tuple[str, int], tuple[str, str, str]] = {}
    verdicts: list[dict[str, Any]] = []
    for bucket in range(lake.buckets):
        rows = sorted(
            lake.read("messages", bucket, ["id", "index", "role", "text", "user"]).to_pylist(),
            key=lambda row: (row["id"], row["index"]),
        )
        request: tuple[str, str] = ("", "")
        for row in rows:
            if row["role"] == "user":
                request = (row["id"], row["text"])
            elif row["role"] == "assistant" and request[0] == row["id"]:
                texts[row["id"], row["index"]] = (request[1], row["text"], row["user"])
        verdicts += lake.read("verdicts", bucket, ["id", "index", "score", "evidence"]).to_pylist()
    return Library(learn(verdicts, texts))


class Library:
    """Skills, and what finds them."""

    def __init__(self, skills: Sequence[Skill]) -> None:
        self.skills = list(skills)
        self._terms = [frozenset(_words(skill.when)) for skill in self.skills]
        self._df = Counter(term for terms in self._terms for term in terms)

    def find(self, request: str, most: int = 3, least: float = 0.0) -> list[tuple[Skill, float]]:
        """Skills for a request, the likest first, of those alike the most trusted, with their
        likeness in (0, 1]; none below `least`.
        """
        asked = frozenset(_words(request))
        found = [
            (skill, self._alike(asked, terms))
            for skill, terms in zip(self.skills, self._terms, strict=True)
        ]
        return sorted(
            (pair for pair in found if pair[1] > 0 and pair[1] >= least),
            key=lambda pair: (-pair[1], -pair[0].trust),
        )[:most]

    def _alike(self, a: frozenset[int], b: frozenset[int]) -> float:
        return self._weight(a & b) / self._weight(a | b) if a & b else 0.0

    def _weight(self, terms: Iterable[int]) -> float:
        return sum(
            math.log(1 + (len(self.skills) + 0.5) / (self._df[term] + 0.5)) for term in terms
        )

    def offer(
        self, prompt: Sequence[Turn], most: int = 2, least: float = _ALIKE
    ) -> tuple[Turn, ...]:
        """A prompt with what worked for others before it, as earlier exchanges; as it is where
        nothing fits.
        """
        request = next((turn.content for turn in reversed(prompt) if turn.role == "user"), "")
        shown = [
            turn
            for skill, _ in reversed(self.find(request, most, least))
            for turn in (Turn("user", skill.when), Turn("assistant", skill.how))
        ]
        first = 1 if prompt and prompt[0].role == "system" else 0
        return (*prompt[:first], *shown, *prompt[first:])

    def without(self, user: str) -> Library:
        """The library without what a user (by pseudonym) alone confirmed."""
        kept = [
            msgspec.structs.replace(skill, users=[name for name in skill.users if name != user])
            for skill in self.skills
        ]
        return Library([skill for skill in kept if skill.users])


def save(library: Library, path: Path) -> None:
    """As JSON lines."""
    json_lines.write(library.skills, path)


def load(path: Path) -> Library:
    """From JSON lines."""
    return Library(
        [msgspec.json.decode(line, type=Skill) for line in path.read_bytes().splitlines()]
    )


def _words(text: str) -> Iterator[int]:
    yield from tokens.content(tokens.words([text])).hashes.tolist()
