"""Claude Code's logs: sessions (`~/.claude/projects/*/*.jsonl`), files of sub-agents, sessions of
Claude Code on the web, and what `claude -p --output-format json` or `stream-json` prints, and
Cursor's agent likewise.

A session is a tree by `parentUuid`: a rewind leaves a branch. Tool results come as user lines; they
are the tools' messages. One answer is written as several lines of one `message.id`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from upshot.errors import RecordError
from upshot.io.files import Input
from upshot.io.json_values import as_object, is_array, is_object
from upshot.io.streams import Folder
from upshot.records import BadRecord, RawConversation, RawMessage, ToolCall
from upshot.sources import fields
from upshot.sources.agent_steps import (
    DENIED,
    News,
    Part,
    Step,
    build_conversations,
    find_exit_code,
    join_turn,
    split_denial,
    split_turn,
)
from upshot.sources.detection import Fit, Sample, fit_records
from upshot.sources.history import is_same
from upshot.sources.messages import (
    ToolResult,
    make_tool_message,
    read_content,
    read_output,
    to_json,
)
from upshot.sources.notes import skip
from upshot.sources.reading import describe, object_records
from upshot.sources.speakers import mark_author

NAME = "claude-code"
SHARED_IDS = True
"""A message that was copied into another session keeps its id."""
_KINDS = frozenset(
    {
        "user",
        "assistant",
        "system",
        "summary",
        "progress",
        "attachment",
        "result",
        "queue-operation",
        "file-history-snapshot",
        "permission-mode",
        "mode",
        "agent-name",
        "custom-title",
        "ai-title",
        "last-prompt",
        "tag",
        "pr-link",
        "frame-link",
        "worktree-state",
        "bridge-session",
        "stream_event",
        "control_request",
        "control_response",
        "rate_limit_event",
        "tool_progress",
        "auth_status",
        "attribution-snapshot",
        "content-replacement",
        "marble-origami-commit",
        "started",
        "relocated",
        "atis-latch",
    }
)
"""`type` of the records that versions 1.0 to 2.1 write."""
_MAX_BRANCHES = 20
"""Of a session that are noted; one on more has no branch of its own."""
_MARKS = ("sessionId", "session_id", "uuid", "leafUuid", "messageId", "agentId")
_PLAN = re.compile(r"\s*Implement the following plan:")
"""A person's go-ahead for a plan, in words of the harness."""
_SHELL_OUTPUT = re.compile(r"<bash-(stdout|stderr)>(.*?)</bash-\1>", re.DOTALL)
_MACHINE_ORIGIN = re.compile(r"notification|hook|coordinator|auto|agent|team|system|channel|cron")
_BLOCK_KINDS = frozenset({"tool_result", "text", "image"})
"""What some versions write for a queued message instead of its words."""


def fit(sample: Sample) -> Fit:
    """How many of a file's first records are lines of a session or of a run's output."""
    return fit_records(sample, _find_misfit)


def _find_misfit(record: Any) -> str:
    if not is_object(record):
        return "not an object"
    lines = _lines_of(record)
    if lines is not None:
        return _find_misfit(lines[0]) if lines else "no `loglines`"
    kind = record.get("type")
    if kind in ("user", "assistant"):
        message = record.get("message")
        if not is_object(message) or "content" not in message:
            return "no `message.content`"
        marked = any(name in record for name in (*_MARKS, "timestamp", "parent_tool_use_id"))
        return "" if marked else "no `sessionId`"
    if kind not in _KINDS:
        return "its `type` is none of Claude Code's"
    return "" if any(name in record for name in _MARKS) else "no `sessionId`"


def is_side_file(sample: Sample, folder: Folder) -> bool:
    """Whether a file only describes sessions: an index of them, or facts of a sub-agent."""
    del folder
    if len(sample.records) != 1 or not is_object(record := sample.records[0]):
        return False
    entries = record.get("entries")
    is_index = is_array(entries) and all(is_object(e) and "sessionId" in e for e in entries)
    return (is_index and "version" in record) or ("agentType" in record and len(record) <= 6)


