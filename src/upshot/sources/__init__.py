"""Where experience comes from: one file per format, each a function from a file to an iterator of
conversations.

A new format is one new file with `NAME`, `matches(head)` and `read(input)`, and one line in
`FORMATS`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType

from upshot.errors import FormatError, InputError
from upshot.io.files import Input, expand, open_input
from upshot.records import BadRecord, RawConversation
from upshot.sources import (
    aider,
    chatgpt_export,
    claude_code,
    claude_export,
    codex,
    langfuse,
    openai_chat,
    otel,
    parquet,
    realhumaneval,
    sharegpt,
    swe_agent,
)
from upshot.sources.outcomes import with_results

FORMATS: tuple[ModuleType, ...] = (
    parquet,
    aider,
    chatgpt_export,
    claude_export,
    swe_agent,
    otel,
    claude_code,
    codex,
    sharegpt,
    openai_chat,
    langfuse,
    realhumaneval,
)
"""In the order in which they are tried: the surest marks first."""

__all__ = ["FORMATS", "detect", "names", "open_source", "read", "read_input"]


def names() -> list[str]:
    """Names that `--format` takes."""
    return [module.NAME for module in FORMATS]


def read(
    paths: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    format: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> Iterator[RawConversation | BadRecord]:
    """Conversations of files, folders, globs or `-`; unreadable records come as `BadRecord`.

    In a folder, files of no known format are passed over as bad records; a file named by itself
    must be readable.

    Raises:
        FormatError: a named file is in no known format.
        NotFoundError: nothing is there.
    """
    given = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    named = {os.fspath(path) for path in given}
    for path in expand(given):
        try:
            yield from open_source(path, format, columns)
        except FormatError as error:
            if path in named:
                raise
            yield BadRecord(path, "whole file", str(error))


def open_source(
    path: str, format: str | None = None, columns: Mapping[str, str] | None = None
) -> Iterator[RawConversation | BadRecord]:
    """Conversations of one file."""
    source = open_input(path)
    return read_input(source, format, columns)


def read_input(
    source: Input, format: str | None = None, columns: Mapping[str, str] | None = None
) -> Iterator[RawConversation | BadRecord]:
    """Conversations of an opened file, with what tool output says attached to the responses."""
    try:
        module = _named(format) if format else detect(source)
        items = parquet.read(source, columns) if module is parquet else module.read(source)
        for item in items:
            yield with_results(item) if isinstance(item, RawConversation) else item
    finally:
        source.close()


def detect(source: Input) -> ModuleType:
    """The format of a file, by its content.

    Raises:
        FormatError: it is none that Upshot reads.
    """
    if not source.head.strip():
        raise FormatError(f"could not read {source.name}: the file is empty")
    for module in FORMATS:
        if module.matches(source.head):
            return module
    raise FormatError(
        f"could not read {source.name}: it looks like none of {', '.join(names())}; "
        "if it is one of these, say which with --format"
    )


def _named(format: str) -> ModuleType:
    for module in FORMATS:
        if format == module.NAME:
            return module
    raise InputError(f"unknown format {format!r}; known are {', '.join(names())}")
