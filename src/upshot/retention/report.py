"""Which lines of an assistant survive in a repository, by release, and what that says of responses.

The share still alive is no reward: young code has had no time to die, and code in busy files dies
whoever wrote it. So a commit's retention is measured at a horizon, estimated by Kaplan-Meier where
it is younger, and compared with lines in files of the same churn (`lift`), which becomes the
outcome of its response.
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
from upshot.retention.authorship import Attribution
from upshot.retention.git import Git
from upshot.retention.line_history import LineHistory
from upshot.retention.survival import CommitOutcome, Lives, Share, Survival

_DAY_S = 86400
_MIN_MONTH_S = 30 * _DAY_S
"""Between two snapshots of a repository without tags."""
_MAX_AGENTS = 8
"""Agents with a survival of their own in a report."""
HEAD = "HEAD"


class Release(msgspec.Struct, frozen=True):
    """Counts of lines at one release."""

    name: str
    commit: str
    time: str
    lines: int
    ai_lines: int
    ai_share: float
    new_lines: int
    """Lines of commits that are in no earlier release."""
    new_ai_share: float


class CommitRetention(msgspec.Struct, frozen=True):
    """The retention of one attributed commit."""

    commit: str
    time: str
    subject: str
    agent: str
    """Of most of its lines."""
    how: str
    lines_by_agent: dict[str, int]
    """Its attributed lines, the most first."""
    lines_added: int
    """Its attributed lines, as `git blame -w` counts them at the commit itself."""
    alive: dict[str, int]
    """Lines by release from the first that has it, where the number changes, by `git blame -w`."""
    alive_formatted: int
    """Lines at HEAD, ignoring changes of formatting."""
    outcome: CommitOutcome | None
    """Of its attributed lines; if a log names it, of those of the agent that wrote the log."""
    lift: float | None
    """Retained minus expected, in [-1, 1]."""
    removed_by: dict[str, int]
    """Lines removed, by the agent that removed them, or `people`."""
    replaced: int
    """Removed lines that were replaced by others."""
    id: str | None
    """The conversation of the response that a log ties it to; `index` is the response's."""
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
    """AI minus other, by age in days, at equal churn."""
    by_agent: dict[str, Survival]
    commits: list[CommitRetention]


