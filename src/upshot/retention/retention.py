"""Which of the lines that an assistant wrote survive in a repository, release by release, and what
that says of a response.

The share still alive is no reward: young code has had no time to die, and code in busy files dies
whoever wrote it. So a commit's retention is taken at a horizon, completed by Kaplan-Meier where it
is younger, and read against what lines of files with the same churn do (`lift`); that is what
becomes the outcome of its response.
"""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec
import numpy as np
from numpy.typing import NDArray

from upshot.errors import InputError
from upshot.retention import survival
from upshot.retention.attribution import Attribution
from upshot.retention.git import Git
from upshot.retention.line_history import LineHistory, Origin
from upshot.retention.survival import Fate, Lives, Share, Survival

_DAY_S = 86400
_MONTH_S = 30 * _DAY_S
HEAD = "HEAD"


class Release(msgspec.Struct, frozen=True):
    """The lines of one release."""

    name: str
    commit: str
    time: str
    lines: int
    ai_lines: int
    ai_share: float
    new_lines: int
    """Lines by commits that no release before had."""
    new_ai_share: float


class Retained(msgspec.Struct, frozen=True):
    """What became of one attributed commit."""

    commit: str
    time: str
    subject: str
    agent: str
    how: str
    lines_added: int
    """Lines of it that `git blame -w` gives to it at the commit itself, as far as they are
    attributed.
    """
    alive: dict[str, int]
    """By release from the first that has it, where the number changes; as `git blame -w` counts."""
    alive_formatted: int
    """At HEAD, with formatting passed through."""
    outcome: Fate | None
    lift: float | None
    """Retained less expected, in [-1, 1]."""
    removed_by: dict[str, int]
    """Lines removed, by who did it."""
    replaced: int
    """Of those, how many had others put in their place."""
    id: str | None
    """The response that a log ties it to."""
    index: int | None


class Report(msgspec.Struct, frozen=True):
    """Retention in a repository."""

    repository: str
    head: str
    observed_through: str
    horizon_days: int
    releases: list[Release]
    ai: Survival
    other: Survival
    difference: dict[str, Share]
    """AI less other, by age in days, at equal churn."""
    by_agent: dict[str, Survival]
    commits: list[Retained]


def releases(git: Git, pattern: str = "*") -> dict[str, str]:
    """The commits of tags that fit a pattern, oldest first, then HEAD; by month along HEAD where
    there is no tag at all.

    Raises:
        InputError: the repository has no commit, or is shallow, or no tag fits.
    """
    if git.text("rev-parse", "--is-shallow-repository").strip() == "true":
        raise InputError(
            f"could not follow lines in {git.repo}: the clone is shallow, so their origin is cut"
            " off; run git fetch --unshallow"
        )
    if not git.text("for-each-ref", "--count=1").strip():
        raise InputError(f"could not follow lines in {git.repo}: it has no commit")
    rows = [
        line.split()
        for line in git.text(
            "for-each-ref",
            "--sort=creatordate",
            "--format=%(refname:strip=2) %(objecttype) %(objectname) %(*objecttype) %(*objectname)",
            "refs/tags",
        ).splitlines()
    ]
    tags = {row[0]: row[-1] for row in rows if row[-2] == "commit"}
    chosen = {name: commit for name, commit in tags.items() if fnmatch.fnmatch(name, pattern)}
    if tags and not chosen:
        raise InputError(
            f"no tag of {git.repo} fits {pattern!r}; it has {', '.join(list(tags)[-5:])}"
        )
    return {**(chosen or _months(git)), HEAD: git.text("rev-parse", "HEAD").strip()}


def _months(git: Git) -> dict[str, str]:
    found: dict[str, str] = {}
    last = 0
    for line in git.text("log", "--first-parent", "--reverse", "--format=%H %ct").splitlines():
        commit, time = line.split()
        if int(time) - last >= _MONTH_S:
            last = int(time)
            found[_date(last)[:10]] = commit
    return found


