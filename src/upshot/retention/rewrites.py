"""Who wrote the lines of commits that a rebase or a squash replaced.

The attribution of a replaced commit passes to the commit that carries its lines: after a rebase the
one with the same author, time and subject; after a squash one that adds at least half of its lines
to the same files. It passes line by line, since a rebase moves lines and a squash joins those of
several authors. Lines are matched by their text: first in their order, then wherever they are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

import numpy as np

from upshot.retention import patches
from upshot.retention.authorship import Attribution, Span
from upshot.retention.git import Git, unquote_path
from upshot.retention.line_history import LineHistory
from upshot.retention.patches import Commit

_MAX_DELAY_S = 180 * 86400
"""A squash is looked for up to this long after the commit: half a year."""
_MAX_CARRIERS = 8
"""Candidate squashes compared with each commit, those that share most files."""
_MIN_SHARE = 0.5
"""Share of a commit's lines that another must add to be its squash: the majority."""
_MAX_ALIGNED = 20_000
"""Lines of a file whose order is compared; longer files are data, and their comparison slow."""
_HASH = re.compile(r"\bcommit ([0-9a-f]{40})\b")

AddedLines = Mapping[str, list[tuple[int, bytes]]]
"""By path: (number from 1, stripped text)."""


class _Replaced(NamedTuple):
    """A commit that is not in the history, with its author."""

    commit: Commit
    attribution: Attribution | None
    """None: nothing marks it as an agent's, so it is a person's."""


def identity_of(commit: Commit) -> tuple[str, int, str]:
    """The fields of a commit that a rebase preserves."""
    return commit.author, commit.authored, commit.subject


def read_unmerged(git: Git, history: LineHistory, names: Iterable[str]) -> dict[str, Commit]:
    """Commits that are not in the history, by hash.

    Those of any branch or pull request, and of `names`: commits that notes, records or logs name,
    which need no reference as long as git has them. So do those that messages name, as git writes
    them into the message of a squash.
    """
    named = {name for commit in history.commits for name in _HASH.findall(commit.message)}
    tips = {history.commits[snapshot.commit].hash for snapshot in history.snapshots}
    heads = {
        line.split()[1]
        for line in git.text("for-each-ref", "--format=%(objecttype) %(objectname)").splitlines()
        if line.startswith("commit ")
    }
    heads |= _find_commits(git, {*named, *names} - history.index.keys())
    return {
        commit.hash: commit
        for commit in patches.read_commits(
            git, [*sorted(heads), *(f"^{tip}" for tip in sorted(tips))]
        )
        if len(commit.parents) < 2 and commit.hash not in history.index
    }


def _find_commits(git: Git, names: Iterable[str]) -> set[str]:
    """The commits that git has, of some hashes, whole or abbreviated."""
    stdin = "".join(f"{name}\n" for name in sorted(names) if name.isalnum())
    rows = git.text("cat-file", "--batch-check=%(objecttype) %(objectname)", stdin=stdin)
    return {row.split()[1] for row in rows.splitlines() if row.startswith("commit ")}


def pass_on(
    git: Git,
    history: LineHistory,
    unmerged: Mapping[str, Commit],
    replaced: Mapping[str, Attribution],
    attributions: dict[int, Attribution],
) -> None:
    """Pass attributions of replaced commits on to the commits that carry their lines.

    Args:
        git: The repository.
        history: Its lines.
        unmerged: Commits that are not in the history, by hash.
        replaced: What is known of them, by hash.
        attributions: What is known of the history's commits, by their index; changed in place.
    """
    twins = {identity_of(commit): number for number, commit in enumerate(history.commits)}
    squashed = list[_Replaced]()
    rebased: dict[int, list[_Replaced]] = {}
    # the newest first: of several versions of a commit, or authors of a line, it counts
    for commit in sorted(unmerged.values(), key=lambda commit: commit.time)[::-1]:
        old = _Replaced(commit, replaced.get(commit.hash))
        number = twins.get(identity_of(commit))
        if number is None:
            squashed.append(old)
        elif old.attribution:
            rebased.setdefault(number, []).append(old)
    _pass_to_twins(git, history, rebased, attributions)
    if any(old.attribution for old in squashed):
        _pass_to_squashes(git, history, squashed, attributions)


