"""The ids by which other systems know each response.

A response may be many messages; the message with words in it that comes last stands for it, else
its first one, of those that have ids. What a message does not name, its conversation may.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
import pyarrow as pa

from upshot.io.arrow import pc
from upshot.lake import Lake
from upshot.records import CleanTable

Place: TypeAlias = tuple[str, int]
"""Conversation, and index of a response's first message in it."""
_DECODER = msgspec.json.Decoder(dict[str, str])
_PLACEHOLDER = re.compile(r"<[A-Z][A-Z_]*_\d{12}>")
"""In an id that looked like personal data: of 3,000 random UUIDs one had the digits of a card."""


def read_refs(
    lake: Lake, bucket: int, places: Sequence[Place], users: Sequence[str] | None = None
) -> dict[Place, dict[str, str]]:
    """The refs of responses in a bucket of a lake, of all its users or of some; responses without
    any are left out.
    """
    columns = ("id", "digest", "refs")
    conversations = lake.read("conversations", bucket, columns, users=users)
    columns = ("id", "index", "role", "author", "refs")
    messages = lake.read(
        "messages", bucket, columns, conversations=conversations, users=users
    )  # no text where no message has an id
    if pc.any(pc.not_equal(messages["refs"], "")).as_py():
        messages = lake.read(
            "messages", bucket, (*columns, "text"), conversations=conversations, users=users
        )
    return find_refs(conversations, messages, places)


def find_refs(
    conversations: CleanTable, messages: CleanTable, places: Iterable[Place]
) -> dict[Place, dict[str, str]]:
    """The refs of responses, from tables of conversations and messages; responses without any are
    left out.
    """
    places = list(places)
    starts: dict[str, list[int]] = {}
    for name, index in sorted(places):
        starts.setdefault(name, []).append(index)
    shared = {
        name: _decode(text)
        for name, text in zip(*_columns(conversations, "id", "refs"), strict=True)
        if text not in ("", "{}") and name in starts
    }
    own = {place: refs for place, (_, refs) in _find_own(messages, starts).items()}
    merged = {place: {**shared.get(place[0], {}), **own.get(place, {})} for place in places}
    return {place: refs for place, refs in merged.items() if refs}


def _find_own(
    messages: CleanTable, starts: Mapping[str, Sequence[int]]
) -> dict[Place, tuple[bool, dict[str, str]]]:
    """For each response, whether the message that stands for it has words, and its refs."""
    is_named = pc.and_(pc.equal(messages["role"], "assistant"), pc.not_equal(messages["refs"], ""))
    named: pa.Table = messages.filter(is_named)
    if not named.num_rows:
        return {}
    typed = _index_typed(messages, pc.unique(named["id"]))
    has_words = pc.not_equal(pc.utf8_trim_whitespace(named["text"]), "")
    rows = zip(*_columns(named, "id", "index", "refs"), has_words.to_pylist(), strict=True)
    own: dict[Place, tuple[bool, dict[str, str]]] = {}
    for name, index, text, is_spoken in sorted(rows, key=lambda row: (row[0], row[1])):
        before = bisect_right(starts.get(name, ()), index)
        if not before:
            continue
        start = starts[name][before - 1]
        people = typed.get(name, [])
        if bisect_right(people, start) != bisect_right(people, index):
            continue  # the person has written since: no part of that response
        if is_spoken or (name, start) not in own:
            own[name, start] = is_spoken, _decode(text)
    return own


def _decode(text: str) -> dict[str, str]:
    """Refs without those that redaction has changed: they name nothing."""
    refs = _DECODER.decode(text)
    return {name: ref for name, ref in refs.items() if not _PLACEHOLDER.search(ref)}


def _index_typed(messages: CleanTable, names: Any) -> dict[str, list[int]]:
    """Where a person wrote, in order, in some conversations."""
    is_typed = pc.and_(pc.equal(messages["role"], "user"), pc.equal(messages["author"], "person"))
    rows = messages.filter(pc.and_(is_typed, pc.is_in(messages["id"], value_set=names)))
    typed: dict[str, list[int]] = {}
    for name, index in sorted(zip(*_columns(rows, "id", "index"), strict=True)):
        typed.setdefault(name, []).append(index)
    return typed


def _columns(rows: pa.Table, *names: str) -> list[list[Any]]:
    return [rows[name].to_pylist() for name in names]
