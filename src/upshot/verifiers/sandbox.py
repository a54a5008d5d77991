"""A place for code that nobody trusts: no network, nothing to write to, no other process, a user of
its own, and limits.

Bubblewrap builds it: new namespaces for processes, network, users and the rest; the system
read-only; a small in-memory folder to work in, gone afterwards. Started by root, code runs as a
user of its own that owns nothing; started by anyone else, in a user namespace. Where bubblewrap or
the rights for it are missing, it refuses: there is no weaker mode.

Limits: time (wall and CPU), address space of each process and memory of all together, processes,
size of files and of the folder, output. What runs past one is killed whole, with everything it
started: its process namespace ends.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from upshot.errors import SandboxError
from upshot.verifiers import seccomp

_NOBODY = 64_000
"""The first of the users that root runs code as; each run has its own."""
_USERS = 1_000
_POLL_S = 0.02
_READ = 65_536
Killed = Literal["", "time", "memory", "output"]
"""The limit that a program was killed for; empty: none."""
WORK = "/sandbox"
"""The folder that code runs in."""
_turn = iter(range(sys.maxsize))


class Limits(msgspec.Struct, frozen=True):
    """What code may use."""

    seconds: float = 10.0
    """By the clock; CPU seconds are as many, of each process."""
    memory_mb: int = 1024
    """Of all processes together and the folder; also the address space of each."""
    processes: int = 32
    """Processes and threads."""
    disk_mb: int = 64
    output_kb: int = 256
    """Of standard output and standard error, each."""


class Run(NamedTuple):
    """How code ended."""

    code: int | None
    """Exit status; negative: the signal; None: it was killed for a limit."""
    stdout: bytes
    stderr: bytes
    seconds: float
    killed: Killed
    """The limit that it was killed for."""


class Place(NamedTuple):
    """What the code can read beside the system."""

    files: Mapping[str, bytes] = {}
    """Put into the folder, by relative path."""
    folders: Sequence[str | os.PathLike[str]] = ()
    """Folders of this machine, read-only and at the same path."""
    descriptors: Sequence[int] = ()
    """Open files that the code inherits."""


def run(
    command: Sequence[str], place: Place = Place(), limits: Limits = Limits(), stdin: bytes = b""
) -> Run:
    """Run a command to its end or to a limit.

    Raises:
        SandboxError: bubblewrap is missing or may not work here.
    """
    started = Started(command, place, limits)
    return started.end(stdin)


class Started:
    """A command under way in a sandbox.

    `end` waits for it; leaving it alone kills it when this process ends.
    """

    def __init__(
        self, command: Sequence[str], place: Place = Place(), limits: Limits = Limits()
    ) -> None:
        self.limits, self.began = limits, time.monotonic()
        self._timer: threading.Timer | None = None
        with _Given(place.files) as (arguments, descriptors), _filter() as rules:
            arguments += ["--seccomp", str(rules)]
            descriptors.append(rules)
            self.process = subprocess.Popen(  # noqa: S603
                [
                    *_limited(limits),
                    *wrapped(limits),
                    *arguments,
                    *_bound(place.folders),
                    "--chdir",
                    WORK,
                    "--",
                    *_dropped(),
                    *command,
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(*descriptors, *place.descriptors),
                env={},
                close_fds=True,
            )

    def kill(self) -> None:
        """End it and everything it started."""
        if self._timer is not None:
            self._timer.cancel()
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def give(self, data: bytes) -> None:
        """Write all there is for its standard input."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(data)
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def watch(self) -> None:
        """Kill it when its time is over, while somebody else talks to it."""
        timer = threading.Timer(self.limits.seconds, self.process.kill)
        timer.daemon = True
        timer.start()
        self._timer = timer

    def end_soon(self, wait: bool = False) -> Run:
        """End it now, or with `wait` let it finish what it has to say."""
        if not wait:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(2 * _POLL_S)
            if self.process.returncode is None:
                self.process.kill()
        return self.end()

    def end(self, stdin: bytes = b"") -> Run:
        """Wait for it, within its limits."""
        outputs: dict[int, bytearray] = {1: bytearray(), 2: bytearray()}
        killed: Killed = ""
        with self.process, selectors.DefaultSelector() as selector:
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            assert self.process.stderr is not None
            if not self.process.stdin.closed:
                self.give(stdin)
            selector.register(self.process.stdout, selectors.EVENT_READ, 1)
            selector.register(self.process.stderr, selectors.EVENT_READ, 2)
            while selector.get_map() and not killed:
                for key, _ in selector.select(_POLL_S):
                    chunk = os.read(key.fd, _READ)
                    if not chunk:
                        selector.unregister(key.fileobj)
                    outputs[key.data] += chunk
                killed = self._exceeded(outputs)
            if not killed:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(
                        max(self.limits.seconds - (time.monotonic() - self.began), 0.001)
                    )
                killed = "time" if self.process.returncode is None else ""
            if killed:
                self.process.kill()
        most = self.limits.output_kb * 1024
        code = self.process.wait()
        status = None if killed else 128 - code if code > 128 else code
        return Run(
            status,
            bytes(outputs[1][:most]),
            bytes(outputs[2][:most]),
            time.monotonic() - self.began,
            killed,
        )

    def _exceeded(self, outputs: Mapping[int, bytearray]) -> Killed:
        spent = time.monotonic() - self.began
        if spent > self.limits.seconds:
            return "time"
        if max(map(len, outputs.values())) > self.limits.output_kb * 1024:
            return "output"
        if spent > 2 * _POLL_S and _memory_mb(self.process.pid) > self.limits.memory_mb:
            return "memory"
        return ""


