"""Which agent wrote which lines, as git notes and Agent Trace records say.

Attribution goes by line: a note or record names an agent for every range of lines, so several
agents and people can share one commit, and one file. Where only the commit as a whole is known to
be an agent's (by its author, a trailer or a log), all its lines are.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from upshot.errors import InputError
from upshot.retention.agents import UNNAMED, name_agent
from upshot.retention.git import unquote_path

_SOURCES = ("note", "trace", "author", "trailer", "log")
"""The most exact first."""
_PERSON = "human"
_QUOTED = re.compile(r'"(?:[^"\\]|\\[abtnvfr"\\]|\\[0-3][0-7]{2})*"')
"""A path quoted by git's rules."""


class Span(NamedTuple):
    """Lines of a file that one author wrote."""

    first: int
    """From 1."""
    last: int
    agent: str
    """Empty: a person."""


class Attribution(NamedTuple):
    """Who wrote the lines that one commit added."""

    agent: str
    """Of every line that no span names; empty: people."""
    how: str
    """The source: note, trace, author, trailer or log."""
    lines: Mapping[str, Sequence[Span]] | None = None
    """By path; where spans overlap, the last counts. None: nothing is known by line."""
    response: tuple[str, int] | None = None
    """(conversation, index), where a log names the commit."""
    responder: str = ""
    """The agent whose log names it."""

    @property
    def rank(self) -> int:
        """How exact the source is; 0 is the most exact."""
        return _SOURCES.index(self.how)

    @property
    def agents(self) -> set[str]:
        """Every agent that it names."""
        spans = (span for spans in (self.lines or {}).values() for span in spans)
        return {self.agent, *(span.agent for span in spans)} - {""}

    def refine(self, whole: Attribution | None) -> Attribution:
        """This, with lines of an agent without a name given to the one behind the whole commit."""
        if whole is None or not self.lines or whole.agent in ("", UNNAMED):
            return self
        lines = {
            path: [
                span._replace(agent=whole.agent) if span.agent == UNNAMED else span
                for span in spans
            ]
            for path, spans in self.lines.items()
        }
        return self._replace(lines=lines)

    def covers(self, path: str, numbers: NDArray[np.int64]) -> bool:
        """Whether an agent wrote any of a file's lines."""
        codes = {"": 0} | dict.fromkeys(self.agents, 1)
        return bool(self.write_codes(path, numbers, codes).any())

    def write_codes(
        self, path: str, numbers: NDArray[np.int64], codes: Mapping[str, int]
    ) -> NDArray[np.int32]:
        """The author of each line of a file.

        Args:
            path: The file.
            numbers: Of its lines, from 1, ascending.
            codes: The number that stands for each agent, and for people ("").

        Returns: One code per line.
        """
        written = np.full(len(numbers), codes[self.agent], np.int32)
        for span in (self.lines or {}).get(path, ()):
            first = np.searchsorted(numbers, span.first, "left")
            last = np.searchsorted(numbers, span.last, "right")
            written[first:last] = codes[span.agent]
        return written


class _AgentId(msgspec.Struct):
    tool: str | None = None


class _Session(msgspec.Struct):
    agent_id: _AgentId | str | None = None


class _Metadata(msgspec.Struct):
    """The second part of an authorship log, as far as it is read."""

    prompts: dict[str, _Session] | None = None
    sessions: dict[str, _Session] | None = None
    humans: dict[str, msgspec.Raw] | None = None


def read_note(text: str, commit: str = "") -> Attribution:
    """Parse an authorship log (git-ai standard 3.0.0).

    Lines that no entry names are people's, as are those of known people (`h_…`, `human`).

    >>> sessions = '{"sessions": {"s_c9": {"agent_id": {"tool": "cursor"}}}}'
    >>> note = "src/a.py\\n  s_c9::t_9f 1-2,7\\n  h_31 3-5\\n---\\n" + sessions
    >>> [tuple(span) for span in (read_note(note).lines or {})["src/a.py"]]
    [(1, 2, 'cursor'), (7, 7, 'cursor'), (3, 5, '')]

    Raises:
        InputError: the text is not an authorship log.
    """
    return next(attribution for _, attribution in read_notes({commit: text}))


def read_notes(texts: Mapping[str, str]) -> Iterator[tuple[str, Attribution]]:
    """Parse the authorship logs of several commits, by hash.

    A session keeps its key from commit to commit, so a log need not say whose it is if another
    does.

    Raises:
        InputError: a text is not an authorship log; says which.
    """
    attested: dict[str, list[str]] = {}
    own: dict[str, dict[str, str]] = {}
    agents: dict[str, str] = {}
    for commit, text in texts.items():
        rows = text.replace("\r\n", "\n").split("\n")
        divider = rows.index("---") if "---" in rows else len(rows)
        attested[commit], metadata = rows[:divider], "\n".join(rows[divider + 1 :])
        if divider == len(rows) and text.lstrip().startswith("{"):
            attested[commit], metadata = [], text
        with _naming(commit):
            decoded = msgspec.json.decode(metadata.strip() or "{}", type=_Metadata)
            own[commit] = _read_agents(decoded)
        agents |= {key: agent for key, agent in own[commit].items() if agent != UNNAMED}
    for commit, rows in attested.items():
        with _naming(commit):
            yield commit, Attribution("", "note", _read_attested(rows, agents | own[commit]))


