"""Where a lake's bytes are: a folder, or an object store by its URL and options."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow.fs
from deltalake.fs import DeltaStorageHandler

from upshot.errors import ConfigError

SCHEMES = ("s3", "s3a", "az", "abfs", "abfss", "gs", "memory")
"""Of URLs; `memory` lasts as long as its process."""
_UNSAFE = {
    "aws_s3_allow_unsafe_rename": ("true", "1", "yes", "t"),
    "allow_unsafe_rename": ("true", "1", "yes", "t"),
    "aws_conditional_put": ("disabled",),
    "conditional_put": ("disabled",),
}
"""Options, and the values under which two writers may both believe that they committed."""


def is_local_root(root: str) -> bool:
    """Whether a lake is in a folder.

    >>> is_local_root("s3://logs/lake"), is_local_root("./lake"), is_local_root("file:///lake")
    (False, True, True)
    """
    return "://" not in root or root.startswith("file://")


def check_store(root: str, options: Mapping[str, str] | None) -> None:
    """Refuse an object store that is not known, or in which writers could undo each other.

    Raises:
        ConfigError: with what to change.
    """
    scheme = urlsplit(root).scheme
    if scheme not in SCHEMES:
        raise ConfigError(
            f"could not open the lake at {root}: name a folder, or a URL that begins with"
            f" {', '.join(f'{name}://' for name in SCHEMES)}"
        )
    given = {name.lower(): value for name, value in (options or {}).items()}
    if scheme.startswith("s3"):
        given = {name.lower(): value for name, value in os.environ.items()} | given
    for name, values in _UNSAFE.items():
        if given.get(name, "").strip().lower() in values:
            raise ConfigError(
                f"could not open the lake at {root}: {name.upper()} is {given[name]!r}, so of two"
                " writers one could overwrite the commit of the other; leave it out (S3 and stores"
                " like it take conditional puts)"
            )


def open_filesystem(
    root: str, options: Mapping[str, str] | None
) -> tuple[pyarrow.fs.FileSystem, str]:
    """All files of a lake, and the path of its root among them."""
    if is_local_root(root):
        return pyarrow.fs.LocalFileSystem(), str(Path(root))
    handler: Any = DeltaStorageHandler(root, dict(options) if options else None)
    return pyarrow.fs.PyFileSystem(handler), ""
