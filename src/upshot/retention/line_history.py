"""The origin of every line of a repository, for its whole history in one pass.

`git blame` walks back from one file of one commit. Here commits are read forwards, oldest first: a
file's lines carry their numbers (one for each line ever added) from version to version, so the
lines of every release are known when the pass reaches it, and one pass replaces a blame per file
and release. Lines are passed on by the rules of `git blame -w`: the same comparison (computed by
git), a parent's file of the same path before a renamed one, parents in order, a file that equals a
parent's taken from it as a whole (`pass_blame` in git's blame.c). So origins equal git's, line by
line.

Besides its origin by `git blame`, a line carries an origin that ignores formatting: where a hunk's
old and new text differ only in white space, quotes, brackets and commas, the new lines keep the
numbers of the old ones.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from upshot.retention import patches
from upshot.retention.git import Git
from upshot.retention.patches import Change, Commit, Hunk

Lines = NDArray[np.int32]
"""Line numbers in the history, in the order of a file."""
_NO_LINES = np.zeros(0, np.int32)
_SUBMODULE = "160000"
"""Git's mode of a submodule, which has no lines."""
_CHURN_S = 90 * 86400
"""Seconds before a change that count for its churn."""
_PROGRESS_COMMITS = 50
"""Commits between two calls of `progress`."""


class File(NamedTuple):
    """One version of a file."""

    blob: str
    mode: str
    lines: Lines
    """The origin of each line by `git blame -w`."""
    carried: Lines
    """The same, ignoring changes of formatting."""


Tree = dict[str, File]
Sizes = Callable[[Sequence[str]], dict[str, int]]


class Origin(NamedTuple):
    """The lines that one commit added to one file."""

    commit: int
    path: str
    base: int
    """Number of the first line."""
    places: tuple[tuple[int, int], ...]
    """(first line, lines) in the file at that commit, from 0, in order."""
    churn: float
    """Lines of the file removed in the 90 days before, over its lines; NaN: the file was new."""

    @property
    def size(self) -> int:
        """The number of lines."""
        return sum(count for _, count in self.places)

    @property
    def numbers(self) -> NDArray[np.int64]:
        """Numbers of the lines in the file, from 1, ascending."""
        return np.concatenate([np.arange(first, first + count) for first, count in self.places]) + 1


class Removal(NamedTuple):
    """The lines that a commit removed in one place."""

    commit: int
    lines: Lines
    added: int
    """Lines that replaced them; 0: they were deleted."""


class Counts(NamedTuple):
    """Changes of line counts since the previous snapshot.

    A count can exceed 1: both halves of a file that was split on renaming have its lines.
    """

    lines: Lines
    change: NDArray[np.int32]


class Snapshot(NamedTuple):
    """The lines of one release."""

    name: str
    commit: int
    blamed: Counts
    """By `git blame -w`."""
    carried: Counts
    """Ignoring changes of formatting; each line at most once."""


def _add_counts(first: Counts, second: Counts) -> Counts:
    lines, place = np.unique(np.concatenate([first.lines, second.lines]), return_inverse=True)
    change = np.bincount(
        place, weights=np.concatenate([first.change, second.change]), minlength=len(lines)
    ).astype(np.int32)
    return Counts(lines[change != 0].astype(np.int32), change[change != 0])


Progress = Callable[[str, int, int], None]


