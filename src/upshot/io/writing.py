"""Writing files: whole or not at all, straight through where the target is no regular file."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from upshot.errors import InputError, UpshotError


@contextmanager
def open_output(path: str | os.PathLike[str]) -> Generator[BinaryIO]:
    """A file to write; `-` is standard output.

    A regular file appears, or is replaced, when the block ends without an error, and a reader sees
    all of the old or all of the new. A device, a pipe or a socket is written straight through.

    Raises:
        InputError: the folder is not there, or the file cannot be written (permission, a full
            disk); what was there before is untouched.
    """
    name = os.fspath(path)
    if name == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    target = Path(os.path.realpath(name))  # through links: a linked file keeps its link
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        if target.exists() and not stat.S_ISREG(target.stat().st_mode):
            with open(target, "wb", buffering=0) as device:
                yield device
            return
        with open(draft, "wb") as handle:
            yield handle
        if target.exists():
            draft.chmod(stat.S_IMODE(target.stat().st_mode))
        draft.replace(target)
    except (UpshotError, BrokenPipeError):
        raise
    except OSError as error:
        raise InputError(f"could not write {name}: {_explain(target, error)}") from error
    finally:
        with suppress(OSError):  # a folder that is gone, or can only be read, has none
            draft.unlink(missing_ok=True)


def _explain(target: Path, error: OSError) -> str:
    if not target.parent.is_dir():
        return f"the folder {target.parent} is not there; make it first"
    if target.is_dir():
        return "it is a folder; name a file in it"
    return f"{error.strerror or error}"


def replace_file(path: str | os.PathLike[str], content: bytes) -> None:
    """Put content into a file; a reader sees all of the old or all of the new.

    Raises:
        InputError: the file cannot be written.
    """
    with open_output(path) as handle:
        handle.write(content)
