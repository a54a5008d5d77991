"""What git says changed: commits, their files, and the hunks of their patches, as streams."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import IO, NamedTuple, TypeVar

import msgspec

from upshot.errors import InputError
from upshot.retention.git import DIFF, Git, unquoted

_HUNK = re.compile(rb"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_FORM = b" \t\r\n\f\v\"'`,;()[]{}\\"
"""What formatters change: where nothing else differs, a hunk is formatting."""
_FIELDS = ("%H", "%P", "%an", "%ae", "%cn", "%at", "%ct", "%B")
_ORDER = ("log", "--stdin", "--topo-order", "--reverse")
T = TypeVar("T")


class Commit(msgspec.Struct, frozen=True):
    """A commit, as far as retention needs it."""

    hash: str
    parents: tuple[str, ...]
    author: str
    email: str
    committer: str
    authored: int
    """Seconds since the epoch."""
    time: int
    """When it was committed, in seconds since the epoch."""
    message: str

    @property
    def subject(self) -> str:
        """First line of the message."""
        return self.message.split("\n", 1)[0]


class Change(NamedTuple):
    """One file of a commit, against the first parent."""

    mode: str
    """Octal; 000000: deleted."""
    blob: str
    status: str
    """A, M, T or D."""
    path: str


class Hunk(NamedTuple):
    """`removed` lines from `old` on made way for `added` lines from `new` on; lines count from 0."""

    old: int
    removed: int
    new: int
    added: int
    formatting: tuple[int, ...] = ()
    """Where only form changed: for each added line, the removed line (from 0) that it was."""
    text: Sequence[bytes] = ()
    """The added lines as the patch has them, where they were asked for."""


def commits(git: Git, revisions: Sequence[str]) -> Iterator[Commit]:
    """The commits of some revisions (as of rev-list, `^` for what to leave out), parents first."""
    said = git.text(
        *_ORDER,
        f"--format=%x00{'%x00'.join(_FIELDS)}%x00",
        stdin="".join(f"{name}\n" for name in revisions),
    )
    fields = iter(said.split("\0"))
    while len(row := list(islice(fields, 1 + len(_FIELDS)))) > len(_FIELDS):
        _, name, parents, author, email, committer, authored, time, message = row
        yield Commit(
            name,
            tuple(parents.split()),
            author,
            email,
            committer,
            int(authored),
            int(time),
            message.strip("\n"),
        )


def changes(out: IO[bytes]) -> Iterator[tuple[str, list[Change]]]:
    """Each commit's files, from `log --format=%H --raw`."""
    name, files = "", list[Change]()
    for line in out:
        if line.startswith(b":"):
            head, _, path = line[:-1].partition(b"\t")
            _, mode, _, blob, status = head.decode().split(" ")
            files.append(Change(mode, blob, status[0], unquoted(path)))
        elif len(line) > 1:
            if name:
                yield name, files
            name, files = line[:-1].decode(), []
    if name:
        yield name, files


def change_arguments() -> list[str]:
    """Of `git log`, for `changes`."""
    return [
        *_ORDER,
        "--format=%H",
        "--raw",
        "--no-abbrev",
        "--no-renames",
        "--diff-merges=first-parent",
    ]


def patch_arguments() -> list[str]:
    """Of `git log`, for `patches`; merges are left out."""
    return [*_ORDER, "--format=%x00%H", "--no-merges", "--no-renames", *DIFF]


def patches(out: IO[bytes], text: bool = False) -> Iterator[tuple[str, dict[str, list[Hunk]]]]:
    """Each commit's hunks by path, with their text where it is asked for."""
    name, files, hunks = "", dict[str, list[Hunk]](), list[Hunk]()
    for line in out:
        if line.startswith(b"@@ "):
            hunks.append(_hunk(line, out, text))
        elif line.startswith(b"diff --git "):
            hunks = files[_path(line)] = []
        elif line.startswith(b"\0"):
            if name:
                yield name, files
            name, files = line[1:-1].decode(), {}
    if name or files:
        yield name, files


def renamed(
    git: Git, parent: str, commit: str, path: str, sources: Sequence[str]
) -> tuple[str, list[Hunk]] | None:
    """Which of a parent's files a new file was, by git's rename detection for this file alone, and
    what changed in it.
    """
    with git.stream(
        "diff-tree",
        "-r",
        "-M",
        "--diff-filter=R",
        "--raw",
        "--no-abbrev",
        *DIFF,
        parent,
        commit,
        "--",
        path,
        *sources,
    ) as out:
        head = out.readline()
        if not head.startswith(b":"):
            return None
        source = unquoted(head[:-1].split(b"\t")[1])
        return source, [
            hunk for _, files in patches(out) for hunks in files.values() for hunk in hunks
        ]


def between(git: Git, parent: str, commit: str, paths: Sequence[str]) -> dict[str, list[Hunk]]:
    """Hunks of some files from one commit to another."""
    with git.stream("diff-tree", "-r", "--no-renames", *DIFF, parent, commit, "--", *paths) as out:
        return next((files for _, files in patches(out)), {})


def expect(stream: Iterator[tuple[str, T]], name: str) -> T:
    """What a stream says of the commit whose turn it is.

    Raises:
        InputError: git stopped early, or the repository changed meanwhile.
    """
    found, value = next(stream, ("", None))
    if found != name or value is None:
        raise InputError(
            f"could not read commit {name}: git gave {found or 'nothing more'}; is the repository"
            " whole (git fsck)?"
        )
    return value


def _hunk(line: bytes, out: IO[bytes], keep: bool) -> Hunk:
    match = _HUNK.match(line)
    assert match is not None, line
    old, removed, new, added = (1 if part is None else int(part) for part in match.groups())
    text = list(islice(out, removed + added))
    if (
        removed and added and text[removed].startswith(b"\\")
    ):  # no newline at the old end of the file
        del text[removed]
        text.append(next(out))
    formatting = _form(text[:removed], text[removed:]) if removed and added else ()
    return Hunk(
        old - (removed > 0),
        removed,
        new - (added > 0),
        added,
        formatting,
        text[removed : removed + added] if keep else (),
    )


def _form(old: list[bytes], new: list[bytes]) -> tuple[int, ...]:
    """Which old line each new one was, where only form differs.

    >>> _form([b"-f(a, b)"], [b"+f(", b"+  a,", b"+  b,", b"+)"])
    (0, 0, 0, 0)
    >>> _form([b"-a = 1"], [b"+a = 2"])
    ()
    """
    stripped = [line[1:].translate(None, _FORM) for line in old]
    fresh = [line[1:].translate(None, _FORM) for line in new]
    whole = b"".join(stripped)
    if not whole or whole != b"".join(fresh):
        return ()
    if len(old) == len(new) and stripped == fresh:
        return tuple(range(len(old)))
    starts, at = list[int](), 0
    for number, text in enumerate(stripped):
        starts += [number] * len(text)
        at += len(text)
    origin, at = list[int](), 0
    for text in fresh:
        origin.append(starts[min(at, len(starts) - 1)])
        at += len(text)
    return tuple(origin)


def _path(line: bytes) -> str:
    rest = line[len(b"diff --git ") : -1]
    if rest.startswith(b'"'):
        return unquoted(rest[: re.match(rb'"(?:[^"\\]|\\.)*"', rest).end()])[2:]  # type: ignore[union-attr]
    return rest[2 : 2 + (len(rest) - 5) // 2].decode(errors="surrogateescape")
