"""Runs untrusted code in isolation: no network, no files, no other processes, and limits.

Bubblewrap builds the sandbox: new namespaces for processes, network, users and the rest; the system
read-only; a small in-memory folder to work in, gone afterwards. Started by root, code runs as a
user of its own that owns nothing; started by anyone else, in a user namespace. If bubblewrap or the
permissions for it are missing, it refuses: there is no weaker mode.

Limits: time (wall and CPU), address space of each process and memory of all together, number of
processes, size of files and of the folder, output. A program that exceeds one is killed with
everything it started, since its process namespace ends.
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
from collections.abc import Generator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Literal, NamedTuple, cast

import msgspec

from upshot.errors import SandboxError
from upshot.verifiers import seccomp

_NOBODY = 64_000
"""The first of the users as which root runs code; each run has its own."""
_MAX_USERS = 1_000
"""After so many runs, user numbers repeat; far more than run at once."""
_POLL_S = 0.02
"""Between two checks of the limits."""
_CHUNK_BYTES = 65_536
"""Read from a pipe at once: its usual capacity."""
Killed = Literal["", "time", "memory", "output"]
"""The limit for which a program was killed; empty: none."""
WORK = "/sandbox"
"""The folder in which code runs."""
_user_numbers = iter(range(sys.maxsize))


class Limits(msgspec.Struct, frozen=True):
    """Limits of a program."""

    seconds: float = 10.0
    """Wall-clock time; also the CPU time of each process."""
    memory_mb: int = 1024
    """Of all processes and the folder together; also the address space of each."""
    processes: int = 32
    """Processes and threads."""
    disk_mb: int = 64
    output_kb: int = 256
    """Of standard output and standard error, each."""


class Run(NamedTuple):
    """The end of a program."""

    code: int | None
    """Exit status; negative: the signal; None: killed for a limit."""
    stdout: bytes
    stderr: bytes
    seconds: float
    killed: Killed
    """The limit for which it was killed."""


class Place(NamedTuple):
    """What the code can read besides the system."""

    files: Mapping[str, bytes] = {}
    """Contents of files in the folder, by relative path."""
    folders: Sequence[str | os.PathLike[str]] = ()
    """Folders of this machine, read-only and at the same path."""
    descriptors: Sequence[int] = ()
    """File descriptors that the code inherits."""


def run(
    command: Sequence[str], place: Place = Place(), limits: Limits = Limits(), stdin: bytes = b""
) -> Run:
    """Run a command to its end or to a limit.

    Raises:
        SandboxError: bubblewrap is missing or not permitted.
    """
    started = Started(command, place, limits)
    return started.end(stdin)


class Started:
    """A running command in a sandbox.

    `end` waits for it; otherwise it is killed when this process ends.
    """

    def __init__(
        self, command: Sequence[str], place: Place = Place(), limits: Limits = Limits()
    ) -> None:
        self.limits, self.began = limits, time.monotonic()
        self._timer: threading.Timer | None = None
        with (
            _FileArguments(place.files) as (arguments, descriptors),
            _seccomp_descriptor() as rules,
        ):
            arguments += ["--seccomp", str(rules)]
            descriptors.append(rules)
            self.process = subprocess.Popen(  # noqa: S603
                [
                    *_prlimit_command(limits),
                    *bubblewrap_command(limits),
                    *arguments,
                    *bind_arguments(place.folders),
                    "--chdir",
                    WORK,
                    "--",
                    *_setpriv_command(),
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
        """Kill it and everything it started."""
        if self._timer is not None:
            self._timer.cancel()
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def write_stdin(self, data: bytes) -> None:
        """Write its whole standard input."""
        pipe = cast(IO[bytes], self.process.stdin)
        with contextlib.suppress(BrokenPipeError):
            pipe.write(data)
        with contextlib.suppress(BrokenPipeError):
            pipe.close()

    def watch(self) -> None:
        """Kill it in the background when its time is over."""
        timer = threading.Timer(self.limits.seconds, self.process.kill)
        timer.daemon = True
        timer.start()
        self._timer = timer

    def finish(self, wait: bool = False) -> Run:
        """Kill it, or with `wait` let it finish, and return how it ended."""
        if not wait:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(2 * _POLL_S)
            if self.process.returncode is None:
                self.process.kill()
        return self.end()

    def end(self, stdin: bytes = b"") -> Run:
        """Wait for its end, within its limits."""
        outputs: dict[int, bytearray] = {1: bytearray(), 2: bytearray()}
        killed: Killed = ""
        with self.process, selectors.DefaultSelector() as selector:
            if not cast(IO[bytes], self.process.stdin).closed:
                self.write_stdin(stdin)
            selector.register(cast(IO[bytes], self.process.stdout), selectors.EVENT_READ, 1)
            selector.register(cast(IO[bytes], self.process.stderr), selectors.EVENT_READ, 2)
            while selector.get_map() and not killed:
                for key, _ in selector.select(_POLL_S):
                    chunk = os.read(key.fd, _CHUNK_BYTES)
                    if not chunk:
                        selector.unregister(key.fileobj)
                    outputs[key.data] += chunk
                killed = self._exceeded_limit(outputs)
            if not killed:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(
                        max(self.limits.seconds - (time.monotonic() - self.began), 0.001)
                    )
                killed = "time" if self.process.returncode is None else ""
            if killed:
                self.process.kill()
        max_bytes = self.limits.output_kb * 1024
        code = self.process.wait()
        status = None if killed else 128 - code if code > 128 else code
        return Run(
            status,
            bytes(outputs[1][:max_bytes]),
            bytes(outputs[2][:max_bytes]),
            time.monotonic() - self.began,
            killed,
        )

    def _exceeded_limit(self, outputs: Mapping[int, bytearray]) -> Killed:
        spent = time.monotonic() - self.began
        if spent > self.limits.seconds:
            return "time"
        if max(map(len, outputs.values())) > self.limits.output_kb * 1024:
            return "output"
        if spent > 2 * _POLL_S and _memory_mb(self.process.pid) > self.limits.memory_mb:
            return "memory"
        return ""


@cache
def find_programs() -> tuple[str, str, str]:
    bwrap, prlimit, setpriv = (shutil.which(name) for name in ("bwrap", "prlimit", "setpriv"))
    if bwrap is None:
        raise SandboxError(
            "could not run untrusted code: bubblewrap is not installed; install it, for example"
            " with: apt-get install bubblewrap"
        )
    if prlimit is None or setpriv is None:
        raise SandboxError(
            "could not run untrusted code: prlimit or setpriv is missing; both are in the package"
            " util-linux"
        )
    return bwrap, prlimit, setpriv


@cache
def require_sandbox() -> None:
    """Require that sandboxes work on this machine.

    Raises:
        SandboxError: they do not; says what to do.
    """
    result = run(python("-I", "-S", "-c", "print('ready')"))
    if result.stdout != b"ready\n":
        reason = result.stderr.decode(errors="replace").strip() or result.killed
        raise SandboxError(
            f"could not make a sandbox in which this Python runs: {reason}; bubblewrap needs user"
            " namespaces (sysctl kernel.unprivileged_userns_clone=1) or root, and a container must"
            " allow them"
        )


def bubblewrap_command(limits: Limits) -> list[str]:
    """The command of bubblewrap with everything that it isolates."""
    if os.geteuid() == 0:
        user = "--unshare-ipc --unshare-pid --unshare-net --unshare-uts --unshare-cgroup-try"
        drop = "--cap-drop ALL --cap-add CAP_SETUID --cap-add CAP_SETGID --cap-add CAP_SETPCAP"
    else:
        user = f"--unshare-all --unshare-user --disable-userns --uid {_NOBODY} --gid {_NOBODY}"
        drop = "--cap-drop ALL"
    disk = limits.disk_mb * 1_000_000
    return [
        find_programs()[0],
        *user.split(),
        *drop.split(),
        *["--die-with-parent", "--new-session", "--hostname", "sandbox"],
        *_environment_arguments(),
        *["--perms", "0555", "--size", "65536", "--tmpfs", "/tmp"],  # noqa: S108  # the sandbox's
        *system_arguments(),  # after /tmp, in which this Python may be
        *["--proc", "/proc", "--dev", "/dev"],
        *["--perms", "0555", "--size", "4096", "--tmpfs", "/dev/shm"],  # noqa: S108
        *f"--perms 1777 --size {disk} --tmpfs {WORK}".split(),
    ]


def _environment_arguments() -> list[str]:
    """A fresh environment that names nothing of this machine but the programs' folders."""
    variables = {
        "PATH": f"{os.path.dirname(sys.executable)}:/usr/bin:/bin",
        "HOME": WORK,
        "LANG": "C.UTF-8",
        "TMPDIR": WORK,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
    }
    return ["--clearenv", *(part for pair in variables.items() for part in ("--setenv", *pair))]