@cache
def _programs() -> tuple[str, str, str]:
    found = tuple(shutil.which(name) for name in ("bwrap", "prlimit", "setpriv"))
    if found[0] is None:
        raise SandboxError(
            "could not run untrusted code: bubblewrap is not installed; install it, for example"
            " with: apt-get install bubblewrap"
        )
    if found[1] is None or found[2] is None:
        raise SandboxError(
            "could not run untrusted code: prlimit or setpriv is missing; both are in the package"
            " util-linux"
        )
    return found  # type: ignore[return-value]


@cache
def check() -> None:
    """Make sure that a sandbox can be made here.

    Raises:
        SandboxError: it cannot; says what to do.
    """
    done = run(python("-I", "-S", "-c", "print('ready')"))
    if done.stdout != b"ready\n":
        raise SandboxError(
            "could not make a sandbox in which this Python runs:"
            f" {done.stderr.decode(errors='replace').strip() or done.killed}; bubblewrap needs user"
            " namespaces (sysctl kernel.unprivileged_userns_clone=1) or root, and a container must"
            " allow them"
        )


def wrapped(limits: Limits) -> list[str]:
    """Bubblewrap and what it isolates."""
    root = os.geteuid() == 0
    user = (
        ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
        if root
        else [
            "--unshare-all",
            "--unshare-user",
            "--disable-userns",
            "--uid",
            str(_NOBODY),
            "--gid",
            str(_NOBODY),
        ]
    )
    drop = (
        [
            "--cap-drop",
            "ALL",
            "--cap-add",
            "CAP_SETUID",
            "--cap-add",
            "CAP_SETGID",
            "--cap-add",
            "CAP_SETPCAP",
        ]
        if root
        else ["--cap-drop", "ALL"]
    )
    size = str(limits.disk_mb * 1_000_000)
    return [
        _programs()[0],
        *user,
        *drop,
        "--die-with-parent",
        "--new-session",
        "--hostname",
        "sandbox",
        "--clearenv",
        "--setenv",
        "PATH",
        f"{os.path.dirname(sys.executable)}:/usr/bin:/bin",
        "--setenv",
        "HOME",
        WORK,
        "--setenv",
        "LANG",
        "C.UTF-8",
        "--setenv",
        "TMPDIR",
        WORK,
        "--setenv",
        "PYTHONDONTWRITEBYTECODE",
        "1",
        "--setenv",
        "PYTHONHASHSEED",
        "0",
        "--perms",
        "0555",
        "--size",
        "65536",
        "--tmpfs",
        "/tmp",
        *_system(),  # noqa: S108  # first: this Python may lie there
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--perms",
        "0555",
        "--size",
        "4096",
        "--tmpfs",
        "/dev/shm",  # noqa: S108
        "--perms",
        "1777",
        "--size",
        size,
        "--tmpfs",
        WORK,
    ]


