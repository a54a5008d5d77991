"""The Arrow schemas of the lake's tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NewType

import pyarrow as pa

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
            ("file", pa.string()),
            ("position", pa.string()),
            ("stage", pa.string()),
            ("reason", pa.string()),
            ("ingested_at", _TIME),
        ]
    ),
}
"""Every table of the lake. `bucket` = hash(user) mod N and is the partition column of each.

Of the verdicts on one response the one that saw most of what followed counts (`seen`, messages of
its thread after it), of those a language model's before an embedded judge's, of those the newest.
`models` are in bucket 0, with the users who taught them.
"""


def empty(table: str) -> pa.Table:
    """An empty table of the lake's schema.

    >>> empty("events").num_rows
    0
    """
    return SCHEMAS[table].empty_table()
