"""Reads a repository with git itself.

Nothing is written to the repository. Its own settings cannot start programs: external diffs and
text conversions are off, and every setting that changes git's output is overridden.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, cast

from upshot.errors import InputError, NotFoundError

DIFF = (
    "-p",
    "-w",
    "-U0",
    "--text",
    "--no-ext-diff",
    "--no-textconv",
    "--src-prefix=a/",
    "--dst-prefix=b/",
    "--no-color",
    "--diff-algorithm=myers",
    "--indent-heuristic",
)
"""Diff options as of `git blame -w`: no context, white space ignored, binary files as lines."""
_SETTINGS = (
    "core.quotepath=false",
    "log.showRoot=true",
    "log.showSignature=false",
    "log.diffMerges=first-parent",
    "diff.ignoreSubmodules=none",
    "i18n.logOutputEncoding=UTF-8",
)
_MAX_NAMES = 500
"""Object names written before replies are read: they must fit into a pipe (64 KiB)."""
_PIPE_BYTES = 1 << 20
"""Linux's largest pipe for users without privileges."""
_ESCAPES = {"a": 7, "b": 8, "t": 9, "n": 10, "v": 11, "f": 12, "r": 13, '"': 34, "\\": 92}


class Git:
    """A repository to read.

    Raises:
        NotFoundError: there is no repository at the folder, or no git.
    """

    def __init__(self, repo: str | os.PathLike[str]) -> None:
        self.repo = Path(repo)
        settings = [part for setting in _SETTINGS for part in ("-c", setting)]
        self._command = ["git", "-C", os.fspath(self.repo), *settings, "--literal-pathspecs"]
        self._environment = {
            **os.environ,
            "LC_ALL": "C",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_PAGER": "cat",
        }
        if not self.repo.is_dir():
            raise NotFoundError(f"could not read a repository: there is no folder {self.repo}")
        try:
            self.text("rev-parse", "--git-dir")
        except FileNotFoundError:
            raise NotFoundError(
                "could not start git: install it, for example with: apt-get install git"
            ) from None
        except InputError as error:
            raise NotFoundError(f"could not read a repository at {self.repo}: {error}") from error

    def text(self, *arguments: str, stdin: str | None = None) -> str:
        """The output of a command as text; bytes that are not UTF-8 become surrogates.

        Raises:
            InputError: git failed; the message has its last line.
        """
        return self.bytes(*arguments, stdin=stdin).decode(errors="surrogateescape")

    def bytes(self, *arguments: str, stdin: str | None = None) -> bytes:
        """The output of a command as bytes; raises like `text`."""
        process = subprocess.run(  # noqa: S603  # no shell, fixed program
            [*self._command, *arguments],
            input=_encode(stdin),
            capture_output=True,
            env=self._environment,
        )
        if process.returncode:
            raise InputError(
                f"git {arguments[0]} failed in {self.repo}: {_last_line(process.stderr)}"
            )
        return process.stdout

    @contextmanager
    def stream(self, *arguments: str, stdin: Iterable[str] = ()) -> Generator[IO[bytes]]:
        """Stream the output of a long command; `stdin` is passed as lines.

        Raises:
            InputError: git failed; raised once its output has been read.
        """
        # files, since pipes could fill while the other end waits
        with TemporaryFile() as stdin_file, TemporaryFile() as stderr_file:
            stdin_file.writelines(f"{line}\n".encode(errors="surrogateescape") for line in stdin)
            stdin_file.seek(0)
            with subprocess.Popen(  # noqa: S603  # no shell, fixed program
                [*self._command, *arguments],
                stdin=stdin_file,
                stdout=subprocess.PIPE,
                stderr=stderr_file,
                env=self._environment,
                bufsize=_PIPE_BYTES,
            ) as process:
                stdout = cast(IO[bytes], process.stdout)
                with suppress(OSError, AttributeError):  # git writes ahead while its output is read
                    fcntl.fcntl(stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
                try:
                    yield stdout
                    stdout.read()
                except InputError:  # git's own message says more
                    stdout.close()
                    if process.wait() <= 0:
                        raise
                except BaseException:
                    process.kill()
                    raise
            if process.returncode:
                stderr_file.seek(0)
                raise InputError(
                    f"git {arguments[0]} failed in {self.repo}: {_last_line(stderr_file.read())}"
                )

    def sizes(self, objects: Sequence[str]) -> dict[str, int]:
        """Sizes of objects in bytes, by hash; missing objects are left out."""
        with self.sizes_on_demand() as sizes:
            return sizes(objects)

    @contextmanager
    def sizes_on_demand(self) -> Generator[Callable[[Sequence[str]], dict[str, int]]]:
        """`sizes` as a function for many calls, all answered by one process."""
        with subprocess.Popen(  # noqa: S603  # no shell, fixed program
            [*self._command, "cat-file", "--batch-check=%(objectname) %(objectsize)"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self._environment,
        ) as process:
            stdin, stdout = cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout)

            def sizes(objects: Sequence[str]) -> dict[str, int]:
                by_name: dict[str, int] = {}
                for start in range(0, len(objects), _MAX_NAMES):
                    part = objects[start : start + _MAX_NAMES]
                    stdin.write("".join(f"{name}\n" for name in part).encode())
                    stdin.flush()
                    for name in part:
                        size = stdout.readline().split()[-1]
                        if size.isdigit():
                            by_name[name] = int(size)
                return by_name

            try:
                yield sizes
            finally:
                stdin.close()

    def blobs(self, objects: Sequence[str]) -> dict[str, bytes]:
        """Contents of objects, by name (a hash, or REVISION:PATH); missing objects are left out."""
        content: dict[str, bytes] = {}
        with self.stream("cat-file", "--batch", stdin=objects) as out:
            for name in objects:
                header = out.readline().split()
                if len(header) == 3 and header[2].isdigit():
                    content[name] = out.read(int(header[2]))
                    out.read(1)
        return content


def unquote_path(path: bytes) -> str:
    """Undo the quoting of unusual paths in git's output.

    >>> unquote_path(b'"a\\\\tb \\\\303\\\\251"')
    'a\\tb é'
    """
    if not path.startswith(b'"'):
        return path.decode(errors="surrogateescape")
    text, out, position = path[1:-1].decode("latin-1"), bytearray(), 0
    while position < len(text):
        if text[position] != "\\":
            out += text[position].encode("latin-1")
            position += 1
        elif text[position + 1] in _ESCAPES:
            out.append(_ESCAPES[text[position + 1]])
            position += 2
        else:
            out.append(int(text[position + 1 : position + 4], 8))
            position += 4
    return out.decode(errors="surrogateescape")


def _encode(text: str | None) -> bytes | None:
    return None if text is None else text.encode(errors="surrogateescape")


def _last_line(complaint: bytes) -> str:
    lines = complaint.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no reason given"