def _lines_of(record: Mapping[str, Any]) -> Sequence[Any] | None:
    """The lines of a session that is one object: an export from the web."""
    for name in ("loglines", "data", "events"):
        lines = record.get(name)
        if is_array(lines) and "type" not in record and (name == "loglines" or _is_page(lines)):
            return lines
    return None


def _is_page(lines: Sequence[Any]) -> bool:
    return bool(lines) and is_object(lines[0]) and lines[0].get("type") in _KINDS


def read(source: Input) -> Iterator[RawConversation | BadRecord]:
    """The sessions of a file, each with its branches and sub-agents."""
    log = _Log()
    for position, value in object_records(source):
        if isinstance(value, BadRecord):
            yield value
            continue
        lines = _lines_of(value)
        session = str(value.get("id") or value.get("session_id") or "") if lines else ""
        for number, record in enumerate([value] if lines is None else lines, 1):
            try:
                log.add(record, session)
            except Exception as error:  # noqa: BLE001 - whatever a line holds is one bad record
                place = position if lines is None else f"{position}, line {number}"
                yield BadRecord(source.name, place, describe(error))
    yield from log.make_conversations()


class _Line(Step):
    """One line of a session."""

    def __init__(
        self,
        record: Mapping[str, Any],
        name: str,
        messages: Sequence[RawMessage] = (),
        news: Sequence[News] = (),
    ) -> None:
        super().__init__(name, _read_id(record, "parentUuid"), messages, news)
        self.logical = _read_id(record, "logicalParentUuid")
        self.sidechain = record.get("isSidechain") is True
        self.agent = _read_id(record, "parent_tool_use_id")
        if self.sidechain and not self.agent:
            self.agent = _read_id(record, "agentId")
        self.response = ""
        self.starts_turn = False
        """Whether another line of this kind with the same parent is an alternative to it."""
        self.typed = False
        self.has_parent = bool(self.parent)
        self.stamp = ""
        """Kind and time, as the log has them."""

    def is_copied_by(self, line: _Line, stamp: str) -> bool:
        """Whether a line of the same id is this one once more."""
        if stamp and self.stamp:
            return stamp == self.stamp
        ours, theirs = self.messages, line.messages
        return len(ours) == len(theirs) and all(map(is_same, ours, theirs))


def _read_id(record: Mapping[str, Any], name: str) -> str:
    value = record.get(name)
    return value if isinstance(value, str) else ""


class _Facts(NamedTuple):
    """What the lines of a session say of it."""

    metadata: dict[str, Any]
    user: str = ""


