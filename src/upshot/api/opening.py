"""What every verb needs: a lake, its cleaning, an endpoint."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeGuard, cast

from upshot import privacy
from upshot.config import Settings, load
from upshot.errors import InputError
from upshot.lake import Lake
from upshot.llm import Endpoint
from upshot.records import BadRecord, RawConversation
from upshot.sources.ingest import Cleaning

Paths = Sequence[str | os.PathLike[str]] | str | os.PathLike[str]
Logs = Paths | Iterable[RawConversation | BadRecord | Mapping[str, Any]]
"""Files, folders, globs or `-`; or conversations that the caller holds already."""
Progress = Callable[[str, int, int], None]
"""Called with the stage, what is done and what there is (0: not known)."""


def quiet(stage: str, done: int, total: int) -> None:
    """A no-op progress callback."""


def is_paths(logs: Logs) -> TypeGuard[Paths]:
    """Whether logs are named by paths.

    >>> is_paths("logs/*.jsonl"), is_paths(["a.jsonl"]), is_paths([{"messages": []}])
    (True, True, False)
    """
    if isinstance(logs, (str, os.PathLike)):
        return True
    return isinstance(logs, Sequence) and all(
        isinstance(item, (str, os.PathLike)) for item in cast(Sequence[object], logs)
    )


def open_lake(path: str | os.PathLike[str], settings: Settings | None = None) -> Lake:
    """The lake at a folder or URL; nothing is made until something is written.

    Raises:
        InputError: it is a file.
    """
    settings = settings or load()
    if os.path.isfile(path):
        raise InputError(f"could not open the lake {os.fspath(path)}: it is a file, not a folder")
    return Lake(os.fspath(path), settings.lake.buckets)


def cleaning(target: Lake, settings: Settings) -> Cleaning:
    """How logs are made private on their way into a lake."""
    key = privacy.load_key(settings.key.get_secret_value(), target.root, target.is_local)
    options = settings.privacy
    return Cleaning(key, options.redact, options.names, options.recogniser)


def endpoint_of(settings: Settings) -> Endpoint:
    """Where the language model of the settings answers.

    Raises:
        ConfigError: no address or model is set.
    """
    llm = settings.llm
    return Endpoint(
        llm.base_url,
        llm.model,
        llm.key.get_secret_value(),
        llm.concurrency,
        llm.timeout_s,
        llm.attempts,
        llm.backoff_s,
        llm.usd_in,
        llm.usd_cached,
        llm.usd_out,
        llm.stream,
    ).check()
