"""The messages of one bucket in the order in which they happened, thread by thread, as columns.

Positions below are rows of this order. A user's sessions that form one thread follow each other, so
"the next 20 messages" reach across sessions. A branch (a regenerated or edited answer and what
followed) is a line of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from upshot.hindsight.embedded.edits import Edit, edits_of
from upshot.io.arrow import pc
from upshot.records import CleanTable

SYSTEM, USER, ASSISTANT, TOOL = range(4)
ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True)
class Timeline:
    """Columns of one bucket, one entry a message unless said otherwise."""

    user: NDArray[np.object_]
    conversation: NDArray[np.object_]
    index: NDArray[np.int64]
    role: NDArray[np.int8]
    text: list[str]
    read: list[str]
    """The texts whose words count: `text`, without what was hidden from the judge."""
    thread: NDArray[np.int64]
    session: NDArray[np.int64]
    """Number of the conversation within this order."""
    time: NDArray[np.int64]
    """Microseconds since the epoch, the message's or else its session's; -1 where neither is known.
    """
    responses: NDArray[np.int64]
    """Positions of the responses to judge."""
    seen_through: Mapping[str, int]
    """For each user the last time that the log covers, in microseconds."""

    @cached_property
    def edits(self) -> dict[int, Edit]:
        """The edits of code in each message of the assistant that holds any, by its position."""
        positions = np.flatnonzero(self.role == ASSISTANT).tolist()
        return {
            positions[row]: edit
            for row, edit in edits_of([self.text[p] for p in positions]).items()
        }

    def with_texts(self, text: list[str], read: list[str]) -> Timeline:
        """With other texts of users' messages; the assistant's stay as they are, and their edits
        with them.
        """
        other = replace(self, text=text, read=read)
        vars(other)["edits"] = self.edits
        return other

    def later(self, role: int, most: int, horizon: int) -> NDArray[np.int64]:
        """Positions of the next `most` messages of a role after each response, shape (responses,
        most); -1: none.

        Only messages of the same thread and at most `horizon` messages later count.
        """
        positions = np.flatnonzero(self.role == role)
        out = np.full((len(self.responses), most), -1, np.int64)
        if not len(positions) or not len(self.responses):
            return out
        first = np.searchsorted(positions, self.responses)
        for k in range(most):
            at = positions[np.minimum(first + k, len(positions) - 1)]
            valid = (first + k < len(positions)) & (at - self.responses <= horizon)
            valid &= self.thread[at] == self.thread[self.responses]
            out[valid, k] = at[valid]
        return out

    def before(self, role: int) -> NDArray[np.int64]:
        """Position of the last message of a role before each response in its own conversation; -1:
        none.
        """
        positions = np.flatnonzero(self.role == role)
        if not len(positions):
            return np.full(len(self.responses), -1, np.int64)
        at = np.searchsorted(positions, self.responses) - 1
        found = positions[np.maximum(at, 0)]
        valid = (at >= 0) & (self.session[found] == self.session[self.responses])
        return np.where(valid, found, -1)


def timeline(
    messages: CleanTable, conversations: CleanTable, threads: CleanTable | None = None
) -> Timeline:
    """Put a bucket's messages in order; without `threads` every conversation is its own thread."""
    kept = conversations.select(["user", "id", "started_at", "branch_of", "branch_at"])
    if threads is not None and threads.num_rows:
        kept = kept.join(
            pa.table({"id": threads["id"], "thread": threads["thread"]}),
            "id",
            join_type="left outer",
        )
        kept = kept.set_column(
            kept.schema.get_field_index("thread"), "thread", pc.coalesce(kept["thread"], kept["id"])
        )
    else:
        kept = kept.append_column("thread", kept["id"])
    is_branch = pc.not_equal(kept["branch_of"], "")
    kept = kept.set_column(
        kept.schema.get_field_index("thread"),
        "thread",
        pc.if_else(is_branch, kept["id"], kept["thread"]),
    )
    kept = kept.sort_by(
        [
            ("user", "ascending"),
            ("thread", "ascending"),
            ("started_at", "ascending"),
            ("id", "ascending"),
        ]
    )
    ids = kept["id"].combine_chunks()
    session = (
        pc.index_in(messages["id"], value_set=ids)
        .combine_chunks()
        .to_numpy(zero_copy_only=False)
        .astype(np.int64)
    )
    index = messages["index"].to_numpy().astype(np.int64)
    order = np.lexsort((index, session))
    order = order[session[order] >= 0]
    session, index = session[order], index[order]
    ordered = messages.take(pa.array(order))
    thread_of_session = pc.dictionary_encode(kept["thread"].combine_chunks()).indices.to_numpy(
        zero_copy_only=False
    )
    started = _micro(kept["started_at"])
    time = _micro(ordered["time"])
    time = np.where(time >= 0, time, started[session])
    role = (
        pc.index_in(ordered["role"], value_set=pa.array(ROLES))
        .combine_chunks()
        .to_numpy()
        .astype(np.int8)
    )
    branch_at = kept["branch_at"].to_numpy(zero_copy_only=False).astype(np.int64)[session]
    user = kept["user"].to_numpy()[session]
    begins = np.flatnonzero(np.append(True, user[1:] != user[:-1]))[: len(user)]
    latest = np.maximum.reduceat(time, begins) if len(user) else time
    seen = dict(zip(user[begins].tolist(), latest.tolist(), strict=True))
    text = ordered["text"].to_pylist()
    return Timeline(
        user,
        ids.to_numpy(zero_copy_only=False)[session],
        index,
        role,
        text,
        text,
        thread_of_session[session].astype(np.int64),
        session,
        time,
        np.flatnonzero((role == ASSISTANT) & (index >= branch_at)),
        seen,
    )


def _micro(column: pa.ChunkedArray) -> NDArray[np.int64]:
    return (
        pc.fill_null(pc.cast(column, pa.int64()), -1)
        .combine_chunks()
        .to_numpy(zero_copy_only=False)
    )
