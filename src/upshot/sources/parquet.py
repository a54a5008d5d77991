# pyright: reportUnknownMemberType=false
# pyarrow: a method of ParquetFile has no types
"""Parquet with a column map; the shapes of WildChat and LMSYS-Chat-1M are presets.

`columns` names what lies where: {"messages": "conversation", "id": "conversation_hash", …}.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from upshot.errors import FormatError, RecordError
from upshot.io.files import Input
from upshot.io.json_values import is_array, is_object
from upshot.records import BadRecord, RawConversation
from upshot.sources import openai_chat

NAME = "parquet"
PRESETS: Mapping[str, Mapping[str, str]] = {
    "wildchat": {
        "messages": "conversation",
        "id": "conversation_hash",
        "user": "hashed_ip",
        "started_at": "timestamp",
        "model": "model",
    },
    "lmsys": {"messages": "conversation", "id": "conversation_id", "model": "model"},
    "plain": {
        "messages": "messages",
        "id": "id",
        "user": "user",
        "started_at": "started_at",
        "model": "model",
    },
}
_BATCH = 256


def matches(head: bytes) -> bool:
    """Whether the file is Parquet."""
    return head[:4] == b"PAR1"


def read(
    source: Input, columns: Mapping[str, str] | None = None
) -> Iterator[RawConversation | BadRecord]:
    """Conversations batch by batch.

    Raises:
        FormatError: no preset fits the file's columns and no map was given, or the map names a
            column that is not there.
    """
    try:
        # Parquet is read from its end, so a pipe has to be held in memory; a file does not.
        file = pq.ParquetFile(
            io.BytesIO(source.stream.read()) if source.name == "-" else source.name
        )
    except (pa.ArrowException, OSError) as error:
        raise FormatError(f"could not read {source.name}: {error}") from error
    names = file.schema_arrow.names
    chosen = columns or next(
        (
            preset
            for preset in PRESETS.values()
            if preset["messages"] in names and preset["id"] in names
        ),
        None,
    )
    if chosen is None or chosen.get("messages") not in names:
        raise FormatError(
            f"could not read {source.name}: its columns are {', '.join(names)}; none holds the"
            " messages as WildChat or LMSYS-Chat-1M do. Name them: --columns"
            " messages=COLUMN,id=COLUMN,user=COLUMN"
        )
    wanted = [column for column in dict.fromkeys(chosen.values()) if column in names]
    row = 0
    for batch in file.iter_batches(_BATCH, columns=wanted):
        for item in batch.to_pylist():
            row += 1
            try:
                yield openai_chat.parse_conversation(_map_columns(item, chosen), NAME)
            except RecordError as error:
                yield BadRecord(source.name, f"row {row}", str(error))


def _map_columns(item: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    record = {name: item.get(column) for name, column in columns.items()}
    messages = record.get("messages")
    if is_array(messages):
        record["messages"] = [
            ({k: v for k, v in message.items() if v is not None} if is_object(message) else message)
            for message in messages
        ]
    return record
