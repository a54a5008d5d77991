"""The lock of a local lake: reading and writing share it, erasing has it alone.

It is advisory (`flock`), so the system releases it when a process is killed. Whoever wants it
alone stands in a queue first, where newcomers wait too, so that a stream of readers cannot keep an
erasure waiting. Inside one process the lock belongs to threads, and may be taken again by the one
that has it. A lake in an object store has none, nor has one on a file system that knows no locks.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK_FILES = (".lake-lock", ".lake-queue")
"""Empty files in the lake's folder: the lock, and the queue before it."""


class LakeLock:
    """The lock of the lake in a folder; None: a lake that has no lock."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    @contextmanager
    def shared(self) -> Generator[None]:
        """Inside the block nothing is erased."""
        if self._folder is None or not self._folder.is_dir():
            yield
            return
        holders = _holders_of(self._folder)
        holders.enter(self._folder)
        try:
            yield
        finally:
            holders.leave()

    @contextmanager
    def exclusive(self) -> Generator[None]:
        """Inside the block nobody else reads or writes. Not to be taken inside of `shared`."""
        if self._folder is None or not self._folder.is_dir():
            yield
            return
        holders = _holders_of(self._folder)
        holders.enter_alone(self._folder)
        try:
            yield
        finally:
            holders.leave_alone()


class _Holders:
    """Which threads of this process hold the lock of a lake."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._depths: dict[int, int] = {}
        self._owner = 0
        """The thread that has the lock alone; 0: none."""
        self._owner_depth = 0
        self._files: list[int] = []

    def enter(self, folder: Path) -> None:
        me = threading.get_ident()
        with self._changed:
            if self._owner == me:
                self._owner_depth += 1
                return
            while self._owner and me not in self._depths:
                self._changed.wait()
            if not self._depths:
                self._files = _lock(folder, fcntl.LOCK_SH)
            self._depths[me] = self._depths.get(me, 0) + 1

    def leave(self) -> None:
        me = threading.get_ident()
        if self._owner == me:
            self.leave_alone()
            return
        with self._changed:
            # a generator may be closed by another thread than the one that began it
            holder = me if me in self._depths else next(iter(self._depths), 0)
            depth = self._depths.pop(holder, 1) - 1
            if depth:
                self._depths[holder] = depth
            elif not self._depths:
                self._release()

    def enter_alone(self, folder: Path) -> None:
        me = threading.get_ident()
        with self._changed:
            if self._owner == me:
                self._owner_depth += 1
                return
            if me in self._depths:
                raise RuntimeError("the lock of a lake cannot be had alone by who shares it")
            while self._owner or self._depths:
                self._changed.wait()
            self._owner, self._owner_depth = me, 1
        try:
            self._files = _lock(folder, fcntl.LOCK_EX)
        except BaseException:
            self.leave_alone()
            raise

    def leave_alone(self) -> None:
        with self._changed:
            self._owner_depth -= 1
            if not self._owner_depth:
                self._owner = 0
                self._release()

    def _release(self) -> None:
        for file in self._files:
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_UN)  # for a child that has inherited the file, too
            os.close(file)
        self._files = []
        self._changed.notify_all()


_all_holders: dict[str, _Holders] = {}
os.register_at_fork(after_in_child=_all_holders.clear)


def _holders_of(folder: Path) -> _Holders:
    return _all_holders.setdefault(str(folder), _Holders())


def _lock(folder: Path, mode: int) -> list[int]:
    """The open files by which a lock is held; none where there can be no lock."""
    queue, lock = _open(folder / LOCK_FILES[1]), _open(folder / LOCK_FILES[0])
    files = [file for file in (queue, lock) if file is not None]
    try:
        for file in files:
            fcntl.flock(file, mode)
    except OSError:  # a file system without locks
        for file in files:
            os.close(file)
        return []
    except BaseException:
        for file in files:
            os.close(file)
        raise
    if mode == fcntl.LOCK_SH and queue is not None:
        os.close(queue)
        files.remove(queue)
    return files


def _open(path: Path) -> int | None:
    """None where the folder can only be read, and its files cannot be opened."""
    for flags in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):
        with suppress(OSError):
            return os.open(path, flags, 0o600)
    return None
