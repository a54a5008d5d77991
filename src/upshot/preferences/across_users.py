"""Pairs across users: answers of different quality to a request that several people made.

Only requests that open a conversation count, so that nothing else was in the context. Requests are
the same if their words are, whatever their order, numbers and stop words; verdicts are corrected
for their user's leniency. Every pair has at least k people behind it (k-anonymity).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from upshot.hindsight.embedded.timeline import USER
from upshot.preferences.pairs import JudgedBucket, place_of, prompt_before, response_turns
from upshot.records import Place, Preference, Source, Turn
from upshot.records.verdicts import SHARED
from upshot.stats import word_hashes

_DIGITS = re.compile(r"\d+")
_MIN_WORDS = 3
"""Content words of a request; shorter ones are the same by chance."""
_MAX_CHARACTERS = 4_000
"""Of a request that are compared."""
_MIN_MARGIN = 0.3
"""Difference of scores that more than the two users' standards must explain."""
_MAX_PAIRS = 5
"""Pairs per request, so that a common one does not dominate."""
_PRIOR_VERDICTS = 4.0
"""Strength of the prior that a user is as lenient as the others, in verdicts."""


class Answer(NamedTuple):
    """An answer to a request that opened a conversation."""

    request: int
    """Hash of the request's words."""
    user: str
    prompt: tuple[Turn, ...]
    turns: tuple[Turn, ...]
    place: Place
    score: float
    """Minus the user's leniency."""
    confidence: float
    has_substantive_praise: bool
    """Whether the positive evidence is more than politeness."""


def collect_openings(bucket: JudgedBucket) -> Iterator[Answer]:
    """Collect the first answers of a bucket's conversations."""
    line = bucket.timeline
    leniency = _estimate_leniency(bucket)
    first: list[int] = [
        p
        for p in line.responses.tolist()
        if p in bucket.verdicts and line.index[p] <= 2 and p > 0 and line.role[p - 1] == USER
    ]
    requests = [_DIGITS.sub(" ", line.text[p - 1]) for p in first]
    words = word_hashes.drop_stop_words(word_hashes.hash_words(requests, _MAX_CHARACTERS))
    for row, p in enumerate(first):
        hashes = np.unique(words.hashes[words.text == row])
        verdict = bucket.verdicts[p]
        if len(hashes) >= _MIN_WORDS and verdict.confidence >= SHARED:
            user = str(line.user[p])
            yield Answer(
                hash(hashes.tobytes()),
                user,
                prompt_before(line, p),
                response_turns(line, p),
                place_of(line, p),
                verdict.score - leniency.get(user, 0.0),
                verdict.confidence,
                verdict.has_substantive_praise,
            )


def _estimate_leniency(bucket: JudgedBucket) -> dict[str, float]:
    """How far each user's mean score lies above the overall mean, shrunk where verdicts are few."""
    by_user: dict[str, list[float]] = {}
    for p, verdict in bucket.verdicts.items():
        if verdict.confidence >= SHARED:
            by_user.setdefault(str(bucket.timeline.user[p]), []).append(verdict.score)
    if not by_user:
        return {}
    mean = float(np.mean([score for scores in by_user.values() for score in scores]))
    return {
        user: float(np.sum(np.array(scores) - mean)) / (len(scores) + _PRIOR_VERDICTS)
        for user, scores in by_user.items()
    }


def make_pairs_across_users(answers: Iterable[Answer], min_users: int = 5) -> Iterator[Preference]:
    """Make pairs of every request that at least `min_users` people made."""
    groups: dict[int, list[Answer]] = {}
    for answer in answers:
        groups.setdefault(answer.request, []).append(answer)
    for group in groups.values():
        users = tuple(sorted({answer.user for answer in group}))
        if len(users) < min_users:
            continue
        ordered = sorted(
            group, key=lambda answer: (answer.score, answer.place.id, answer.place.index)
        )
        good = [answer for answer in reversed(ordered) if answer.has_substantive_praise]
        for worse, better in zip(ordered[: min(_MAX_PAIRS, len(ordered) // 2)], good, strict=False):
            margin = better.score - worse.score
            if margin < _MIN_MARGIN:
                break
            if better.user == worse.user or better.turns == worse.turns:
                continue
            source = Source(
                "across", users, "", better.place, worse.place, note=f"{len(users)} users"
            )
            confidence = float(np.sqrt(better.confidence * worse.confidence))
            yield Preference(
                worse.prompt,
                better.turns,
                worse.turns,
                round(min(1.0, margin), 4),
                round(confidence, 4),
                source,
            )