class _Log:
    """The lines of a file, by session, as they come."""

    def __init__(self) -> None:
        self.sessions: dict[str, list[_Line]] = {}
        self.facts: dict[str, _Facts] = {}
        self.owners: dict[str, str] = {}
        """Session in which each id was first."""
        self.named: dict[str, _Line] = {}
        self.withdrawn: set[str] = set()
        self.spawned: dict[str, str] = {}
        """Id of the call that started each sub-agent."""
        self.queues: dict[str, list[tuple[str, float | None]]] = {}
        self.texts: dict[str, set[str]] = {}
        self.number = 0

    def add(self, record: Any, session: str = "") -> None:
        """Take one line in."""
        if not is_object(record):
            raise RecordError("not an object")
        session = _read_id(record, "sessionId") or _read_id(record, "session_id") or session
        self._note_facts(record, session)
        kind = str(record.get("type") or "")
        if kind == "queue-operation":
            self._handle_queue(record, session)
            return
        if (inner := self._unwrap_progress(record, session)) is not None:
            self.add(inner, session)
        self.number += 1
        name = _read_id(record, "uuid")
        line = _read_line(record, kind, name or f"line {self.number}")
        if line is None:
            return
        stamp = f"{kind} {record['timestamp']}" if "timestamp" in record else ""
        if (earlier := self.named.get(name)) is not None:
            if earlier.is_copied_by(line, stamp):
                skip(NAME, "copies of lines")
                return
            line.name = f"{name} {self.number}"
        elif name:
            line.stamp = stamp
            self.named[name] = line
            self.owners[name] = session
        if is_object(message := record.get("message")) and "content" not in message:
            raise RecordError("its `message` has no `content`")
        if kind == "result" and self._has_text(session, line):
            return
        self._append(session, line)

    def _unwrap_progress(self, record: Mapping[str, Any], session: str) -> Mapping[str, Any] | None:
        """The line of a sub-agent that a report of its progress holds."""
        data = record.get("data")
        if record.get("type") != "progress" or not is_object(data):
            return None
        inner, agent = data.get("message"), _read_id(data, "agentId")
        if not agent or not is_object(inner) or inner.get("type") not in ("user", "assistant"):
            return None
        if call := _read_id(record, "parentToolUseID"):
            self.spawned.setdefault(agent, call)
        return {**inner, "isSidechain": True, "agentId": agent, "sessionId": session}

    def _append(self, session: str, line: _Line) -> None:
        self.sessions.setdefault(session, []).append(line)
        texts = self.texts.setdefault(session, set())
        texts.update(m.content.strip() for m in line.messages if m.role in ("user", "assistant"))

    def _has_text(self, session: str, line: _Line) -> bool:
        return all(m.content.strip() in self.texts.get(session, ()) for m in line.messages)

    def _note_facts(self, record: Mapping[str, Any], session: str) -> None:
        facts = self.facts.setdefault(session, _Facts({}))
        for name in ("cwd", "gitBranch", "version"):
            if isinstance(record.get(name), str) and record[name]:
                facts.metadata.setdefault(name, record[name])
        branch, first = record.get("gitBranch"), facts.metadata.get("gitBranch")
        if isinstance(branch, str) and branch and branch != first:
            branches: list[str] = facts.metadata.setdefault("gitBranches", [first])
            if branch not in branches and len(branches) < _MAX_BRANCHES:
                branches.append(branch)
        if not facts.user and (user := _read_id(record, "userId")):
            self.facts[session] = facts._replace(user=user)
        for name in ("supersedesUuids", "retractedMessageUuids"):
            if is_array(names := record.get(name)):
                self.withdrawn.update(name for name in names if isinstance(name, str))
        result, message = record.get("toolUseResult"), record.get("message")
        if is_object(result) and _read_id(result, "agentId") and is_object(message):
            parts = message.get("content")
            for part in parts if is_array(parts) else ():
                if is_object(part) and isinstance(part.get("tool_use_id"), str):
                    self.spawned[str(result["agentId"])] = part["tool_use_id"]

    def _handle_queue(self, record: Mapping[str, Any], session: str) -> None:
        """What was typed while the agent worked: it counts once it is taken out of the queue."""
        waiting = self.queues.setdefault(session, [])
        operation, content = record.get("operation"), record.get("content")
        skip(NAME, f"queue-operation: {operation}")
        if operation == "enqueue" and isinstance(content, str) and content.strip():
            if content not in _BLOCK_KINDS:
                waiting.append((content, fields.epoch(record.get("timestamp"))))
        elif operation == "popAll":  # back into the input line, to be edited
            waiting.clear()
        elif waiting and operation in ("remove", "dequeue"):
            content, time = waiting.pop(0)
            self.number += 1
            line = _Line({}, f"queued {self.number}", [RawMessage("user", content, time)])
            self._append(session, line)

    def make_conversations(self) -> Iterator[RawConversation]:
        """All sessions, main lines first."""
        for session, waiting in self.queues.items():
            for content, time in waiting:
                self.number += 1
                line = _Line({}, f"queued {self.number}", [RawMessage("user", content, time)])
                if not self._has_text(session, line):
                    self._append(session, line)
        for names in self._join_sessions():
            lines = [line for name in names for line in self.sessions[name]]
            if any(line.messages for line in lines):
                yield from self._make_session(names, lines)

    def _join_sessions(self) -> list[list[str]]:
        """Sessions that continue one another in this file, together."""
        groups = {name: [name] for name in self.sessions}
        for name, lines in self.sessions.items():
            for line in lines:
                other = self.owners.get(line.parent, name)
                if groups.get(other, groups[name]) is not groups[name]:
                    joined = groups[other] + groups[name]
                    groups.update(dict.fromkeys(joined, joined))
        return list({id(group): group for group in groups.values()}.values())

    def _make_session(self, names: Sequence[str], lines: list[_Line]) -> Iterator[RawConversation]:
        session = names[-1]
        facts = self.facts.get(session, _Facts({}))
        for line in lines:
            if line.name in self.withdrawn and line.messages:
                skip(NAME, "answers that were withdrawn")
                line.messages.clear()
        main, agents = _split_agents(lines)
        base = RawConversation(
            (),
            session,
            facts.user,
            source=NAME,
            metadata=facts.metadata,
            refs={"session": session} if session else {},
        )
        trunk: Sequence[RawMessage] = ()
        if any(line.messages for line in main):
            conversations = _make_tree(base, _drop_delivered(main))
            trunk = conversations[0].messages
            yield from conversations
        for agent, own in agents.items():
            if any(line.messages for line in own):
                yield from self._make_agent(base, trunk, agent, own)

    def _make_agent(
        self, base: RawConversation, trunk: Sequence[RawMessage], agent: str, lines: list[_Line]
    ) -> Iterator[RawConversation]:
        """A sub-agent's conversation: nobody typed its first message."""
        for line in lines:
            line.messages = [
                msgspec.structs.replace(m, author="machine", spans=())
                if m.role == "user" and not line.typed
                else m
                for m in line.messages
            ]
        is_own = base.id.startswith("agent-")
        child = msgspec.structs.replace(
            base,
            id=base.id if is_own else f"{base.id}~{agent}",
            parent="" if is_own else base.id,
            parent_at=_find_call(trunk, self.spawned.get(agent, agent), lines),
            refs={**base.refs, "agent": agent},
        )
        yield from _make_tree(child, lines)


