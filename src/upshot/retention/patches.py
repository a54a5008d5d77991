"""Streams of commits, the files they changed, and the hunks of their patches."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import IO, NamedTuple, TypeVar

import msgspec

from upshot.errors import InputError
from upshot.retention.git import DIFF, Git, unquote_path

_HUNK = re.compile(rb"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_FORMATTING = b" \t\r\n\f\v\"'`,;()[]{}\\"
"""Characters that formatters change: a hunk that differs in nothing else is formatting."""
_FIELDS = ("%H", "%P", "%an", "%ae", "%cn", "%at", "%ct", "%B")
_ORDER = ("log", "--stdin", "--topo-order", "--reverse")
T = TypeVar("T")


class Commit(msgspec.Struct, frozen=True):
    """A commit, with the fields that retention needs."""

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
    """`added` lines from line `new` replace `removed` lines from line `old`, counted from 0."""

    old: int
    removed: int
    new: int
    added: int
    formatting: tuple[int, ...] = ()
    """If only formatting changed: for each added line, the removed line (from 0) that it was."""
    text: Sequence[bytes] = ()
    """The added lines as in the patch, if requested."""


def read_commits(git: Git, revisions: Sequence[str]) -> Iterator[Commit]:
    """Read the commits of some revisions (as of rev-list, `^` excludes), parents first."""
    output = git.text(
        *_ORDER,
        f"--format=%x00{'%x00'.join(_FIELDS)}%x00",
        stdin="".join(f"{name}\n" for name in revisions),
    )
    fields = iter(output.split("\0"))
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


def read_changes(out: IO[bytes]) -> Iterator[tuple[str, list[Change]]]:
    """Read each commit's changed files from the output of `git log` with `change_arguments`."""
    name, files = "", list[Change]()
    for line in out:
        if line.startswith(b":"):
            head, _, path = line[:-1].partition(b"\t")
            _, mode, _, blob, status = head.decode().split(" ")
            files.append(Change(mode, blob, status[0], unquote_path(path)))
        elif len(line) > 1:
            if name:
                yield name, files
            name, files = line[:-1].decode(), []
    if name:
        yield name, files


def change_arguments() -> list[str]:
    """Arguments of `git log` for `read_changes`."""
    return [
        *_ORDER,
        "--format=%H",
        "--raw",
        "--no-abbrev",
        "--no-renames",
        "--diff-merges=first-parent",
    ]


def patch_arguments() -> list[str]:
    """Arguments of `git log` for `read_patches`; merges are left out."""
    return [*_ORDER, "--format=%x00%H", "--no-merges", "--no-renames", *DIFF]


def read_patches(out: IO[bytes], text: bool = False) -> Iterator[tuple[str, dict[str, list[Hunk]]]]:
    """Read each commit's hunks by path, with the added text if requested."""
    name, files, hunks = "", dict[str, list[Hunk]](), list[Hunk]()
    for line in out:
        if line.startswith(b"@@ "):
            hunks.append(_read_hunk(line, out, text))
        elif line.startswith(b"diff --git "):
            hunks = files[_parse_path(line)] = []
        elif line.startswith(b"\0"):
            if name:
                yield name, files
            name, files = line[1:-1].decode(), {}
    if name or files:
        yield name, files


def find_rename(
    git: Git, parent: str, commit: str, path: str, sources: Sequence[str]
) -> tuple[str, list[Hunk]] | None:
    """The parent's file that a new file was renamed from, and the hunks between them.

    By git's rename detection, for this file alone.
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
        source = unquote_path(head[:-1].split(b"\t")[1])
        return source, [
            hunk for _, files in read_patches(out) for hunks in files.values() for hunk in hunks
        ]


def diff_commits(git: Git, parent: str, commit: str, paths: Sequence[str]) -> dict[str, list[Hunk]]:
    """Hunks of some files between two commits."""
    with git.stream("diff-tree", "-r", "--no-renames", *DIFF, parent, commit, "--", *paths) as out:
        return next((files for _, files in read_patches(out)), dict[str, list[Hunk]]())


def next_of(stream: Iterator[tuple[str, T]], name: str) -> T:
    """The next value of a stream, which must be of the commit `name`.

    Raises:
        InputError: git stopped early, or the repository changed meanwhile.
    """
    actual, value = next(stream, ("", None))
    if actual != name or value is None:
        raise InputError(
            f"could not read commit {name}: git gave {actual or 'nothing more'}; is the repository"
            " whole (git fsck)?"
        )
    return value


def _read_hunk(line: bytes, out: IO[bytes], keep_text: bool) -> Hunk:
    match = _HUNK.match(line)
    if match is None:
        raise InputError(f"could not read a patch: git gave the hunk header {line[:80]!r}")
    old, removed, new, added = (1 if part is None else int(part) for part in match.groups())
    text = list(islice(out, removed + added))
    if removed and added and text[removed].startswith(b"\\"):  # no newline at the old file's end
        del text[removed]
        text.append(next(out))
    formatting = _match_formatting(text[:removed], text[removed:]) if removed and added else ()
    return Hunk(
        old - (removed > 0),
        removed,
        new - (added > 0),
        added,
        formatting,
        text[removed : removed + added] if keep_text else (),
    )


def _match_formatting(old: list[bytes], new: list[bytes]) -> tuple[int, ...]:
    """The old line that each new one was, if only formatting differs; else empty.

    >>> _match_formatting([b"-f(a, b)"], [b"+f(", b"+  a,", b"+  b,", b"+)"])
    (0, 0, 0, 0)
    >>> _match_formatting([b"-a = 1"], [b"+a = 2"])
    ()
    """
    stripped = [line[1:].translate(None, _FORMATTING) for line in old]
    fresh = [line[1:].translate(None, _FORMATTING) for line in new]
    whole = b"".join(stripped)
    if not whole or whole != b"".join(fresh):
        return ()
    if len(old) == len(new) and stripped == fresh:
        return tuple(range(len(old)))
    line_at = [number for number, text in enumerate(stripped) for _ in text]
    origin, position = list[int](), 0
    for text in fresh:
        origin.append(line_at[min(position, len(line_at) - 1)])
        position += len(text)
    return tuple(origin)


def _parse_path(line: bytes) -> str:
    rest = line[len(b"diff --git ") : -1]
    if quoted := re.match(rb'"(?:[^"\\]|\\.)*"', rest):
        return unquote_path(quoted.group())[2:]
    return rest[2 : 2 + (len(rest) - 5) // 2].decode(errors="surrogateescape")