def find_releases(git: Git, pattern: str = "*") -> dict[str, str]:
    """Find the commits of tags that match a pattern, oldest first, then HEAD.

    Without any tag, the first commit of each month along HEAD stands in for releases.

    Raises:
        InputError: the repository has no commit or is shallow, or no tag matches.
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
    return {**(chosen or _monthly_commits(git)), HEAD: git.text("rev-parse", "HEAD").strip()}


def _monthly_commits(git: Git) -> dict[str, str]:
    commits: dict[str, str] = {}
    previous = 0
    for line in git.text("log", "--first-parent", "--reverse", "--format=%H %ct").splitlines():
        commit, time = line.split()
        if int(time) - previous >= _MIN_MONTH_S:
            previous = int(time)
            commits[_format_time(previous)[:10]] = commit
    return commits


def make_report(
    git: Git,
    history: LineHistory,
    attributions: Mapping[int, Attribution],
    horizon: int = 90,
    paths: Sequence[str] = (),
) -> Report:
    """Report the retention of attributed lines.

    Args:
        git: The repository.
        history: Its lines, up to its releases and HEAD.
        attributions: Who wrote them (`attribution.attribute`).
        horizon: The age in days at which commits are compared.
        paths: Patterns of the files whose lines count; empty: all.
    """
    lines = _LineTable(history, attributions, paths)
    head = next(snapshot for snapshot in reversed(history.snapshots) if snapshot.name == HEAD)
    now = history.commits[head.commit].time
    lives = lines.compute_lives(now)
    # without lines that were only ever on other branches than HEAD's
    reached_lines = np.flatnonzero((lives.age >= 0) & lines.counted)
    reached = lives.select(reached_lines)
    ai = lines.ai[reached_lines]
    weights = survival.stratum_shares(reached.stratum)
    curves = [
        survival.survival_curve(
            reached.age[reached.stratum == number], reached.died[reached.stratum == number]
        )
        for number in range(survival.STRATA + 1)
    ]
    judged = reached.select(lines.select_judged()[reached_lines])
    outcomes = survival.estimate_outcomes(judged, curves, horizon)
    return Report(
        str(git.repo),
        history.commits[head.commit].hash,
        _format_time(now),
        horizon,
        lines.summarize_releases(),
        survival.estimate_survival(reached.select(ai), weights),
        survival.estimate_survival(reached.select(~ai), weights),
        survival.compare_survival(reached.select(ai), reached.select(~ai), weights),
        {
            agent: survival.estimate_survival(
                reached.select(lines.select_agent(agent)[reached_lines]), weights
            )
            for agent in lines.rank_agents()[:_MAX_AGENTS]
        },
        lines.summarize_commits(outcomes),
    )


class _LineTable:
    """All lines of a history with their authors."""

    def __init__(
        self, history: LineHistory, attributions: Mapping[int, Attribution], paths: Sequence[str]
    ) -> None:
        self.history, self.attributions = history, attributions
        self.snapshot_order = sorted(
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
            survival.assign_strata(churn, counts)[self.origin]
            if len(counts)
            else np.zeros(0, np.int32)
        )
        fits = np.array(
            [
                not paths or any(fnmatch.fnmatch(origin.path, path) for path in paths)
                for origin in history.origins
            ],
            bool,
        )
        self.counted = fits[self.origin] if len(counts) else np.zeros(0, bool)
        agents = sorted({agent for row in attributions.values() for agent in row.agents})
        self.codes = {agent: code for code, agent in enumerate(["", *agents])}
        """The number of each agent; 0: people."""
        self.author = self._code_authors()
        """Who wrote each line, as a code; 0 if it does not count."""
        self.ai = self.author > 0
        self.by_agent = self._count_by_agent()
        self.written = np.bincount(self.commit[self.counted], minlength=len(history.commits))
        """Lines that each commit added."""
        self.counts = self._count_by_release(self.counted)
        """Lines of each commit, by release; `ai_counts`: the attributed ones."""
        self.ai_counts = self._count_by_release(self.ai)
        self.contained = _containing_snapshots(history)
        self.alive = next(
            presence > 0
            for snapshot, presence in history.present(carried=True)
            if snapshot.name == HEAD
        )
        """Which lines are in HEAD, ignoring changes of formatting."""

    def _code_authors(self) -> NDArray[np.int32]:
        author = np.zeros(self.history.total, np.int32)
        for origin in self.history.origins:
            if attribution := self.attributions.get(origin.commit):
                author[origin.base : origin.base + origin.size] = attribution.write_codes(
                    origin.path, origin.numbers, self.codes
                )
        author[~self.counted] = 0
        return author

    def _count_by_release(self, selected: NDArray[np.bool_]) -> dict[str, NDArray[np.int64]]:
        counts_now = np.zeros(len(self.history.commits), np.int64)
        by_release: dict[str, NDArray[np.int64]] = {}
        for snapshot in self.history.snapshots:
            changed, change = snapshot.blamed.lines, snapshot.blamed.change
            np.add.at(counts_now, self.commit[changed], change * selected[changed])
            by_release[snapshot.name] = counts_now.copy()
        return by_release

    def select_agent(self, agent: str) -> NDArray[np.bool_]:
        """Which lines one agent wrote."""
        return self.author == self.codes[agent]

    def select_judged(self) -> NDArray[np.bool_]:
        """Which lines the outcome of a commit is about.

        Those of agents; of a commit that a log names, those of the agent that wrote the log.
        """
        responder = np.zeros(len(self.history.commits), np.int32)
        for number, attribution in self.attributions.items():
            if attribution.responder in self.by_agent.get(number, ()):
                responder[number] = self.codes[attribution.responder]
        wanted = responder[self.commit]
        return self.ai & ((wanted == 0) | (self.author == wanted))

    def rank_agents(self) -> list[str]:
        """The agents, those with most commits first."""
        return [
            agent
            for agent, _ in Counter(
                agent for counts in self.by_agent.values() for agent in counts
            ).most_common()
        ]

    def _count_by_agent(self) -> dict[int, dict[str, int]]:
        """The lines of each agent, the most first, by commit."""
        names = list(self.codes)
        pairs = np.stack([self.commit[self.ai], self.author[self.ai]])
        (commits, agents), counts = np.unique(pairs, axis=1, return_counts=True)
        by_agent: dict[int, dict[str, int]] = {}
        order = np.lexsort((agents, -counts, commits))
        for place in order:
            by_agent.setdefault(int(commits[place]), {})[names[agents[place]]] = int(counts[place])
        return by_agent

    def compute_lives(self, now: int) -> Lives:
        """The lifetime of every line, ignoring formatting; age -1 for lines that HEAD never had."""
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

    def summarize_releases(self) -> list[Release]:
        """Count lines and shares of every release, in order of time."""
        releases = list[Release]()
        earlier = 0
        for place in self.snapshot_order:
            snapshot = self.history.snapshots[place]
            commit = self.history.commits[snapshot.commit]
            bit = 1 << place
            fresh = np.array([bool(mask & bit) and not mask & earlier for mask in self.contained])
            earlier |= bit
            total, ai = self.counts[snapshot.name], self.ai_counts[snapshot.name]
            new, new_ai = int(total[fresh].sum()), int(ai[fresh].sum())
            releases.append(
                Release(
                    snapshot.name,
                    commit.hash,
                    _format_time(commit.time),
                    int(total.sum()),
                    int(ai.sum()),
                    _share(int(ai.sum()), int(total.sum())),
                    new,
                    _share(new_ai, new),
                )
            )
        return releases

    def summarize_commits(self, outcomes: Mapping[int, CommitOutcome]) -> list[CommitRetention]:
        """The retention of each attributed commit that added lines."""
        history = self.history
        added = np.bincount(self.commit, weights=self.ai, minlength=len(history.commits)).astype(
            int
        )
        removed_by, replaced = self._count_removed()
        formatted = np.bincount(
            self.commit, weights=self.alive & self.ai, minlength=len(history.commits)
        ).astype(int)
        rows = list[CommitRetention]()
        for number, attribution in sorted(self.attributions.items()):
            if not added[number]:
                continue
            commit, outcome = history.commits[number], outcomes.get(number)
            response = attribution.response or (None, None)
            rows.append(
                CommitRetention(
                    commit.hash,
                    _format_time(commit.time),
                    commit.subject,
                    next(iter(self.by_agent[number])),
                    attribution.how,
                    self.by_agent[number],
                    int(added[number]),
                    self._count_alive(number),
                    int(formatted[number]),
                    outcome,
                    None if outcome is None else round(outcome.retained - outcome.expected, 4),
                    dict(removed_by.get(number, Counter()).most_common()),
                    replaced[number],
                    *response,
                )
            )
        return rows

    def _count_alive(self, number: int) -> dict[str, int]:
        alive: dict[str, int] = {}
        before = -1
        for place in self.snapshot_order:
            snapshot = self.history.snapshots[place]
            if self.contained[number] >> place & 1:
                count = int(self.ai_counts[snapshot.name][number])
                if count != before or snapshot.name == HEAD:
                    alive[snapshot.name] = before = count
        return alive

    def _author_of(self, number: int) -> str:
        """Who made a commit as a whole: the author of most of its lines; empty for people."""
        attribution = self.attributions.get(number)
        if attribution is None or attribution.agent:
            return attribution.agent if attribution else ""
        counts = self.by_agent.get(number, {})
        people = int(self.written[number]) - sum(counts.values())
        return next((agent for agent, count in counts.items() if count > people), "")

    def _count_removed(self) -> tuple[dict[int, Counter[str]], Counter[int]]:
        """Count who removed the lines of each attributed commit, and how many were replaced."""
        removed_by: dict[int, Counter[str]] = {}
        replaced = Counter[int]()
        removed = np.zeros(self.history.total, bool)
        for removal in self.history.removals:
            lines = removal.lines[self.ai[removal.lines] & ~removed[removal.lines]]
            if not len(lines):
                continue
            removed[lines] = True
            agent = self._author_of(removal.commit) or "people"
            for number, count in zip(
                *np.unique(self.commit[lines], return_counts=True), strict=True
            ):
                removed_by.setdefault(int(number), Counter())[agent] += int(count)
                replaced[int(number)] += int(count) if removal.added else 0
        return removed_by, replaced


def _containing_snapshots(history: LineHistory) -> list[int]:
    """The snapshots that contain each commit, as bits of an integer."""
    contained = [0] * len(history.commits)
    for place, snapshot in enumerate(history.snapshots):
        contained[snapshot.commit] |= 1 << place
    for number in range(len(contained) - 1, -1, -1):
        for parent in history.commits[number].parents:
            contained[history.index[parent]] |= contained[number]
    return contained


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0


def _format_time(time: int) -> str:
    return datetime.fromtimestamp(time, UTC).isoformat().replace("+00:00", "Z")