def _find_call(trunk: Sequence[RawMessage], call_id: str, lines: Sequence[_Line]) -> int:
    """Index of the message whose call started a sub-agent; -1: unknown."""
    prompt = next((m.content for line in lines for m in line.messages if m.role == "user"), "")
    words = to_json(prompt)[1:-1]
    for index, message in enumerate(trunk):
        for call in message.tool_calls:
            if call.id == call_id or (words and words in call.arguments):
                return index
    return -1


def _read_line(record: Mapping[str, Any], kind: str, name: str) -> _Line | None:
    time = fields.epoch(record.get("timestamp") or record.get("created_at"))
    if kind in ("user", "assistant"):
        message = record.get("message")
        if not is_object(message):
            raise RecordError("needs an object `message`")
        if kind == "assistant":
            return _read_answer(record, message, name, time)
        return _read_turn(record, message, name, time)
    if kind == "attachment":
        return _read_attachment(record, name, time)
    if kind == "result" and isinstance(record.get("result"), str) and record["result"].strip():
        line = _Line(record, name, [RawMessage("assistant", record["result"], time)])
        line.starts_turn = True
        return line
    if kind == "tool_call" and record.get("subtype") == "completed":
        return _Line(record, name, _read_run(record, time))
    content = record.get("content")
    if kind == "system" and record.get("subtype") == "local_command" and isinstance(content, str):
        return _Line(record, name, [join_turn([Part(content)], time, name)])
    skip(NAME, f"{kind or 'without a type'}: {record['subtype']}" if "subtype" in record else kind)
    return _Line(record, name) if "uuid" in record else None


