"""A round's logs: files that are new or have changed since the last round, or what a command
writes.
"""

from __future__ import annotations

import glob
import hashlib
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from upshot.errors import ConfigError, NotFoundError
from upshot.loop.config import Gather

Collect = Callable[["LogRequest", Path], None]
"""Writes a round's log to a path."""


class LogRequest(NamedTuple):
    """Which logs a round needs."""

    policy: str
    """In service."""
    round: int
    seed: int
    canary: str = ""
    """A candidate for a share of the users, drawn at random; empty: none."""
    share: float = 0.0


def gather(
    plan: Gather,
    request: LogRequest,
    folder: Path,
    old_digests: Iterable[str],
    collect: Collect | None = None,
) -> dict[str, str]:
    """Put the logs into a folder; returns each one's name and digest.

    `old_digests`: of earlier rounds' logs, which are not taken again.

    Raises:
        ConfigError: the command failed.
        NotFoundError: there is nothing new.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if collect is None and not plan.command:
        return _copy_new_files(plan, folder, set(old_digests))
    out = folder / "log.jsonl"
    draft = folder / "log.part"
    if collect is not None:
        collect(request, draft)
    else:
        places = {
            "policy": request.policy,
            "out": str(draft),
            "round": str(request.round),
            "seed": str(request.seed),
            "canary": request.canary,
            "share": f"{request.share:g}",
        }
        _run_command(plan.command, places)
    if not draft.is_file() or not draft.stat().st_size:
        raise NotFoundError(
            f"could not gather round {request.round}: nothing was written to {{out}}"
        )
    draft.replace(out)
    return {out.name: digest(out)}


def _copy_new_files(plan: Gather, folder: Path, old_digests: set[str]) -> dict[str, str]:
    copies: dict[str, str] = {}
    names = {name for pattern in plan.logs for name in glob.glob(pattern, recursive=True)}
    for path in sorted(map(Path, names)):
        if path.is_file() and (content := digest(path)) not in old_digests:
            target = folder / f"{content[:12]}-{path.name}"
            shutil.copyfile(path, target)
            copies[target.name] = content
    if not copies:
        raise NotFoundError(f"could not gather a round: nothing is new in {', '.join(plan.logs)}")
    return copies


def _run_command(command: str, places: Mapping[str, str]) -> None:
    words = [_fill_places(word, places) for word in shlex.split(command)]
    try:
        process = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError as error:
        raise ConfigError(f"could not run gather.command: {words[0]}: {error}") from error
    if process.returncode:
        raise ConfigError(
            f"could not gather: {shlex.join(words)} ended with {process.returncode}:"
            f" {process.stderr.strip()[-400:]}"
        )


def _fill_places(word: str, places: Mapping[str, str]) -> str:
    for name, value in places.items():
        word = word.replace("{" + name + "}", value)
    return word


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