class LineHistory:
    """Every line ever added, its removal, and the lines at each release."""

    def __init__(self) -> None:
        self.commits: list[Commit] = []
        """Parents before children."""
        self.index: dict[str, int] = {}
        self.origins: list[Origin] = []
        """In the order of their bases."""
        self.removals: list[Removal] = []
        """In the order of commits; a line that several branches removed occurs several times."""
        self.snapshots: list[Snapshot] = []
        """In the order the pass reached them."""
        self.trees: dict[str, Tree] = {}
        """By commit: where a later pass starts."""
        self.total = 0
        """The number of lines ever added."""
        self.touched: dict[str, list[tuple[int, int]]] = {}
        """(time, lines removed) of each path, for churn."""
        self.joined: list[tuple[int, int]] = []
        """(line, the line that formatting joined it to)."""

    def commits_by_path(self, excluded: Container[int] = ()) -> dict[str, list[int]]:
        """Commits that added lines, by path, except those excluded."""
        touching: dict[str, list[int]] = {}
        for origin in self.origins:
            if origin.commit not in excluded:
                touching.setdefault(origin.path, []).append(origin.commit)
        return touching

    def present(self, carried: bool = False) -> Iterator[tuple[Snapshot, NDArray[np.int32]]]:
        """Each snapshot with the count of every line in it: one array, updated in place."""
        counts_now = np.zeros(self.total, np.int32)
        for snapshot in self.snapshots:
            counts = snapshot.carried if carried else snapshot.blamed
            counts_now[counts.lines] += counts.change
            yield snapshot, counts_now

    def drop(self, snapshot: Snapshot) -> None:
        """Drop a snapshot and add its changes to the next one's."""
        place = self.snapshots.index(snapshot)
        del self.snapshots[place]
        if place < len(self.snapshots):
            after = self.snapshots[place]
            self.snapshots[place] = after._replace(
                blamed=_add_counts(snapshot.blamed, after.blamed),
                carried=_add_counts(snapshot.carried, after.carried),
            )

    def number_of(self, commit: Commit) -> int:
        """The index of a commit, which is added if it is new."""
        if commit.hash not in self.index:
            self.index[commit.hash] = len(self.commits)
            self.commits.append(commit)
        return self.index[commit.hash]


def trace_lines(
    git: Git,
    releases: Mapping[str, str],
    earlier: LineHistory | None = None,
    progress: Progress | None = None,
) -> LineHistory:
    """Trace every line up to the releases.

    Args:
        git: The repository.
        releases: Commit of each release, by name.
        earlier: An earlier pass over the same repository, to resume; it is changed.
        progress: Called with `commits`, how many are done and how many there are in total.

    Raises:
        InputError: git could not read an object.
    """
    history = earlier or LineHistory()
    for snapshot in list(history.snapshots):
        if releases.get(snapshot.name) != history.commits[snapshot.commit].hash:
            history.drop(snapshot)  # HEAD has moved on, a tag was moved or removed
    existing = {snapshot.name for snapshot in history.snapshots}
    missing = {name: commit for name, commit in releases.items() if name not in existing}
    if missing:
        _Pass(git, history, missing).run(progress or (lambda stage, done, total: None))
    return history


