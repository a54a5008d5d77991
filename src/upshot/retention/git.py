"""Reading a repository with git itself.

Nothing is written to a repository. Its own settings cannot start programs: external diffs and text
conversions are off, and every setting that changes what git prints is given.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

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
"""What `git blame -w` compares with: no context, white space ignored, binary files as lines."""
_SETTINGS = (
    "core.quotepath=false",
    "log.showRoot=true",
    "log.showSignature=false",
    "log.diffMerges=first-parent",
    "diff.ignoreSubmodules=none",
    "i18n.logOutputEncoding=UTF-8",
)
_QUESTIONS = 500
"""Object names that fit into a pipe at once."""
_PIPE = 1 << 20
_UNQUOTED = {"a": 7, "b": 8, "t": 9, "n": 10, "v": 11, "f": 12, "r": 13, '"': 34, "\\": 92}


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
        """What a command prints; bytes that are no UTF-8 as surrogates.

        Raises:
            InputError: git refused; says what it said.
        """
        return self.bytes(*arguments, stdin=stdin).decode(errors="surrogateescape")

    def bytes(self, *arguments: str, stdin: str | None = None) -> bytes:
        """The same, as it is."""
        done = subprocess.run(
            [*self._command, *arguments],
            input=_encoded(stdin),
            capture_output=True,
            env=self._environment,
        )  # noqa: S603
        if done.returncode:
            raise InputError(f"git {arguments[0]} failed in {self.repo}: {_said(done.stderr)}")
        return done.stdout

    @contextmanager
    def stream(self, *arguments: str, stdin: Iterable[str] = ()) -> Iterator[IO[bytes]]:
        """The output of a long command, while it runs; `stdin` goes in first, as lines.

        Raises:
            InputError: git failed, said when its output has been read.
        """
        with (
            TemporaryFile() as given,
            TemporaryFile() as complaints,
        ):  # pipes could fill while the other end waits
            given.writelines(f"{line}\n".encode(errors="surrogateescape") for line in stdin)
            given.seek(0)
            with subprocess.Popen(
                [*self._command, *arguments],
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=complaints,
                env=self._environment,
                bufsize=1 << 20,
            ) as process:  # noqa: S603
                assert process.stdout is not None
                with suppress(OSError, AttributeError):  # git writes ahead while its output is read
                    fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, _PIPE)
                try:
                    yield process.stdout
                    process.stdout.read()
                except InputError:  # what git says of it says more
                    process.stdout.close()
                    if process.wait() <= 0:
                        raise
                except BaseException:
                    process.kill()
                    raise
            if process.returncode:
                complaints.seek(0)
                raise InputError(
                    f"git {arguments[0]} failed in {self.repo}: {_said(complaints.read())}"
                )

    def sizes(self, objects: Sequence[str]) -> dict[str, int]:
        """Bytes of objects, by hash; what is missing is left out."""
        with self.sizes_on_demand() as sizes:
            return sizes(objects)

    @contextmanager
    def sizes_on_demand(self) -> Iterator[Callable[[Sequence[str]], dict[str, int]]]:
        """The same as a function, for many questions: one process answers them all."""
        with subprocess.Popen(
            [*self._command, "cat-file", "--batch-check=%(objectname) %(objectsize)"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self._environment,
        ) as process:  # noqa: S603
            stdin, stdout = process.stdin, process.stdout
            assert stdin is not None
            assert stdout is not None

            def sizes(objects: Sequence[str]) -> dict[str, int]:
                found: dict[str, int] = {}
                for start in range(0, len(objects), _QUESTIONS):
                    part = objects[start : start + _QUESTIONS]
                    stdin.write("".join(f"{name}\n" for name in part).encode())
                    stdin.flush()
                    for name in part:
                        size = stdout.readline().split()[-1]
                        if size.isdigit():
                            found[name] = int(size)
                return found

            try:
                yield sizes
            finally:
                stdin.close()

    def blobs(self, objects: Sequence[str]) -> dict[str, bytes]:
        """Contents by name (a hash, or REVISION:PATH); what is missing is left out."""
        content: dict[str, bytes] = {}
        with self.stream("cat-file", "--batch", stdin=objects) as out:
            for name in objects:
                header = out.readline().split()
                if len(header) == 3 and header[2].isdigit():
                    content[name] = out.read(int(header[2]))
                    out.read(1)
        return content


def unquoted(path: bytes) -> str:
    """A path as git prints it, which quotes what is unusual.

    >>> unquoted(b'"a\\\\tb \\\\303\\\\251"')
    'a\\tb é'
    """
    if not path.startswith(b'"'):
        return path.decode(errors="surrogateescape")
    text, out, at = path[1:-1].decode("latin-1"), bytearray(), 0
    while at < len(text):
        if text[at] != "\\":
            out += text[at].encode("latin-1")
            at += 1
        elif text[at + 1] in _UNQUOTED:
            out.append(_UNQUOTED[text[at + 1]])
            at += 2
        else:
            out.append(int(text[at + 1 : at + 4], 8))
            at += 4
    return out.decode(errors="surrogateescape")


def _encoded(text: str | None) -> bytes | None:
    return None if text is None else text.encode(errors="surrogateescape")


def _said(complaint: bytes) -> str:
    lines = complaint.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no reason given"
