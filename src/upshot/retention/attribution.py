# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# re2
"""Which lines of a repository an assistant wrote, according to the repository and to logs.

Sources, the most exact first: git notes of the git-ai standard (`refs/notes/ai`, lines of a
commit), Agent Trace records (lines at a revision), the author's name ("... (aider)"), trailers of
the commit message. Commits named in a log tie lines to a response. The attribution of a commit that
a rebase or squash replaced passes to the commit that carries its lines: the one with the same
author, time and subject, or one that adds the same lines to the same files.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence, Set
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import msgspec
import re2

from upshot.errors import InputError
from upshot.retention import patches
from upshot.retention.git import Git, unquote_path
from upshot.retention.line_history import LineHistory
from upshot.retention.patches import Commit

NOTES = "refs/notes/ai"
TRACE_FILES = (".agent-trace/traces.jsonl", ".agent-trace/trace.jsonl", "agent-trace.jsonl")
"""Paths of Agent Trace records in a repository."""
_MAX_DELAY_S = 180 * 86400
"""A squash is looked for up to this long after the commit: half a year."""
_MIN_HASH_DIGITS = 7
"""Digits of the shortest abbreviated hash, git's default."""
_MAX_CARRIERS = 8
"""Candidate squashes compared with each commit, those that share most files."""
_MIN_SHARE = 0.5
"""Share of a commit's lines that another must add to be its squash: the majority."""

Span = tuple[int, int]
"""First and last line of a file, from 1."""
AddedLines = Mapping[str, list[tuple[int, bytes]]]
"""By path: (number from 1, stripped text)."""


class Attribution(NamedTuple):
    """The agent behind one commit."""

    agent: str
    how: str
    """The source: note, trace, author, trailer or log."""
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
    """The attribution of each commit of a history, by its index there.

    Args:
        git: The repository.
        history: Its lines.
        mentions: Commits that logs name.
        traces: Agent Trace records as JSON lines; None: those in the repository's tree.

    Raises:
        InputError: a note or record cannot be read; says which.
    """
    attributions = dict(_attribute_by_message(history.commits))
    twins = {_identity(commit): number for number, commit in enumerate(history.commits)}
    unmerged = {commit.hash: commit for commit in _unmerged_commits(git, history)}
    # the author and message of a rebased commit are those of its twin too
    unique = [commit for commit in unmerged.values() if _identity(commit) not in twins]
    replaced = {
        unique[number].hash: attribution
        for number, attribution in _attribute_by_message(unique).items()
    }
    for name, attribution in _read_notes(git, history.index.keys() | unmerged.keys()).items():
        if name in history.index:
            attributions[history.index[name]] = attribution
        else:
            replaced[name] = attribution
    for number, attribution in _read_traces(git, history, traces).items():
        attributions.setdefault(number, attribution)
    by_prefix: dict[str, list[str]] = {}
    for name in (*history.index, *unmerged):
        by_prefix.setdefault(name[:_MIN_HASH_DIGITS], []).append(name)
    for mention in mentions:
        _add_mention(
            mention,
            by_prefix.get(mention.hash[:_MIN_HASH_DIGITS], []),
            history,
            attributions,
            replaced,
        )
    _pass_on(
        git,
        history,
        twins,
        {unmerged[name]: attribution for name, attribution in replaced.items()},
        attributions,
    )
    return attributions


def _attribute_by_message(commits: Sequence[Commit]) -> dict[int, Attribution]:
    """Attributions by the author or the message of commits."""
    attributions: dict[int, Attribution] = {}
    for number, commit in enumerate(commits):
        agent = _agent_of_author(f"{commit.author} <{commit.email}>")
        if agent:
            attributions[number] = Attribution(agent, "author")
        elif agent := _agent_of_message(commit.message):
            attributions[number] = Attribution(agent, "trailer")
    return attributions