class _Pass:
    """One pass over the commits that are not in the history yet."""

    def __init__(self, git: Git, history: LineHistory, releases: Mapping[str, str]) -> None:
        self.git, self.history = git, history
        self.names: dict[str, list[str]] = {}
        for name, commit in releases.items():
            self.names.setdefault(commit, []).append(name)
        self.first_new = len(history.commits)
        self.origins = {(origin.commit, origin.path): origin for origin in history.origins}
        self.trees = dict(history.trees)
        self.before = [np.zeros(history.total, np.int32), np.zeros(history.total, np.int32)]
        for snapshot in history.snapshots:
            for presence, counts in zip(
                self.before, (snapshot.blamed, snapshot.carried), strict=True
            ):
                presence[counts.lines] += counts.change

    def run(self, progress: Progress) -> None:
        """Read the commits, oldest first."""
        keep = {*self.names, *self.history.trees}
        for commit in [name for name in self.names if name in self.trees]:
            self._take_snapshot(commit)
        commits, revisions = self._commits_to_read()
        children: dict[str, int] = {}
        for parent in (parent for commit in commits for parent in commit.parents):
            children[parent] = children.get(parent, 0) + 1
        with (
            self.git.stream(*patches.change_arguments(), stdin=revisions) as raw,
            self.git.stream(*patches.patch_arguments(), stdin=revisions) as text,
            self.git.sizes_on_demand() as self.sizes,
        ):
            changes, hunks = patches.read_changes(raw), patches.read_patches(text)
            for number, commit in enumerate(commits):
                self._read_commit(
                    commit,
                    patches.next_of(changes, commit.hash),
                    patches.next_of(hunks, commit.hash) if len(commit.parents) < 2 else {},
                )
                for parent in commit.parents:
                    children[parent] -= 1
                    if not children[parent] and parent not in keep:
                        del self.trees[parent]
                if number % _PROGRESS_COMMITS == 0:
                    progress("commits", number, len(commits))
        progress("commits", len(commits), len(commits))
        self.history.trees = {
            name: self.trees[name]
            for name in {
                self.history.commits[snapshot.commit].hash for snapshot in self.history.snapshots
            }
        }

    def _commits_to_read(self) -> tuple[list[Commit], list[str]]:
        """The commits to read and the revisions that name them.

        Reading resumes at stored trees. If the parent of a new commit has none, it resumes further
        back, and old commits are read again.
        """
        tips = sorted(set(self.names) - set(self.trees))
        reusable = set(self.trees) - self._trees_above(
            {tip for tip in tips if tip in self.history.index}
        )
        while tips:
            revisions = [*tips, *(f"^{name}" for name in sorted(reusable))]
            commits = list(patches.read_commits(self.git, revisions))
            treeless = (
                {parent for commit in commits for parent in commit.parents}
                - {commit.hash for commit in commits}
                - reusable
            )
            if not treeless:
                return commits, revisions
            reusable -= self._trees_above(treeless)
        return [], []

    def _trees_above(self, commits: set[str]) -> set[str]:
        """The commits of the history that have one of these among their ancestors."""
        above = set(commits)
        for commit in self.history.commits:
            if not above.isdisjoint(commit.parents):
                above.add(commit.hash)
        return above

    def _read_commit(
        self, commit: Commit, changed: Sequence[Change], hunks: Mapping[str, list[Hunk]]
    ) -> None:
        number = self.history.number_of(commit)
        parents = [self.trees[name] for name in commit.parents]
        tree = dict(parents[0]) if parents else {}
        for change in changed:
            tree.pop(change.path, None)
        passing = _BlamePasser(self.git, self.sizes, commit, parents, changed=changed, hunks=hunks)
        for change in changed:
            if change.status != "D" and change.mode != _SUBMODULE:
                tree[change.path] = self._make_version(number, commit, change, passing)
        for change in changed:
            gone = parents[0].get(change.path) if parents else None
            if change.status == "D" and gone is not None and change.path not in passing.used:
                self._add_removal(number, gone.carried, 0)
        self.trees[commit.hash] = tree
        if commit.hash in self.names:
            self._take_snapshot(commit.hash)

    def _make_version(
        self, number: int, commit: Commit, change: Change, passing: _BlamePasser
    ) -> File:
        """Make the new version of a file, with lines passed on from the parents' versions."""
        sources = passing.find_sources(change)
        if sources and sources[0].hunks is None:
            return File(change.blob, change.mode, sources[0].file.lines, sources[0].file.carried)
        size = sources[0].size if sources else passing.count_lines(change)
        lines, carried = np.full(size, -1, np.int32), np.full(size, -1, np.int32)
        for source in sources:
            _fill_unclaimed(lines, _splice(source.file.lines, source.hunks or [], size))
            _fill_unclaimed(carried, self._pass_carried(number, source, size))
        fresh = np.flatnonzero(lines < 0)
        if len(fresh):
            lines[fresh] = self._number_new_lines(number, commit, change.path, fresh, sources)
        unclaimed = carried < 0
        carried[unclaimed] = lines[unclaimed]
        self._record_removals(number, commit, change.path, sources, carried)
        return File(
            change.blob, change.mode, lines, lines if np.array_equal(lines, carried) else carried
        )

    def _pass_carried(self, number: int, source: _Source, size: int) -> Lines:
        """The lines that a parent's version passes on, ignoring changes of formatting."""
        passed = _splice(source.file.carried, source.hunks or [], size)
        for hunk in source.hunks or []:
            if hunk.formatting:
                old = source.file.carried[hunk.old : hunk.old + hunk.removed]
                passed[hunk.new : hunk.new + hunk.added] = old[list(hunk.formatting)]
                for line in sorted(set(range(hunk.removed)) - set(hunk.formatting)):
                    host = hunk.formatting[max(bisect_left(hunk.formatting, line) - 1, 0)]
                    if number >= self.first_new and old[line] != old[host]:
                        self.history.joined.append((int(old[line]), int(old[host])))
        return passed

    def _number_new_lines(
        self,
        number: int,
        commit: Commit,
        path: str,
        fresh: NDArray[np.intp],
        sources: Sequence[_Source],
    ) -> Lines:
        """Number new lines; a commit that is read again gets the same numbers."""
        origin = self.origins.get((number, path))
        if origin is None:
            breaks = np.flatnonzero(np.diff(fresh) > 1) + 1
            places = tuple((int(run[0]), len(run)) for run in np.split(fresh, breaks))
            origin = Origin(
                number,
                path,
                self.history.total,
                places,
                self._compute_churn(path, commit.time, sources),
            )
            self.history.total += len(fresh)
            self.history.origins.append(origin)
            self.origins[(number, path)] = origin
        return np.arange(origin.base, origin.base + len(fresh), dtype=np.int32)

    def _compute_churn(self, path: str, time: int, sources: Sequence[_Source]) -> float:
        if not sources:
            return float("nan")
        removed = 0
        for at, lines in reversed(self.history.touched.get(path, ())):
            if at < time - _CHURN_S:
                break
            removed += lines if at <= time else 0
        return removed / max(len(sources[0].file.lines), 1)

    def _record_removals(
        self, number: int, commit: Commit, path: str, sources: Sequence[_Source], carried: Lines
    ) -> None:
        if number < self.first_new or not sources:
            return
        touched = self.history.touched
        if sources[0].path != path and sources[0].path in touched:
            touched[path] = list(touched[sources[0].path])
        if len(commit.parents) > 1:
            gone = np.setdiff1d(
                np.concatenate([source.file.carried for source in sources]), carried
            )
            self._add_removal(number, gone.astype(np.int32), 0)
            return
        for hunk in sources[0].hunks or []:
            if hunk.removed and not hunk.formatting:
                self._add_removal(
                    number, sources[0].file.carried[hunk.old : hunk.old + hunk.removed], hunk.added
                )
                touched.setdefault(path, []).append((commit.time, hunk.removed))

    def _add_removal(self, number: int, lines: Lines, added: int) -> None:
        if number >= self.first_new and len(lines):
            self.history.removals.append(Removal(number, lines.copy(), added))

    def _take_snapshot(self, commit: str) -> None:
        files = self.trees[commit].values()
        history = self.history
        blamed = np.bincount(
            np.concatenate([_NO_LINES, *(file.lines for file in files)]), minlength=history.total
        ).astype(np.int32)
        carried = np.zeros(history.total, np.int32)
        carried[np.concatenate([_NO_LINES, *(file.carried for file in files)])] = 1
        if history.joined:
            # the latest first: the host of a line may itself have been joined to another
            line, host = np.array(history.joined[::-1], np.int64).T
            for _ in range(2):
                carried[line] = np.maximum(carried[line], carried[host])
        changed = [
            _diff_counts(before, now)
            for before, now in zip(self.before, (blamed, carried), strict=True)
        ]
        self.before = [blamed, carried]
        for name in self.names[commit]:
            history.snapshots.append(Snapshot(name, history.index[commit], *changed))
            changed = [Counts(_NO_LINES, _NO_LINES)] * 2


