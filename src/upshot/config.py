"""Settings: defaults, then a TOML file, then environment (`UPSHOT_LAKE__BUCKETS=32`), then flags.

Secrets come only from the environment: `UPSHOT_KEY` is the pseudonym key, `UPSHOT_LLM__KEY` the
language model's.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from upshot.errors import ConfigError, NotFoundError


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LakeSettings(_Section):
    """How the lake is laid out."""

    buckets: int = Field(default=16, ge=1, le=4096)
    """Number of partitions; fixed when a lake is made."""
    chunk_mb: float = Field(default=32.0, gt=0, le=4096)
    """Text gathered before one commit, in megabytes."""
    storage_options: dict[str, SecretStr] = {}
    """What an object store needs (`aws_endpoint_url`, `aws_region`, …), as delta-rs names it; what
    the environment says of it (`AWS_REGION`) counts too. Secrets only from the environment.
    """


class SourceSettings(_Section):
    """How logs are read."""

    decompressed_mb: int = Field(default=1000, ge=1)
    """Of one compressed file that are read; the rest is a bad record."""
    line_mb: int = Field(default=64, ge=1)
    """Of one line or item; a longer one is a bad record."""
    user: str = ""
    """Whose logs these are, where they do not say."""
    map: dict[str, str] = {}
    """What lies where in logs of another shape, as JSONPaths; as --map."""


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
    """Sessions back in time that every session is compared with; rare shared terms reach further.
    """
    embeddings: bool = False
    """Compare MiniLM embeddings too; needs the `minilm` extra."""


class JudgeSettings(_Section):
    """Who judges, and what it reads."""

    kind: Literal["embedded", "llm", "cascade"] = "embedded"
    """The embedded judge, the LLM on everything, or the LLM where it is expected to change a
    decision.
    """
    share: float = Field(default=0.2, ge=0, le=1)
    """Share of the threads that the cascade may send to the LLM, the audit's included."""
    audit: float = Field(default=0.05, ge=0, le=1)
    """Share of the threads that the cascade sends at random, so that the embedded judge's error is
    known.
    """
    horizon: int = Field(default=20, ge=1, le=1000)
    """Messages after a response that may bear on it."""


class LLMSettings(_Section):
    """The language model that judges, where one does."""

    base_url: str = ""
    """An OpenAI-compatible address, up to `/v1`."""
    model: str = ""
    key: SecretStr = SecretStr("")
    """Only from the environment: UPSHOT_LLM__KEY."""
    concurrency: int = Field(default=16, ge=1, le=4096)
    """Requests in flight."""
    timeout_s: float = Field(default=120.0, gt=0)
    attempts: int = Field(default=6, ge=1, le=50)
    """Tries of one request."""
    backoff_s: float = Field(default=1.0, ge=0)
    """Wait before the second try; doubles each time."""
    usd_in: float = Field(default=0.0, ge=0)
    """Price of a million prompt tokens."""
    usd_cached: float | None = Field(default=None, ge=0)
    """The same where the server had them in its prefix cache; left out: the full price."""
    usd_out: float = Field(default=0.0, ge=0)
    """Price of a million completion tokens."""
    budget_tokens: int | None = Field(default=None, ge=0)
    budget_usd: float | None = Field(default=None, ge=0)
    votes: int = Field(default=3, ge=1, le=25)
    """Samples of each judgement; confidence comes from their agreement."""
    temperature: float = Field(default=0.7, ge=0, le=2)
    foresight: Literal["llm", "embedded"] = "llm"
    """Who gives the foresight score; the LLM reads each response once more, without what follows.
    """
    window_tokens: int = Field(default=32_000, ge=1_000)
    """Longest part of a thread in one prompt."""
    tolerance: float = Field(default=0.1, ge=0, le=1)
    """How far a judgement may move when what was written for the judge is hidden."""
    rubric: Path | None = None
    """Another rubric file."""
    stream: bool = False
    """Take answers as server-sent events, where a gateway closes silent connections."""
    batch: bool = False
    """Use the endpoint's batch interface."""