def _read_run(record: Mapping[str, Any], time: float | None) -> list[RawMessage]:
    """A call and its result in one, as Cursor's agent prints them."""
    name = _read_id(record, "call_id")
    for kind, run in as_object(record.get("tool_call")).items():
        if is_object(run) and is_object(run.get("args")):
            result = run.get("result")
            outcome = next(iter(result.values()), "") if is_object(result) else result
            failed = is_object(result) and next(iter(result), "") != "success"
            call = ToolCall(kind.removesuffix("ToolCall"), to_json(run["args"]), name)
            output = ToolResult(read_output(outcome), name, call.name, failed)
            answer = RawMessage("assistant", "", time, tool_calls=(call,))
            return [answer, make_tool_message(output, time=time)]
    skip(NAME, "tool_call: without its arguments")
    return []


def _read_attachment(record: Mapping[str, Any], name: str, time: float | None) -> _Line:
    inner = record.get("attachment")
    if not is_object(inner) or inner.get("type") != "queued_command":
        skip(NAME, f"attachment: {inner.get('type') if is_object(inner) else 'none'}")
        return _Line(record, name)
    text = read_content(inner.get("prompt")).text
    is_machine = inner.get("commandMode") not in (None, "prompt", "bash") or _is_machine(inner)
    part = Part(text, "machine" if is_machine else "person")
    return _Line(record, name, [join_turn([part], time, name)] if text.strip() else ())


def _read_answer(
    record: Mapping[str, Any], message: Mapping[str, Any], name: str, time: float | None
) -> _Line:
    parts = read_content(message.get("content"))
    model = message.get("model")
    model = model if isinstance(model, str) else ""
    messages: list[RawMessage] = []
    if record.get("isApiErrorMessage") is True or model == "<synthetic>":
        if parts.text:
            messages.append(RawMessage("system", parts.text, time, refs={"message": name}))
    elif parts.text or parts.calls:
        messages.append(
            RawMessage(
                "assistant",
                parts.text,
                time,
                model=model,
                tool_calls=parts.calls,
                refs={"message": name},
            )
        )
    messages += [make_tool_message(result, time=time) for result in parts.results]
    line = _Line(record, name, messages)
    line.response = _read_id(message, "id")
    line.starts_turn = True
    return line


def _read_turn(
    record: Mapping[str, Any], message: Mapping[str, Any], name: str, time: float | None
) -> _Line:
    content = message.get("content")
    blocks = content if is_array(content) else [content]
    messages: list[RawMessage] = []
    texts: list[str] = []
    news: list[News] = []
    words = ""
    for block in blocks:
        parts = read_content(block)
        if parts.text:
            texts.append(parts.text)
        for result in parts.results:
            tool = make_tool_message(result, time=time)
            denial = split_denial(result.text, is_denied="toolDenialKind" in record)
            if denial is not None:
                tool = msgspec.structs.replace(tool, content=denial[0], status=None)
                words = denial[1]
                news.append(DENIED)
            elif tool.status and (code := find_exit_code(result.text)) is not None:
                tool = msgspec.structs.replace(tool, status=code)
            messages.append(msgspec.structs.replace(tool, refs={**tool.refs, "message": name}))
    if words:
        messages.append(RawMessage("user", words, time, refs={"message": name}))
    outputs, texts = _take_outputs(texts, time, name)
    messages += outputs
    turn: list[Part] = []
    for text in texts:
        pieces, further = split_turn(text, is_machine=_is_machine(record))
        turn += pieces
        news += further
    if any(part.text.strip() for part in turn):
        messages.append(mark_author(join_turn(turn, time, name)))
    line = _Line(record, name, messages, news)
    origin = record.get("origin")
    line.typed = is_object(origin) and origin.get("kind") == "human"
    line.starts_turn = not any(m.role == "tool" for m in messages) and any(
        m.role == "user" and (m.author != "machine" or _PLAN.match(m.content)) for m in messages
    )
    return line


def _take_outputs(
    texts: Sequence[str], time: float | None, name: str
) -> tuple[list[RawMessage], list[str]]:
    """What a command that the person ran printed, and the other texts."""
    outputs: list[RawMessage] = []
    rest: list[str] = []
    for text in texts:
        is_output = text.lstrip().startswith("<bash-std") and text.count("<bash-std") <= 2
        pieces = _SHELL_OUTPUT.findall(text) if is_output else []
        if not pieces or _SHELL_OUTPUT.sub("", text).strip():
            rest.append(text)
            continue
        output = "\n".join(inner for _, inner in pieces if inner.strip())
        outputs.append(RawMessage("tool", output, time, name="bash", refs={"message": name}))
    return outputs, rest


