"""Pairs from corrections: a language model rewrites the answer that its user corrected.

The user's own text is never "chosen": a rewrite that copies it is refused. A second request, which
does not know that it sees a rewrite, checks that it meets every requirement. A rewrite that uses
what only the correction revealed is marked with a note, since such answers teach guessing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np

from upshot.hindsight.embedded.timeline import USER
from upshot.hindsight.trust import hostile
from upshot.llm import (
    Asker,
    Budget,
    Endpoint,
    Replies,
    Spent,
    load_prompt,
    make_question,
    work_through,
)
from upshot.preferences.kinds import REWRITE
from upshot.preferences.pairs import (
    JudgedBucket,
    answer_turns,
    place_of,
    prompt_before,
    response_turns,
    thread_name,
)
from upshot.records import Preference, Source, Turn
from upshot.records.training import turns_to_messages
from upshot.records.verdicts import BAD, USABLE
from upshot.stats import word_hashes

_MAX_COPIED = 0.3
"""Share of a rewrite's word triples that may be in the correction and nowhere before it."""
_MIN_CORRECTION_WORDS = 3
"""Shorter reactions ("no", "wrong again") say nothing to rewrite by."""
_MAX_GROWTH, _EXTRA_CHARACTERS = 3, 600
"""A rewrite may have this many times the characters of the answer, plus these; a longer one may be
better only for saying everything.
"""
_MAX_SHOWN = 6_000
"""Characters of each text in a request."""
_MAX_COMPARED = 20_000
"""Characters of each text in a comparison of words."""
_TOKENS = 3_000
"""Of a reply: a rewrite of the longest shown answer, and the JSON around it."""
_MIN_CHECK_SCORE, _MAX_CHECK_SCORE = 7, 10
"""Of the checker; the prompt calls 7 "good with small flaws"."""
LATER = "uses what was told later"
"""Note on a pair whose chosen answer the first prompt does not determine."""


class Rewrite(msgspec.Struct, frozen=True):
    """The answer of the writer."""

    corrected: bool
    wanted: list[str]
    later: list[str]
    answer: str


class Check(msgspec.Struct, frozen=True):
    """The answer of the checker."""

    met: list[bool]
    score: float


class Tally(msgspec.Struct):
    """What became of corrections."""

    corrections: int = 0
    accepted: int = 0
    using_correction: int = 0
    """Accepted, but marked as using what only the correction revealed."""
    no_correction: int = 0
    unmet: int = 0
    """Refused: a requirement is not met, or the score is low."""
    copied: int = 0
    """Refused: it copies the user's correction."""
    unusable: int = 0
    """Refused: empty, the same answer, far longer, written for a judge, or no JSON."""
    stopped: str = ""
    """Why requests stopped early."""
    spent: Spent = msgspec.field(default_factory=Spent)


class Correction(NamedTuple):
    """A failed answer and its user's next message."""

    bucket: JudgedBucket
    response: int
    reaction: int
    """Positions in the timeline."""


def find_corrections(bucket: JudgedBucket) -> Iterator[Correction]:
    """Find failed answers to which their user reacted in the next message of the thread."""
    line = bucket.timeline
    for p, verdict in bucket.verdicts.items():
        q = p + 1
        if (
            verdict.score < BAD
            and verdict.confidence > USABLE
            and q < len(line.text)
            and line.role[q] == USER
            and line.thread[q] == line.thread[p]
        ):
            text = hostile.drop(line.text[q], hostile.scan(line.text[q]))
            if len(text.split()) >= _MIN_CORRECTION_WORDS:
                yield Correction(bucket, p, q)


def rewrite_answers(
    buckets: Iterable[JudgedBucket],
    endpoint: Endpoint,
    budget: Budget,
    replies: Replies,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[Preference], Tally]:
    """Rewrite all corrected answers; a spent budget or a failing endpoint ends it early."""
    corrections = [correction for bucket in buckets for correction in find_corrections(bucket)]
    tally = Tally(corrections=len(corrections), spent=budget.spent)
    results, tally.stopped = work_through(
        len(corrections),
        lambda number, asker: _rewrite_answer(corrections[number], asker, endpoint, tally),
        endpoint,
        budget,
        replies,
        progress=progress,
    )
    rewritten = [pair for number in sorted(results) if (pair := results[number]) is not None]
    tally.accepted = len(rewritten)
    tally.using_correction = sum(pair.source.note == LATER for pair in rewritten)
    return rewritten, tally