class PushSettings(_Section):
    """How verdicts are sent to other systems; their keys come from the environment alone, under
    the names that those systems' own clients read.
    """

    timeout_s: float = Field(default=30.0, gt=0)
    """For one attempt, from sending to the last byte."""
    attempts: int = Field(default=6, ge=1, le=50)
    """Tries of one request."""
    backoff_s: float = Field(default=1.0, ge=0)
    """Wait before the second try; doubles each time, up to a minute."""


class EngineSettings(_Section):
    """Where work runs."""

    kind: Literal["auto", "here", "processes", "ray"] = "auto"
    """Work on the buckets of a lake: in this process, in `workers` local processes, or on a Ray
    cluster (extra `ray`); `auto` is this process for one worker, and processes for more. Logs are
    always read on this machine.
    """
    workers: int = Field(default=1, ge=1, le=1024)
    """Local processes; 1 runs in this process."""
    address: str = "auto"
    """Of the Ray cluster, `host:port`; `auto`: the one that this machine is part of."""
    token_file: Path | None = None
    """With the token of the Ray cluster; left out: where Ray looks for it."""


class Settings(BaseSettings):
    """The whole tree. Unknown keys are refused."""

    model_config = SettingsConfigDict(
        env_prefix="UPSHOT_",
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        env_ignore_empty=True,
    )

    key: SecretStr = SecretStr("")
    """Pseudonym key; empty: one is made beside the lake and kept out of it."""
    lake: LakeSettings = LakeSettings()
    sources: SourceSettings = SourceSettings()
    privacy: PrivacySettings = PrivacySettings()
    threads: ThreadSettings = ThreadSettings()
    judge: JudgeSettings = JudgeSettings()
    llm: LLMSettings = LLMSettings()
    push: PushSettings = PushSettings()
    engine: EngineSettings = EngineSettings()


def load(path: Path | None = None, **flags: Mapping[str, Any]) -> Settings:
    """Resolve settings from a TOML file, the environment and flags (each overrides the one before).

    Raises:
        NotFoundError: the file is not there.
        ConfigError: a key is unknown or a value out of bounds, or the file holds a secret.

    >>> load(judge={"horizon": 5}).judge.horizon
    5
    """
    if path is not None and not path.is_file():
        raise NotFoundError(f"could not read settings: {path} is not a file")

    class FromFile(Settings):
        """Settings with a file among their sources."""

        model_config = SettingsConfigDict(toml_file=path)

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            """Flags, then the environment, then the file."""
            file = TomlConfigSettingsSource(settings_cls)
            _refuse_secrets(path, file())
            return init_settings, env_settings, file

    sections = {
        section: {name: value for name, value in values.items() if value is not None}
        for section, values in flags.items()
    }
    try:
        resolved = FromFile(**sections)  # pyright: ignore[reportArgumentType]  # checked by pydantic
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"could not read settings: {path} is not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"could not read settings: `{where}`: {first['msg']} (it is {first['input']!r})"
        ) from error
    return Settings.model_construct(**dict(resolved))


_SECRET_OPTION = re.compile("secret|key|token|password|sas|credential", re.IGNORECASE)
"""Names of storage options that are secrets, or name one."""


def _refuse_secrets(path: Path | None, data: dict[str, Any]) -> None:
    """Secrets come only from the environment.

    Raises:
        ConfigError: the file holds one.
    """
    lake: Any = data.get("lake")
    options: Any = cast(Any, lake).get("storage_options") if isinstance(lake, dict) else None
    for name in cast(dict[str, Any], options) if isinstance(options, dict) else ():
        if _SECRET_OPTION.search(str(name)):
            raise ConfigError(
                f"could not read settings: {path} holds `lake.storage_options.{name}`; set it in"
                " the environment, as your object store's own tools read it"
                " (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"
            )
    for variable, name, section in (
        ("UPSHOT_KEY", "key", data),
        ("UPSHOT_LLM__KEY", "llm.key", data.get("llm")),
    ):
        if isinstance(section, dict) and "key" in section:
            raise ConfigError(
                f"could not read settings: {path} holds `{name}`; set it as {variable} in the"
                " environment"
            )