def _is_machine(record: Mapping[str, Any]) -> bool:
    """Whether a harness wrote the texts of a user's line."""
    origin = record.get("origin")
    kind = str(origin.get("kind") or "") if is_object(origin) else ""
    return (
        record.get("isMeta") is True
        or record.get("isCompactSummary") is True
        or isinstance(record.get("planContent"), str)
        or _MACHINE_ORIGIN.search(kind) is not None
    )


def _split_agents(lines: Sequence[_Line]) -> tuple[list[_Line], dict[str, list[_Line]]]:
    """The main lines, and those of each sub-agent.

    A tree is a sub-agent's where all its messages are marked as sidechain.
    """
    roots: dict[str, str] = {}
    members: dict[str, list[_Line]] = {}
    by_name = {line.name: line for line in lines}
    previous: dict[str, str] = {}
    for line in lines:
        parent = by_name.get(line.parent)
        if line.agent:
            root = f"agent {line.agent}"
        elif parent is None or (line.sidechain and not parent.sidechain):
            is_linear = line.sidechain and not line.has_parent and line.typed
            root = previous.get("side", line.name) if is_linear else line.name
        else:
            root = roots.get(parent.name, line.name)
        roots[line.name] = root
        members.setdefault(root, []).append(line)
        if line.sidechain:
            previous["side"] = root
    main: set[str] = set()
    agents: dict[str, list[_Line]] = {}
    for root, own in members.items():
        marked = [line.sidechain or bool(line.agent) for line in own if line.messages]
        if marked and all(marked):
            agents[root.removeprefix("agent ")] = own
        else:
            main.update(line.name for line in own)
    return [line for line in lines if line.name in main], agents


def _drop_delivered(lines: list[_Line]) -> list[_Line]:
    """Without queued messages that came as a turn of their own as well."""
    delivered = {
        m.content.strip()
        for line in lines
        if line.parent
        for m in line.messages
        if m.role == "user"
    }
    return [
        line
        for line in lines
        if not line.name.startswith("queued ")
        or not any(m.content.strip() in delivered for m in line.messages)
    ]


def _make_tree(base: RawConversation, lines: Sequence[_Line]) -> list[RawConversation]:
    """The main line of a session and its branches."""
    steps = _prune(_Tree(lines).steps)
    leaf = next((step.name for step in reversed(steps) if step.messages), "")
    messages = [m for step in steps for m in step.messages]
    base = msgspec.structs.replace(
        base,
        started_at=next((m.time for m in messages if m.time is not None), None),
        model=next((m.model for m in messages if m.model), ""),
    )
    return build_conversations(base, steps, leaf)


def _prune(steps: Sequence[_Line]) -> list[_Line]:
    """Without lines that hold no message and lead to none."""
    needed: set[str] = set()
    for step in reversed(steps):
        if step.messages or step.name in needed:
            needed.update((step.name, step.parent))
    return [step for step in steps if step.name in needed]


