"""Pairs from verdicts: what became of two answers to one request.

*sibling*: regenerated or branched answers at one place of a conversation. *thread*: the answer that
finally worked against the earlier one that failed, the context cut at the first request so that the
prompt fits both. *edit*: the user's edit of an answer against the answer. What a user writes as a
correction is never "chosen".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from upshot.hindsight.embedded.events import Event
from upshot.hindsight.embedded.timeline import ASSISTANT, ROLES, USER, Timeline
from upshot.records import CleanTable, Place, Preference, Source, Turn
from upshot.stats import words as tokens

KINDS = ("sibling", "thread", "edit", "across")
_GOOD, BAD = 0.6, 0.4
LEAST_SURE = 0.15
"""Confidence below which a verdict carries no pair."""
_LEAST_MARGIN = 0.15
_MOST_CONTEXT = 20
"""Messages of a prompt."""
_MOST_LATER = 4
"""Responses after a failed one that may be its better answer."""
_SAME_REQUEST = 0.5
_SAME_WORK = 0.2
_NEW_WORDS = 0.15
"""Share of the better answer's words that only the messages in between can have told it."""


_POLITE = frozenset({"thanks", "accept", "close", "social", "steering", "crowd"})
"""Kinds of good news that politeness writes about bad answers too."""


class Fate(NamedTuple):
    """What a verdict says, for a pair."""

    score: float
    confidence: float
    told: bool
    """Whether some of the good news is more than politeness."""


def fate(score: float, confidence: float, evidence: Sequence[Mapping[str, Any]]) -> Fate:
    """A verdict's row, for a pair."""
    return Fate(
        score, confidence, any(e["polarity"] > 0 and e["kind"] not in _POLITE for e in evidence)
    )


class Judged(NamedTuple):
    """A bucket in order, with its verdicts by position; no entry where there is none."""

    line: Timeline
    fate: Mapping[int, Fate]
    events: Sequence[Event]
    branch_of: Mapping[str, tuple[str, int]]
    """Of each branch: the conversation it shares a prefix with, and the first index that it does
    not share.
    """


def judged(
    line: Timeline,
    events: Sequence[Event],
    conversations: CleanTable,
    fates: Mapping[tuple[str, int], Fate],
) -> Judged:
    """Put verdicts beside the messages they are about. `fates`: by (conversation, index)."""
    names = zip(
        line.conversation[line.responses].tolist(),
        line.index[line.responses].tolist(),
        line.responses.tolist(),
        strict=True,
    )
    found = {
        position: fates[(name, index)] for name, index, position in names if (name, index) in fates
    }
    branches = {
        row["id"]: (row["branch_of"], int(row["branch_at"]))
        for row in conversations.select(["id", "branch_of", "branch_at"]).to_pylist()
        if row["branch_of"]
    }
    return Judged(line, found, events, branches)


def pairs(seen: Judged, kinds: Sequence[str] = KINDS) -> Iterator[Preference]:
    """Every pair of a bucket, of these kinds (`across` needs all buckets, see `across`)."""
    if "sibling" in kinds:
        yield from _siblings(seen)
    if "thread" in kinds:
        yield from _within(seen)
    if "edit" in kinds:
        yield from _edits(seen)


def prompt_of(line: Timeline, response: int) -> tuple[Turn, ...]:
    """The messages before a response in its own conversation, the latest of them where they are
    many.
    """
    first = response
    while (
        first > 0
        and line.session[first - 1] == line.session[response]
        and response - first < _MOST_CONTEXT
    ):
        first -= 1
    return tuple(Turn(ROLES[line.role[p]], line.text[p]) for p in range(first, response))


def place(line: Timeline, response: int) -> Place:
    """Where a response stands."""
    return Place(str(line.conversation[response]), int(line.index[response]))


def work(line: Timeline, response: int) -> str:
    """A name for the thread of a response, of one user's alone."""
    return f"{line.user[response]}/{line.thread[response]}"


def answer(text: str) -> tuple[Turn, ...]:
    """A completion of one message."""
    return (Turn("assistant", text),)