@cache
def _system() -> list[str]:
    """The system and this Python, read-only."""
    arguments = ["--ro-bind", "/usr", "/usr", "--perms", "0755", "--dir", "/etc"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        path = Path("/") / name
        if path.is_symlink():
            arguments += ["--symlink", os.readlink(path), str(path)]
        elif path.is_dir():
            arguments += ["--ro-bind", str(path), str(path)]
    for path in (
        "/etc/ld.so.cache",
        "/etc/ld.so.conf",
        "/etc/ld.so.conf.d",
        "/etc/alternatives",
        "/etc/ocamlfind.conf",
    ):
        arguments += ["--ro-bind-try", path, path]
    return arguments + _bound([sys.base_prefix, sys.prefix])


def _bound(folders: Sequence[str | os.PathLike[str]]) -> list[str]:
    found: list[str] = []
    for folder in dict.fromkeys(os.path.realpath(folder) for folder in folders):
        if not folder.startswith(("/usr/", "/lib/")) and folder != "/usr":
            for parent in reversed(Path(folder).parents[:-1]):
                found += ["--perms", "0755", "--dir", str(parent)]
            found += ["--ro-bind", folder, folder]
    return found


def _limited(limits: Limits) -> list[str]:
    memory, cpu = limits.memory_mb * 1_000_000, max(int(limits.seconds) + 1, 1)
    return [
        _programs()[1],
        f"--as={memory}",
        f"--cpu={cpu}:{cpu + 1}",
        f"--nproc={limits.processes}",
        f"--fsize={limits.disk_mb * 1_000_000}",
        "--core=0",
        "--nofile=256",
    ]


def _dropped() -> list[str]:
    """Become a user that owns nothing, where root started it."""
    if os.geteuid() != 0:
        return []
    user = str(_NOBODY + next(_turn) % _USERS)
    return [
        _programs()[2],
        f"--reuid={user}",
        f"--regid={user}",
        "--clear-groups",
        "--no-new-privs",
        "--inh-caps=-all",
        "--bounding-set=-all",
        "--",
    ]


@contextlib.contextmanager
def _filter() -> Iterator[int]:
    """The filter of system calls, as a descriptor."""
    descriptor = os.memfd_create("filter")
    try:
        os.write(descriptor, seccomp.program())
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


class _Given:
    """Files as arguments: bubblewrap copies them from descriptors into the folder."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files, self.descriptors = files, list[int]()

    def __enter__(self) -> tuple[list[str], list[int]]:
        arguments, folders = list[str](), set[str]()
        for path, content in self.files.items():
            parts = Path(path).parts
            if Path(path).is_absolute() or ".." in parts or not parts:
                raise ValueError(f"{path!r} is no path inside the sandbox's folder")
            for depth in range(1, len(parts)):
                folder = "/".join((WORK, *parts[:depth]))
                if folder not in folders:
                    folders.add(folder)
                    arguments += ["--perms", "1777", "--dir", folder]
            descriptor = os.memfd_create("file")
            self.descriptors.append(descriptor)
            with os.fdopen(os.dup(descriptor), "wb") as handle:
                handle.write(content)
            os.lseek(descriptor, 0, os.SEEK_SET)
            arguments += ["--perms", "0444", "--file", str(descriptor), "/".join((WORK, *parts))]
        return arguments, list(self.descriptors)

    def __exit__(self, *_: object) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)


def _memory_mb(process: int) -> float:
    """Resident memory of a process and all its descendants; pages they share are counted once each."""
    total, todo = 0, [process]
    while todo:
        number = todo.pop()
        try:
            with open(f"/proc/{number}/statm") as handle:
                total += int(handle.read().split()[1])
            for task in os.listdir(f"/proc/{number}/task"):
                with open(f"/proc/{number}/task/{task}/children") as handle:
                    todo += map(int, handle.read().split())
        except (OSError, IndexError, ValueError):
            continue  # it has ended meanwhile
    return total * os.sysconf("SC_PAGE_SIZE") / 1e6


def python(*arguments: str) -> list[str]:
    """This Python as a command in a sandbox."""
    return [
        (
            os.path.realpath(sys.executable)
            if sys.prefix == sys.base_prefix
            else os.path.join(sys.prefix, "bin", "python")
        ),
        *arguments,
    ]
