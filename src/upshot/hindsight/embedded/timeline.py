"""The messages of one bucket in order of time, thread by thread, as columns.

A response is one message of an assistant in a chat; where it works with tools, it is the whole turn
up to the next message that a person typed, and stands at the position of its first message.

Positions are rows of this order. A user's sessions that form one thread follow each other, so "the
next 20 messages" reach across sessions. A branch (a regenerated or edited answer and what followed
it) is a thread of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from upshot.hindsight.embedded.edits import Edit, parse_edit
from upshot.io.arrow import pc
from upshot.records import CleanTable, ToolCall, texts_with_calls

SYSTEM, USER, ASSISTANT, TOOL = range(4)
_PLACEHOLDER = re.compile(r"(<[A-Z][A-Z_]*_)\d{12}>")
_INK = re.compile(r"[^\n]")
_COMMAND = re.compile(r"\s*/(?!(?:undo|redo|retry|reset|revert|rewind|regenerate)\b)[\w:-]+\s*")
"""A command to the harness without a word to the assistant, such as `/clear`."""
_REFUSED = re.compile(
    r"\s*(?:<tool_use_error>|(?:Tool )?Error\b|The user doesn['’]t want to"
    r"|(?:The )?User (?:rejected|declined|denied|cancelled)|\[?Request interrupted"
    r"|(?:Operation|Tool use|Edit|Change) (?:was )?(?:rejected|cancelled|canceled|declined|denied)"
    r"|String to replace not found|(?:old_string|Search text) (?:was )?not found"
    r"|File has not been read|Permission (?:to|denied))",
    re.IGNORECASE,
)
"""How coding agents' tools say that nothing was changed."""
ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True)
class Timeline:
    """Columns of one bucket, with one entry per message unless noted otherwise."""

    user: NDArray[np.object_]
    conversation: NDArray[np.object_]
    index: NDArray[np.int64]
    role: NDArray[np.int8]
    text: list[str]
    words: list[str]
    """`text` without the tool calls that a response makes."""
    calls: Mapping[int, tuple[ToolCall, ...]]
    """Those calls, by position."""
    tools: Mapping[int, str]
    """Names of the tools that answer, by position."""
    visible: list[str]
    """`text` without the spans that are hidden from the judge; words are counted here."""
    pasted: Mapping[int, tuple[tuple[int, int], ...]]
    """Spans (start, end) of users' messages that a machine wrote: pasted logs, quotations, what a
    harness added; by position.
    """
    thread: NDArray[np.int64]
    session: NDArray[np.int64]
    """Number of the conversation in this order."""
    time: NDArray[np.int64]
    """Microseconds since the epoch: the message's own time, else its session's, else -1."""
    responses: NDArray[np.int64]
    """Positions of the responses to judge: the first message of each."""
    ends: NDArray[np.int64]
    """One past the last message of each response: its steps and what tools answered."""
    answers: NDArray[np.int64]
    """The last message of each response with words in it, which speaks to the person."""
    observed_through: Mapping[str, int]
    """The last time that the log covers for each user, in microseconds."""

    @cached_property
    def edits(self) -> dict[int, Edit]:
        """The code edits in each assistant message that has any, by position."""
        edits: dict[int, Edit] = {}
        for place in np.flatnonzero(self.role == ASSISTANT).tolist():
            calls = self.calls.get(place, ())
            applied = [call for i, call in enumerate(calls) if (place, i) not in self.refused]
            edit = parse_edit(self.words[place], applied)
            if edit is not None:
                edits[place] = edit
        return edits

    @cached_property
    def refused(self) -> set[tuple[int, int]]:
        """Calls that did nothing, by position and place among its calls: a tool answered with an
        error, or a person would not have it.
        """
        refused: set[tuple[int, int]] = set()
        waiting: list[tuple[int, int]] = []
        last = -1
        for place in sorted({*self.calls, *np.flatnonzero(self.role == TOOL).tolist()}):
            if last >= 0 and self.session[place] != self.session[last]:
                waiting = []
            last = place
            waiting += [(place, i) for i in range(len(self.calls.get(place, ())))]
            if self.role[place] == TOOL and waiting:
                call = waiting.pop(0)
                if _REFUSED.match(self.text[place]):
                    refused.add(call)
        return refused

    def with_texts(self, text: list[str], visible: list[str]) -> Timeline:
        """A copy with other texts of users' messages; the assistant's, and their edits, stay."""
        other = replace(self, text=text, visible=visible)
        stay = ("edits", "refused", "row_of", "rank")
        vars(other).update({name: vars(self)[name] for name in stay if name in vars(self)})
        return other

    @cached_property
    def row_of(self) -> NDArray[np.int64]:
        """The response that each message is part of, as its row; -1: of none."""
        rows = np.searchsorted(self.responses, np.arange(len(self.role)), "right") - 1
        inside = rows >= 0
        inside &= np.arange(len(self.role)) < np.append(self.ends, 0)[rows]
        return np.where(inside, rows, -1)

    @cached_property
    def rank(self) -> NDArray[np.int64]:
        """Of each message in time across threads; simultaneous sessions keep their order."""
        order = np.lexsort((self.index, self.conversation.astype(str), self.time))
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        return rank

    def steps_of(self, row: int) -> list[int]:
        """Positions of the assistant's messages of one response."""
        span = range(int(self.responses[row]), int(self.ends[row]))
        return [place for place in span if self.role[place] == ASSISTANT]

    def text_of(self, row: int) -> str:
        """What the assistant wrote in one response, its tool calls included."""
        return "\n".join(self.text[place] for place in self.steps_of(row))

    def texts_at(self, positions: NDArray[Any]) -> list[str]:
        """The text at each position; empty at -1."""
        return _texts_at(self.text, positions)

    def words_at(self, positions: NDArray[Any]) -> list[str]:
        """The text at each position without tool calls; empty at -1."""
        return _texts_at(self.words, positions)

    def spoken_at(self, positions: NDArray[Any]) -> list[str]:
        """The text at each position with blanks for what a machine wrote in it."""
        return [
            blank(text, self.pasted.get(place, ()))
            for place, text in zip(positions.tolist(), self.texts_at(positions), strict=True)
        ]

    def visible_at(self, positions: NDArray[Any]) -> list[str]:
        """The visible text at each position; empty at -1."""
        return _texts_at(self.visible, positions)

    def later(self, role: int, count: int, horizon: int) -> NDArray[np.int64]:
        """Positions of the next `count` messages of a role after each response; -1: none.

        Shape (responses, count). Only messages of the same thread, at most `horizon` messages
        later, are included; a response counts as one message, whatever its steps.
        """
        positions = np.flatnonzero(self.role == role)
        counted = self.role == USER
        counted[self.responses] = True
        count_before = np.cumsum(counted)
        positions_after = np.full((len(self.responses), count), -1, np.int64)
        if not len(positions) or not len(self.responses):
            return positions_after
        first = np.searchsorted(positions, self.ends)
        for k in range(count):
            following = positions[np.minimum(first + k, len(positions) - 1)]
            distance = count_before[following] - count_before[self.responses]
            valid = (first + k < len(positions)) & (distance <= horizon)
            valid &= self.thread[following] == self.thread[self.responses]
            positions_after[valid, k] = following[valid]
        return positions_after

    def before(self, role: int, messages: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Position of the last message of a role before each response, or before each of other
        messages, in its own conversation.

        -1: none.
        """
        places = self.responses if messages is None else messages
        positions = np.flatnonzero(self.role == role)
        if not len(positions):
            return np.full(len(places), -1, np.int64)
        at = np.searchsorted(positions, places) - 1
        last = positions[np.maximum(at, 0)]
        valid = (at >= 0) & (self.session[last] == self.session[places])
        return np.where(valid, last, -1)


def _texts_at(texts: list[str], positions: NDArray[Any]) -> list[str]:
    return [texts[p] if p >= 0 else "" for p in cast(list[int], positions.tolist())]


def build_timeline(
    messages: CleanTable, conversations: CleanTable, threads: CleanTable | None = None
) -> Timeline:
    """Put a bucket's messages in order; without `threads` every conversation is its own thread."""
    sessions = _order_sessions(conversations, threads)
    ids = sessions["id"].combine_chunks()
    session = _as_array(pc.fill_null(pc.index_in(messages["id"], value_set=ids), -1), np.int64)
    index = _as_array(messages["index"], np.int64)
    order = np.lexsort((index, session))
    order = order[session[order] >= 0]
    session, index = session[order], index[order]
    ordered = messages.take(pa.array(order, pa.int64()))
    thread = _as_array(pc.dictionary_encode(sessions["thread"].combine_chunks()).indices, np.int64)
    time = _microseconds(ordered["time"])
    time = np.where(time >= 0, time, _microseconds(sessions["started_at"])[session])
    role = _as_array(pc.index_in(ordered["role"], value_set=pa.array(ROLES)), np.int8)
    words = cast(list[str], ordered["text"].to_pylist())
    pasted = _read_spans(ordered, role)
    by_machine = _as_array(pc.equal(ordered["author"], "machine"), np.bool_)
    by_machine[list(pasted)] = False  # a person sent it
    typed = (role == USER) & ~by_machine
    by_machine |= _are_commands(words, role, pasted)
    role = np.where(by_machine & (role == USER), SYSTEM, role).astype(np.int8)
    branch_at = _as_array(sessions["branch_at"], np.int64)[session]
    calls = _read_calls(ordered)
    turns = _find_turns(role, session, typed, index >= branch_at, calls)
    user = _as_array(sessions["user"], object)[session]
    text = texts_with_calls(CleanTable(ordered))
    return Timeline(
        user,
        _as_array(ids, object)[session],
        index,
        role,
        text,
        words,
        calls,
        {
            place: name
            for place, name in enumerate(ordered["name"].to_pylist())
            if name and role[place] == TOOL
        },
        _number_placeholders(
            user.tolist(), [blank(t, pasted[p]) if p in pasted else t for p, t in enumerate(text)]
        ),
        pasted,
        thread[session],
        session,
        time,
        *turns,
        _find_answers(words, role, *turns),
        _latest_times(user, time),
    )


def _find_turns(
    role: NDArray[np.int8],
    session: NDArray[np.int64],
    typed: NDArray[np.bool_],
    is_own: NDArray[np.bool_],
    calls: Mapping[int, tuple[ToolCall, ...]],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first position of each response, and one past its last.

    Between two messages that a person typed, what an assistant does with tools is one response;
    without tools each of its messages is one. `is_own`: what a branch does not share.
    """
    size = len(role)
    is_answer = (role == ASSISTANT) & is_own
    begins = typed.copy()
    begins[1:] |= (session[1:] != session[:-1]) | (is_own[1:] & ~is_own[:-1])
    part = np.cumsum(begins, dtype=np.int64)
    works = role == TOOL
    works[list(calls)] = True
    works &= is_own
    with_tools = np.zeros(int(part[-1]) + 1 if size else 1, bool)
    with_tools[part[works]] = True
    answers = np.flatnonzero(is_answer)
    opens = ~with_tools[part[answers]]
    opens |= np.append(True, part[answers[1:]] != part[answers[:-1]])[: len(answers)]
    responses = answers[opens]
    ends = responses + 1
    if len(responses):
        steps = np.flatnonzero((is_answer | works) & with_tools[part])
        last = dict(zip(part[steps].tolist(), steps.tolist(), strict=True))
        is_run = with_tools[part[responses]]
        ends[is_run] = [last[number] + 1 for number in part[responses[is_run]].tolist()]
    return responses, ends


def _find_answers(
    words: Sequence[str],
    role: NDArray[np.int8],
    responses: NDArray[np.int64],
    ends: NDArray[np.int64],
) -> NDArray[np.int64]:
    """The last message with words of each response; its first where none has any."""
    answers = responses.copy()
    for row in np.flatnonzero(ends - responses > 1).tolist():
        for place in range(int(ends[row]) - 1, int(responses[row]), -1):
            if role[place] == ASSISTANT and words[place].strip():
                answers[row] = place
                break
    return answers


def blank(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """The text with blanks for the spans, line breaks kept.

    >>> blank("> no\\nwhy?", [(0, 4)])
    '    \\nwhy?'
    """
    for start, end in spans:
        hidden = _INK.sub(" ", text[start:end])
        text = f"{text[:start]}{hidden}{text[end:]}"
    return text


def _read_spans(
    messages: pa.Table, role: NDArray[np.int8]
) -> dict[int, tuple[tuple[int, int], ...]]:
    """What others than the person wrote in users' messages, by position."""
    spans: dict[int, tuple[tuple[int, int], ...]] = {}
    for place, some in enumerate(messages["spans"].to_pylist()):
        if some and role[place] == USER:
            others = [(s["start"], s["end"]) for s in some if s["author"] != "person"]
            if others:
                spans[place] = tuple(others)
    return spans


def _are_commands(
    texts: Sequence[str], role: NDArray[np.int8], pasted: Mapping[int, Sequence[tuple[int, int]]]
) -> NDArray[np.bool_]:
    """Users' messages that only give the harness a command: they say nothing to the assistant."""
    commands = np.zeros(len(role), bool)
    for place in np.flatnonzero(role == USER).tolist():
        if "/" in texts[place][:200]:
            spoken = blank(texts[place], pasted.get(place, ()))
            commands[place] = _COMMAND.fullmatch(spoken) is not None
    return commands


def _number_placeholders(users: Sequence[str], texts: list[str]) -> list[str]:
    """The texts with the placeholders of redaction numbered in each user's order.

    Their own numbers come from the pseudonym key, which must not change what is read.
    """
    numbered = texts
    numbers: dict[str, dict[str, int]] = {}
    for place, text in enumerate(texts):
        if "<" not in text or "_" not in text:
            continue
        own = numbers.setdefault(users[place], {})

        def number(match: re.Match[str], own: dict[str, int] = own) -> str:
            return f"{match.group(1)}{own.setdefault(match.group(), len(own) + 1):012d}>"

        changed = _PLACEHOLDER.sub(number, text)
        if changed is not text and changed != text:
            numbered = list(texts) if numbered is texts else numbered
            numbered[place] = changed
    return numbered


def _read_calls(messages: pa.Table) -> dict[int, tuple[ToolCall, ...]]:
    return {
        place: msgspec.json.decode(calls, type=tuple[ToolCall, ...])
        for place, calls in enumerate(messages["tool_calls"].to_pylist())
        if calls
    }


def _order_sessions(conversations: CleanTable, threads: CleanTable | None) -> pa.Table:
    """The conversations user by user and thread by thread, with a column `thread`.

    A branch is a thread of its own.
    """
    sessions = conversations.select(["user", "id", "started_at", "branch_of", "branch_at"])
    thread = sessions["id"]
    if threads is not None and threads.num_rows:
        place = pc.index_in(sessions["id"], value_set=threads["id"].combine_chunks())
        thread = pc.coalesce(pc.take(threads["thread"], place), sessions["id"])
    is_branch = pc.not_equal(sessions["branch_of"], "")
    sessions = sessions.append_column("thread", pc.if_else(is_branch, sessions["id"], thread))
    keys = ("user", "thread", "started_at", "id")
    order = pc.sort_indices(sessions, sort_keys=[(key, "ascending") for key in keys])
    return sessions.take(order)


def _latest_times(user: NDArray[np.object_], time: NDArray[np.int64]) -> dict[str, int]:
    """The last time at which the log shows each user; rows of one user stand together."""
    if not len(user):
        return {}
    begins = np.flatnonzero(np.append(True, user[1:] != user[:-1]))
    latest = np.maximum.reduceat(time, begins)
    return dict(zip(user[begins].tolist(), latest.tolist(), strict=True))


def _as_array(column: Any, dtype: type[Any]) -> NDArray[Any]:
    """A NumPy array of an Arrow column without nulls, chunked or not."""
    array = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    return array.to_numpy(zero_copy_only=False).astype(dtype, copy=False)


def _microseconds(column: Any) -> NDArray[np.int64]:
    """A column of times as microseconds since the epoch; -1 where there is none."""
    return _as_array(pc.fill_null(pc.cast(column, pa.int64()), -1), np.int64)
