"""What became of edited code later in the log: kept, rewritten, committed, pushed, merged, taken
back.

Lines are followed through all later sessions of the same user. What a response itself writes and
rewrites on its way is no news; what is there when it ends counts.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple, cast

import msgspec

from upshot.hindsight.embedded.edits import Edit, Line
from upshot.hindsight.embedded.events import Event
from upshot.hindsight.embedded.timeline import TOOL, USER, Timeline
from upshot.records import ToolCall

_LOOK = 12
"""Messages after a command in which its output is looked for: calls may run side by side."""
_GIT = re.compile(r"\b(?:git|gh|jj)\b")
_TAKEN_BACK = re.compile(
    r"\bgit\s+(?:-C\s+\S+\s+)?(?:checkout\s+(?:HEAD\s+)?--\s+(?P<files>[^\n;&|]+)"
    r"|restore\s+(?!--staged)(?P<restored>[^\n;&|]+)|reset\s+--hard|revert\b|stash(?!\s+(?:pop|apply"
    r"|list|show|drop)))"
)
_WANTS_BACK = re.compile(
    r"\b(?:revert|undo|discard|throw (?:it|that|them|this) away|reset|restore|roll ?back|go back"
    r"|get rid|start over|drop (?:it|that|the)|remove)",
    re.IGNORECASE,
)
"""A person who wants something taken back."""
_COMMITS = re.compile(r"\bgit\s+(?:-C\s+\S+\s+)?commit\b")
_COMMITTED = re.compile(
    r"^\[[^\[\]\n]{1,200} (?:\(root-commit\) )?[0-9a-f]{7,40}\] .*", re.MULTILINE
)
_PUSHES = re.compile(r"\bgit\s+(?:-C\s+\S+\s+)?push\b|\bgh\s+pr\s+create\b")
_PUSHED = re.compile(
    r"^\s*(?:[0-9a-f]{7,40}\.\.\.?[0-9a-f]{7,40}|\* \[new branch\])\s.*->.*"
    r"|^https://\S+/(?:pull|merge_requests)/\d+\s*$",
    re.MULTILINE,
)
_MERGES = re.compile(r"\bgh\s+pr\s+merge\b|\bgit\s+merge\b")
_MERGED = re.compile(
    r"^.*(?:(?:squashed and |rebased and )?merged pull request|Fast-forward|Merge made by).*",
    re.MULTILINE | re.IGNORECASE,
)


class _Stage(NamedTuple):
    """How far work came on its way."""

    kind: str
    asks: re.Pattern[str]
    """The command."""
    answers: re.Pattern[str]
    """What the tool prints where it worked."""
    value: float


_STAGES = (
    _Stage("commit", _COMMITS, _COMMITTED, 0.4),
    _Stage("push", _PUSHES, _PUSHED, 0.6),
    _Stage("outcome", _MERGES, _MERGED, 0.7),
)
"""A commit is a step on the way, a merge is where it was going."""


class _Fate(NamedTuple):
    value: float
    """1: a later edit shows it and leaves it alone; -1: a later edit removes it."""
    at: int
    shown: str
    """What that edit shows of it: the line, or the file that was written without it."""


class _Log:
    """Lines of one user that are known to stand in their files."""

    def __init__(self) -> None:
        self.writers: dict[Line, set[int]] = {}
        """Positions of the messages that wrote a line."""
        self.files: dict[str, set[Line]] = {}

    def write(self, line: Line, place: int) -> None:
        self.writers.setdefault(line, set()).add(place)
        if line.file:
            self.files.setdefault(line.file, set()).add(line)

    def remove(self, line: Line) -> set[int]:
        """The messages that wrote it."""
        if line.file in self.files:
            self.files[line.file].discard(line)
        return self.writers.pop(line, set())

    def rest_of(self, file: str, content: frozenset[Line]) -> set[Line]:
        """Lines of a file that its new content lacks."""
        return self.files.get(file, set()) - content


def follow_edits(line: Timeline) -> list[Event]:
    """Events on responses that edited code, from what came later; in no order.

    `rewritten` and `kept` say which share of a response's lines later edits removed, or showed and
    left alone; `commit`, `push` and `outcome` (a merge) that it went on its way; `undo` that it was
    taken back before.
    """
    if not line.edits:
        return []
    commands = _find_commands(line)
    follower = _Follower(line)
    for place in sorted({*line.edits, *commands}, key=lambda place: int(line.rank[place])):
        if line.row_of[place] >= 0 and place in line.edits:
            follower.apply(line.edits[place], place)
        for command in commands.get(place, ()):
            follower.run(command, place)
    by_row: dict[int, list[int]] = {}
    for place in follower.written:
        by_row.setdefault(int(line.row_of[place]), []).append(place)
    for row, steps in by_row.items():
        follower.events += _edit_events(
            int(line.responses[row]), steps, follower.written, follower.fates
        )
    return follower.events


class _Follower:
    """What is known so far of everybody's lines, edit by edit."""

    def __init__(self, line: Timeline) -> None:
        self.line = line
        self.logs: dict[str, _Log] = {}
        self.written: dict[int, set[Line]] = {}
        """By position of the message that wrote them, what is there when its response ends."""
        self.fates: dict[int, dict[Line, _Fate]] = {}
        self.on_way: dict[int, dict[int, set[str]]] = {}
        """Of each session: the responses on their way, and how far they came."""
        self.events: list[Event] = []
        self.requests: list[int] = line.before(USER).tolist()

    def apply(self, edit: Edit, place: int) -> None:
        """An edit by the message at a position."""
        line, row = self.line, int(self.line.row_of[place])
        log = self.logs.setdefault(str(line.user[place]), _Log())
        self.on_way.setdefault(int(line.session[place]), {})[row] = set()
        gone = {one: one.text for one in edit.removed}
        for file in edit.written:
            gone |= dict.fromkeys(log.rest_of(file, edit.added | edit.shown), file)
        for one, shown in gone.items():
            for writer in log.remove(one):
                if line.row_of[writer] == row:
                    self.written[writer].discard(one)
                else:
                    self.fates.setdefault(writer, {})[one] = _Fate(-1.0, place, shown)
        shown_again = edit.shown | edit.added if edit.written else edit.shown
        for one in shown_again:
            for writer in log.writers.get(one, ()):
                if line.row_of[writer] != row:
                    self.fates.setdefault(writer, {})[one] = _Fate(1.0, place, one.text)
        for one in edit.added:
            if one in log.writers and edit.written:
                continue  # it stood there before
            log.write(one, place)
            self.written.setdefault(place, set()).add(one)

    def run(self, command: str, place: int) -> None:
        """A git command by the message at a position."""
        line, row = self.line, int(self.line.row_of[place])
        on_way = self.on_way.setdefault(int(line.session[place]), {})
        for stage in _STAGES:
            output = (
                _find_output(line, place, stage.answers) if stage.asks.search(command) else None
            )
            for other in sorted(on_way) if output is not None else ():
                if output is not None and stage.kind not in on_way[other]:
                    on_way[other].add(stage.kind)
                    self._note(other, Event(0, output[0], stage.kind, stage.value, output[1]))
        match = _TAKEN_BACK.search(command)
        request = self.requests[row] if row >= 0 else -1
        if match is None or request < 0 or not _WANTS_BACK.search(line.text[request]):
            return  # an agent also cleans up after itself
        files = match.group("files") or match.group("restored")
        for other in sorted(on_way):
            lines = {one for step in line.steps_of(other) for one in self.written.get(step, ())}
            if other != row and not on_way[other] and _touches(lines, files):
                on_way[other].add("undo")
                self._note(other, Event(0, place, "undo", -1.0, match.group()))

    def _note(self, row: int, event: Event) -> None:
        self.events.append(event._replace(response=int(self.line.responses[row])))