def _diff_counts(before: NDArray[np.int32], now: NDArray[np.int32]) -> Counts:
    change = now.copy()
    change[: len(before)] -= before
    lines = np.flatnonzero(change).astype(np.int32)
    return Counts(lines, change[lines])


class _Source(NamedTuple):
    """A parent's file that passes lines on to a new version."""

    path: str
    file: File
    hunks: list[Hunk] | None
    """None: the file is unchanged."""

    @property
    def size(self) -> int:
        """Lines of the new version."""
        return len(self.file.lines) + sum(hunk.added - hunk.removed for hunk in self.hunks or [])


class _BlamePasser:
    """Finds the parents' files that a commit's files come from, in the order of `git blame`."""

    def __init__(
        self,
        git: Git,
        sizes: Sizes,
        commit: Commit,
        parents: Sequence[Tree],
        *,
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
        """Paths from which files were renamed."""
        self._gone = (
            [self._deleted_files(number, changed) for number in range(len(parents))]
            if any(change.status == "A" for change in changed) or len(parents) > 1
            else []
        )

    def _deleted_files(self, parent: int, changed: Sequence[Change]) -> Tree:
        """The parent's files that are not in the commit."""
        if parent == 0:
            deleted = [change.path for change in changed if change.status == "D"]
        else:
            present = ({*self.parents[0]} | {change.path for change in changed}) - {
                change.path for change in changed if change.status == "D"
            }
            deleted = [path for path in self.parents[parent] if path not in present]
        return {
            path: self.parents[parent][path]
            for path in sorted(deleted)
            if path in self.parents[parent]
        }

    def find_sources(self, change: Change) -> list[_Source]:
        """Find the files that pass lines on to a changed one; if one equals it, only that one."""
        namesakes = [tree.get(change.path) for tree in self.parents]
        namesakes = [
            file if file is not None and _file_type(file.mode) == _file_type(change.mode) else None
            for file in namesakes
        ]
        for file in namesakes:
            if file is not None and file.blob == change.blob:
                return [_Source(change.path, file, None)]
        candidates: list[_Source | None] = []
        blobs = set[str]()
        for number, file in enumerate(namesakes):
            if file is None or file.blob in blobs:
                candidates.append(None)
                continue
            blobs.add(file.blob)
            candidates.append(_Source(change.path, file, self._hunks_from(number, change.path)))
        for number, tree in enumerate(self.parents):
            if change.path not in tree:
                source = self._find_rename(number, change)
                if source is not None and source.hunks is None:
                    return [source]
                candidates[number] = source
        return [source for source in candidates if source is not None]

    def _hunks_from(self, parent: int, path: str) -> list[Hunk]:
        if len(self.parents) == 1:
            return self.hunks.get(path, [])
        if parent not in self._between:
            tree = self.parents[parent]
            differ = [
                change.path
                for change in self._changed
                if change.path in tree and tree[change.path].blob != change.blob
            ]
            self._between[parent] = patches.diff_commits(
                self.git, self.commit.parents[parent], self.commit.hash, differ
            )
        return self._between[parent].get(path, [])

    def _find_rename(self, parent: int, change: Change) -> _Source | None:
        """Find the former name of a new file: an equal deleted file, else a similar one for git."""
        deleted = self._gone[parent]
        equal = [
            path
            for path, file in deleted.items()
            if file.blob == change.blob and _file_type(file.mode) == _file_type(change.mode)
        ]
        if equal:
            path = next(
                (path for path in equal if _base_name(path) == _base_name(change.path)), equal[0]
            )
            self.used.add(path)
            return _Source(path, deleted[path], None)
        deleted = {path: file for path, file in deleted.items() if _file_type(file.mode) == "100"}
        if not deleted or _file_type(change.mode) != "100":
            return None
        sizes = self.sizes([change.blob, *(file.blob for file in deleted.values())])
        size = sizes.get(change.blob, 0)
        if not any(
            min(sizes.get(file.blob, 0), size) * 2 >= max(sizes.get(file.blob, 0), size)
            for file in deleted.values()
        ):
            return None  # git never finds files similar if one is twice as long
        rename = patches.find_rename(
            self.git, self.commit.parents[parent], self.commit.hash, change.path, list(deleted)
        )
        if rename is None or rename[0] not in deleted:
            return None
        self.used.add(rename[0])
        return _Source(rename[0], deleted[rename[0]], rename[1])

    def count_lines(self, change: Change) -> int:
        """Count the lines of a file without a source."""
        if len(self.parents) < 2:
            return sum(hunk.added for hunk in self.hunks.get(change.path, ()))
        content = self.git.blobs([change.blob]).get(change.blob, b"")
        return content.count(b"\n") + (bool(content) and not content.endswith(b"\n"))


def _splice(old: Lines, hunks: Sequence[Hunk], size: int) -> Lines:
    """The old lines at their positions in the new version; -1 where lines are new."""
    new, at_old, at_new = np.full(size, -1, np.int32), 0, 0
    for hunk in hunks:
        unchanged = hunk.old - at_old
        new[at_new : at_new + unchanged] = old[at_old : hunk.old]
        at_old, at_new = hunk.old + hunk.removed, hunk.new + hunk.added
    new[at_new:] = old[at_old:]
    return new


def _fill_unclaimed(lines: Lines, passed: Lines) -> None:
    """Fill in lines that no source has claimed yet."""
    unclaimed = lines < 0
    lines[unclaimed] = passed[unclaimed]


def _file_type(mode: str) -> str:
    return mode[:3]


def _base_name(path: str) -> str:
    return path.rsplit("/", 1)[-1]
