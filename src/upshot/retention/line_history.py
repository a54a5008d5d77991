"""Where every line of a repository came from, for all of its history in one pass.

`git blame` walks back from one file of one commit. Here commits are read forwards, oldest first: a
file's lines carry their numbers (one for each line ever added) from version to version, so that the
lines of every release are known when the pass reaches it, and one pass replaces a blame per file
and release. What passes a line on is what `git blame -w` does: the same comparison (git computes
it), a parent's file of the same path before a renamed one, parents in order, a file that equals a
parent's taken from it whole (`pass_blame` in git's blame.c). So a line's origin is git's, to the
line.

Beside its origin by `git blame`, a line carries the origin that formatting has not taken from it:
where a hunk's old and new text differ in white space, quotes, brackets and commas only, the new
lines keep the old ones' numbers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from upshot.retention import patches
from upshot.retention.git import Git
from upshot.retention.patches import Change, Commit, Hunk

Lines = NDArray[np.int32]
"""Numbers of lines, in the order of a file."""
_NONE = np.zeros(0, np.int32)
_SUBMODULE = "160000"
_CHURN_S = 90 * 86400


class File(NamedTuple):
    """One version of a file."""

    blob: str
    mode: str
    lines: Lines
    """Where `git blame -w` says each line is from."""
    carried: Lines
    """The same, with formatting passed through."""


Tree = dict[str, File]
Sizes = Callable[[Sequence[str]], dict[str, int]]


class Origin(NamedTuple):
    """Lines that one commit added to one file."""

    commit: int
    path: str
    base: int
    """Number of the first."""
    places: tuple[tuple[int, int], ...]
    """(first line, lines) in the file at that commit, from 0, in order."""
    churn: float
    """Lines of the file removed in the 90 days before, as a share of its lines; NaN: the file was
    new.
    """

    @property
    def size(self) -> int:
        """How many lines."""
        return sum(count for _, count in self.places)


class Removal(NamedTuple):
    """Lines that a commit removed."""

    commit: int
    lines: Lines
    added: int
    """Lines that came in their place; 0: they were deleted."""


class Counts(NamedTuple):
    """How often lines are there, as changes from the snapshot before; a file that was split on
    renaming has a line twice.
    """

    lines: Lines
    change: NDArray[np.int32]


class Snapshot(NamedTuple):
    """The lines of one release."""

    name: str
    commit: int
    blamed: Counts
    """As `git blame -w` has them."""
    carried: Counts
    """With formatting passed through; each line at most once."""


def _sum(one: Counts, other: Counts) -> Counts:
    lines, place = np.unique(np.concatenate([one.lines, other.lines]), return_inverse=True)
    change = np.bincount(
        place, weights=np.concatenate([one.change, other.change]), minlength=len(lines)
    ).astype(np.int32)
    return Counts(lines[change != 0].astype(np.int32), change[change != 0])


Progress = Callable[[str, int, int], None]


class LineHistory:
    """Every line ever added, what removed it, and which were there at each release."""

    def __init__(self) -> None:
        self.commits: list[Commit] = []
        """In an order that parents precede."""
        self.index: dict[str, int] = {}
        self.origins: list[Origin] = []
        """In the order of their bases."""
        self.removals: list[Removal] = []
        """In the order of commits; where branches removed the same line, it comes more than once.
        """
        self.snapshots: list[Snapshot] = []
        """In the order the pass reached them."""
        self.trees: dict[str, Tree] = {}
        """By commit: what a later pass starts from."""
        self.total = 0
        """How many lines were ever added."""
        self.touched: dict[str, list[tuple[int, int]]] = {}
        """(time, lines removed) of each path, for churn."""
        self.joined: list[tuple[int, int]] = []
        """(line, the line that formatting joined it to)."""

    def present(self, carried: bool = False) -> Iterator[tuple[Snapshot, NDArray[np.int32]]]:
        """Each snapshot with how often each of all lines is in it: one array, changed in place."""
        there = np.zeros(self.total, np.int32)
        for snapshot in self.snapshots:
            counts = snapshot.carried if carried else snapshot.blamed
            there[counts.lines] += counts.change
            yield snapshot, there

    def drop(self, snapshot: Snapshot) -> None:
        """Forget a snapshot; the next one's changes then count from the one before."""
        place = self.snapshots.index(snapshot)
        del self.snapshots[place]
        if place < len(self.snapshots):
            after = self.snapshots[place]
            self.snapshots[place] = after._replace(
                blamed=_sum(snapshot.blamed, after.blamed),
                carried=_sum(snapshot.carried, after.carried),
            )

    def number(self, commit: Commit) -> int:
        """The place of a commit, which is added where it is new."""
        if commit.hash not in self.index:
            self.index[commit.hash] = len(self.commits)
            self.commits.append(commit)
        return self.index[commit.hash]