def report(
    git: Git,
    history: LineHistory,
    said: Mapping[int, Attribution],
    horizon: int = 90,
    paths: Sequence[str] = (),
) -> Report:
    """What became of attributed lines.

    Args:
        git: The repository.
        history: Its lines, up to its releases and HEAD.
        said: What is known of who wrote them (`attribution.attribute`).
        horizon: The age in days at which commits are compared.
        paths: Patterns; only lines added to files that fit one are counted. None: all.
    """
    lines = _Lines(history, said, paths)
    head = next(snapshot for snapshot in reversed(history.snapshots) if snapshot.name == HEAD)
    now = history.commits[head.commit].time
    lives = lines.lives(now)
    seen = np.flatnonzero(
        (lives.age >= 0) & lines.counted
    )  # lines that only a branch beside HEAD ever had have no fate there
    reached = Lives(lives.age[seen], lives.died[seen], lives.stratum[seen], lives.commit[seen])
    ai = lines.ai[seen]
    weights = survival.standard(reached.stratum)
    curves = [
        survival.curve(
            reached.age[reached.stratum == number], reached.died[reached.stratum == number]
        )
        for number in range(survival.STRATA + 1)
    ]
    fates = survival.fates(reached.only(ai), curves, horizon)
    written = np.bincount(lines.commit, weights=lines.ai, minlength=len(history.commits))
    agents = Counter(
        attribution.agent
        for number, attribution in said.items()
        if attribution.agent and written[number]
    )
    return Report(
        str(git.repo),
        history.commits[head.commit].hash,
        _date(now),
        horizon,
        lines.releases(),
        survival.survival(reached.only(ai), weights),
        survival.survival(reached.only(~ai), weights),
        survival.difference(reached.only(ai), reached.only(~ai), weights),
        {
            agent: survival.survival(reached.only(lines.of_agent(agent)[seen]), weights)
            for agent, _ in agents.most_common(8)
        },
        lines.commits(fates),
    )


