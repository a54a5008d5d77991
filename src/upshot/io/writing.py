"""Writing files and folders: whole or not at all, straight through where the target is no regular
file.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import stat
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from platform import node
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
    draft = _name_draft(target)
    try:
        if target.exists() and not stat.S_ISREG(target.stat().st_mode):
            with open(target, "wb", buffering=0) as device:
                yield device
            return
        _drop_leftovers(target)
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


@contextmanager
def open_folder(path: str | os.PathLike[str]) -> Generator[Path]:
    """A new folder to fill. When the block ends without an error, it takes the place of the one at
    the path by one rename; a reader sees all of the old or all of the new. Files of the old folder
    that the new one has not under the same name are left where they are.

    Raises:
        InputError: it cannot be written; what was there before is untouched.
    """
    target = Path(os.path.realpath(path))
    draft = _name_draft(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _drop_leftovers(target)
        draft.mkdir()
        yield draft
        for entry in draft.rglob("*"):
            _sync(entry)
        if target.exists():
            _exchange(draft, target)
            for entry in draft.iterdir():  # what was there before
                if not (target / entry.name).exists():
                    entry.rename(target / entry.name)
        else:
            draft.rename(target)
    except UpshotError:
        raise
    except OSError as error:
        raise InputError(f"could not write {os.fspath(path)}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _name_draft(target: Path) -> Path:
    """Beside the target; names this machine and process."""
    return target.with_name(f".{target.name}.{node()}.{os.getpid()}.part")


def _drop_leftovers(target: Path) -> None:
    """Delete the drafts of processes of this machine that were killed."""
    for draft in target.parent.glob(f".{escape(target.name)}.{escape(node())}.*.part"):
        process = draft.name.split(".")[-2]
        if process.isdigit() and not _is_alive(int(process)):
            if draft.is_dir():
                shutil.rmtree(draft, ignore_errors=True)
            else:
                draft.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process != os.getpid()


def _sync(path: Path) -> None:
    if path.is_file():
        with path.open("rb") as file:
            os.fsync(file.fileno())


_CURRENT_FOLDER, _EXCHANGE = -100, 2
"""AT_FDCWD and RENAME_EXCHANGE of Linux."""


def _exchange(new: Path, old: Path) -> None:
    """Let two folders change places; where the system cannot do that at once, in two renames."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is not None:
        names = os.fsencode(new), os.fsencode(old)
        if not rename(_CURRENT_FOLDER, names[0], _CURRENT_FOLDER, names[1], _EXCHANGE):
            return
    aside = old.with_name(f".{old.name}.{os.getpid()}.old")
    old.rename(aside)
    new.rename(old)
    aside.rename(new)