def walk(
    git: Git,
    releases: Mapping[str, str],
    known: LineHistory | None = None,
    progress: Progress | None = None,
) -> LineHistory:
    """Follow every line up to the releases.

    Args:
        git: The repository.
        releases: Commit of each release, by name.
        known: An earlier pass over the same repository, to go on from; it is changed.
        progress: Called with `commits`, how many are done and how many there are.

    Raises:
        InputError: git could not read an object.
    """
    history = known or LineHistory()
    for snapshot in list(history.snapshots):
        if releases.get(snapshot.name) != history.commits[snapshot.commit].hash:
            history.drop(snapshot)  # HEAD has moved on, a tag was moved or removed
    taken = {snapshot.name for snapshot in history.snapshots}
    wanted = {name: commit for name, commit in releases.items() if name not in taken}
    if wanted:
        _Pass(git, history, wanted).run(progress or (lambda stage, done, total: None))
    return history


class _Pass:
    """One pass over the commits that are not known yet."""

    def __init__(self, git: Git, history: LineHistory, releases: Mapping[str, str]) -> None:
        self.git, self.history = git, history
        self.names: dict[str, list[str]] = {}
        for name, commit in releases.items():
            self.names.setdefault(commit, []).append(name)
        self.known = len(history.commits)
        self.origins = {(origin.commit, origin.path): origin for origin in history.origins}
        self.trees = dict(history.trees)
        self.before = [np.zeros(history.total, np.int32), np.zeros(history.total, np.int32)]
        for snapshot in history.snapshots:
            for there, counts in zip(self.before, (snapshot.blamed, snapshot.carried), strict=True):
                there[counts.lines] += counts.change

    def run(self, progress: Progress) -> None:
        """Read the commits, oldest first."""
        keep = {*self.names, *self.history.trees}
        for commit in [name for name in self.names if name in self.trees]:
            self._snapshot(commit)
        commits, revisions = self._new()
        children: dict[str, int] = {}
        for parent in (parent for commit in commits for parent in commit.parents):
            children[parent] = children.get(parent, 0) + 1
        with (
            self.git.stream(*patches.change_arguments(), stdin=revisions) as raw,
            self.git.stream(*patches.patch_arguments(), stdin=revisions) as text,
            self.git.sizes_on_demand() as self.sizes,
        ):
            changes, hunks = patches.changes(raw), patches.patches(text)
            for number, commit in enumerate(commits):
                self._commit(
                    commit,
                    patches.expect(changes, commit.hash),
                    patches.expect(hunks, commit.hash) if len(commit.parents) < 2 else {},
                )
                for parent in commit.parents:
                    children[parent] -= 1
                    if not children[parent] and parent not in keep:
                        del self.trees[parent]
                if number % 50 == 0:
                    progress("commits", number, len(commits))
        progress("commits", len(commits), len(commits))
        self.history.trees = {
            name: self.trees[name]
            for name in {
                self.history.commits[snapshot.commit].hash for snapshot in self.history.snapshots
            }
        }

    def _new(self) -> tuple[list[Commit], list[str]]:
        """The commits to read and the revisions that name them.

        Reading goes on where trees are kept; where a new commit stands on one whose tree is not, it
        goes on further back, and old commits are read again.
        """
        tips = sorted(set(self.names) - set(self.trees))
        kept = set(self.trees) - self._above({tip for tip in tips if tip in self.history.index})
        while tips:
            revisions = [*tips, *(f"^{name}" for name in sorted(kept))]
            commits = list(patches.commits(self.git, revisions))
            bare = (
                {parent for commit in commits for parent in commit.parents}
                - {commit.hash for commit in commits}
                - kept
            )
            if not bare:
                return commits, revisions
            kept -= self._above(bare)
        return [], []

    def _above(self, commits: set[str]) -> set[str]:
        """The kept commits that have one of these in their history."""
        above = set(commits)
        for commit in self.history.commits:
            if not above.isdisjoint(commit.parents):
                above.add(commit.hash)
        return above

    def _commit(
        self, commit: Commit, changed: Sequence[Change], hunks: Mapping[str, list[Hunk]]
    ) -> None:
        number = self.history.number(commit)
        parents = [self.trees[name] for name in commit.parents]
        tree = dict(parents[0]) if parents else {}
        for change in changed:
            tree.pop(change.path, None)
        passing = _Passing(self.git, self.sizes, commit, parents, changed, hunks)
        for change in changed:
            if change.status != "D" and change.mode != _SUBMODULE:
                tree[change.path] = self._version(number, commit, change, passing)
        for change in changed:
            gone = parents[0].get(change.path) if parents else None
            if change.status == "D" and gone is not None and change.path not in passing.used:
                self._remove(number, gone.carried, 0)
        self.trees[commit.hash] = tree
        if commit.hash in self.names:
            self._snapshot(commit.hash)

    def _version(self, number: int, commit: Commit, change: Change, passing: _Passing) -> File:
        """The new version of a file, its lines passed on from the parents'."""
        sources = passing.sources(change)
        if sources and sources[0].hunks is None:
            return File(change.blob, change.mode, sources[0].file.lines, sources[0].file.carried)
        size = sources[0].size if sources else passing.lines(change)
        lines, carried = np.full(size, -1, np.int32), np.full(size, -1, np.int32)
        for source in sources:
            _fill(lines, _spliced(source.file.lines, source.hunks or [], size))
            _fill(carried, self._carried(number, source, size))
        fresh = np.flatnonzero(lines < 0)
        if len(fresh):
            lines[fresh] = self._origin(number, commit, change.path, fresh, sources)
        rest = carried < 0
        carried[rest] = lines[rest]
        self._removed(number, commit, change.path, sources, carried)
        return File(
            change.blob, change.mode, lines, lines if np.array_equal(lines, carried) else carried
        )

    def _carried(self, number: int, source: _Source, size: int) -> Lines:
        """The lines that a parent's version passes on, with formatting passed through."""
        passed = _spliced(source.file.carried, source.hunks or [], size)
        for hunk in source.hunks or []:
            if hunk.formatting:
                old = source.file.carried[hunk.old : hunk.old + hunk.removed]
                passed[hunk.new : hunk.new + hunk.added] = old[list(hunk.formatting)]
                for line in sorted(set(range(hunk.removed)) - set(hunk.formatting)):
                    host = hunk.formatting[max(bisect_left(hunk.formatting, line) - 1, 0)]
                    if number >= self.known and old[line] != old[host]:
                        self.history.joined.append((int(old[line]), int(old[host])))
        return passed

    def _origin(
        self,
        number: int,
        commit: Commit,
        path: str,
        fresh: NDArray[np.intp],
        sources: Sequence[_Source],
    ) -> Lines:
        """Numbers for new lines; those they have, where the commit is read again."""
        origin = self.origins.get((number, path))
        if origin is None:
            breaks = np.flatnonzero(np.diff(fresh) > 1) + 1
            places = tuple((int(run[0]), len(run)) for run in np.split(fresh, breaks))
            origin = Origin(
                number, path, self.history.total, places, self._churn(path, commit.time, sources)
            )
            self.history.total += len(fresh)
            self.history.origins.append(origin)
            self.origins[(number, path)] = origin
        return np.arange(origin.base, origin.base + len(fresh), dtype=np.int32)

    def _churn(self, path: str, time: int, sources: Sequence[_Source]) -> float:
        if not sources:
            return float("nan")
        removed = 0
        for at, lines in reversed(self.history.touched.get(path, ())):
            if at < time - _CHURN_S:
                break
            removed += lines if at <= time else 0
        return removed / max(len(sources[0].file.lines), 1)

    def _removed(
        self, number: int, commit: Commit, path: str, sources: Sequence[_Source], carried: Lines
    ) -> None:
        if number < self.known or not sources:
            return
        touched = self.history.touched
        if sources[0].path != path and sources[0].path in touched:
            touched[path] = list(touched[sources[0].path])
        if len(commit.parents) > 1:
            gone = np.setdiff1d(
                np.concatenate([source.file.carried for source in sources]), carried
            )
            self._remove(number, gone.astype(np.int32), 0)
            return
        for hunk in sources[0].hunks or []:
            if hunk.removed and not hunk.formatting:
                self._remove(
                    number, sources[0].file.carried[hunk.old : hunk.old + hunk.removed], hunk.added
                )
                touched.setdefault(path, []).append((commit.time, hunk.removed))

    def _remove(self, number: int, lines: Lines, added: int) -> None:
        if number >= self.known and len(lines):
            self.history.removals.append(Removal(number, lines.copy(), added))

    def _snapshot(self, commit: str) -> None:
        files = self.trees[commit].values()
        history = self.history
        blamed = np.bincount(
            np.concatenate([_NONE, *(file.lines for file in files)]), minlength=history.total
        ).astype(np.int32)
        carried = np.zeros(history.total, np.int32)
        carried[np.concatenate([_NONE, *(file.carried for file in files)])] = 1
        if history.joined:
            line, host = np.array(
                history.joined[::-1], np.int64
            ).T  # the last first: what a line was joined to may itself have been joined
            for _ in range(2):
                carried[line] = np.maximum(carried[line], carried[host])
        changed = [
            _change(before, now) for before, now in zip(self.before, (blamed, carried), strict=True)
        ]
        self.before = [blamed, carried]
        for name in self.names[commit]:
            history.snapshots.append(Snapshot(name, history.index[commit], *changed))
            changed = [Counts(_NONE, _NONE)] * 2


