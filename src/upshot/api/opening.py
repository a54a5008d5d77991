"""What every verb needs: a lake, its cleaning, an endpoint."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from upshot import privacy
from upshot.config import Settings, load
from upshot.lake import Lake
from upshot.llm import Endpoint
from upshot.sources.ingest import Cleaning

Paths = Sequence[str | os.PathLike[str]] | str | os.PathLike[str]
Progress = Callable[[str, int, int], None]
"""Called with the stage, what is done and what there is (0: not known)."""


def quiet(stage: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


def open_lake(path: str | os.PathLike[str], settings: Settings | None = None) -> Lake:
    """The lake at a folder or URL; nothing is made until something is written."""
    settings = settings or load()
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
