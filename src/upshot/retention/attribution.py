"""Which lines of a repository an assistant wrote, by what the repository and logs say.

In order of how exactly they say it: git notes of the git-ai standard (`refs/notes/ai`, lines of a
commit), Agent Trace records (lines at a revision), the author's name ("... (aider)"), trailers of
the commit message. Commits named in a log tie lines to a response. What was said of a commit that a
rebase or a squash replaced passes to the commit that carries its lines: the one with the same
author, time and subject, or one that adds the same lines to the same files.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence, Set
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import msgspec
import re2

from upshot.errors import InputError
from upshot.retention import patches
from upshot.retention.git import Git, unquoted
from upshot.retention.line_history import LineHistory
from upshot.retention.patches import Commit

NOTES = "refs/notes/ai"
TRACES = (".agent-trace/traces.jsonl", ".agent-trace/trace.jsonl", "agent-trace.jsonl")
"""Where Agent Trace records lie in a repository."""
_WITHIN_S = 180 * 86400
"""How long after a commit its squash is looked for."""
_PREFIX = 7
"""Digits by which commits are looked up."""
_CARRIERS = 8
"""Commits looked at for each."""
_HALF = 0.5
"""The share of a commit's lines that another must add to be its squash."""

Span = tuple[int, int]
"""First and last line of a file, from 1."""


class Attribution(NamedTuple):
    """What is said of one commit."""

    agent: str
    how: str
    """note, trace, author, trailer or log."""
    lines: Mapping[str, Sequence[Span]] | None = None
    """By path; None: all lines that the commit added."""
    response: tuple[str, int] | None = None
    """(conversation, index), where a log names the commit."""


class Mention(NamedTuple):
    """A commit named in a log."""

    hash: str
    """At least 7 digits."""
    response: tuple[str, int]
    agent: str = ""


def attribute(
    git: Git, history: LineHistory, mentions: Iterable[Mention] = (), traces: str | None = None
) -> dict[int, Attribution]:
    """What is said of each commit of a history, by its place there.

    Args:
        git: The repository.
        history: Its lines.
        mentions: Commits that logs name.
        traces: Agent Trace records as JSON lines; without them those of the repository's own tree.

    Raises:
        InputError: a note or record cannot be read; says which.
    """
    said = dict(_signed(history.commits))
    twins = {_identity(commit): number for number, commit in enumerate(history.commits)}
    other = {commit.hash: commit for commit in _elsewhere(git, history)}
    left = [
        commit for commit in other.values() if _identity(commit) not in twins
    ]  # what a rebased commit's name or message says, its twin says too
    aside = {left[number].hash: attribution for number, attribution in _signed(left).items()}
    for name, attribution in _noted(git, history.index.keys() | other.keys()).items():
        if name in history.index:
            said[history.index[name]] = attribution
        else:
            aside[name] = attribution
    for number, attribution in _traced(git, history, traces).items():
        said.setdefault(number, attribution)
    known: dict[str, list[str]] = {}
    for name in (*history.index, *other):
        known.setdefault(name[:_PREFIX], []).append(name)
    for mention in mentions:
        _mentioned(mention, known.get(mention.hash[:_PREFIX], []), history, said, aside)
    _passed(
        git, history, twins, {other[name]: attribution for name, attribution in aside.items()}, said
    )
    return said


def _signed(commits: Sequence[Commit]) -> dict[int, Attribution]:
    """By author and by what the message says."""
    said: dict[int, Attribution] = {}
    for number, commit in enumerate(commits):
        agent = _person(f"{commit.author} <{commit.email}>")
        if agent:
            said[number] = Attribution(agent, "author")
        elif agent := _message(commit.message):
            said[number] = Attribution(agent, "trailer")
    return said


@cache
def _agents() -> list[tuple[str, Any, Any]]:
    """(name, pattern of people, pattern of lines)."""
    rows = tomllib.loads(files("upshot.retention").joinpath("agents.toml").read_text("utf-8"))[
        "agent"
    ]
    return [(row["name"], _any(row.get("people", [])), _any(row.get("lines", []))) for row in rows]