@cache
def system_arguments() -> list[str]:
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
    return arguments + bind_arguments([sys.base_prefix, sys.prefix])


def bind_arguments(folders: Sequence[str | os.PathLike[str]]) -> list[str]:
    arguments: list[str] = []
    for folder in dict.fromkeys(os.path.realpath(folder) for folder in folders):
        if not folder.startswith(("/usr/", "/lib/")) and folder != "/usr":
            for parent in reversed(Path(folder).parents[:-1]):
                arguments += ["--perms", "0755", "--dir", str(parent)]
            arguments += ["--ro-bind", folder, folder]
    return arguments


def _prlimit_command(limits: Limits) -> list[str]:
    memory, cpu = limits.memory_mb * 1_000_000, max(int(limits.seconds) + 1, 1)
    return [
        find_programs()[1],
        f"--as={memory}",
        f"--cpu={cpu}:{cpu + 1}",
        f"--nproc={limits.processes}",
        f"--fsize={limits.disk_mb * 1_000_000}",
        "--core=0",
        "--nofile=256",
    ]


def _setpriv_command() -> list[str]:
    """The command that becomes a user that owns nothing; empty unless root runs it."""
    if os.geteuid() != 0:
        return []
    user = str(_NOBODY + next(_user_numbers) % _MAX_USERS)
    return [
        find_programs()[2],
        f"--reuid={user}",
        f"--regid={user}",
        "--clear-groups",
        "--no-new-privs",
        "--inh-caps=-all",
        "--bounding-set=-all",
        "--",
    ]


