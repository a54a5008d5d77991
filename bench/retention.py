"""Whether one pass over history counts what `git blame -w` counts, and how much faster it is.

`bench/retention.py REPO [--theseus PATH]`: REPO is a clone. `equal`: share of (release, commit)
counts that equal those of `git blame -w` on every file of the sampled releases. `blame_ratio`:
seconds of one blame per file and release (two at a time; timed on the sampled releases, and scaled
to all by their files) over ours, which include attribution and the report. `incremental_ratio`: the
same for one more release, with the stored history. `theseus_ratio`: seconds of
git-of-theseus-analyze (as many snapshots as there are releases, two processes, white space ignored,
all files) over ours without attribution and curves, which it does not compute;
`theseus_whole_ratio` over all of ours. Without REPO it makes a repository of its own.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from upshot.retention import history_cache, report
from upshot.retention.attribution import attribute
from upshot.retention.git import Git
from upshot.retention.line_history import LineHistory, trace_lines


def files_of(repo: Path, release: str) -> list[str]:
    """Paths of blobs at a release."""
    rows = subprocess.run(
        ["git", "-C", repo, "ls-tree", "-rz", release], capture_output=True, check=True
    ).stdout.split(b"\0")
    return [
        row.split(b"\t", 1)[1].decode(errors="surrogateescape") for row in rows if b" blob " in row
    ]


def blame(repo: Path, release: str, pool: ThreadPoolExecutor) -> Counter[str]:
    """Lines by commit at a release, by a blame per file."""

    def one(path: str) -> Counter[str]:
        said = subprocess.run(
            [
                "git",
                "-C",
                repo,
                "-c",
                "blame.ignoreRevsFile=",
                "--literal-pathspecs",
                "blame",
                "-w",
                "-s",
                "-l",
                "--root",
                release,
                "--",
                path,
            ],
            capture_output=True,
            check=True,
        )
        return Counter(line[:40].decode() for line in said.stdout.split(b"\n") if line)

    return sum(pool.map(one, files_of(repo, release)), Counter[str]())


def ours(history: LineHistory, release: str) -> Counter[str]:
    """The same, by the pass over history."""
    owner = np.repeat(
        np.array([origin.commit for origin in history.origins]),
        [origin.size for origin in history.origins],
    )
    there = next(there.copy() for snapshot, there in history.present() if snapshot.name == release)
    counts = np.bincount(owner, weights=there, minlength=len(history.commits))
    return Counter(
        {history.commits[number].hash: int(counts[number]) for number in np.flatnonzero(counts)}
    )


def theseus(command: str, repo: Path, interval_s: int) -> float | None:
    """Seconds that git-of-theseus takes; None where it is not installed."""
    if shutil.which(command) is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"  # it writes a commit graph and reads no bare repository
        store = Path(
            subprocess.run(
                ["git", "-C", repo, "rev-parse", "--absolute-git-dir"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout.strip()
        )
        shutil.copytree(store, copy / ".git", symlinks=True)
        subprocess.run(["git", "-C", copy, "config", "core.bare", "false"], check=True)
        branch = (
            subprocess.run(
                ["git", "-C", copy, "branch", "--show-current"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout.strip()
            or "HEAD"
        )
        started = time.perf_counter()
        subprocess.run(
            [
                command,
                "--quiet",
                "--procs",
                "2",
                "--ignore-whitespace",
                "--all-filetypes",
                "--interval",
                str(interval_s),
                "--branch",
                branch,
                "--outdir",
                folder,
                copy,
            ],
            check=True,
            capture_output=True,
        )
        return time.perf_counter() - started


def made(folder: Path) -> Path:
    """A repository to try, where none is named: 240 commits with edits, renames, branches and
    merges.
    """
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from tests.retention.repositories import random_history

    return random_history(folder / "made", 1, 240).folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("repo", type=Path, nargs="?")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--sample", type=int, default=6, help="releases that are blamed")
    parser.add_argument("--theseus", default="git-of-theseus-analyze")
    options = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        repo = options.repo or made(Path(folder))
        git = Git(repo)
        releases = report.find_releases(git)
        started = time.perf_counter()
        history = trace_lines(git, releases)
        walked = time.perf_counter() - started
        measured = report.make_report(git, history, attribute(git, history))
        first = time.perf_counter() - started
        names = list(releases)
        chosen = sorted(
            {
                names[int(place)]
                for place in np.linspace(
                    len(names) // 5, len(names) - 1, min(options.sample, len(names))
                )
            },
            key=names.index,
        )
        equal = total = files = 0
        started = time.perf_counter()
        taken: dict[str, float] = {}
        for name in chosen:
            at = time.perf_counter()
            theirs = blame(repo, name, pool)
            taken[name] = time.perf_counter() - at
            mine = ours(history, name)
            equal += sum(theirs[commit] == mine[commit] for commit in set(theirs) | set(mine))
            total += len(set(theirs) | set(mine))
            files += len(files_of(repo, name))
        blamed = sum(taken.values()) / files * sum(len(files_of(repo, name)) for name in names)
        without = (
            trace_lines(
                git, {**{name: releases[name] for name in names[:-2]}, "HEAD": releases[names[-3]]}
            )
            if len(names) > 3
            else trace_lines(git, {names[0]: releases[names[0]]})
        )
        history_cache.save_history(without, Path(folder) / "kept")
        started = time.perf_counter()
        again = trace_lines(git, releases, history_cache.load_history(Path(folder) / "kept", git))
        history_cache.save_history(again, Path(folder) / "kept")
        more = time.perf_counter() - started
        span = history.commits[history.index[releases["HEAD"]]].time - history.commits[0].time
        peer = theseus(options.theseus, repo, span // len(releases))
    metrics = {
        "equal": equal / total,
        "counts": total,
        "releases": len(releases),
        "commits": len(history.commits),
        "lines": history.total,
        "ai_commits": len(measured.commits),
        "ai_share_at_head": measured.releases[-1].ai_share,
        "walk_seconds": round(walked, 2),
        "first_seconds": round(first, 2),
        "more_seconds": round(more, 2),
        "blame_seconds": round(blamed, 1),
        "blame_ratio": round(blamed / first, 1),
        "walk_ratio": round(blamed / walked, 1),
        "incremental_ratio": round(2 * taken[chosen[-1]] / more, 1),
        "theseus_seconds": None if peer is None else round(peer, 1),
        "theseus_ratio": None if peer is None else round(peer / walked, 1),
        "theseus_whole_ratio": None if peer is None else round(peer / first, 1),
    }
    print(
        json.dumps(
            {
                "bench": "retention",
                "metrics": metrics,
                "data": str(options.repo or "made"),
                "seconds": round(time.perf_counter() - began, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
