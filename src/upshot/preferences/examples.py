"""Examples without a pair: scored responses, and conversations that mask what turned out wrong.

Masked responses stay in the context but are not imitated.
"""

from __future__ import annotations

from collections.abc import Iterator

from upshot.hindsight.embedded.timeline import ASSISTANT, Timeline
from upshot.preferences.pairs import (
    JudgedBucket,
    end_of,
    place_of,
    prompt_before,
    response_turns,
    text_of,
    thread_name,
    turns_between,
)
from upshot.records import Example, Place, Source, Turn
from upshot.records.verdicts import EVEN, USABLE

_CHARACTERS_PER_TOKEN = 4.0
"""Of English text, on average."""


def make_examples(bucket: JudgedBucket, min_confidence: float = USABLE) -> Iterator[Example]:
    """Make an example of every response whose verdict has evidence, weighted by its confidence."""
    line = bucket.timeline
    for p, verdict in bucket.verdicts.items():
        text = text_of(line, p)
        if verdict.confidence < min_confidence or not text.strip():
            continue
        yield Example(
            prompt_before(line, p),
            response_turns(line, p),
            round(verdict.score, 4),
            round(verdict.confidence, 4),
            Source("verdict", (str(line.user[p]),), thread_name(line, p), chosen=place_of(line, p)),
            _make_tags(text, verdict.score),
            after=_reaction(line, p),
        )


def _reaction(line: Timeline, p: int) -> tuple[Turn, ...]:
    """The messages after a response in the same session, up to the next response."""
    start = end = end_of(line, p)
    while (
        end < len(line.text)
        and line.session[end] == line.session[p]
        and line.role[end] != ASSISTANT
    ):
        end += 1
    return turns_between(line, start, end)


def _response_of(line: Timeline, p: int) -> int:
    """The first message of the response that a message is part of; -1: of none."""
    row = int(line.row_of[p])
    return int(line.responses[row]) if row >= 0 else -1


def _make_tags(text: str, score: float) -> dict[str, str | float]:
    style = "code" if "```" in text else "list" if "\n- " in text or "\n1." in text else "prose"
    tokens = round(len(text) / _CHARACTERS_PER_TOKEN)
    return {"score": round(score, 2), "tokens": tokens, "style": style}


def make_masked_conversations(
    bucket: JudgedBucket, min_score: float = EVEN, min_confidence: float = USABLE
) -> Iterator[Example]:
    """Make examples of whole conversations that mark which responses to imitate.

    A response is imitated if its verdict has evidence and a score of at least `min_score`; a bad
    step of a conversation that ended well is not (`bench/credit_learning.py`).
    """
    line = bucket.timeline
    start = 0
    while start < len(line.text):
        end = start
        while end < len(line.text) and line.session[end] == line.session[start]:
            end += 1
        rows = range(start, end)
        train = tuple(
            bool(
                line.role[p] == ASSISTANT
                and (verdict := bucket.verdicts.get(_response_of(line, p)))
                and verdict.confidence >= min_confidence
                and verdict.score >= min_score
            )
            for p in rows
        )
        if any(train):
            verdicts = [
                bucket.verdicts[_response_of(line, p)]
                for p, is_trained in zip(rows, train, strict=True)
                if is_trained
            ]
            turns = turns_between(line, start, end)
            source = Source(
                "verdict",
                (str(line.user[start]),),
                thread_name(line, start),
                Place(str(line.conversation[start]), -1),
            )
            score, confidence = (
                sum(values) / len(verdicts)
                for values in ([f.score for f in verdicts], [f.confidence for f in verdicts])
            )
            yield Example((), turns, round(score, 4), round(confidence, 4), source, {}, train)
        start = end
