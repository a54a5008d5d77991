"""Real repositories with histories drawn at random, made by `git fast-import`."""

from __future__ import annotations

import os
import random
import subprocess
from collections import Counter
from pathlib import Path

ENVIRONMENT = {
    **os.environ,
    "GIT_AUTHOR_NAME": "Ana",
    "GIT_AUTHOR_EMAIL": "ana@example.com",
    "GIT_COMMITTER_NAME": "Ana",
    "GIT_COMMITTER_EMAIL": "ana@example.com",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}
START = 1_700_000_000
DAY = 86_400
Files = dict[str, tuple[str, bytes]]


def git(repo: Path, *arguments: str, stdin: bytes | None = None) -> str:
    """Git's output."""
    return subprocess.run(
        ["git", "-C", repo, *arguments],
        input=stdin,
        capture_output=True,
        check=True,
        env=ENVIRONMENT,
    ).stdout.decode(errors="surrogateescape")


class Repository:
    """A repository that is written commit by commit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        git(folder, "init", "-q", "-b", "main", ".")
        self.marks = 0

    def commit(
        self,
        files: dict[str, str],
        message: str = "change",
        author: str = "Ana <ana@example.com>",
        day: float = 0.0,
        parents: tuple[str, ...] | None = None,
    ) -> str:
        """A commit whose tree is exactly `files`, on HEAD or on other parents; returns its hash."""
        return self.write_commit(
            {path: ("100644", text.encode()) for path, text in files.items()},
            message,
            author,
            START + int(day * DAY),
            parents,
        )

    def write_commit(
        self, files: Files, message: str, author: str, time: int, parents: tuple[str, ...] | None
    ) -> str:
        if parents is None:
            head = subprocess.run(
                ["git", "-C", self.folder, "rev-parse", "-q", "--verify", "HEAD"],
                capture_output=True,
                text=True,
                check=False,
            ).stdout.strip()
            parents = (head,) if head else ()
        text = message.encode()
        out = [
            b"commit refs/heads/main\nmark :1\n",
            f"author {author} {time} +0000\ncommitter Ana <ana@example.com> {time} +0000\ndata"
            f" {len(text)}\n".encode(),
            text,
            b"\n",
        ]
        out += [
            f"{'from' if number == 0 else 'merge'} {parent}\n".encode()
            for number, parent in enumerate(parents)
        ]
        out.append(b"deleteall\n")
        for path, (mode, content) in files.items():
            out += [f'M {mode} inline "{path}"\ndata {len(content)}\n'.encode(), content, b"\n"]
        (
            git(self.folder, "update-ref", "-d", "refs/heads/main")
            if not parents
            else git(self.folder, "update-ref", "refs/heads/main", parents[0])
        )
        git(self.folder, "fast-import", "--quiet", "--force", stdin=b"".join(out))
        return git(self.folder, "rev-parse", "refs/heads/main").strip()

    def tag(self, name: str, commit: str = "HEAD") -> None:
        """A release."""
        git(self.folder, "tag", name, commit)


def random_history(folder: Path, seed: int, commits: int = 14) -> Repository:
    """Edits, re-indentation, new files, renames with and without changes, copies, deletions, links,
    branches and merges.
    """
    rng = random.Random(seed)
    repository = Repository(folder)
    heads: dict[str, Files] = {}
    for step in range(commits):
        tips = list(heads)
        merge = len(tips) > 2 and rng.random() < 0.25
        sources: list[str] = (
            rng.sample(tips[-4:], 2) if merge else rng.sample(tips[-3:], 1) if tips else []
        )
        files: Files = dict(heads[sources[0]]) if sources else {}
        if merge:
            theirs = heads[sources[1]]
            for path in sorted(set(files) | set(theirs)):
                pick = rng.random()
                if path in theirs and (path not in files or pick < 0.3):
                    files[path] = theirs[path]
                elif path in theirs and pick < 0.7:
                    mode, ours = files[path]
                    half = theirs[path][1].split(b"\n")
                    files[path] = (
                        mode,
                        b"\n".join(
                            ours.split(b"\n")[: len(ours) // 20 + 2] + half[len(half) // 2 :]
                        ),
                    )
        for _ in range(rng.randint(1, 3)):
            _change(rng, files, step)
        commit = repository.write_commit(
            files, f"commit {step}", "Ana <ana@example.com>", START + step * DAY, tuple(sources)
        )
        heads[commit] = files
        if rng.random() < 0.3:
            repository.tag(f"v{step}", commit)
    return repository


def _change(rng: random.Random, files: Files, step: int) -> None:
    kind = rng.choice(
        [
            "edit",
            "edit",
            "edit",
            "new",
            "rename",
            "split",
            "delete",
            "indent",
            "link",
            "binary",
            "copy",
        ]
    )
    texts = [path for path, (mode, _) in files.items() if mode == "100644"]
    if kind == "new" or not texts:
        lines = [
            (
                f"line {rng.randint(0, 30)} of {step}"
                if rng.random() < 0.7
                else rng.choice(["", "}", "else:", "return x"])
            )
            for _ in range(rng.randint(1, 25))
        ]
        files[rng.choice(["", "a/", "b c/"]) + f"f{rng.randint(0, 9)}.py"] = (
            "100644",
            ("\n".join(lines) + rng.choice(["\n", ""])).encode(),
        )
        return
    path = rng.choice(texts)
    content = files[path][1]
    if kind == "edit":
        lines = content.split(b"\n")
        for _ in range(rng.randint(1, 4)):
            at = rng.randint(0, len(lines))
            lines[at : at + rng.randint(0, 3)] = [
                f"x{rng.randint(0, 9)} = {step}".encode() for _ in range(rng.randint(0, 3))
            ]
        files[path] = ("100644", b"\n".join(lines))
    elif kind == "indent":
        files[path] = (
            "100644",
            b"\n".join(b"    " + line if line else line for line in content.split(b"\n")),
        )
    elif kind == "delete":
        del files[path]
    elif kind in ("rename", "split", "copy"):
        if kind != "copy":
            del files[path]
        files[f"moved/{rng.randint(0, 99)}.py"] = (
            "100644",
            content + (b"# more\n" if rng.random() < 0.6 else b""),
        )
        if kind == "split":
            files[f"moved/{rng.randint(0, 99)} part.py"] = (
                "100644",
                content[: max(len(content) * 2 // 3, 1)],
            )
    elif kind == "link":
        files[f"link{rng.randint(0, 3)}"] = ("120000", path.encode())
    else:
        files["blob.bin"] = (
            "100644",
            bytes(rng.randint(0, 255) for _ in range(60))
            + b"\n\0"
            + bytes(rng.randint(0, 20) for _ in range(40)),
        )


def blamed(folder: Path, revision: str) -> Counter[str]:
    """Lines by commit, as `git blame -w` has them."""
    counts = Counter[str]()
    rows = git(folder, "ls-tree", "-rz", revision).split("\0")
    for row in rows:
        if " blob " in row:
            said = git(
                folder,
                "--literal-pathspecs",
                "blame",
                "-w",
                "-s",
                "-l",
                "--root",
                revision,
                "--",
                row.split("\t", 1)[1],
            )
            counts.update(line[:40] for line in said.split("\n") if line)
    return counts
