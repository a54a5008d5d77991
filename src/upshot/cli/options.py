"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import upshot
from upshot.errors import InputError
from upshot.sources.formats import FORMATS

Logs = Annotated[list[str], typer.Argument(help="Files, folders, globs, or - for standard input.")]
MaybeLogs = Annotated[
    list[str] | None, typer.Argument(help="Files, folders, globs or -; or nothing with --lake.")
]
LakeDir = Annotated[str, typer.Option("--lake", help="Folder or URL of the lake.")]
MaybeLake = Annotated[str | None, typer.Option("--lake", help="Work on this lake.")]
Format = Annotated[
    str | None,
    typer.Option("--format", help=f"{', '.join(FORMATS.names)}; detected if left out."),
]
Map = Annotated[
    str | None,
    typer.Option(
        "--map",
        help="What lies where in a log of another shape: messages=turns[*],role=who,content=text.",
    ),
]
UserName = Annotated[
    str | None, typer.Option("--user", help="Whose logs these are, where they do not say.")
]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="Settings file (TOML).")]
Workers = Annotated[int | None, typer.Option("--workers", min=1, help="Local processes.")]
Horizon = Annotated[
    int | None,
    typer.Option("--horizon", min=1, help="Messages after a response that may bear on it."),
]
Out = Annotated[str, typer.Option("-o", "--out", help="File to write, or - for standard output.")]
BaseUrl = Annotated[str | None, typer.Option(help="OpenAI-compatible address, up to /v1.")]
ModelName = Annotated[str | None, typer.Option(help="Name of the model at --base-url.")]
TrustRemoteCode = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code", help="Run code that comes with a model; read that code first."
    ),
]
Seed = Annotated[int, typer.Option(help="Of everything random.")]


def load_settings(
    path: Path | None, *, workers: int | None = None, **sections: dict[str, Any]
) -> upshot.Settings:
    """Settings from a file, the environment and flags.

    Raises:
        NotFoundError: the file is not there.
        ConfigError: a key is unknown or a value out of bounds.
    """
    return upshot.load(path, engine={"workers": workers}, **sections)


def parse_map(text: str | None) -> dict[str, str] | None:
    """The mapping of `--map`: `messages=turns[*],role=who`.

    Raises:
        InputError: a part is no `name=path`.

    >>> parse_map("messages=turns[*],role=who")
    {'messages': 'turns[*]', 'role': 'who'}
    """
    if text is None:
        return None
    mapping: dict[str, str] = {}
    for part in text.split(","):
        name, equals, path = part.partition("=")
        if not equals or not name.strip() or not path.strip():
            raise InputError(
                f"could not read --map {part!r}: write NAME=PATH pairs with commas, as in"
                " messages=turns[*],role=who,content=text"
            )
        mapping[name.strip()] = path.strip()
    return mapping


def require_logs(logs: list[str] | None, verb: str) -> list[str]:
    """The logs of a verb that was called without a lake.

    Raises:
        InputError: there are none.
    """
    if not logs:
        raise InputError(
            f"could not {verb}: name files (- is standard input) or a lake with --lake"
        )
    return logs