@contextlib.contextmanager
def _seccomp_descriptor() -> Generator[int]:
    """A file descriptor of the filter of system calls."""
    descriptor = os.memfd_create("filter")
    try:
        os.write(descriptor, seccomp.build_filter())
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


class _FileArguments:
    """Files as arguments: bubblewrap copies them from descriptors into the folder."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files, self.descriptors = files, list[int]()

    def __enter__(self) -> tuple[list[str], list[int]]:
        arguments, folders = list[str](), set[str]()
        for path, content in self.files.items():
            parts = Path(path).parts
            if Path(path).is_absolute() or ".." in parts or not parts:
                raise ValueError(f"{path!r} is not a path inside the sandbox's folder")
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
    """Resident memory of a process and its descendants; shared pages count for each of them."""
    total, stack = 0, [process]
    while stack:
        number = stack.pop()
        try:
            with open(f"/proc/{number}/statm") as handle:
                total += int(handle.read().split()[1])
            for task in os.listdir(f"/proc/{number}/task"):
                with open(f"/proc/{number}/task/{task}/children") as handle:
                    stack += map(int, handle.read().split())
        except (OSError, IndexError, ValueError):
            continue  # it has ended meanwhile
    return total * os.sysconf("SC_PAGE_SIZE") / 1e6


def python(*arguments: str) -> list[str]:
    """The command of this Python in a sandbox."""
    return [
        (
            os.path.realpath(sys.executable)
            if sys.prefix == sys.base_prefix
            else os.path.join(sys.prefix, "bin", "python")
        ),
        *arguments,
    ]
