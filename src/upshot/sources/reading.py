"""Reading logs of any known format."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from upshot.errors import FormatError
from upshot.io.files import Input, expand_paths, open_input
from upshot.records import BadRecord, RawConversation
from upshot.sources import parquet
from upshot.sources.formats import FORMATS
from upshot.sources.outcomes import attach_results


class LogFormat(Protocol):
    """What a module of a format offers."""

    def matches(self, head: bytes) -> bool:
        """Whether a file that starts like this (up to 256 kB, decompressed) is of this format."""
        ...

    def read(self, source: Input) -> Iterator[RawConversation | BadRecord]:
        """Conversations and unreadable records of a file, in order."""
        ...


def read(
    logs: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    format: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> Iterator[RawConversation | BadRecord]:
    """Conversations of files, folders, globs or `-`; unreadable records come as `BadRecord`.

    In a folder, files of no known format come as bad records; a file named by itself must be
    readable. `columns`: of Parquet, what lies where.

    Raises:
        FormatError: a named file is in no known format.
        InputError: there is no such format.
        NotFoundError: nothing is there.
    """
    paths = [logs] if isinstance(logs, (str, os.PathLike)) else list(logs)
    named = {os.fspath(path) for path in paths}
    for path in expand_paths(paths):
        try:
            yield from read_file(path, format, columns)
        except FormatError as error:
            if path in named:
                raise
            yield BadRecord(path, "whole file", str(error))


def read_file(
    path: str, format: str | None = None, columns: Mapping[str, str] | None = None
) -> Iterator[RawConversation | BadRecord]:
    """Conversations of one file, with what tool output says attached to the responses.

    Raises:
        FormatError: the file is in no known format.
        InputError: there is no such format.
    """
    source = open_input(path)
    try:
        module: LogFormat = FORMATS.load(format or detect(source))
        items = parquet.read(source, columns) if module is parquet else module.read(source)
        for item in items:
            yield attach_results(item) if isinstance(item, RawConversation) else item
    finally:
        source.close()


def detect(source: Input) -> str:
    """The name of a file's format, by its content.

    Raises:
        FormatError: it is none that Upshot reads.
    """
    if not source.head.strip():
        raise FormatError(f"could not read {source.name}: the file is empty")
    for name in FORMATS.names:
        if FORMATS.load(name).matches(source.head):
            return name
    raise FormatError(
        f"could not read {source.name}: it looks like none of {', '.join(FORMATS.names)}; "
        "if it is one of these, say which with --format"
    )