class _Tree:
    """Lines put in their places.

    A log's tree forks where nothing was taken back: each of several calls of one answer is a line,
    and its result hangs from it. Such lines follow one another; only turns that a person or the
    model began anew at the same place are alternatives.
    """

    def __init__(self, lines: Sequence[_Line]) -> None:
        self.steps: list[_Line] = []
        self.places: dict[str, _Line] = {}
        """The step that holds each line."""
        self.follower: dict[str, _Line] = {}
        """The step that goes on from each, where that is no alternative."""
        self.turns: dict[str, list[_Line]] = {}
        self.responses: dict[str, _Line] = {}
        self.calls: set[str] = set()
        is_tree = any(line.has_parent for line in lines)
        last: _Line | None = None
        for line in lines:
            last = self._place(line, last, is_tree)
        self.steps = self._in_order()

    def _place(self, line: _Line, last: _Line | None, is_tree: bool) -> _Line:
        parent = self.places.get(line.parent) or self.places.get(line.logical)
        earlier = self.responses.get(line.response) if line.response else None
        if earlier is not None:
            parent = earlier
        elif parent is None and last is not None:
            is_restart = is_tree and line.starts_turn and not line.response and line.parent == ""
            parent = None if is_restart else last
        end = self._end_of(parent) if parent is not None else None
        goes_on = not line.starts_turn or earlier is not None
        if goes_on and earlier is not None:
            self._drop_repeats(line, end)
        if end is not None and earlier is not None and end.response == line.response:
            _merge_answers(end, line)
            self.places[line.name] = end
            return end
        line.parent = end.name if end is not None else ""
        if end is not None and goes_on:
            for turn in self.turns.pop(end.name, []):
                turn.parent = line.name
                self.turns.setdefault(line.name, []).append(turn)
            self.follower[end.name] = line
        elif end is not None:
            self.turns.setdefault(end.name, []).append(line)
        self.steps.append(line)
        self.places[line.name] = line
        if line.response:
            self.responses[line.response] = line
            self.calls.update(c.id for m in line.messages for c in m.tool_calls if c.id)
        return line

    def _end_of(self, line: _Line) -> _Line:
        end = line
        while end.name in self.follower:
            end = self.follower[end.name]
        while line is not end:  # the next way along here is short
            following = self.follower[line.name]
            self.follower[line.name] = end
            line = following
        return end

    def _drop_repeats(self, line: _Line, end: _Line | None) -> None:
        """Leave out calls that stand in another line of the same answer."""
        del end
        for index, message in enumerate(line.messages):
            calls = tuple(c for c in message.tool_calls if not c.id or c.id not in self.calls)
            self.calls.update(c.id for c in calls if c.id)
            line.messages[index] = msgspec.structs.replace(message, tool_calls=calls)
        line.messages = [m for m in line.messages if m.content or m.tool_calls]

    def _in_order(self) -> list[_Line]:
        """Parents before their children, else as they came."""
        by_parent: dict[str, list[_Line]] = {}
        for step in self.steps:
            by_parent.setdefault(step.parent, []).append(step)
        ordered: list[_Line] = []
        visited: set[str] = set()
        for step in self.steps:
            waiting = [step]
            while waiting:
                current = waiting.pop()
                if current.name in visited:
                    continue
                parent = self.places.get(current.parent)
                if parent is not None and parent.name not in visited and parent is not current:
                    waiting += [current, parent]
                    if len(waiting) > len(self.steps) + 2:
                        raise RecordError("a message is its own ancestor")
                    continue
                visited.add(current.name)
                ordered.append(current)
        return ordered


def _merge_answers(step: _Line, line: _Line) -> None:
    """Add a line of the same answer: what is new, or what has grown."""
    for message in line.messages:
        if not step.messages or step.messages[-1].role != message.role:
            step.messages.append(message)
            continue
        old = step.messages[-1]
        step.messages[-1] = msgspec.structs.replace(
            old,
            content=_merge_texts(old.content, message.content),
            tool_calls=_merge_calls(old.tool_calls, message.tool_calls),
            model=old.model or message.model,
        )


def _merge_texts(old: str, new: str) -> str:
    """The two texts; of a text that has grown, the longer.

    >>> _merge_texts("Hel", "Hello there."), _merge_texts("One.", "Two.")
    ('Hello there.', 'One.\\nTwo.')
    """
    if not new or new == old or old.endswith("\n" + new):
        return old
    if new.startswith(old):
        return new
    head, _, tail = old.rpartition("\n")
    if tail and head and new.startswith(tail):
        return f"{head}\n{new}"
    return f"{old}\n{new}"


def _merge_calls(old: Sequence[ToolCall], new: Sequence[ToolCall]) -> tuple[ToolCall, ...]:
    return (*old, *(call for call in new if call not in old))