def _siblings(seen: Judged) -> Iterator[Preference]:
    line = seen.line
    where = {(str(line.conversation[p]), int(line.index[p])): int(p) for p in line.responses}
    groups: dict[tuple[str, int], list[int]] = {}
    for branch, (origin, at) in seen.branch_of.items():
        own = where.get((branch, at))
        if own is not None:
            groups.setdefault((origin, at), []).append(own)
    for (origin, at), members in groups.items():
        if (first := where.get((origin, at))) is not None:
            members = [first, *members]
        best = sorted((p for p in members if p in seen.fate), key=lambda p: seen.fate[p].score)
        for worse, better in ((w, b) for i, w in enumerate(best) for b in best[i + 1 :]):
            if (pair := _pair(seen, better, worse, "sibling")) is not None:
                yield pair


def _pair(seen: Judged, better: int, worse: int, kind: str) -> Preference | None:
    line, good, bad = seen.line, seen.fate[better], seen.fate[worse]
    margin, sure = good.score - bad.score, float(np.sqrt(good.confidence * bad.confidence))
    if (
        margin < _LEAST_MARGIN
        or min(good.confidence, bad.confidence) <= LEAST_SURE
        or bad.score >= _GOOD
        or not good.told
    ):
        return None  # silence about an answer does not make it the worse one
    if line.text[better].strip() == line.text[worse].strip():
        return None
    source = Source(
        kind,
        (str(line.user[better]),),
        str(line.conversation[worse]) if kind == "sibling" else work(line, worse),
        place(line, better),
        place(line, worse),
    )
    return Preference(
        prompt_of(line, worse),
        answer(line.text[better]),
        answer(line.text[worse]),
        round(margin, 4),
        round(sure, 4),
        source,
    )


def _within(seen: Judged) -> Iterator[Preference]:
    line = seen.line
    failed = [
        p
        for p in line.responses.tolist()
        if (f := seen.fate.get(p)) and f.score < BAD and f.confidence > LEAST_SURE
    ]
    used: set[int] = set()
    for worse in failed:
        for better in _following(line, worse):
            good = seen.fate.get(better)
            if (
                good is None
                or good.score < _GOOD
                or good.confidence <= LEAST_SURE
                or better in used
            ):
                continue
            if (
                _answers_the_same(line, worse, better)
                and (pair := _pair(seen, better, worse, "thread")) is not None
            ):
                used.add(better)
                yield pair
                break


def _following(line: Timeline, response: int) -> list[int]:
    """The next responses of the same thread, in order."""
    row = int(np.searchsorted(line.responses, response))
    return [
        q
        for q in line.responses[row + 1 : row + 1 + _MOST_LATER].tolist()
        if line.thread[q] == line.thread[response]
    ]


def _request(line: Timeline, response: int) -> int:
    p = response - 1
    while p >= 0 and line.session[p] == line.session[response]:
        if line.role[p] == USER:
            return p
        p -= 1
    return -1


def _answers_the_same(line: Timeline, worse: int, better: int) -> bool:
    """Whether the later answer would stand in the earlier one's place: same work, and little in it
    that only the messages in between can have told.
    """
    first, last = _request(line, worse), _request(line, better)
    if first < 0 or last < 0:
        return False
    between = [p for p in range(worse + 1, better) if line.role[p] != ASSISTANT]
    texts = [
        line.text[first],
        line.text[last],
        line.text[worse],
        line.text[better],
        "\n".join(line.text[p] for p in between),
    ]
    asked, again, old, new, said = (set(part.tolist()) for part in _word_sets(texts))
    if not asked or not new:
        return False
    repeated = len(asked & again) / len(asked | again) >= _SAME_REQUEST
    same_work = len(new & (old | asked)) / len(new) >= _SAME_WORK
    told = len((new & said) - asked - old) / len(new)
    return (repeated or same_work) and told <= _NEW_WORDS


def _word_sets(texts: Sequence[str]) -> list[NDArray[np.uint64]]:
    found = tokens.content(tokens.words(texts, 8_000))
    return [np.unique(found.hashes[found.text == row]) for row in range(len(texts))]


def _edits(seen: Judged) -> Iterator[Preference]:
    line = seen.line
    for event in seen.events:
        if (
            event.kind != "edit"
            or not event.detail.strip()
            or event.detail.strip() == line.text[event.response].strip()
        ):
            continue
        p = event.response
        source = Source("edit", (str(line.user[p]),), work(line, p), rejected=place(line, p))
        yield Preference(
            prompt_of(line, p), answer(event.detail), answer(line.text[p]), 0.5, 0.9, source
        )