class _Lines:
    """All lines of a history, and whose they are."""

    def __init__(
        self, history: LineHistory, said: Mapping[int, Attribution], paths: Sequence[str]
    ) -> None:
        self.history, self.said = history, said
        self.places = sorted(
            range(len(history.snapshots)),
            key=lambda place: history.commits[history.snapshots[place].commit].time,
        )
        counts = np.array([origin.size for origin in history.origins], np.int64)
        self.origin = np.repeat(np.arange(len(counts)), counts)
        self.commit = (
            np.array([origin.commit for origin in history.origins], np.int32)[self.origin]
            if len(counts)
            else np.zeros(0, np.int32)
        )
        churn = np.array([origin.churn for origin in history.origins])
        self.stratum = (
            survival.strata(churn, counts)[self.origin] if len(counts) else np.zeros(0, np.int32)
        )
        fits = np.array(
            [
                not paths or any(fnmatch.fnmatch(origin.path, path) for path in paths)
                for origin in history.origins
            ],
            bool,
        )
        self.counted = fits[self.origin] if len(counts) else np.zeros(0, bool)
        self.ai = np.zeros(history.total, bool)
        for origin in history.origins:
            if origin.commit in said:
                self.ai[origin.base : origin.base + origin.size] = _attributed(
                    origin, said[origin.commit]
                )
        self.ai &= self.counted
        self.there: dict[str, NDArray[np.int64]] = {}
        """Lines of each commit, by release."""
        self.ai_there: dict[str, NDArray[np.int64]] = {}
        now, ai_now = (
            np.zeros(len(history.commits), np.int64),
            np.zeros(len(history.commits), np.int64),
        )
        for snapshot in history.snapshots:
            changed, change = snapshot.blamed.lines, snapshot.blamed.change
            for total, which in ((now, self.counted), (ai_now, self.ai)):
                np.add.at(total, self.commit[changed], change * which[changed])
            self.there[snapshot.name], self.ai_there[snapshot.name] = now.copy(), ai_now.copy()
        self.contained = _contained(history)
        self.alive = next(
            there > 0 for snapshot, there in history.present(carried=True) if snapshot.name == HEAD
        )
        """Which lines HEAD has, with formatting passed through."""

    def of_agent(self, agent: str) -> NDArray[np.bool_]:
        """Lines that one agent wrote."""
        numbers = np.array(
            [number for number, attribution in self.said.items() if attribution.agent == agent],
            np.int32,
        )
        return self.ai & np.isin(self.commit, numbers)

    def lives(self, now: int) -> Lives:
        """The age of every line and whether it died, with formatting passed through; -1 for lines
        HEAD never had.
        """
        history = self.history
        times = np.array([commit.time for commit in history.commits], np.int64)
        born = times[self.commit]
        place = next(
            place for place, snapshot in enumerate(history.snapshots) if snapshot.name == HEAD
        )
        reaches = np.array([bool(mask >> place & 1) for mask in self.contained])
        end = np.full(history.total, -1, np.int64)
        for removal in history.removals:
            if reaches[removal.commit]:
                end[removal.lines] = times[removal.commit]
        end[self.alive] = now
        lost = (end < 0) & reaches[self.commit]
        end[lost] = born[lost]  # a merge on the way to HEAD dropped them
        age = np.where(end < 0, -1, np.maximum(end - born, 0) // _DAY_S)
        return Lives(age.astype(np.int32), ~self.alive, self.stratum, self.commit)

    def releases(self) -> list[Release]:
        """Lines and shares of every release, in order of time."""
        found = list[Release]()
        seen = 0
        for place in self.places:
            snapshot = self.history.snapshots[place]
            commit = self.history.commits[snapshot.commit]
            has = 1 << place
            fresh = np.array([bool(mask & has) and not mask & seen for mask in self.contained])
            seen |= has
            total, ai = self.there[snapshot.name], self.ai_there[snapshot.name]
            new, new_ai = int(total[fresh].sum()), int(ai[fresh].sum())
            found.append(
                Release(
                    snapshot.name,
                    commit.hash,
                    _date(commit.time),
                    int(total.sum()),
                    int(ai.sum()),
                    _ratio(int(ai.sum()), int(total.sum())),
                    new,
                    _ratio(new_ai, new),
                )
            )
        return found

    def commits(self, fates: Mapping[int, Fate]) -> list[Retained]:
        """What became of each attributed commit that added lines."""
        history = self.history
        added = np.bincount(self.commit, weights=self.ai, minlength=len(history.commits)).astype(
            int
        )
        removed_by, replaced = self._removed()
        formatted = np.bincount(
            self.commit, weights=self.alive & self.ai, minlength=len(history.commits)
        ).astype(int)
        found = list[Retained]()
        for number, attribution in sorted(self.said.items()):
            if not added[number]:
                continue
            commit, fate = history.commits[number], fates.get(number)
            response = attribution.response or (None, None)
            found.append(
                Retained(
                    commit.hash,
                    _date(commit.time),
                    commit.subject,
                    attribution.agent,
                    attribution.how,
                    int(added[number]),
                    self._alive(number),
                    int(formatted[number]),
                    fate,
                    None if fate is None else round(fate.retained - fate.expected, 4),
                    dict(removed_by.get(number, Counter()).most_common()),
                    replaced[number],
                    *response,
                )
            )
        return found

    def _alive(self, number: int) -> dict[str, int]:
        alive: dict[str, int] = {}
        before = -1
        for place in self.places:
            snapshot = self.history.snapshots[place]
            if self.contained[number] >> place & 1:
                count = int(self.ai_there[snapshot.name][number])
                if count != before or snapshot.name == HEAD:
                    alive[snapshot.name] = before = count
        return alive

    def _removed(self) -> tuple[dict[int, Counter[str]], Counter[int]]:
        """Who removed the lines of each attributed commit, and how many were replaced."""
        by: dict[int, Counter[str]] = {}
        replaced = Counter[int]()
        gone = np.zeros(self.history.total, bool)
        for removal in self.history.removals:
            mine = removal.lines[self.ai[removal.lines] & ~gone[removal.lines]]
            if not len(mine):
                continue
            gone[mine] = True
            killer = self.said.get(removal.commit)
            who = killer.agent if killer and killer.lines is None and killer.agent else "people"
            for number, count in zip(
                *np.unique(self.commit[mine], return_counts=True), strict=True
            ):
                by.setdefault(int(number), Counter())[who] += int(count)
                replaced[int(number)] += int(count) if removal.added else 0
        return by, replaced


def _attributed(origin: Origin, attribution: Attribution) -> NDArray[np.bool_] | bool:
    if attribution.lines is None:
        return True
    spans = attribution.lines.get(origin.path, ())
    at = np.concatenate([np.arange(first, first + count) for first, count in origin.places]) + 1
    mine = np.zeros(len(at), bool)
    for first, last in spans:
        mine |= (at >= first) & (at <= last)
    return mine


def _contained(history: LineHistory) -> list[int]:
    """Which snapshots have a commit, as bits."""
    contained = [0] * len(history.commits)
    for place, snapshot in enumerate(history.snapshots):
        contained[snapshot.commit] |= 1 << place
    for number in range(len(contained) - 1, -1, -1):
        for parent in history.commits[number].parents:
            contained[history.index[parent]] |= contained[number]
    return contained


def _ratio(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0


def _date(time: int) -> str:
    return datetime.fromtimestamp(time, UTC).isoformat().replace("+00:00", "Z")