def _edit_events(
    response: int,
    steps: list[int],
    written: dict[int, set[Line]],
    fates: dict[int, dict[Line, _Fate]],
) -> Iterator[Event]:
    """The share of a response's lines that were rewritten, and that were kept."""
    sizes = {place: max(1, len(written[place] | set(fates.get(place, ())))) for place in steps}
    for kind, sign in (("rewritten", -1.0), ("kept", 1.0)):
        matches = {
            place: [fate for fate in fates.get(place, {}).values() if fate.value == sign]
            for place in steps
        }
        some = [fate for mine in matches.values() for fate in mine]
        if some:
            best = max(some, key=lambda fate: (len(fate.shown), fate.shown, fate.at))
            shares = tuple(
                (place, len(mine) / sizes[place]) for place, mine in matches.items() if mine
            )
            value = sign * len(some) / sum(sizes.values())
            yield Event(response, best.at, kind, value, best.shown, shares)


def _find_commands(line: Timeline) -> dict[int, list[str]]:
    """Shell commands with git in them, by position."""
    commands: dict[int, list[str]] = {}
    for place, calls in line.calls.items():
        some = [text for call in calls if (text := _command_of(call))]
        if some:
            commands[place] = some
    return commands


def _command_of(call: ToolCall) -> str:
    """The shell command of a call, where it calls git; else empty."""
    if not _GIT.search(call.arguments):
        return ""
    try:
        given = msgspec.json.decode(call.arguments, type=dict[str, Any])
    except msgspec.DecodeError:
        return call.arguments
    for name in ("command", "cmd", "script", "CommandLine", "input"):
        value = given.get(name)
        if isinstance(value, list):
            return " ".join(map(str, cast(list[Any], value)))
        if isinstance(value, str):
            return value
    return ""


def _touches(lines: Collection[Line], files: str | None) -> bool:
    """Whether a command that names files is about these lines."""
    if files is None or files.strip() in (".", "*"):
        return bool(lines)
    names = {name.rstrip("/").rsplit("/", 1)[-1].strip("'\"") for name in files.split()}
    return any(one.file.rsplit("/", 1)[-1] in names for one in lines)


def _find_output(line: Timeline, place: int, pattern: re.Pattern[str]) -> tuple[int, str] | None:
    """Where a tool prints that a command worked, and the words."""
    for at in range(place + 1, min(place + 1 + _LOOK, len(line.role))):
        if line.session[at] != line.session[place]:
            break
        if line.role[at] == TOOL and (match := pattern.search(line.text[at])) is not None:
            return at, match.group().strip()
    return None
