"""Pairs from corrections: a language model writes the answer that should have been given, against
the answer the user corrected.

The user's own text is never "chosen": a rewrite that copies it is refused. Another request, which
does not see that it is a rewrite, checks that it meets every requirement. A rewrite that uses what
only the correction told is kept with a note that says so (METHODS: such an answer teaches to
guess).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib import resources
from typing import NamedTuple

import msgspec
import numpy as np

from upshot.hindsight.embedded.timeline import USER
from upshot.hindsight.trust import hostile
from upshot.llm import Asker, Budget, Endpoint, Replies, Spent, question, work_through
from upshot.preferences.pairs import BAD, LEAST_SURE, Judged, answer, place, prompt_of, work
from upshot.records import Preference, Source
from upshot.stats import words as tokens

KIND = "rewrite"
_MOST_COPIED = 0.3
"""Share of a rewrite's word triples that may stand in the correction and nowhere before it."""
_LEAST_TOLD = 3
"""Words of a correction that tells something."""
_LONGER = 3
_SPARE = 600
"""A rewrite may have so many times the characters of the answer, and so many more: one that says
everything proves nothing.
"""
_SHOWN = 6_000
_TOKENS = 3_000
_LEAST_SCORE = 7
LATER = "uses what was told later"


class Rewrite(msgspec.Struct, frozen=True):
    """What the writer answers."""

    corrected: bool
    wanted: list[str]
    later: list[str]
    answer: str


class Check(msgspec.Struct, frozen=True):
    """What the checker answers."""

    met: list[bool]
    score: float


class Tally(msgspec.Struct):
    """What became of corrections."""

    asked: int = 0
    kept: int = 0
    told_later: int = 0
    """Of those kept."""
    no_correction: int = 0
    unmet: int = 0
    """Refused: a requirement is not met, or the score is low."""
    copied: int = 0
    """Refused: it copies the user's correction."""
    unusable: int = 0
    """Refused: empty, the same answer, far longer, written for a judge, or no JSON."""
    stopped: str = ""
    """Why the endpoint was not asked further."""
    spent: Spent = msgspec.field(default_factory=Spent)


class Corrected(NamedTuple):
    """An answer that failed, and what its user said next."""

    seen: Judged
    response: int
    next: int


def corrections(seen: Judged) -> Iterator[Corrected]:
    """Failed answers that their user spoke about in the next message of the thread."""
    line = seen.line
    for p, fate in seen.fate.items():
        q = p + 1
        if (
            fate.score < BAD
            and fate.confidence > LEAST_SURE
            and q < len(line.text)
            and line.role[q] == USER
            and line.thread[q] == line.thread[p]
        ):
            said = hostile.drop(line.text[q], hostile.scan(line.text[q]))
            if len(said.split()) >= _LEAST_TOLD:
                yield Corrected(seen, p, q)


def pairs(
    parts: Iterable[Judged],
    endpoint: Endpoint,
    budget: Budget,
    replies: Replies,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[Preference], Tally]:
    """Rewrites of all corrected answers.

    A spent budget, or an endpoint that gives up, ends it with what was made kept.
    """
    found = [one for seen in parts for one in corrections(seen)]
    tally = Tally(asked=len(found), spent=budget.spent)
    made, tally.stopped = work_through(
        len(found),
        lambda number, asker: _one(found[number], asker, endpoint, tally),
        endpoint,
        budget,
        replies,
        progress,
    )
    kept = [pair for number in sorted(made) if (pair := made[number]) is not None]
    tally.kept, tally.told_later = len(kept), sum(pair.source.note == LATER for pair in kept)
    return kept, tally


async def _one(one: Corrected, asker: Asker, endpoint: Endpoint, tally: Tally) -> Preference | None:
    line, p = one.seen.line, one.response
    user = str(line.user[p])
    turns = prompt_of(line, p)
    before = [{"role": turn.role, "content": hostile.shown(turn.content, _SHOWN)} for turn in turns]
    shown = {
        "conversation": before,
        "answer": hostile.shown(line.text[p], _SHOWN),
        "next": hostile.shown(line.text[one.next], _SHOWN),
    }
    rewrite, *_ = await asker.ask(
        question(endpoint, _system("rewrite.md"), shown, Rewrite, _TOKENS),
        Rewrite,
        lambda _: "",
        user,
    )
    if rewrite is None:
        tally.unusable += 1
        return None
    if not rewrite.corrected:
        tally.no_correction += 1
        return None
    text = rewrite.answer.strip()
    if not usable(text, line.text[p]):
        tally.unusable += 1
        return None
    known = "\n".join([*(turn.content for turn in turns), line.text[p]])
    copied, told = overlap(text, line.text[one.next], known)
    if copied > _MOST_COPIED:
        tally.copied += 1
        return None
    wanted = rewrite.wanted or ["It answers the last message of the conversation."]
    asked = {"conversation": before, "answer": hostile.shown(text, _SHOWN), "requirements": wanted}
    found, *_ = await asker.ask(
        question(endpoint, _system("check.md"), asked, Check, _TOKENS),
        Check,
        lambda c: "" if len(c.met) == len(wanted) else f"`met` needs {len(wanted)} entries",
        user,
    )
    if (
        found is None
        or len(found.met) != len(wanted)
        or not all(found.met)
        or not _LEAST_SCORE <= found.score <= 10
    ):
        tally.unmet += 1
        return None
    fate = one.seen.fate[p]
    source = Source(
        KIND,
        (user,),
        work(line, p),
        rejected=place(line, p),
        note=LATER if told or rewrite.later else "",
    )
    margin = max(0.0, found.score / 10 - fate.score)
    return Preference(
        turns,
        answer(text),
        answer(line.text[p]),
        round(margin, 4),
        round(fate.confidence * found.score / 10, 4),
        source,
    )


def _system(name: str) -> str:
    return (
        resources.files("upshot.preferences").joinpath("prompts", name).read_text("utf-8").strip()
    )


def usable(text: str, old: str) -> bool:
    """Is a rewrite an answer: there, not the old one, not far longer, and not written for a judge?

    >>> usable("Use sorted(rows).", "Use rows.sort()."), usable("Same.", " Same. "), usable("", "x")
    (True, False, False)
    """
    return (
        bool(text)
        and text != old.strip()
        and len(text) <= _LONGER * len(old) + _SPARE
        and not hostile.scan(text, "assistant")
    )


def overlap(text: str, correction: str, known: str) -> tuple[float, bool]:
    """(share of the text's word triples that stand in the correction and not in what was known
    before, does it use words that only the correction told).

    >>> overlap("Use tabs here, four wide.", "please use tabs here, four wide, as always", "how do I indent?")[0]
    1.0
    >>> overlap("Indent it with spaces.", "no, spaces please", "how do I indent with spaces?")
    (0.0, False)
    """
    words = [part.lower() for part in (text, correction, known)]
    own, said, before = (_triples(part) for part in words)
    copied = len((own & said) - before) / max(1, len(own))
    found = tokens.content(tokens.words(words, 20_000))
    mine, theirs, old = (
        set(np.unique(found.hashes[found.text == row]).tolist()) for row in range(3)
    )
    return copied, bool((mine & theirs) - old)


def _triples(text: str) -> set[tuple[str, ...]]:
    parts = "".join(c if c.isalnum() else " " for c in text).split()
    return set(zip(parts, parts[1:], parts[2:], strict=False))