def _pass_to_twins(
    git: Git,
    history: LineHistory,
    rebased: Mapping[int, Sequence[_Replaced]],
    attributions: dict[int, Attribution],
) -> None:
    """Pass attributions on to rebased commits that know less."""
    moved: dict[int, _Replaced] = {}
    for number, versions in rebased.items():
        for old in versions:
            attribution, current = old.attribution, attributions.get(number)
            if attribution is None:
                continue
            if current is None or attribution.rank < current.rank:
                attributions[number] = _with_response(attribution, current)
                moved[number] = old
            else:
                attributions[number] = _with_response(current, attribution)
    moved = {number: old for number, old in moved.items() if attributions[number].lines}
    names = [*(old.commit.hash for old in moved.values())]
    added = _read_added_lines(git, [*names, *(history.commits[number].hash for number in moved)])
    for number, old in moved.items():
        carrier = _Carrier(added.get(history.commits[number].hash, {}))
        carrier.claim(attributions[number], added.get(old.commit.hash, {}))
        attributions[number] = attributions[number]._replace(lines=carrier.spans())


def _with_response(attribution: Attribution, other: Attribution | None) -> Attribution:
    """An attribution with its own response, or the other's."""
    if attribution.response or other is None:
        return attribution
    return attribution._replace(response=other.response, responder=other.responder)


def _pass_to_squashes(
    git: Git,
    history: LineHistory,
    squashed: Sequence[_Replaced],
    attributions: dict[int, Attribution],
) -> None:
    """Pass attributions on to commits that add most of their lines to the same files.

    A commit of the history that is known line by line keeps what is known. One that is an agent's
    as a whole (its message says so) is divided among the authors of the commits it joins; lines
    that none of them added stay the agent's.
    """
    exact = {number for number, row in attributions.items() if row.lines is not None}
    candidates = _find_carriers(git, history, squashed, exact)
    marked = {number for number, olds in candidates.items() if any(old.attribution for old in olds)}
    parts = {
        number: [old for old in olds if old.attribution or number in attributions]
        for number, olds in candidates.items()
        if number in marked
    }
    added = _read_added_lines(
        git, sorted({old.commit.hash for olds in parts.values() for old in olds})
    )
    own = _read_added_lines(git, [history.commits[number].hash for number in sorted(parts)])
    for number, olds in sorted(parts.items()):
        lines = own.get(history.commits[number].hash, {})
        divided = _divide(lines, olds, added, attributions.get(number))
        if divided:
            attributions[number] = divided


def _find_carriers(
    git: Git, history: LineHistory, squashed: Sequence[_Replaced], excluded: Container[int]
) -> dict[int, list[_Replaced]]:
    """Commits of the history that may have joined others, with those; the newest first."""
    touching = history.commits_by_path(excluded)
    files = _read_changed_files(git, [old.commit.hash for old in squashed])
    candidates: dict[int, list[_Replaced]] = {}
    for old in squashed:
        paths = files.get(old.commit.hash, ())
        shared = Counter(
            number
            for path in paths
            for number in touching.get(path, ())
            if 0 <= history.commits[number].time - old.commit.time <= _MAX_DELAY_S
        )
        for number, count in shared.most_common(_MAX_CARRIERS):
            if count >= len(paths) / 4:  # half of its lines need some of its files
                candidates.setdefault(number, []).append(old)
    return candidates


def _divide(
    lines: AddedLines,
    olds: Sequence[_Replaced],
    added: Mapping[str, AddedLines],
    whole: Attribution | None,
) -> Attribution | None:
    """The attribution of a commit that joined others; None: it joined none of an agent's.

    `whole`: what its own message says.
    """
    carrier = _Carrier(lines)
    sources = list[Attribution]()
    for old in olds:
        attribution = old.attribution or Attribution("", "author")
        if carrier.claim(attribution, added.get(old.commit.hash, {}), _MIN_SHARE) and (
            old.attribution
        ):
            sources.append(attribution)
    if not sources:
        return None
    best = min(sources, key=lambda attribution: attribution.rank)
    divided = Attribution(whole.agent if whole else "", best.how, carrier.spans())
    for source in (whole, *sources):
        divided = _with_response(divided, source)
    return divided


