"""Pairs from verdicts: two answers to one request, the better over the worse.

*sibling*: regenerated or branched answers at the same place of a conversation. *thread*: the answer
that finally worked over an earlier one that failed; the prompt ends with the first request, so it
fits both. *edit*: the user's edit of an answer over the answer. A user's correction itself is never
"chosen".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from upshot.hindsight.embedded.events import Event
from upshot.hindsight.embedded.timeline import ASSISTANT, ROLES, USER, Timeline
from upshot.preferences.kinds import KINDS
from upshot.records import CleanTable, Place, Preference, Source, Turn
from upshot.records.signals import SIGNALS
from upshot.records.verdicts import BAD, GOOD, USABLE
from upshot.stats import word_hashes

_MIN_MARGIN = 0.15
"""Difference of scores that is more than the judge's noise."""
_MAX_CONTEXT = 20
"""Messages of a prompt, the latest; more exceed the context of small models."""
_MAX_LATER = 4
"""Responses after a failed one that may be its better answer."""
_MIN_REQUEST_OVERLAP = 0.5
"""Jaccard similarity of content words from which two requests are the same."""
_MIN_WORK_OVERLAP = 0.2
"""Share of the better answer's words in the first exchange from which it is the same work."""
_MAX_LATER_WORDS = 0.15
"""Share of the better answer's words that may come only from the messages in between."""
_MAX_CHARACTERS = 8_000
"""Of each text that are compared."""
_EDIT_MARGIN, _EDIT_WEIGHT = 0.5, 0.9
"""Of pairs from edits: the edited answer was worth keeping, and edits are nearly sure evidence."""
_POLITE = frozenset(name for name, kind in SIGNALS.items() if kind.polite)
"""Kinds of positive evidence that polite users write about bad answers too."""


class VerdictSummary(NamedTuple):
    """The parts of a verdict that pairs need."""

    score: float
    confidence: float
    has_substantive_praise: bool
    """Whether some positive evidence is more than politeness."""


def summarize_verdict(
    score: float, confidence: float, evidence: Sequence[Mapping[str, Any]]
) -> VerdictSummary:
    """Summarise a row of verdicts.

    >>> summarize_verdict(0.8, 0.5, [{"polarity": 1, "kind": "thanks"}]).has_substantive_praise
    False
    """
    substantive = any(row["polarity"] > 0 and row["kind"] not in _POLITE for row in evidence)
    return VerdictSummary(score, confidence, substantive)


class JudgedBucket(NamedTuple):
    """A bucket's messages in order, with the verdicts about them."""

    timeline: Timeline
    verdicts: Mapping[int, VerdictSummary]
    """By position in the timeline; responses without a verdict have no entry."""
    events: Sequence[Event]
    branch_of: Mapping[str, tuple[str, int]]
    """Of each branch: the conversation that it branched from, and the first index not shared."""


def attach_verdicts(
    line: Timeline,
    events: Sequence[Event],
    conversations: CleanTable,
    verdicts: Mapping[tuple[str, int], VerdictSummary],
) -> JudgedBucket:
    """Attach verdicts, given by (conversation, index), to the messages they are about."""
    names = zip(
        line.conversation[line.responses].tolist(),
        line.index[line.responses].tolist(),
        line.responses.tolist(),
        strict=True,
    )
    by_position = {
        position: verdicts[(name, index)]
        for name, index, position in names
        if (name, index) in verdicts
    }
    branches = {
        row["id"]: (row["branch_of"], int(row["branch_at"]))
        for row in conversations.select(["id", "branch_of", "branch_at"]).to_pylist()
        if row["branch_of"]
    }
    return JudgedBucket(line, by_position, events, branches)


def make_pairs(bucket: JudgedBucket, kinds: Sequence[str] = KINDS) -> Iterator[Preference]:
    """Make every pair of a bucket; those across users need all buckets, see `across_users`."""
    if "sibling" in kinds:
        yield from _sibling_pairs(bucket)
    if "thread" in kinds:
        yield from _thread_pairs(bucket)
    if "edit" in kinds:
        yield from _edit_pairs(bucket)


def prompt_before(line: Timeline, response: int) -> tuple[Turn, ...]:
    """The messages before a response in its conversation, at most the latest 20."""
    first = response
    while (
        first > 0
        and line.session[first - 1] == line.session[response]
        and response - first < _MAX_CONTEXT
    ):
        first -= 1
    return turns_between(line, first, response)


def turns_between(line: Timeline, first: int, end: int) -> tuple[Turn, ...]:
    """The messages at the positions from `first` up to, but not including, `end`."""
    return tuple(turn_at(line, p) for p in range(first, end))


def turn_at(line: Timeline, position: int) -> Turn:
    """One message, its tool calls and its tool's name apart from its words."""
    p = int(position)
    calls = line.calls.get(p, ())
    return Turn(ROLES[int(line.role[p])], line.words[p], calls, line.tools.get(p, ""))


def response_turns(line: Timeline, response: int) -> tuple[Turn, ...]:
    """The messages of a response; of an agent's turn its steps and what tools answered."""
    return turns_between(line, response, end_of(line, response))


def end_of(line: Timeline, response: int) -> int:
    """One past the last message of a response."""
    return int(line.ends[line.row_of[response]])


def text_of(line: Timeline, response: int) -> str:
    """What the assistant wrote in a response."""
    return line.text_of(int(line.row_of[response]))