@contextmanager
def _naming(commit: str) -> Generator[None]:
    """Name the commit whose note cannot be read."""
    try:
        yield
    except (msgspec.DecodeError, ValueError) as error:
        raise InputError(
            f"could not read the authorship log of commit {commit or '(unknown)'} in refs/notes/ai:"
            f" {error}"
        ) from error


def _read_attested(rows: Sequence[str], agents: Mapping[str, str]) -> dict[str, list[Span]]:
    """The spans of each file."""
    lines: dict[str, list[Span]] = {}
    path = ""
    for row in rows:
        if not row.strip():
            continue
        if not row.startswith((" ", "\t")):
            path = _read_path(row)
            continue
        key, _, ranges = row.strip().partition(" ")
        session = key.partition("::")[0]
        is_person = session == _PERSON or session.startswith("h_")
        agent = "" if is_person else agents.get(session, UNNAMED)
        lines.setdefault(path, []).extend(
            Span(*_parse_range(part), agent) for part in ranges.replace(" ", "").split(",")
        )
    return lines


def _read_agents(metadata: _Metadata) -> dict[str, str]:
    """The agent of each session; empty for a person."""
    agents: dict[str, str] = {}
    for key, session in {**(metadata.prompts or {}), **(metadata.sessions or {})}.items():
        tool = session.agent_id
        name = tool if isinstance(tool, str) else (tool.tool if tool else "") or ""
        agents[key] = "" if name.lower() == _PERSON else name_agent(name)
    return agents | dict.fromkeys(metadata.humans or (), "")


def _read_path(row: str) -> str:
    row = row.rstrip()
    if _QUOTED.fullmatch(row):
        return unquote_path(row.encode()) if "\\" in row else row[1:-1]
    return row.strip('"')


def _parse_range(text: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    return int(first), int(last if dash else first)


class _Named(msgspec.Struct):
    name: str | None = None


class _Revision(msgspec.Struct):
    revision: str | None = None


class _Contributor(msgspec.Struct):
    type: str = "ai"


class _Range(msgspec.Struct):
    start_line: int
    end_line: int
    contributor: _Contributor | None = None


class _Conversation(msgspec.Struct):
    ranges: list[_Range]
    contributor: _Contributor | None = None


class _TracedFile(msgspec.Struct):
    path: str
    conversations: list[_Conversation]


class _Record(msgspec.Struct):
    """An Agent Trace record, as far as it is read."""

    files: list[_TracedFile]
    tool: _Named | None = None
    vcs: _Revision | None = None
    timestamp: str | None = None


class Trace(NamedTuple):
    """The ranges of one file in an Agent Trace record."""

    revision: str
    """The commit at which its lines are counted; empty: unknown."""
    time: float | None
    """When it was written, in seconds since the epoch."""
    path: str
    spans: list[Span]


def read_traces(text: str) -> list[Trace]:
    """Parse Agent Trace records (version 0.1), one JSON object per line, in order of time.

    The agent is the record's tool; a model says nothing of the tool. People's ranges count too:
    inside an agent's, they are the exception.

    Raises:
        InputError: a line is not a record; says which.
    """
    traces = list[Trace]()
    for position, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                traces += _read_record(msgspec.json.decode(line, type=_Record))
            except (msgspec.DecodeError, ValueError) as error:
                raise InputError(
                    f"could not read Agent Trace record {position}: {error}"
                ) from error
    return sorted(traces, key=lambda trace: trace.time or 0.0)


def _read_record(record: _Record) -> Iterator[Trace]:
    agent = name_agent((record.tool.name if record.tool else "") or "")
    revision = (record.vcs.revision if record.vcs else "") or ""
    time = None
    if record.timestamp:
        written = datetime.fromisoformat(record.timestamp)
        time = (written if written.tzinfo else written.replace(tzinfo=UTC)).timestamp()
    for file in record.files:
        spans = [
            Span(part.start_line, part.end_line, "" if kind == _PERSON else agent)
            for conversation in file.conversations
            for part in conversation.ranges
            if (kind := _kind_of(part, conversation)) in ("ai", "mixed", _PERSON)
        ]
        people = [span for span in spans if not span.agent]
        path = file.path.removeprefix("./")
        yield Trace(revision, time, path, [span for span in spans if span.agent] + people)


def _kind_of(part: _Range, conversation: _Conversation) -> str:
    who = part.contributor or conversation.contributor
    return who.type if who else "ai"
