"""Pairs across users: one request that several people made, differently fated answers.

Only requests that open a conversation, so that nothing else was in the context; the same words up
to order, numbers and words that say nothing; verdicts less their user's leniency. No example leaves
that fewer than k people stand behind.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from upshot.hindsight.embedded.timeline import USER
from upshot.preferences.pairs import Judged, answer, place, prompt_of
from upshot.records import Place, Preference, Source, Turn
from upshot.stats import words as tokens

_DIGITS = re.compile(r"\d+")
_LEAST_WORDS = 3
_LEAST_SURE = 0.2
_LEAST_MARGIN = 0.3
_MOST = 5
"""Pairs of one request."""
_STRENGTH = 4.0
"""Verdicts it takes to believe that a user is lenient."""


class Answer(NamedTuple):
    """An answer to a request that opened a conversation."""

    request: int
    """Hash of the request's words."""
    user: str
    prompt: tuple[Turn, ...]
    text: str
    place: Place
    score: float
    """Less the user's leniency."""
    confidence: float
    told: bool
    """Whether the good news is more than politeness."""


def openings(seen: Judged) -> Iterator[Answer]:
    """The first answers of a bucket's conversations."""
    line = seen.line
    lenient = _leniency(seen)
    first = [
        p
        for p in line.responses.tolist()
        if p in seen.fate and line.index[p] <= 2 and p > 0 and line.role[p - 1] == USER
    ]
    words = tokens.content(tokens.words([_DIGITS.sub(" ", line.text[p - 1]) for p in first], 4_000))
    for row, p in enumerate(first):
        known = np.unique(words.hashes[words.text == row])
        fate = seen.fate[p]
        if len(known) >= _LEAST_WORDS and fate.confidence >= _LEAST_SURE:
            user = str(line.user[p])
            yield Answer(
                hash(known.tobytes()),
                user,
                prompt_of(line, p),
                line.text[p],
                place(line, p),
                fate.score - lenient.get(user, 0.0),
                fate.confidence,
                fate.told,
            )


def _leniency(seen: Judged) -> dict[str, float]:
    """By user: how far the mean of their verdicts lies above everybody's, shrunk by how few they
    are.
    """
    by_user: dict[str, list[float]] = {}
    for p, fate in seen.fate.items():
        if fate.confidence >= _LEAST_SURE:
            by_user.setdefault(str(seen.line.user[p]), []).append(fate.score)
    if not by_user:
        return {}
    mean = float(np.mean([score for scores in by_user.values() for score in scores]))
    return {
        user: float(np.sum(np.array(scores) - mean)) / (len(scores) + _STRENGTH)
        for user, scores in by_user.items()
    }


def pairs(answers: Iterable[Answer], least_users: int = 5) -> Iterator[Preference]:
    """Pairs of every request that at least `least_users` people made."""
    groups: dict[int, list[Answer]] = {}
    for one in answers:
        groups.setdefault(one.request, []).append(one)
    for group in groups.values():
        users = tuple(sorted({one.user for one in group}))
        if len(users) < least_users:
            continue
        ordered = sorted(group, key=lambda one: (one.score, one.place.id, one.place.index))
        good = [one for one in reversed(ordered) if one.told]
        for worse, better in zip(ordered[: min(_MOST, len(ordered) // 2)], good, strict=False):
            margin = better.score - worse.score
            if margin < _LEAST_MARGIN:
                break
            if better.user == worse.user or better.text.strip() == worse.text.strip():
                continue
            source = Source(
                "across", users, "", better.place, worse.place, note=f"{len(users)} users"
            )
            sure = float(np.sqrt(better.confidence * worse.confidence))
            yield Preference(
                worse.prompt,
                answer(better.text),
                answer(worse.text),
                round(min(1.0, margin), 4),
                round(sure, 4),
                source,
            )