def _change(before: NDArray[np.int32], now: NDArray[np.int32]) -> Counts:
    change = now.copy()
    change[: len(before)] -= before
    lines = np.flatnonzero(change).astype(np.int32)
    return Counts(lines, change[lines])


class _Source(NamedTuple):
    """A parent's file that passes lines on."""

    path: str
    file: File
    hunks: list[Hunk] | None
    """None: the file is the same."""

    @property
    def size(self) -> int:
        """Lines of the new version."""
        return len(self.file.lines) + sum(hunk.added - hunk.removed for hunk in self.hunks or [])


class _Passing:
    """Which files of its parents a commit's files come from, in the order in which `git blame` asks
    them.
    """

    def __init__(
        self,
        git: Git,
        sizes: Sizes,
        commit: Commit,
        parents: Sequence[Tree],
        changed: Sequence[Change],
        hunks: Mapping[str, list[Hunk]],
    ) -> None:
        self.git, self.sizes, self.commit, self.parents, self.hunks = (
            git,
            sizes,
            commit,
            parents,
            hunks,
        )
        self._changed = [change for change in changed if change.status != "D"]
        self._between: dict[int, dict[str, list[Hunk]]] = {}
        self.used: set[str] = set()
        """Paths that files were renamed from."""
        self._gone = (
            [self._deleted(number, changed) for number in range(len(parents))]
            if any(change.status == "A" for change in changed) or len(parents) > 1
            else []
        )

    def _deleted(self, parent: int, changed: Sequence[Change]) -> Tree:
        """The parent's files that the commit does not have."""
        if parent == 0:
            gone = [change.path for change in changed if change.status == "D"]
        else:
            here = ({*self.parents[0]} | {change.path for change in changed}) - {
                change.path for change in changed if change.status == "D"
            }
            gone = [path for path in self.parents[parent] if path not in here]
        return {
            path: self.parents[parent][path]
            for path in sorted(gone)
            if path in self.parents[parent]
        }

    def sources(self, change: Change) -> list[_Source]:
        """The files that pass lines on to a changed one; a single one without hunks where it is the
        same.
        """
        same = [tree.get(change.path) for tree in self.parents]
        same = [
            file if file is not None and _kind(file.mode) == _kind(change.mode) else None
            for file in same
        ]
        for file in same:
            if file is not None and file.blob == change.blob:
                return [_Source(change.path, file, None)]
        found: list[_Source | None] = []
        seen = set[str]()
        for number, file in enumerate(same):
            if file is None or file.blob in seen:
                found.append(None)
                continue
            seen.add(file.blob)
            found.append(_Source(change.path, file, self._hunks(number, change.path)))
        for number, tree in enumerate(self.parents):
            if change.path not in tree:
                source = self._rename(number, change)
                if source is not None and source.hunks is None:
                    return [source]
                found[number] = source
        return [source for source in found if source is not None]

    def _hunks(self, parent: int, path: str) -> list[Hunk]:
        if len(self.parents) == 1:
            return self.hunks.get(path, [])
        if parent not in self._between:
            tree = self.parents[parent]
            differ = [
                change.path
                for change in self._changed
                if change.path in tree and tree[change.path].blob != change.blob
            ]
            self._between[parent] = patches.between(
                self.git, self.commit.parents[parent], self.commit.hash, differ
            )
        return self._between[parent].get(path, [])

    def _rename(self, parent: int, change: Change) -> _Source | None:
        """What a new file was called before: first a deleted file with the same content, then what
        git finds similar.
        """
        gone = self._gone[parent]
        equal = [
            path
            for path, file in gone.items()
            if file.blob == change.blob and _kind(file.mode) == _kind(change.mode)
        ]
        if equal:
            path = next((path for path in equal if _base(path) == _base(change.path)), equal[0])
            self.used.add(path)
            return _Source(path, gone[path], None)
        gone = {path: file for path, file in gone.items() if _kind(file.mode) == "100"}
        if not gone or _kind(change.mode) != "100":
            return None
        sizes = self.sizes([change.blob, *(file.blob for file in gone.values())])
        size = sizes.get(change.blob, 0)
        if not any(
            min(sizes.get(file.blob, 0), size) * 2 >= max(sizes.get(file.blob, 0), size)
            for file in gone.values()
        ):
            return None  # git calls nothing similar that is twice as long
        found = patches.renamed(
            self.git, self.commit.parents[parent], self.commit.hash, change.path, list(gone)
        )
        if found is None or found[0] not in gone:
            return None
        self.used.add(found[0])
        return _Source(found[0], gone[found[0]], found[1])

    def lines(self, change: Change) -> int:
        """Lines of a file that comes from nowhere."""
        if len(self.parents) < 2:
            return sum(hunk.added for hunk in self.hunks.get(change.path, ()))
        content = self.git.blobs([change.blob]).get(change.blob, b"")
        return content.count(b"\n") + (bool(content) and not content.endswith(b"\n"))


def _spliced(old: Lines, hunks: Sequence[Hunk], size: int) -> Lines:
    """The old lines where the new version has them; -1 where lines are new."""
    new, at_old, at_new = np.full(size, -1, np.int32), 0, 0
    for hunk in hunks:
        kept = hunk.old - at_old
        new[at_new : at_new + kept] = old[at_old : hunk.old]
        at_old, at_new = hunk.old + hunk.removed, hunk.new + hunk.added
    new[at_new:] = old[at_old:]
    return new


def _fill(lines: Lines, passed: Lines) -> None:
    """Lines that nothing has claimed yet."""
    open_ = lines < 0
    lines[open_] = passed[open_]


def _kind(mode: str) -> str:
    return mode[:3]


def _base(path: str) -> str:
    return path.rsplit("/", 1)[-1]