def _any(patterns: Sequence[str]) -> Any:
    return (
        re2.compile("(?i)" + "|".join(f"(?:{pattern})" for pattern in patterns))
        if patterns
        else None
    )


@cache
def _person(who: str) -> str:
    """The agent that a name and address are of; empty for a person."""
    return next(
        (name for name, people, _ in _agents() if people is not None and people.search(who)), ""
    )


@cache
def _hint() -> Any:
    """What a message that names an agent has somewhere: most have nothing of it."""
    return re2.compile(
        r"(?im)-by\s*:|"
        + "|".join(f"(?:{lines.pattern})" for _, _, lines in _agents() if lines is not None)
    )


def _message(message: str) -> str:
    """The agent that a commit message names."""
    if not _hint().search(message.replace("🤖 ", "")):
        return ""
    found = list[str]()
    for line in message.splitlines()[1:]:
        text = line.strip().lstrip("🤖 ").strip()
        key, colon, value = text.partition(":")
        if colon and key.lower().endswith("-by") and (agent := _person(value.strip())):
            found.append(agent)
        else:
            found += [
                name for name, _, lines in _agents() if lines is not None and lines.search(text)
            ]
    named = [agent for agent in found if agent != "unnamed"]
    return next(iter(named or found), "")


def _elsewhere(git: Git, history: LineHistory) -> Iterator[Commit]:
    """Commits of any branch or pull request that the history does not have."""
    tips = {history.commits[snapshot.commit].hash for snapshot in history.snapshots}
    refs = [
        line.split()[1]
        for line in git.text("for-each-ref", "--format=%(objecttype) %(objectname)").splitlines()
        if line.startswith("commit ")
    ]
    for commit in patches.commits(git, [*sorted(set(refs)), *(f"^{tip}" for tip in sorted(tips))]):
        if len(commit.parents) < 2 and commit.hash not in history.index:
            yield commit


def _noted(git: Git, wanted: Set[str]) -> dict[str, Attribution]:
    """By the notes of the git-ai standard, of some commits."""
    if not git.text("for-each-ref", "--format=%(refname)", NOTES).strip():
        return {}
    rows = [
        row
        for line in git.text("notes", f"--ref={NOTES}", "list").splitlines()
        if (row := line.split())[1] in wanted
    ]
    contents = git.blobs([note for note, _ in rows])
    return {
        commit: read_note(contents[note].decode(errors="replace"), commit)
        for note, commit in rows
        if note in contents
    }


def read_note(text: str, commit: str = "") -> Attribution:
    """Lines by one authorship log (git-ai standard 3.0.0).

    >>> note = 'src/a.py\\n  s_c9883b05a2487d::t_9f8e7d6c5b4a32 1-2,7\\n  h_31dce776f88375 3-5\\n---\\n{"sessions": {"s_c9883b05a2487d": {"agent_id": {"tool": "cursor"}}}}'
    >>> read_note(note).agent, read_note(note).lines
    ('cursor', {'src/a.py': [(1, 2), (7, 7)]})

    Raises:
        InputError: the text is no authorship log.
    """
    attested, divider, metadata = text.partition("\n---\n")
    if not divider and text.startswith("---\n"):
        attested, metadata = "", text[4:]
    try:
        facts = msgspec.json.decode(metadata or b"{}")
        known = {**facts.get("prompts", {}), **facts.get("sessions", {})}
        spans, agents, path = dict[str, list[Span]](), Counter[str](), ""
        for line in attested.splitlines():
            if not line.startswith(" "):
                path = line.strip('"')
                continue
            key, _, ranges = line.strip().partition(" ")
            if key.startswith("h_"):
                continue
            agents[
                str(
                    known.get(key.split("::")[0], {}).get("agent_id", {}).get("tool", "")
                    or "unnamed"
                )
            ] += 1
            spans.setdefault(path, []).extend(_span(part) for part in ranges.split(","))
    except (msgspec.DecodeError, AttributeError, ValueError) as error:
        raise InputError(
            f"could not read the authorship log of commit {commit or '(unknown)'} in {NOTES}:"
            f" {error}"
        ) from error
    return Attribution(agents.most_common(1)[0][0] if agents else "", "note", spans)


