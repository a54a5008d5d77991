"""What every verb needs: a lake, its cleaning, an endpoint."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeGuard, cast

from upshot import privacy
from upshot.config import Settings, load
from upshot.engine import Executor, Here, Processes
from upshot.errors import ConfigError, InputError
from upshot.extras import explain_missing
from upshot.lake import Lake, recorded_export, users_in
from upshot.llm import Endpoint
from upshot.records import BadRecord, RawConversation
from upshot.sources.ingest import Cleaning, fingerprint_of

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
        ConfigError: its object store cannot be used.
    """
    settings = settings or load()
    if os.path.isfile(path):
        raise InputError(f"could not open the lake {os.fspath(path)}: it is a file, not a folder")
    options = settings.lake.storage_options
    revealed = {name: value.get_secret_value() for name, value in options.items()}
    return Lake(os.fspath(path), settings.lake.buckets, revealed)


def cleaning(target: Lake, settings: Settings) -> Cleaning:
    """How logs are made private on their way into a lake.

    Raises:
        ConfigError: the lake was made with another key, or its key is nowhere.
    """
    setting = settings.key.get_secret_value()
    if not setting and target.is_local and target.key_fingerprint:
        _require_key_file(Path(target.root + ".key"))
    key = privacy.load_key(setting, target.root, target.is_local)
    target.check_key(fingerprint_of(key))
    options = settings.privacy
    return Cleaning(key, options.redact, options.names, options.recogniser)


@contextmanager
def exported(
    lake: str | os.PathLike[str] | None,
    out: str | os.PathLike[str],
    table: str,
    settings: Settings | None = None,
) -> Generator[None]:
    """A block that writes what a lake has of all users of a table to a file; the lake keeps a
    manifest, so that an erasure can name the file. None is kept of standard output.
    """
    store = None if lake is None or os.fspath(out) == "-" else open_lake(lake, settings)
    if store is None or not store.exists(table):
        yield
        return
    with recorded_export(store, out, users_in(store, table)):
        yield


def _require_key_file(path: Path) -> None:
    if not path.exists():
        raise ConfigError(
            f"could not find the pseudonym key of the lake: {path} is gone, and"
            " UPSHOT_KEY is not set; set it to the key that the lake was made with"
        )


def executor_of(settings: Settings) -> Executor:
    """Where work on the buckets of a lake runs.

    Raises:
        MissingExtraError: on Ray, which is not installed.
        ConfigError: on a Ray cluster that cannot be used.
    """
    engine = settings.engine
    if engine.kind == "ray":
        return _share_cluster(engine.address, engine.token_file)
    return local_executor_of(settings)


def local_executor_of(settings: Settings) -> Executor:
    """Where logs are read: on this machine, so that no text travels before it is redacted."""
    kind, workers = settings.engine.kind, settings.engine.workers
    is_here = kind == "here" or (kind != "processes" and workers == 1)
    return Here() if is_here else _share_processes(workers)


@cache
def _share_cluster(address: str, token_file: Path | None) -> Executor:
    """A process is part of one cluster at a time."""
    try:
        from upshot.engine.ray import Ray  # Ray takes a second to load
    except ModuleNotFoundError as error:
        raise explain_missing(error) from error

    return Ray(address, token_file)


@cache
def _share_processes(workers: int) -> Processes:
    """Processes that stay from verb to verb: starting one takes a second."""
    return Processes(workers)


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
