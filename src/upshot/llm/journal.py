"""Journals of replies: one line each, written the moment it arrives, so that a kill loses none.

A journal is a file that only its owner reads. While a process writes it, it is locked; a journal
without a lock was left by a process that was killed.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from upshot.errors import LakeError, boundary
from upshot.llm.client import Reply

_SYNC_S = 1.0
"""Longest that a reply is only in the system's memory, which a crash of the machine loses."""
T = TypeVar("T")


class JournalRow(NamedTuple):
    """A reply, and whose text its request holds."""

    key: str
    user: str
    reply: Reply


class _Line(msgspec.Struct, omit_defaults=True):
    key: str = ""
    user: str = ""
    reply: Reply | None = None
    secret: str = ""


class Journal:
    """One open journal file, which is locked as long as it is open.

    Raises:
        LakeError: the file cannot be written.
        BlockingIOError: another process has it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.secret = ""
        """A pseudonym key of its own, for requests that must be the same in another run."""
        with boundary(f"open the journal {path}", (PermissionError, FileNotFoundError), LakeError):
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise
        except OSError:  # a file system without locks
            pass
        self._synced = time.monotonic()

    def read(self) -> list[JournalRow]:
        """What the journal holds; a last line that a kill cut off is passed over, and ended."""
        with open(self.path, "rb") as file:
            content = file.read()
        if content and not content.endswith(b"\n"):
            self._append(b"\n")
        rows: list[JournalRow] = []
        for line in content.splitlines():
            try:
                entry = msgspec.json.decode(line, type=_Line)
            except msgspec.DecodeError:
                continue
            self.secret = entry.secret or self.secret
            if entry.reply is not None:
                rows.append(JournalRow(entry.key, entry.user, entry.reply))
        return rows

    def write(self, row: JournalRow) -> None:
        """Append a reply."""
        self._append(msgspec.json.encode(_Line(row.key, row.user, row.reply)) + b"\n")
        if time.monotonic() - self._synced > _SYNC_S:
            self.sync()

    def draw_secret(self) -> str:
        """The journal's pseudonym key, which is made where it has none."""
        if not self.secret:
            self.secret = secrets.token_hex(16)
            self._append(msgspec.json.encode(_Line(secret=self.secret)) + b"\n")
        return self.secret

    def sync(self) -> None:
        """Write to the disk what the system still holds."""
        self._synced = time.monotonic()
        with boundary(f"write the journal {self.path}", (OSError,), LakeError):
            os.fsync(self._file)

    def close(self, *, delete: bool) -> None:
        """Unlock the journal; `delete`: its replies are elsewhere now."""
        if delete:
            self.path.unlink(missing_ok=True)
        os.close(self._file)

    def _append(self, line: bytes) -> None:
        with boundary(f"write the journal {self.path}", (OSError,), LakeError):
            while line:
                line = line[os.write(self._file, line) :]


def open_journal(path: Path) -> Journal | None:
    """A journal; None where another process writes it, or has removed it meanwhile."""
    try:
        journal = Journal(path)
    except BlockingIOError:
        return None
    if not path.exists():
        journal.close(delete=False)
        return None
    return journal


def open_leftovers(folder: Path) -> Iterator[Journal]:
    """The journals in a folder that processes left which were killed; the caller closes them."""
    for path in sorted(folder.glob("*.jsonl")) if folder.is_dir() else ():
        journal = open_journal(path)
        if journal is not None:
            yield journal


def start_journal(folder: Path) -> Journal:
    """A new journal in a folder, which is made where it is not there."""
    with boundary(f"make the folder {folder}", (OSError,), LakeError):
        folder.mkdir(mode=0o700, exist_ok=True)
    return Journal(folder / f"{os.getpid()}-{secrets.token_hex(4)}.jsonl")
