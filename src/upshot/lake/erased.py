"""The list of the erased, which every writer heeds.

It holds a mark of each: a hash of the pseudonym, which was made with the lake's key, so that nobody
without the key can tell who is meant, and no byte of the pseudonym itself is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import pyarrow as pa

from upshot.io.arrow import pc
from upshot.records import SCHEMAS, CleanTable

if TYPE_CHECKING:
    from upshot.lake.tables import Lake

ERASED_TEXT = "[ERASED]"
"""Stands for what an erased user wrote in a conversation that is another user's."""


def mark_of(user: str) -> str:
    """Sixteen hexadecimal digits for a pseudonym.

    >>> mark_of("u_1f0c") == mark_of("u_1f0c") != mark_of("u_1f0d")
    True
    """
    return hashlib.blake2b(user.encode(), digest_size=8, person=b"upshot erased").hexdigest()


class ErasedList(NamedTuple):
    """The list at one of its versions."""

    version: int
    """Of its table."""
    marks: frozenset[str]
    """Of the users who were erased and not allowed again."""
    changed: str = ""
    """When it last changed; empty: never."""


def read_list(lake: Lake) -> ErasedList:
    """The list as it is now."""
    version = lake.version("erased")
    rows = lake.read("erased", 0).to_pylist()
    marks = frozenset(row["mark"] for row in rows if not row["allowed"])
    changed = max((row["as_of"].isoformat() for row in rows), default="")
    return ErasedList(version, marks, changed)


def read_erased(lake: Lake) -> frozenset[str]:
    """Marks of the users who were erased and not allowed again."""
    return read_list(lake).marks if lake.exists("erased") else frozenset()


def write_mark(lake: Lake, user: str, *, allowed: bool) -> None:
    """Put a user (by pseudonym) on the list; `allowed`: take them off it again."""
    at = datetime.now(UTC)
    row = {"bucket": 0, "mark": mark_of(user), "allowed": allowed, "as_of": at}
    rows = CleanTable(pa.Table.from_pylist([row], schema=SCHEMAS["erased"]))
    lake.append("erased", rows, (f"erased/{row['mark']}/{at.isoformat()}", 1))


def without_erased(table: str, rows: pa.Table, marks: Collection[str]) -> pa.Table:
    """The rows of a table as they may be written: those of erased users left out.

    What an erased user wrote in a conversation that is another's is blanked; the list of an
    export's users keeps the mark instead of the pseudonym. The same object where nothing is theirs.
    """
    if not marks or not rows.num_rows:
        return rows
    if "user" in rows.schema.names:
        theirs = _select_marked(rows["user"], marks)
        if theirs:
            rows = rows.filter(pc.invert(pc.is_in(rows["user"], value_set=theirs)))
    if table == "messages":
        return _blank_words(rows, marks)
    if table in ("models", "exports"):
        return _without_learners(table, rows, marks)
    return rows


def _select_marked(column: Any, marks: Collection[str]) -> Any:
    """The distinct values of a column whose marks are listed; None: there are none."""
    values: list[Any] = pc.unique(column).to_pylist()
    theirs = [value for value in values if value and mark_of(value) in marks]
    return pa.array(theirs, pa.string()) if theirs else None


def _blank_words(rows: pa.Table, marks: Collection[str]) -> pa.Table:
    theirs = _select_marked(rows["name"], marks)
    if not theirs:
        return rows
    is_theirs = pc.is_in(rows["name"], value_set=theirs)
    blanks: dict[str, Any] = {"name": "", "text": ERASED_TEXT, "tool_calls": "", "refs": ""}
    for name, blank in {**blanks, "spans": None}.items():
        if name in rows.schema.names:
            values: list[Any] = rows[name].to_pylist()
            hits: list[bool] = is_theirs.to_pylist()
            changed = [blank if hit else value for value, hit in zip(values, hits, strict=True)]
            rows = _with_values(rows, name, changed)
    return rows


def without_words(verdicts: pa.Table, places: Collection[tuple[Any, Any]]) -> pa.Table:
    """Verdicts without the words of messages at these places (conversation, index): quotes of them
    are blanked, and with them the reason, which a language model wrote with them before its eyes.
    The same object where nothing is quoted.
    """
    evidence = cast(list[list[dict[str, Any]]], verdicts["evidence"].to_pylist())
    hits = [any(_is_at(e, places) for e in some) for some in evidence]
    if not any(hits):
        return verdicts
    blank = {"quote": ERASED_TEXT, "start": 0, "end": len(ERASED_TEXT)}
    changed = [[{**e, **blank} if _is_at(e, places) else e for e in some] for some in evidence]
    reasons: list[Any] = verdicts["reason"].to_pylist()
    reasons = ["" if hit else reason for hit, reason in zip(hits, reasons, strict=True)]
    return _with_values(_with_values(verdicts, "evidence", changed), "reason", reasons)


def _is_at(evidence: dict[str, Any], places: Collection[tuple[Any, Any]]) -> bool:
    place = (evidence["id"], evidence["index"])
    return place in places and evidence["quote"] not in ("", ERASED_TEXT)


def _with_values(rows: pa.Table, name: str, values: Sequence[Any]) -> pa.Table:
    place, kind = rows.schema.get_field_index(name), rows[name].type
    return rows.set_column(place, name, cast(Any, pa).array(values, kind))


def _without_learners(table: str, rows: pa.Table, marks: Collection[str]) -> pa.Table:
    users = [cast(list[str], some) for some in rows["users"].to_pylist()]
    hits = [any(mark_of(user) in marks for user in some) for some in users]
    if not any(hits):
        return rows
    if table == "models":
        return rows.filter(pa.array([not hit for hit in hits]))
    return _with_values(rows, "users", [sorted(_mark_erased(some, marks)) for some in users])


def _mark_erased(users: Iterable[str], marks: Collection[str]) -> set[str]:
    return {mark_of(user) if mark_of(user) in marks else user for user in users}
