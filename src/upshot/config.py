"""Settings: defaults, then a TOML file, then environment (`UPSHOT_LAKE__BUCKETS=32`), then flags.

Secrets come only from the environment: `UPSHOT_KEY` is the pseudonym key.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from upshot.errors import ConfigError, NotFoundError


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LakeSettings(_Section):
    """How the lake is laid out."""

    buckets: int = Field(default=16, ge=1, le=4096)
    """Number of partitions; fixed when a lake is made."""
    chunk_mb: float = Field(default=32.0, gt=0, le=4096)
    """Text gathered before one commit, in megabytes."""


class PrivacySettings(_Section):
    """What is removed before anything is written."""

    redact: bool = True
    names: bool = True
    """Redact names where a pattern shows them ("my name is …")."""
    recogniser: str = ""
    """`presidio` or `module:function` for names and free text; needs the `recogniser` extra."""


class ThreadSettings(_Section):
    """When a session continues an earlier one."""

    threshold: float = Field(default=0.5, ge=0, le=1)
    """Least P(the later session continues the earlier one)."""
    window: int = Field(default=64, ge=1)
    """Sessions back in time that every session is compared with; rare shared terms reach further."""
    embeddings: bool = False
    """Compare MiniLM embeddings too; needs the `minilm` extra."""


class JudgeSettings(_Section):
    """What the embedded judge reads."""

    horizon: int = Field(default=20, ge=1, le=1000)
    """Messages after a response that may bear on it."""


class EngineSettings(_Section):
    """Where work runs."""

    workers: int = Field(default=1, ge=1, le=1024)
    """Local processes; 1 runs in this process."""


class Settings(BaseSettings):
    """The whole tree. Unknown keys are refused."""

    model_config = SettingsConfigDict(
        env_prefix="UPSHOT_", env_nested_delimiter="__", frozen=True, extra="forbid", env_ignore_empty=True
    )

    key: SecretStr = SecretStr("")
    """Pseudonym key; empty: one is made beside the lake and kept out of it."""
    lake: LakeSettings = LakeSettings()
    privacy: PrivacySettings = PrivacySettings()
    threads: ThreadSettings = ThreadSettings()
    judge: JudgeSettings = JudgeSettings()
    engine: EngineSettings = EngineSettings()


def load(path: Path | None = None, **flags: Mapping[str, Any]) -> Settings:
    """Resolve settings from a TOML file, the environment and flags (each overrides the one before).

    Raises:
        NotFoundError: the file is not there.
        ConfigError: a key is unknown or a value out of bounds.

    >>> load(judge={"horizon": 5}).judge.horizon
    5
    """
    data: dict[str, Any] = {}
    if path is not None:
        if not path.is_file():
            raise NotFoundError(f"could not read settings: {path} is not a file")
        try:
            data = tomllib.loads(path.read_text())
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"could not read settings: {path} is not TOML: {error}") from error
        if "key" in data:
            raise ConfigError(f"could not read settings: {path} holds `key`; set it as UPSHOT_KEY in the environment")
    try:
        from_environment = Settings().model_dump(exclude_unset=True)
        merged = _merge(_merge(data, from_environment), flags)
        return Settings.model_validate(merged)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"could not read settings: `{where}`: {first['msg']} (found {first['input']!r})") from error


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in over.items():
        if value is None:
            continue
        old = merged.get(name)
        merged[name] = _merge(old if isinstance(old, Mapping) else {}, value) if isinstance(value, Mapping) else value
    return merged
