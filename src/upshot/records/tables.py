"""The Arrow schemas of the lake's tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NewType

import msgspec
import pyarrow as pa

from upshot.records.conversations import ToolCall

CleanTable = NewType("CleanTable", pa.Table)
"""An Arrow table that holds no raw user name and no unredacted text."""

_TEXT = pa.large_string()
_TIME = pa.timestamp("us", tz="UTC")

EVIDENCE_TYPE = pa.struct(
    [
        ("id", pa.string()),
        ("index", pa.int32()),
        ("start", pa.int32()),
        ("end", pa.int32()),
        ("quote", pa.string()),
        ("kind", pa.string()),
        ("polarity", pa.int8()),
        ("weight", pa.float32()),
    ]
)

STEP_TYPE = pa.struct([("index", pa.int32()), ("credit", pa.float32()), ("adopted", pa.float32())])

SPAN_TYPE = pa.struct([("start", pa.int32()), ("end", pa.int32()), ("author", pa.string())])

SCHEMAS: Mapping[str, pa.Schema] = {
    "conversations": pa.schema(
        [
            ("bucket", pa.int32()),
            ("user", pa.string()),
            ("id", pa.string()),
            ("started_at", _TIME),
            ("model", pa.string()),
            ("source", pa.string()),
            ("messages", pa.int32()),
            ("digest", pa.string()),
            ("branch_of", pa.string()),
            ("branch_at", pa.int32()),
            ("fork", pa.int32()),
            ("metadata", pa.string()),
            ("redactions", pa.string()),
            ("ingested_at", _TIME),
            ("parent", pa.string()),
            ("parent_at", pa.int32()),
            ("refs", pa.string()),
            ("identity", pa.string()),
            ("chain", pa.binary()),
        ]
    ),
    "messages": pa.schema(
        [
            ("bucket", pa.int32()),
            ("user", pa.string()),
            ("id", pa.string()),
            ("digest", pa.string()),
            ("index", pa.int32()),
            ("role", pa.string()),
            ("text", _TEXT),
            ("time", _TIME),
            ("name", pa.string()),
            ("model", pa.string()),
            ("author", pa.string()),
            ("spans", pa.list_(SPAN_TYPE)),
            ("tool_calls", _TEXT),
            ("refs", pa.string()),
            ("status", pa.int32()),
        ]
    ),
    "events": pa.schema(
        [
            ("bucket", pa.int32()),
            ("user", pa.string()),
            ("id", pa.string()),
            ("digest", pa.string()),
            ("index", pa.int32()),
            ("kind", pa.string()),
            ("value", pa.float32()),
            ("at", pa.int32()),
            ("detail", pa.string()),
            ("time", _TIME),
        ]
    ),
    "threads": pa.schema(
        [
            ("bucket", pa.int32()),
            ("user", pa.string()),
            ("id", pa.string()),
            ("thread", pa.string()),
            ("parent", pa.string()),
            ("score", pa.float32()),
            ("reasons", pa.list_(pa.string())),
            ("as_of", _TIME),
        ]
    ),
    "verdicts": pa.schema(
        [
            ("bucket", pa.int32()),
            ("user", pa.string()),
            ("id", pa.string()),
            ("index", pa.int32()),
            ("score", pa.float32()),
            ("confidence", pa.float32()),
            ("foresight", pa.float32()),
            ("evidence", pa.list_(EVIDENCE_TYPE)),
            ("label", pa.string()),
            ("judge", pa.string()),
            ("as_of", _TIME),
            ("observed_through", _TIME),
            ("horizon", pa.int32()),
            ("reason", _TEXT),
            ("seen", pa.int32()),
            ("basis", pa.string()),
            ("adopted", pa.float32()),
            ("worked", pa.float32()),
            ("steps", pa.list_(STEP_TYPE)),
        ]
    ),
    "replies": pa.schema(
        [
            ("bucket", pa.int32()),
            ("user", pa.string()),
            ("key", pa.string()),
            ("text", _TEXT),
            ("at", _TIME),
        ]
    ),
    "models": pa.schema(
        [
            ("bucket", pa.int32()),
            ("name", pa.string()),
            ("at", _TIME),
            ("content", _TEXT),
            ("users", pa.list_(pa.string())),
        ]
    ),
    "quarantine": pa.schema(
        [
            ("bucket", pa.int32()),
            ("user", pa.string()),
            ("file", pa.string()),
            ("position", pa.string()),
            ("stage", pa.string()),
            ("reason", pa.string()),
            ("ingested_at", _TIME),
        ]
    ),
    "progress": pa.schema(
        [
            ("bucket", pa.int32()),
            ("step", pa.string()),
            ("table", pa.string()),
            ("files", pa.binary()),
            ("as_of", _TIME),
        ]
    ),
    "exports": pa.schema(
        [
            ("bucket", pa.int32()),
            ("path", pa.string()),
            ("at", _TIME),
            ("users", pa.list_(pa.string())),
        ]
    ),
    "erased": pa.schema(
        [
            ("bucket", pa.int32()),
            ("mark", pa.string()),
            ("allowed", pa.bool_()),
            ("as_of", _TIME),
        ]
    ),
    "outbox": pa.schema(
        [
            ("bucket", pa.int32()),
            ("user", pa.string()),
            ("target", pa.string()),
            ("endpoint", pa.string()),
            ("id", pa.string()),
            ("index", pa.int32()),
            ("kind", pa.string()),
            ("ref", pa.string()),
            ("score", pa.float32()),
            ("label", pa.string()),
            ("as_of", _TIME),
        ]
    ),
    "checksums": pa.schema(
        [
            ("bucket", pa.int32()),
            ("table", pa.string()),
            ("path", pa.string()),
            ("version", pa.int64()),
            ("checksum", pa.binary()),
            ("as_of", _TIME),
        ]
    ),
}
"""Every table of the lake. `bucket` = hash(user) mod N and is the partition column of each.

Of the verdicts on one response the one that saw most of what followed counts (`seen`, messages of
its thread after it), of those a language model's before an embedded judge's, of those the newest;
`basis` names the models of the lake that it was made with. Of the threads' rows on one conversation
the newest counts. `models` are in bucket 0, with the users who taught them; `progress` marks the
files that a step has read (`lake.progress`), `exports` whose rows went into files outside
(`lake.exports`), `outbox` the scores that another system has taken (`serve.outbox`), `erased` who
was erased (`lake.erased`), `checksums` those of files (`lake.checksums`). A conversation's
`identity` stands for its user, source and id in the log, and `chain` holds four bytes for each of
its messages, by which a longer version is told from another conversation (`sources.identity`).
`tool_calls`, `refs` and
`metadata` are JSON.
"""


def texts_with_calls(messages: CleanTable) -> list[str]:
    """The text of each message with the tool calls that it makes, a line each."""
    texts: list[Any] = messages["text"].to_pylist()
    for row, calls in enumerate(messages["tool_calls"].to_pylist()):
        if calls:
            lines = [str(call) for call in msgspec.json.decode(calls, type=list[ToolCall])]
            texts[row] = "\n".join([texts[row], *lines] if texts[row] else lines)
    return texts


def with_calls(messages: CleanTable) -> CleanTable:
    """The same rows, their `text` with the tool calls that they make."""
    place = messages.schema.get_field_index("text")
    texts = pa.array(texts_with_calls(messages), _TEXT)
    return CleanTable(messages.set_column(place, "text", texts))


def empty(table: str) -> pa.Table:
    """An empty table of the lake's schema.

    >>> empty("events").num_rows
    0
    """
    return SCHEMAS[table].empty_table()