def _span(text: str) -> Span:
    first, dash, last = text.partition("-")
    return int(first), int(last if dash else first)


def _traced(git: Git, history: LineHistory, given: str | None) -> dict[int, Attribution]:
    """By Agent Trace records.

    A record names the revision its lines are counted at: a commit that added them, or, where the
    tool wrote before committing, the commit before; then they are the next commit's that changes
    the file.
    """
    if given is None:
        found = git.blobs([f"HEAD:{path}" for path in TRACES])
        given = "\n".join(content.decode(errors="replace") for content in found.values())
    if not given.strip():
        return {}
    later = _next_touching(history)
    spans: dict[int, tuple[str, dict[str, list[Span]]]] = {}
    for position, line in enumerate(given.splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = msgspec.json.decode(line)
            revision = str(record.get("vcs", {}).get("revision", ""))
            for path, agent, span in _ranges(record):
                for number in later(revision, path):
                    spans.setdefault(number, (agent, {}))[1].setdefault(path, []).append(span)
        except (msgspec.DecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"could not read Agent Trace record {position}: {error}") from error
    return {number: Attribution(agent, "trace", lines) for number, (agent, lines) in spans.items()}


def _ranges(record: Mapping[str, Any]) -> Iterator[tuple[str, str, Span]]:
    tool = str((record.get("tool") or {}).get("name", "") or "unnamed")
    for file in record["files"]:
        for conversation in file["conversations"]:
            for part in conversation["ranges"]:
                who = part.get("contributor") or conversation.get("contributor") or {}
                if who.get("type", "ai") in ("ai", "mixed"):
                    yield str(file["path"]), tool, (int(part["start_line"]), int(part["end_line"]))


def _touching(history: LineHistory, but: Container[int] = ()) -> dict[str, list[int]]:
    """Commits that added lines, by path."""
    touching: dict[str, list[int]] = {}
    for origin in history.origins:
        if origin.commit not in but:
            touching.setdefault(origin.path, []).append(origin.commit)
    return touching


def _next_touching(history: LineHistory) -> Any:
    """A function from a revision and a path to the commits whose lines the record means."""
    touching = _touching(history)
    children: dict[str, list[int]] = {}
    for number, commit in enumerate(history.commits):
        for parent in commit.parents:
            children.setdefault(parent, []).append(number)

    def later(revision: str, path: str) -> list[int]:
        here = history.index.get(revision)
        if here is None:
            return []
        if here in touching.get(path, ()):
            return [here]
        near = [number for number in touching.get(path, ()) if number > here]
        direct = [number for number in near if number in children.get(revision, ())]
        return (direct or near)[:1]

    return later


def _mentioned(
    mention: Mention,
    near: Sequence[str],
    history: LineHistory,
    said: dict[int, Attribution],
    aside: dict[str, Attribution],
) -> None:
    """Tie a response to the commit that a log names, here or on another branch; `near`: commits
    whose hash begins alike.
    """
    found = [name for name in near if name.startswith(mention.hash)]
    if len(found) != 1:
        return  # not in the repository, or not one commit only
    new = Attribution(mention.agent or "unnamed", "log")
    number = history.index.get(found[0])
    if number is not None:
        said[number] = said.get(number, new)._replace(response=mention.response)
    else:
        aside[found[0]] = aside.get(found[0], new)._replace(response=mention.response)


def _identity(commit: Commit) -> tuple[str, int, str]:
    """What a rebase leaves as it is."""
    return commit.author, commit.authored, commit.subject


def _passed(
    git: Git,
    history: LineHistory,
    twins: Mapping[tuple[str, int, str], int],
    aside: Mapping[Commit, Attribution],
    said: dict[int, Attribution],
) -> None:
    """Pass what is said of replaced commits to those that carry their lines."""
    squashed: dict[Commit, Attribution] = {}
    for commit, attribution in aside.items():
        number = twins.get(_identity(commit))
        if number is None:
            squashed[commit] = attribution
        elif number not in said or (attribution.response and not said[number].response):
            said[number] = said.get(number, attribution)._replace(response=attribution.response)
    if squashed:
        _squashed(git, history, squashed, said)


def _squashed(
    git: Git,
    history: LineHistory,
    aside: Mapping[Commit, Attribution],
    said: dict[int, Attribution],
) -> None:
    """Find the commits that add at least half of another's lines to the same files soon after."""
    touching = _touching(history, said)
    files = changed_files(git, [commit.hash for commit in aside])
    wanted: dict[int, list[Commit]] = {}
    for commit in aside:
        near = Counter(
            number
            for path in files.get(commit.hash, ())
            for number in touching.get(path, ())
            if 0 <= history.commits[number].time - commit.time <= _WITHIN_S
        )
        least = (
            len(files.get(commit.hash, ())) / 4
        )  # half of its lines are in at least some of its files
        for number, _ in [
            (number, count) for number, count in near.most_common(_CARRIERS) if count >= least
        ]:
            wanted.setdefault(number, []).append(commit)
    carried = {commit.hash for commits in wanted.values() for commit in commits}
    added = added_lines(git, sorted(carried))
    carriers = added_lines(git, [history.commits[number].hash for number in wanted])
    for number, commits in sorted(wanted.items()):
        theirs = carriers.get(history.commits[number].hash, {})
        for commit in commits:
            _carry(number, aside[commit], added.get(commit.hash, {}), theirs, said)


def _carry(
    number: int,
    attribution: Attribution,
    ours: Mapping[str, list[tuple[int, bytes]]],
    theirs: Mapping[str, list[tuple[int, bytes]]],
    said: dict[int, Attribution],
) -> None:
    """Attribute the lines of a carrier that are also a replaced commit's, if they are at least half
    of those.
    """
    spans: dict[str, list[Span]] = {}
    total = matched = 0
    for path, lines in ours.items():
        if attribution.lines is not None:
            allowed = attribution.lines.get(path, ())
            lines = [
                (at, text)
                for at, text in lines
                if any(first <= at <= last for first, last in allowed)
            ]
        left = Counter(text for _, text in lines)
        total += left.total() - left[b""]
        for at, text in theirs.get(path, ()):
            if left[text] > 0:
                left[text] -= 1
                matched += bool(text)
                spans.setdefault(path, []).append((at, at))
    if total and matched >= _HALF * total:
        before = said.get(number)
        known = (
            {path: list(lines) for path, lines in (before.lines or {}).items()} if before else {}
        )
        for path, lines in spans.items():
            known.setdefault(path, []).extend(lines)
        said[number] = Attribution(
            attribution.agent,
            attribution.how,
            known,
            attribution.response or (before.response if before else None),
        )


def changed_files(git: Git, commits: Sequence[str]) -> dict[str, list[str]]:
    """Paths that commits changed or added."""
    found: dict[str, list[str]] = {}
    if commits:
        with git.stream(
            "diff-tree",
            "--stdin",
            "-r",
            "--root",
            "--no-renames",
            "--diff-filter=AM",
            "--name-only",
            "--format=%x00%H",
            stdin=commits,
        ) as out:
            files: list[str] = []
            for line in out:
                if line.startswith(b"\0"):
                    files = found[line[1:-1].decode()] = []
                elif len(line) > 1:
                    files.append(unquoted(line[:-1]))
    return found


def added_lines(git: Git, commits: Sequence[str]) -> dict[str, dict[str, list[tuple[int, bytes]]]]:
    """Lines that commits added, as (number in the file, from 1; text without white space around
    it), by commit and path.
    """
    found: dict[str, dict[str, list[tuple[int, bytes]]]] = {}
    if commits:
        with git.stream(
            "diff-tree",
            "--stdin",
            "-r",
            "--root",
            "--no-renames",
            "--format=%x00%H",
            *patches.DIFF,
            stdin=commits,
        ) as out:
            for name, files in patches.patches(out, text=True):
                found[name] = {
                    path: [
                        (hunk.new + place, line[1:].strip())
                        for hunk in hunks
                        for place, line in enumerate(hunk.text, 1)
                    ]
                    for path, hunks in files.items()
                }
    return found