async def _rewrite_answer(
    correction: Correction, asker: Asker, endpoint: Endpoint, tally: Tally
) -> Preference | None:
    line, p = correction.bucket.timeline, correction.response
    user = str(line.user[p])
    turns = prompt_before(line, p)
    conversation = turns_to_messages(
        Turn(turn.role, hostile.sanitise(turn.content, _MAX_SHOWN)) for turn in turns
    )
    shown = {
        "conversation": conversation,
        "answer": hostile.sanitise(line.text[p], _MAX_SHOWN),
        "next": hostile.sanitise(line.text[correction.reaction], _MAX_SHOWN),
    }
    request = make_question(
        endpoint, load_prompt("upshot.preferences", "rewrite.md"), shown, Rewrite, _TOKENS
    )
    rewrite, *_ = await asker.ask(request, Rewrite, lambda _: "", user)
    if rewrite is None:
        tally.unusable += 1
        return None
    if not rewrite.corrected:
        tally.no_correction += 1
        return None
    text = rewrite.answer.strip()
    if not is_usable(text, line.text[p]):
        tally.unusable += 1
        return None
    earlier = "\n".join([*(turn.content for turn in turns), line.text[p]])
    copied, uses_correction = measure_overlap(text, line.text[correction.reaction], earlier)
    if copied > _MAX_COPIED:
        tally.copied += 1
        return None
    requirements = rewrite.wanted or ["It answers the last message of the conversation."]
    shown = {
        "conversation": conversation,
        "answer": hostile.sanitise(text, _MAX_SHOWN),
        "requirements": requirements,
    }
    score = await _check_rewrite(shown, len(requirements), asker, endpoint, user)
    if score is None:
        tally.unmet += 1
        return None
    verdict = correction.bucket.verdicts[p]
    note = LATER if uses_correction or rewrite.later else ""
    return Preference(
        turns,
        answer_turns(text),
        response_turns(line, p),
        round(max(0.0, score / _MAX_CHECK_SCORE - verdict.score), 4),
        round(verdict.confidence * score / _MAX_CHECK_SCORE, 4),
        Source(REWRITE, (user,), thread_name(line, p), rejected=place_of(line, p), note=note),
    )


async def _check_rewrite(
    shown: Mapping[str, Any], requirements: int, asker: Asker, endpoint: Endpoint, user: str
) -> float | None:
    """The checker's score of a rewrite; None if a requirement is not met or the score is low."""
    check, *_ = await asker.ask(
        make_question(
            endpoint, load_prompt("upshot.preferences", "check.md"), shown, Check, _TOKENS
        ),
        Check,
        lambda c: "" if len(c.met) == requirements else f"`met` needs {requirements} entries",
        user,
    )
    if check is None or len(check.met) != requirements or not all(check.met):
        return None
    return check.score if _MIN_CHECK_SCORE <= check.score <= _MAX_CHECK_SCORE else None


def is_usable(text: str, old: str) -> bool:
    """Whether a rewrite is a new answer that is not far longer and not written for a judge.

    >>> is_usable("Use sorted(rows).", "Use rows.sort()."), is_usable("Same.", " Same. ")
    (True, False)
    """
    return (
        bool(text)
        and text != old.strip()
        and len(text) <= _MAX_GROWTH * len(old) + _EXTRA_CHARACTERS
        and not hostile.scan(text, "assistant")
    )


def measure_overlap(text: str, correction: str, earlier: str) -> tuple[float, bool]:
    """Compare a rewrite with the correction, beyond what was in the conversation `earlier`.

    Returns the share of the text's word triples that only the correction has, and whether the text
    uses a content word that only the correction has.

    >>> measure_overlap("Use tabs, four wide.", "please use tabs, four wide", "indent?")[0]
    1.0
    >>> measure_overlap("Indent it with spaces.", "no, spaces please", "indent with spaces?")
    (0.0, False)
    """
    words = [part.lower() for part in (text, correction, earlier)]
    own, correction_triples, earlier_triples = (_triples(part) for part in words)
    copied = len((own & correction_triples) - earlier_triples) / max(1, len(own))
    content = word_hashes.drop_stop_words(word_hashes.hash_words(words, _MAX_COMPARED))
    text_words, correction_words, earlier_words = (
        set(np.unique(content.hashes[content.text == row]).tolist()) for row in range(3)
    )
    return copied, bool((text_words & correction_words) - earlier_words)


def _triples(text: str) -> set[tuple[str, ...]]:
    parts = "".join(c if c.isalnum() else " " for c in text).split()
    return set(zip(parts, parts[1:], parts[2:], strict=False))