def place_of(line: Timeline, response: int) -> Place:
    """The conversation and index of a response."""
    return Place(str(line.conversation[response]), int(line.index[response]))


def thread_name(line: Timeline, response: int) -> str:
    """A name for the thread of a response that is unique across users."""
    return f"{line.user[response]}/{line.thread[response]}"


def answer_turns(text: str) -> tuple[Turn, ...]:
    """A completion of one message."""
    return (Turn("assistant", text),)


def _sibling_pairs(bucket: JudgedBucket) -> Iterator[Preference]:
    line = bucket.timeline
    positions = {(str(line.conversation[p]), int(line.index[p])): int(p) for p in line.responses}
    groups: dict[tuple[str, int], list[int]] = {}
    for branch, (origin, index) in bucket.branch_of.items():
        branch_response = positions.get((branch, index))
        if branch_response is not None:
            groups.setdefault((origin, index), []).append(branch_response)
    for (origin, index), members in groups.items():
        if (first := positions.get((origin, index))) is not None:
            members = [first, *members]
        ordered = sorted(
            (p for p in members if p in bucket.verdicts), key=lambda p: bucket.verdicts[p].score
        )
        for worse, better in ((w, b) for i, w in enumerate(ordered) for b in ordered[i + 1 :]):
            if (pair := _make_pair(bucket, better, worse, "sibling")) is not None:
                yield pair


def _make_pair(bucket: JudgedBucket, better: int, worse: int, kind: str) -> Preference | None:
    line, good, bad = bucket.timeline, bucket.verdicts[better], bucket.verdicts[worse]
    margin, confidence = good.score - bad.score, float(np.sqrt(good.confidence * bad.confidence))
    if (
        margin < _MIN_MARGIN
        or min(good.confidence, bad.confidence) <= USABLE
        or bad.score >= GOOD
        or not good.has_substantive_praise
    ):
        return None  # no reaction to an answer does not make it the worse one
    if text_of(line, better).strip() == text_of(line, worse).strip():
        return None
    source = Source(
        kind,
        (str(line.user[better]),),
        str(line.conversation[worse]) if kind == "sibling" else thread_name(line, worse),
        place_of(line, better),
        place_of(line, worse),
    )
    return Preference(
        prompt_before(line, worse),
        response_turns(line, better),
        response_turns(line, worse),
        round(margin, 4),
        round(confidence, 4),
        source,
    )


def _thread_pairs(bucket: JudgedBucket) -> Iterator[Preference]:
    line = bucket.timeline
    failed = [
        p
        for p in line.responses.tolist()
        if (f := bucket.verdicts.get(p)) and f.score < BAD and f.confidence > USABLE
    ]
    used: set[int] = set()
    for worse in failed:
        for better in _later_responses(line, worse):
            good = bucket.verdicts.get(better)
            if good is None or good.score < GOOD or good.confidence <= USABLE or better in used:
                continue
            if (
                _answers_the_same(line, worse, better)
                and (pair := _make_pair(bucket, better, worse, "thread")) is not None
            ):
                used.add(better)
                yield pair
                break


def _later_responses(line: Timeline, response: int) -> list[int]:
    """The next few responses of the same thread, in order."""
    row = int(np.searchsorted(line.responses, response))
    return [
        q
        for q in line.responses[row + 1 : row + 1 + _MAX_LATER].tolist()
        if line.thread[q] == line.thread[response]
    ]


def _find_request(line: Timeline, response: int) -> int:
    p = response - 1
    while p >= 0 and line.session[p] == line.session[response]:
        if line.role[p] == USER:
            return p
        p -= 1
    return -1


def _answers_the_same(line: Timeline, worse: int, better: int) -> bool:
    """Whether the later answer fits the earlier request: the same work, and little that only the
    messages in between can have told it.
    """
    first, last = _find_request(line, worse), _find_request(line, better)
    if first < 0 or last < 0:
        return False
    between = [p for p in range(end_of(line, worse), better) if line.role[p] != ASSISTANT]
    texts = [
        line.text[first],
        line.text[last],
        text_of(line, worse),
        text_of(line, better),
        "\n".join(line.text[p] for p in between),
    ]
    request, later_request, worse_words, better_words, between_words = _content_words(texts)
    if not request or not better_words:
        return False
    repeated = len(request & later_request) / len(request | later_request) >= _MIN_REQUEST_OVERLAP
    same_work = len(better_words & (worse_words | request)) / len(better_words) >= _MIN_WORK_OVERLAP
    learned = len((better_words & between_words) - request - worse_words) / len(better_words)
    return (repeated or same_work) and learned <= _MAX_LATER_WORDS


def _content_words(texts: Sequence[str]) -> list[set[int]]:
    words = word_hashes.drop_stop_words(word_hashes.hash_words(texts, _MAX_CHARACTERS))
    return [set(words.hashes[words.text == row].tolist()) for row in range(len(texts))]


def _edit_pairs(bucket: JudgedBucket) -> Iterator[Preference]:
    line = bucket.timeline
    for event in bucket.events:
        if (
            event.kind != "edit"
            or not event.detail.strip()
            or event.detail.strip() == text_of(line, event.response).strip()
        ):
            continue
        p = event.response
        user, thread = str(line.user[p]), thread_name(line, p)
        yield Preference(
            prompt_before(line, p),
            answer_turns(event.detail),
            response_turns(line, p),
            _EDIT_MARGIN,
            _EDIT_WEIGHT,
            Source("edit", (user,), thread, rejected=place_of(line, p)),
        )
