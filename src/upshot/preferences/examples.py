"""Examples without a pair: good and bad responses with weights and tags, and whole conversations in
which what was later found wrong stays in the context but is not imitated.
"""

from __future__ import annotations

from collections.abc import Iterator

from upshot.hindsight.embedded.timeline import ASSISTANT, ROLES, Timeline
from upshot.preferences.pairs import Judged, answer, place, prompt_of, work
from upshot.records import Example, Place, Source, Turn

_LEAST_SURE = 0.15
_LETTERS_A_TOKEN = 4.0


def unpaired(seen: Judged, least_sure: float = _LEAST_SURE) -> Iterator[Example]:
    """Every response whose verdict has evidence; the weight is its confidence."""
    line = seen.line
    for p, fate in seen.fate.items():
        if fate.confidence < least_sure or not line.text[p].strip():
            continue
        yield Example(
            prompt_of(line, p),
            answer(line.text[p]),
            round(fate.score, 4),
            round(fate.confidence, 4),
            Source("verdict", (str(line.user[p]),), work(line, p), chosen=place(line, p)),
            _tags(line.text[p], fate.score),
            after=_after(line, p),
        )


def _after(line: Timeline, p: int) -> tuple[Turn, ...]:
    """What was said next in the same session, up to the next response."""
    end = p + 1
    while (
        end < len(line.text)
        and line.session[end] == line.session[p]
        and line.role[end] != ASSISTANT
    ):
        end += 1
    return tuple(Turn(ROLES[line.role[q]], line.text[q]) for q in range(p + 1, end))


def _tags(text: str, score: float) -> dict[str, str | float]:
    style = "code" if "```" in text else "list" if "\n- " in text or "\n1." in text else "prose"
    return {"score": round(score, 2), "tokens": round(len(text) / _LETTERS_A_TOKEN), "style": style}


def masked(seen: Judged, least: float = 0.5, least_sure: float = _LEAST_SURE) -> Iterator[Example]:
    """Whole conversations.

    A response is imitated where its verdict has evidence and is at least `least`: a bad step of a
    conversation that ended well is not (METHODS: .80 against .51 for filtering by outcome).
    """
    line = seen.line
    start = 0
    while start < len(line.text):
        end = start
        while end < len(line.text) and line.session[end] == line.session[start]:
            end += 1
        rows = range(start, end)
        train = tuple(
            bool(
                line.role[p] == ASSISTANT
                and (fate := seen.fate.get(p))
                and fate.confidence >= least_sure
                and fate.score >= least
            )
            for p in rows
        )
        if any(train):
            fates = [seen.fate[p] for p, kept in zip(rows, train, strict=True) if kept]
            turns = tuple(Turn(ROLES[line.role[p]], line.text[p]) for p in rows)
            source = Source(
                "verdict",
                (str(line.user[start]),),
                work(line, start),
                Place(str(line.conversation[start]), -1),
            )
            score, sure = (
                sum(values) / len(fates)
                for values in ([f.score for f in fates], [f.confidence for f in fates])
            )
            yield Example((), turns, round(score, 4), round(sure, 4), source, {}, train)
        start = end