@cache
def _load_agents() -> list[tuple[str, Any, Any]]:
    """(name, pattern of authors, pattern of lines of messages)."""
    rows = tomllib.loads(files("upshot.retention").joinpath("agents.toml").read_text("utf-8"))[
        "agent"
    ]
    return [
        (row["name"], _compile_any(row.get("people", [])), _compile_any(row.get("lines", [])))
        for row in rows
    ]


def _compile_any(patterns: Sequence[str]) -> Any:
    return (
        re2.compile("(?i)" + "|".join(f"(?:{pattern})" for pattern in patterns))
        if patterns
        else None
    )


@cache
def _agent_of_author(who: str) -> str:
    """The agent with a name and address; empty for a person."""
    return next(
        (name for name, people, _ in _load_agents() if people is not None and people.search(who)),
        "",
    )


@cache
def _message_pattern() -> Any:
    """Matches every message that may name an agent, to skip the others fast."""
    return re2.compile(
        r"(?im)-by\s*:|"
        + "|".join(f"(?:{lines.pattern})" for _, _, lines in _load_agents() if lines is not None)
    )


def _agent_of_message(message: str) -> str:
    """The agent that a commit message names."""
    if not _message_pattern().search(message.replace("🤖 ", "")):
        return ""
    agents = list[str]()
    for line in message.splitlines()[1:]:
        text = line.strip().lstrip("🤖 ").strip()
        key, colon, value = text.partition(":")
        if colon and key.lower().endswith("-by") and (agent := _agent_of_author(value.strip())):
            agents.append(agent)
        else:
            agents += [
                name
                for name, _, lines in _load_agents()
                if lines is not None and lines.search(text)
            ]
    named = [agent for agent in agents if agent != "unnamed"]
    return next(iter(named or agents), "")


def _unmerged_commits(git: Git, history: LineHistory) -> Iterator[Commit]:
    """Commits of any branch or pull request that are not in the history."""
    tips = {history.commits[snapshot.commit].hash for snapshot in history.snapshots}
    refs = [
        line.split()[1]
        for line in git.text("for-each-ref", "--format=%(objecttype) %(objectname)").splitlines()
        if line.startswith("commit ")
    ]
    for commit in patches.read_commits(
        git, [*sorted(set(refs)), *(f"^{tip}" for tip in sorted(tips))]
    ):
        if len(commit.parents) < 2 and commit.hash not in history.index:
            yield commit


def _read_notes(git: Git, wanted: Set[str]) -> dict[str, Attribution]:
    """Attributions by notes of the git-ai standard, of some commits."""
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
    """Parse an authorship log (git-ai standard 3.0.0).

    >>> sessions = '{"sessions": {"s_c9": {"agent_id": {"tool": "cursor"}}}}'
    >>> note = "src/a.py\\n  s_c9::t_9f 1-2,7\\n  h_31 3-5\\n---\\n" + sessions
    >>> read_note(note).agent, read_note(note).lines
    ('cursor', {'src/a.py': [(1, 2), (7, 7)]})

    Raises:
        InputError: the text is not an authorship log.
    """
    attested, divider, metadata = text.partition("\n---\n")
    if not divider and text.startswith("---\n"):
        attested, metadata = "", text[4:]
    try:
        facts = msgspec.json.decode(metadata or b"{}")
        prompts = {**facts.get("prompts", {}), **facts.get("sessions", {})}
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
                    prompts.get(key.split("::")[0], {}).get("agent_id", {}).get("tool", "")
                    or "unnamed"
                )
            ] += 1
            spans.setdefault(path, []).extend(_parse_span(part) for part in ranges.split(","))
    except (msgspec.DecodeError, AttributeError, ValueError) as error:
        raise InputError(
            f"could not read the authorship log of commit {commit or '(unknown)'} in {NOTES}:"
            f" {error}"
        ) from error
    return Attribution(agents.most_common(1)[0][0] if agents else "", "note", spans)


def _parse_span(text: str) -> Span:
    first, dash, last = text.partition("-")
    return int(first), int(last if dash else first)


