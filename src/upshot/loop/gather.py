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

Collect = Callable[["Asked", Path], None]
"""Writes a round's log to a path."""


class Asked(NamedTuple):
    """What logs are wanted."""

    policy: str
    """In service."""
    round: int
    seed: int
    canary: str = ""
    """A candidate for a share of the users, drawn at random; empty: none."""
    share: float = 0.0


def gather(
    plan: Gather, asked: Asked, folder: Path, known: Iterable[str], collect: Collect | None = None
) -> dict[str, str]:
    """Put the logs into a folder; returns each one's name and digest.

    `known`: digests of earlier rounds' logs.

    Raises:
        ConfigError: the command failed.
        NotFoundError: there is nothing new.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if collect is None and not plan.command:
        return _files(plan, folder, set(known))
    out = folder / "log.jsonl"
    draft = folder / "log.part"
    if collect is not None:
        collect(asked, draft)
    else:
        _run(
            plan.command,
            {
                "policy": asked.policy,
                "out": str(draft),
                "round": str(asked.round),
                "seed": str(asked.seed),
                "canary": asked.canary,
                "share": f"{asked.share:g}",
            },
        )
    if not draft.is_file() or not draft.stat().st_size:
        raise NotFoundError(f"could not gather round {asked.round}: nothing was written to {{out}}")
    draft.replace(out)
    return {out.name: digest(out)}


def _files(plan: Gather, folder: Path, known: set[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in sorted(
        {Path(name) for pattern in plan.logs for name in glob.glob(pattern, recursive=True)}
    ):
        if path.is_file() and (name := digest(path)) not in known:
            target = folder / f"{name[:12]}-{path.name}"
            shutil.copyfile(path, target)
            found[target.name] = name
    if not found:
        raise NotFoundError(f"could not gather a round: nothing is new in {', '.join(plan.logs)}")
    return found


def _run(command: str, places: Mapping[str, str]) -> None:
    words = [_filled(word, places) for word in shlex.split(command)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError as error:
        raise ConfigError(f"could not run gather.command: {words[0]}: {error}") from error
    if done.returncode:
        raise ConfigError(
            f"could not gather: {shlex.join(words)} ended with {done.returncode}:"
            f" {done.stderr.strip()[-400:]}"
        )


def _filled(word: str, places: Mapping[str, str]) -> str:
    for name, value in places.items():
        word = word.replace("{" + name + "}", value)
    return word


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