class _Carrier:
    """The lines that a commit adds, each claimed by at most one author."""

    def __init__(self, lines: AddedLines) -> None:
        self._lines = lines
        self._claimed: dict[str, dict[int, str]] = {}

    def claim(self, attribution: Attribution, replaced: AddedLines, min_share: float = 0.0) -> bool:
        """Claim the lines that a replaced commit added, if they are a share of it.

        The share is of the lines that are an agent's, if any are.

        Returns: Whether any line was claimed.
        """
        codes = {agent: code for code, agent in enumerate(["", *sorted(attribution.agents)])}
        names = list(codes)
        matches = list[tuple[str, int, str]]()
        total = matched = 0
        for path, lines in replaced.items():
            numbers = np.array([number for number, _ in lines], np.int64)
            written: list[int] = attribution.write_codes(path, numbers, codes).tolist()
            targets = self._align(path, lines, written)
            for (_, text), code, target in zip(lines, written, targets, strict=True):
                counts = bool(text) and (code > 0 or len(names) == 1)
                total += counts
                if target is not None:
                    matched += counts
                    matches.append((path, target, names[code]))
        if not matches or matched < min_share * total or not total:
            return False
        for path, target, agent in matches:
            self._claimed.setdefault(path, {})[target] = agent
        return True

    def _align(
        self, path: str, lines: Sequence[tuple[int, bytes]], written: Sequence[int]
    ) -> list[int | None]:
        """For each line, the unclaimed line of this commit that it became.

        `written`: the author of each; people's lines (0) are matched in their order alone.
        """
        claimed = self._claimed.get(path, {})
        free = [line for line in self._lines.get(path, ()) if line[0] not in claimed]
        targets: list[int | None] = [None] * len(lines)
        left = dict.fromkeys(range(len(free)))
        if max(len(lines), len(free)) <= _MAX_ALIGNED:
            matcher = SequenceMatcher(None, [text for _, text in lines], [text for _, text in free])
            for block in matcher.get_matching_blocks():
                for offset in range(block.size):
                    targets[block.a + offset] = free[block.b + offset][0]
                    del left[block.b + offset]
        moved: dict[bytes, list[int]] = {}
        for place in reversed(left):
            moved.setdefault(free[place][1], []).append(free[place][0])
        for place, (_, text) in enumerate(lines):
            if targets[place] is None and text and written[place] and moved.get(text):
                targets[place] = moved[text].pop()
        return targets

    def spans(self) -> dict[str, list[Span]]:
        """What was claimed, by path."""
        return {path: list(_join(claims)) for path, claims in self._claimed.items()}


def _join(claims: Mapping[int, str]) -> Iterator[Span]:
    """Neighbouring lines of one author as one span."""
    current: Span | None = None
    for number in sorted(claims):
        agent = claims[number]
        if current and current.last + 1 == number and current.agent == agent:
            current = current._replace(last=number)
            continue
        if current:
            yield current
        current = Span(number, number, agent)
    if current:
        yield current


_DIFFS = ("diff-tree", "--stdin", "-r", "--root", "--no-renames", "--format=%x00%H")
"""What the commits on standard input changed, each behind a zero byte and its hash."""


def _read_changed_files(git: Git, commits: Sequence[str]) -> dict[str, list[str]]:
    """Paths that commits changed or added, by commit."""
    by_commit: dict[str, list[str]] = {}
    if commits:
        with git.stream(*_DIFFS, "--diff-filter=AM", "--name-only", stdin=commits) as out:
            files: list[str] = []
            for line in out:
                if line.startswith(b"\0"):
                    files = by_commit[line[1:-1].decode()] = []
                elif len(line) > 1:
                    files.append(unquote_path(line[:-1]))
    return by_commit


def _read_added_lines(git: Git, commits: Sequence[str]) -> dict[str, AddedLines]:
    """Lines that commits added, as (number from 1, stripped text), by commit and path."""
    by_commit: dict[str, AddedLines] = {}
    if commits:
        with git.stream(*_DIFFS, *patches.DIFF, stdin=commits) as out:
            for name, files in patches.read_patches(out, text=True):
                by_commit[name] = {
                    path: [
                        (hunk.new + place, line[1:].strip())
                        for hunk in hunks
                        for place, line in enumerate(hunk.text, 1)
                    ]
                    for path, hunks in files.items()
                }
    return by_commit