def _read_traces(git: Git, history: LineHistory, traces: str | None) -> dict[int, Attribution]:
    """Attributions by Agent Trace records.

    A record names the revision at which its lines are counted: the commit that added them, or, if
    the tool wrote it before the commit, its parent; then the lines belong to the next commit that
    changes the file.
    """
    if traces is None:
        contents = git.blobs([f"HEAD:{path}" for path in TRACE_FILES])
        traces = "\n".join(content.decode(errors="replace") for content in contents.values())
    if not traces.strip():
        return {}
    resolve = _make_trace_resolver(history)
    spans: dict[int, tuple[str, dict[str, list[Span]]]] = {}
    for position, line in enumerate(traces.splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = msgspec.json.decode(line)
            revision = str(record.get("vcs", {}).get("revision", ""))
            for path, agent, span in _iterate_ranges(record):
                for number in resolve(revision, path):
                    spans.setdefault(number, (agent, {}))[1].setdefault(path, []).append(span)
        except (msgspec.DecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"could not read Agent Trace record {position}: {error}") from error
    return {number: Attribution(agent, "trace", lines) for number, (agent, lines) in spans.items()}


def _iterate_ranges(record: Mapping[str, Any]) -> Iterator[tuple[str, str, Span]]:
    tools: Mapping[str, Any] = record.get("tool") or {}
    tool = str(tools.get("name", "") or "unnamed")
    for file in record["files"]:
        for conversation in file["conversations"]:
            for part in conversation["ranges"]:
                who: Mapping[str, Any] = (
                    part.get("contributor") or conversation.get("contributor") or {}
                )
                if who.get("type", "ai") in ("ai", "mixed"):
                    yield str(file["path"]), tool, (int(part["start_line"]), int(part["end_line"]))


def _commits_by_path(history: LineHistory, excluded: Container[int] = ()) -> dict[str, list[int]]:
    """Commits that added lines, by path, except those excluded."""
    touching: dict[str, list[int]] = {}
    for origin in history.origins:
        if origin.commit not in excluded:
            touching.setdefault(origin.path, []).append(origin.commit)
    return touching


def _make_trace_resolver(history: LineHistory) -> Callable[[str, str], list[int]]:
    """A function from the revision and path of a record to the commits that it means."""
    touching = _commits_by_path(history)
    children: dict[str, list[int]] = {}
    for number, commit in enumerate(history.commits):
        for parent in commit.parents:
            children.setdefault(parent, []).append(number)

    def resolve(revision: str, path: str) -> list[int]:
        number = history.index.get(revision)
        if number is None:
            return []
        candidates = touching.get(path, ())
        if number in candidates:
            return [number]
        later = [candidate for candidate in candidates if candidate > number]
        direct = [candidate for candidate in later if candidate in children.get(revision, ())]
        return (direct or later)[:1]

    return resolve


def _add_mention(
    mention: Mention,
    candidates: Sequence[str],
    history: LineHistory,
    attributions: dict[int, Attribution],
    replaced: dict[str, Attribution],
) -> None:
    """Tie a response to the commit that a log names, in the history or on another branch.

    `candidates`: commits whose hash starts with the same digits.
    """
    matches = [name for name in candidates if name.startswith(mention.hash)]
    if len(matches) != 1:
        return  # not in the repository, or ambiguous
    new = Attribution(mention.agent or "unnamed", "log")
    number = history.index.get(matches[0])
    if number is not None:
        attributions[number] = attributions.get(number, new)._replace(response=mention.response)
    else:
        replaced[matches[0]] = replaced.get(matches[0], new)._replace(response=mention.response)


def _identity(commit: Commit) -> tuple[str, int, str]:
    """The fields of a commit that a rebase preserves."""
    return commit.author, commit.authored, commit.subject


def _pass_on(
    git: Git,
    history: LineHistory,
    twins: Mapping[tuple[str, int, str], int],
    replaced: Mapping[Commit, Attribution],
    attributions: dict[int, Attribution],
) -> None:
    """Pass attributions of replaced commits on to the commits that carry their lines."""
    squashed: dict[Commit, Attribution] = {}
    for commit, attribution in replaced.items():
        number = twins.get(_identity(commit))
        if number is None:
            squashed[commit] = attribution
        elif number not in attributions or (
            attribution.response and not attributions[number].response
        ):
            attributions[number] = attributions.get(number, attribution)._replace(
                response=attribution.response
            )
    if squashed:
        _pass_to_squashes(git, history, squashed, attributions)


def _pass_to_squashes(
    git: Git,
    history: LineHistory,
    replaced: Mapping[Commit, Attribution],
    attributions: dict[int, Attribution],
) -> None:
    """Pass attributions on to commits that add most of their lines to the same files."""
    touching = _commits_by_path(history, attributions)
    files = _read_changed_files(git, [commit.hash for commit in replaced])
    commits_by_carrier: dict[int, list[Commit]] = {}
    for commit in replaced:
        shared_files = Counter(
            number
            for path in files.get(commit.hash, ())
            for number in touching.get(path, ())
            if 0 <= history.commits[number].time - commit.time <= _MAX_DELAY_S
        )
        min_files = len(files.get(commit.hash, ())) / 4  # half of its lines need some of its files
        for number, count in shared_files.most_common(_MAX_CARRIERS):
            if count >= min_files:
                commits_by_carrier.setdefault(number, []).append(commit)
    carried = {commit.hash for commits in commits_by_carrier.values() for commit in commits}
    added = _read_added_lines(git, sorted(carried))
    carriers = _read_added_lines(
        git, [history.commits[number].hash for number in commits_by_carrier]
    )
    for number, commits in sorted(commits_by_carrier.items()):
        carrier_lines = carriers.get(history.commits[number].hash, {})
        for commit in commits:
            _attribute_carrier(
                number, replaced[commit], added.get(commit.hash, {}), carrier_lines, attributions
            )


def _attribute_carrier(
    number: int,
    attribution: Attribution,
    replaced_lines: AddedLines,
    carrier_lines: AddedLines,
    attributions: dict[int, Attribution],
) -> None:
    """Attribute the lines that a carrier shares with a replaced commit, if at least half of it."""
    spans: dict[str, list[Span]] = {}
    total = matched = 0
    for path, lines in replaced_lines.items():
        if attribution.lines is not None:
            allowed = attribution.lines.get(path, ())
            lines = [
                (number_in_file, text)
                for number_in_file, text in lines
                if any(first <= number_in_file <= last for first, last in allowed)
            ]
        unmatched = Counter(text for _, text in lines)
        total += unmatched.total() - unmatched[b""]
        for number_in_file, text in carrier_lines.get(path, ()):
            if unmatched[text] > 0:
                unmatched[text] -= 1
                matched += bool(text)
                spans.setdefault(path, []).append((number_in_file, number_in_file))
    if total and matched >= _MIN_SHARE * total:
        previous = attributions.get(number)
        merged_spans = (
            {path: list(lines) for path, lines in (previous.lines or {}).items()}
            if previous
            else {}
        )
        for path, lines in spans.items():
            merged_spans.setdefault(path, []).extend(lines)
        attributions[number] = Attribution(
            attribution.agent,
            attribution.how,
            merged_spans,
            attribution.response or (previous.response if previous else None),
        )


def _read_changed_files(git: Git, commits: Sequence[str]) -> dict[str, list[str]]:
    """Paths that commits changed or added, by commit."""
    by_commit: dict[str, list[str]] = {}
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
                    files = by_commit[line[1:-1].decode()] = []
                elif len(line) > 1:
                    files.append(unquote_path(line[:-1]))
    return by_commit


def _read_added_lines(git: Git, commits: Sequence[str]) -> dict[str, AddedLines]:
    """Lines that commits added, as (number from 1, stripped text), by commit and path."""
    by_commit: dict[str, AddedLines] = {}
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
