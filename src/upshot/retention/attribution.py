"""Which lines of a repository an assistant wrote, according to the repository and to logs.

Sources, the most exact first: git notes of the git-ai standard (`refs/notes/ai`, lines of a
commit), Agent Trace records (lines at a revision), the author's name ("... (aider)"), trailers of
the commit message. Commits named in a log tie lines to a response. What is known of a commit that a
rebase or squash replaced passes to the commit that carries its lines (`rewrites`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from typing import NamedTuple

from upshot.retention import rewrites
from upshot.retention.agents import UNNAMED, agent_of_identity, agent_of_message, find_agent
from upshot.retention.authorship import Attribution, Span, Trace, read_notes, read_traces
from upshot.retention.git import Git
from upshot.retention.line_history import LineHistory
from upshot.retention.patches import Commit

NOTES = "refs/notes/ai"
TRACE_FILES = (".agent-trace/traces.jsonl", ".agent-trace/trace.jsonl", "agent-trace.jsonl")
"""Paths of Agent Trace records in a repository."""
_MIN_HASH_DIGITS = 7
"""Digits of the shortest abbreviated hash, git's default."""


class Mention(NamedTuple):
    """A commit named in a log."""

    hash: str
    """At least 7 digits."""
    response: tuple[str, int]
    agent: str = ""
    """What wrote the log, as `source` of a conversation."""


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
    mentions = sorted(set(mentions))  # whatever the order of logs, the same response
    notes = _list_notes(git)
    records = _read_trace_records(git, traces)
    names = {*notes, *(trace.revision for trace in records), *(row.hash for row in mentions)}
    unmerged = rewrites.read_unmerged(git, history, names)
    attributions = _attribute_by_message(history.commits)
    # the author and message of a rebased commit are those of its twin too
    identities = {rewrites.identity_of(commit) for commit in history.commits}
    unique = [c for c in unmerged.values() if rewrites.identity_of(c) not in identities]
    replaced = {
        unique[number].hash: attribution
        for number, attribution in _attribute_by_message(unique).items()
    }
    traced, traced_elsewhere = _place_traces(history, unmerged.keys(), records)
    for number, attribution in traced.items():
        attributions[number] = attribution.refine(attributions.get(number))
    for name, attribution in traced_elsewhere.items():
        replaced[name] = attribution.refine(replaced.get(name))
    for name, attribution in _read_notes(git, notes, history.index.keys() | unmerged.keys()):
        if name in history.index:
            number = history.index[name]
            attributions[number] = attribution.refine(attributions.get(number))
        else:
            replaced[name] = attribution.refine(replaced.get(name))
    by_prefix: dict[str, list[str]] = {}
    for name in (*history.index, *unmerged):
        by_prefix.setdefault(name[:_MIN_HASH_DIGITS], []).append(name)
    for mention in mentions:
        candidates = by_prefix.get(mention.hash[:_MIN_HASH_DIGITS], [])
        _add_mention(mention, candidates, history, attributions, replaced)
    rewrites.pass_on(git, history, unmerged, replaced, attributions)
    return attributions


def _attribute_by_message(commits: Sequence[Commit]) -> dict[int, Attribution]:
    """Attributions by the author or the message of commits."""
    attributions: dict[int, Attribution] = {}
    for number, commit in enumerate(commits):
        agent = agent_of_identity(f"{commit.author} <{commit.email}>")
        if agent:
            attributions[number] = Attribution(agent, "author")
        elif agent := agent_of_message(commit.message):
            attributions[number] = Attribution(agent, "trailer")
    return attributions


def _list_notes(git: Git) -> dict[str, str]:
    """The note of each commit that has one of the git-ai standard."""
    if not git.text("for-each-ref", "--format=%(refname)", NOTES).strip():
        return {}
    rows = git.text("notes", f"--ref={NOTES}", "list").splitlines()
    return {commit: note for note, commit in (row.split() for row in rows)}


def _read_notes(
    git: Git, notes: dict[str, str], wanted: Set[str]
) -> Iterable[tuple[str, Attribution]]:
    """Attributions by the notes of some commits; a note that names no line says nothing."""
    names = {commit: note for commit, note in notes.items() if commit in wanted}
    contents = git.blobs(list(names.values()))
    texts = {
        commit: contents[note].decode(errors="replace")
        for commit, note in names.items()
        if note in contents
    }
    for commit, attribution in read_notes(texts):
        if attribution.lines:
            yield commit, attribution


def _read_trace_records(git: Git, traces: str | None) -> list[Trace]:
    if traces is None:
        contents = git.blobs([f"HEAD:{path}" for path in TRACE_FILES])
        traces = "\n".join(content.decode(errors="replace") for content in contents.values())
    return read_traces(traces)


def _place_traces(
    history: LineHistory, unmerged: Set[str], traces: Sequence[Trace]
) -> tuple[dict[int, Attribution], dict[str, Attribution]]:
    """Attributions by Agent Trace records: of the history's commits, and of others by hash.

    A record names the revision at which its lines are counted: the commit that added them, or, if
    the tool wrote it before the commit, its parent; then the lines belong to the next commit that
    changes the file. So they do if it names none, counted from its time.
    """
    resolve = _make_trace_resolver(history)
    within: dict[int, dict[str, list[Span]]] = {}
    elsewhere: dict[str, dict[str, list[Span]]] = {}
    for trace in traces:
        if trace.revision in unmerged:
            by_path = elsewhere.setdefault(trace.revision, {})
            by_path.setdefault(trace.path, []).extend(trace.spans)
        for number in resolve(trace):
            within.setdefault(number, {}).setdefault(trace.path, []).extend(trace.spans)
    return (
        {number: Attribution("", "trace", lines) for number, lines in within.items()},
        {name: Attribution("", "trace", lines) for name, lines in elsewhere.items()},
    )


def _make_trace_resolver(history: LineHistory) -> Callable[[Trace], list[int]]:
    """A function from a record to the commits that it means."""
    touching = history.commits_by_path()
    children: dict[str, list[int]] = {}
    for number, commit in enumerate(history.commits):
        for parent in commit.parents:
            children.setdefault(parent, []).append(number)

    def resolve(trace: Trace) -> list[int]:
        candidates = touching.get(trace.path, ())
        if not trace.revision and trace.time is not None:
            times = {number: history.commits[number].time for number in candidates}
            later = [number for number, time in times.items() if time >= int(trace.time or 0)]
            return sorted(later, key=lambda number: times[number])[:1]
        number = history.index.get(trace.revision)
        if number is None:
            return []
        if number in candidates:
            return [number]
        later = [candidate for candidate in candidates if candidate > number]
        direct = [candidate for candidate in later if candidate in children.get(trace.revision, ())]
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
    agent = find_agent(mention.agent)
    number = history.index.get(matches[0])
    current = replaced.get(matches[0]) if number is None else attributions.get(number)
    if (
        current
        and current.response
        and (current.responder in current.agents or agent not in current.agents)
    ):
        return
    new = (current or Attribution(agent or UNNAMED, "log"))._replace(
        response=mention.response, responder=agent
    )
    if number is None:
        replaced[matches[0]] = new
    else:
        attributions[number] = new
