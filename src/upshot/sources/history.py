"""Histories that are not one straight line: trees, repeats, windows, request logs, compaction.

Every reader hands over what its log holds; the rules are here. The main line is what the person
last saw. What they left is a branch: it shares a prefix (`branch_of`, `branch_at`), and its first
own response carries a signal that it was taken back. A message that a log repeats is there once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from upshot.errors import RecordError
from upshot.records import RawConversation, RawMessage, Signal, ToolCall
from upshot.records.signals import make_signal
from upshot.sources.notes import note

Taking = Literal["undo", "regenerate"]
_EDITED = -0.3
"""Value of `regenerate` where the request was edited: the fault may be the request's."""
_REGENERATED = -0.6
"""Where the same request was answered again."""
MIN_WINDOW = 2
"""Messages that two windows must share to be parts of one conversation; one is a greeting."""


class Node(NamedTuple):
    """One node of a tree of messages."""

    id: str
    parent: str
    """Empty, or not in the tree: a root."""
    messages: tuple[RawMessage, ...] = ()
    """Those that the node holds; a node without any only connects."""


class Line(NamedTuple):
    """One way through a tree."""

    messages: tuple[RawMessage, ...]
    leaf: str
    """Id of its last node."""
    branch_at: int = 0
    """Of a branch: index of the first message that the line it left does not share."""
    origin: str = ""
    """Leaf of the line that a branch left; empty: the main line."""


def unfold(
    nodes: Iterable[Node], leaf: str = "", taking: Taking = "regenerate"
) -> tuple[Line, list[Line], int]:
    """The main line of a tree, its branches, and where the first of them left it (-1: none did).

    `leaf`: the node that the person saw last; empty: the last leaf in the order given. `taking`:
    how what is in a branch was taken back.

    Raises:
        RecordError: the nodes form a circle.
    """
    tree = {node.id: node for node in nodes}
    parents = {node.parent for node in tree.values()}
    leaves = [name for name in tree if name not in parents]
    if not leaves:
        raise RecordError("its messages have no last one: they form a circle")
    main = leaf if leaf in tree else leaves[-1]
    main = _descend(tree, main)
    trunk = _trace(tree, main)
    lines = {main: Line(tuple(m for name in trunk for m in tree[name].messages), main)}
    owners = dict.fromkeys(trunk, main)
    fork = -1
    for other in leaves:
        path = _trace(tree, other)
        shared = next((i for i, name in enumerate(path) if name not in owners), len(path))
        own = [message for name in path[shared:] for message in tree[name].messages]
        if not own:
            continue
        origin = owners[path[shared - 1]] if shared else main
        before = sum(len(tree[name].messages) for name in path[:shared])
        prefix = lines[origin].messages[:before]
        time = next((m.time for m in lines[main].messages[before:] if m.time is not None), None)
        if origin == main:
            fork = before if fork < 0 else min(fork, before)
        lines[other] = Line(
            (*prefix, *take_back(own, before, taking, time)),
            other,
            before,
            "" if origin == main else origin,
        )
        owners.update(dict.fromkeys(path[shared:], other))
    if lost := sum(bool(node.messages) for node in tree.values() if node.id not in owners):
        note("messages that are their own ancestors, and were left out", lost)
    return lines.pop(main), list(lines.values()), fork


def _descend(tree: Mapping[str, Node], start: str) -> str:
    """The last leaf below a node, by the order of the tree."""
    children: dict[str, str] = {}
    for node in tree.values():
        children[node.parent] = node.id
    visited: set[str] = set()
    while start in children and start not in visited:
        visited.add(start)
        start = children[start]
    return start


def _trace(tree: Mapping[str, Node], leaf: str) -> list[str]:
    path: list[str] = []
    visited: set[str] = set()
    while leaf in tree:
        if leaf in visited:
            raise RecordError("a message is its own ancestor")
        visited.add(leaf)
        path.append(leaf)
        leaf = tree[leaf].parent
    return path[::-1]


def take_back(
    messages: Sequence[RawMessage], at: int, taking: Taking, time: float | None = None
) -> list[RawMessage]:
    """The same, their first response marked as taken back; `at`: index of the first of them."""
    taken = list(messages)
    for offset, message in enumerate(messages):
        if message.role == "assistant":
            if taking == "undo":
                signal = make_signal("undo", at + offset, time=time)
            else:
                value = _REGENERATED if offset == 0 else _EDITED
                signal = Signal("regenerate", value, at + offset, "", time)
            taken[offset] = msgspec.structs.replace(message, signals=(*message.signals, signal))
            break
    return taken


def make_conversations(
    base: RawConversation, nodes: Iterable[Node], leaf: str = "", taking: Taking = "regenerate"
) -> list[RawConversation]:
    """The main line with what `base` says of it, and its branches.

    Raises:
        RecordError: the nodes form a circle, or hold no messages.
    """
    line, branches, fork = unfold(nodes, leaf, taking)
    if not line.messages:
        raise RecordError("it has no messages")
    ids = {"": base.id}
    for branch in branches:
        name = f"{base.id}~{branch.leaf[:12]}"
        ids[branch.leaf] = f"{base.id}~{branch.leaf}" if name in ids.values() else name
    return [
        msgspec.structs.replace(base, messages=point_signals(line.messages), fork=fork),
        *(
            msgspec.structs.replace(
                base,
                messages=point_signals(branch.messages),
                id=ids[branch.leaf],
                branch_of=ids[branch.origin],
                branch_at=branch.branch_at,
                fork=-1,
            )
            for branch in branches
        ),
    ]


def point_signals(messages: Iterable[RawMessage]) -> tuple[RawMessage, ...]:
    """The messages, what a person said of one (a thumb, a rating, a comment) pointing at itself."""
    return tuple(
        msgspec.structs.replace(
            message,
            signals=tuple(
                signal
                if signal.kind in ("undo", "regenerate", "interrupt")
                else msgspec.structs.replace(signal, at=index)
                for signal in message.signals
            ),
        )
        if message.signals
        else message
        for index, message in enumerate(messages)
    )


def drop_repeats(messages: Iterable[tuple[str, RawMessage]]) -> list[RawMessage]:
    """(id, message) in the order of the log; of one id the last counts, at the place of the first:
    a stream writes a message several times as it grows. Messages without an id all count.
    """
    places: dict[str, int] = {}
    distinct: list[RawMessage] = []
    for name, message in messages:
        if name and name in places:
            distinct[places[name]] = message
        else:
            places[name] = len(distinct)
            distinct.append(message)
    return distinct


def is_same(a: RawMessage, b: RawMessage) -> bool:
    """Whether two messages are the same one, as two logs or requests have it: blanks at the ends,
    ids of calls and the spacing of their arguments may differ.
    """
    if a.role != b.role:
        return False
    if a.content != b.content and a.content.strip() != b.content.strip():
        return False
    return a.tool_calls == b.tool_calls or (
        len(a.tool_calls) == len(b.tool_calls)
        and all(map(_is_same_call, a.tool_calls, b.tool_calls))
    )


def _is_same_call(a: ToolCall, b: ToolCall) -> bool:
    return a.name == b.name and (
        a.arguments == b.arguments or _without_space(a.arguments) == _without_space(b.arguments)
    )


def _without_space(text: str) -> str:
    return "".join(text.split())


def shared_prefix(a: Sequence[RawMessage], b: Sequence[RawMessage]) -> int:
    """How many messages two sequences have in common at their beginning."""
    return next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if not is_same(x, y)),
        min(len(a), len(b)),
    )


def overlap(line: Sequence[RawMessage], window: Sequence[RawMessage]) -> int:
    """How many messages at the end of `line` are those at the beginning of `window`."""
    for size in range(min(len(line), len(window)), 0, -1):
        if all(map(is_same, line[len(line) - size :], window[:size])):
            return size
    return 0


class Thread(NamedTuple):
    """What a log of requests says of one conversation."""

    messages: tuple[RawMessage, ...]
    requests: tuple[int, ...]
    """Numbers of the requests that it was put together from."""
    branch_of: int = -1
    """Number of the thread whose prefix this one shares; -1: none."""
    branch_at: int = 0


class _Growing:
    def __init__(self, messages: list[RawMessage], request: int) -> None:
        self.messages, self.requests = messages, [request]
        self.branch_of, self.branch_at = -1, 0
        self.fork = False


def join_requests(
    requests: Iterable[Sequence[RawMessage]], taking: Taking | None = "regenerate"
) -> list[Thread]:
    """Conversations from requests in order of time, each with its context and its answer.

    A request that repeats a conversation and goes on continues it. One that repeats only a part of
    it takes the rest back: what was there becomes a branch. One that begins in the middle of it
    (a sliding window) continues it too. `taking` None: nobody took anything back where two requests
    go on from the same place, and nothing is said of it.
    """
    threads: list[_Growing] = []
    index: dict[tuple[str, str], set[int]] = {}
    for number, request in enumerate(requests):
        messages = list(request)
        if not messages:
            continue
        keys = {key for m in messages for key in (_key_of(m), *_call_keys_of(m))}
        places = {place for key in keys for place in index.get(key, ())}
        current = _continue(threads, sorted(places, reverse=True), messages, number, taking=taking)
        if current is None:
            threads.append(_Growing(messages, number))
            current = len(threads) - 1
        own = threads[current].messages
        first = next((m for m in own if m.role != "system"), own[0])
        # What goes on from a thread holds its first or its last message, or answers its last calls.
        for key in (_key_of(first), _key_of(own[-1]), *_call_keys_of(own[-1])):
            index.setdefault(key, set()).add(current)
    return [Thread(tuple(t.messages), tuple(t.requests), t.branch_of, t.branch_at) for t in threads]


def _key_of(message: RawMessage) -> tuple[str, str]:
    return message.role, message.content.strip()


def _call_keys_of(message: RawMessage) -> list[tuple[str, str]]:
    """Keys of the calls that a message makes or answers."""
    own = [message.refs.get("call", "")] if message.role == "tool" else []
    return [("call", name) for name in (*own, *(call.id for call in message.tool_calls)) if name]


def _answers(thread: _Growing, window: Sequence[RawMessage]) -> bool:
    """Whether a request has only the results of the calls that a conversation ends with."""
    calls = {call.id for call in thread.messages[-1].tool_calls if call.id}
    return bool(window) and window[0].role == "tool" and window[0].refs.get("call") in calls


def _continue(
    threads: list[_Growing],
    places: Sequence[int],
    messages: list[RawMessage],
    number: int,
    *,
    taking: Taking | None,
) -> int | None:
    """The number of the thread that a request goes on from; None where it begins another."""
    lead = count_leading_system(messages)
    for place in places:
        thread = threads[place]
        shared = shared_prefix(thread.messages, messages)
        if shared == len(messages):  # an older state, or the same once more
            thread.requests.append(number)
            return place
        if shared == len(thread.messages):
            thread.messages += messages[shared:]
            thread.requests.append(number)
            return place
        if shared > lead and any(m.role == "assistant" for m in thread.messages[shared:]):
            if not any(m.role != "system" for m in messages[:shared]):
                continue
            branch = _Growing([], thread.requests[-1])
            rest = thread.messages[shared:]
            if taking is not None:
                rest = take_back(rest, shared, taking, messages[shared].time)
            branch.messages = [*thread.messages[:shared], *rest]
            branch.branch_of, branch.branch_at = place, shared
            threads.append(branch)
            thread.messages = [*thread.messages[:shared], *messages[shared:]]
            thread.requests.append(number)
            return place
        window = messages[lead:]
        size = overlap(thread.messages, window)
        if size >= MIN_WINDOW or (size and window[0].tool_calls) or _answers(thread, window):
            thread.messages += window[size:]
            thread.requests.append(number)
            return place
    return None


def count_leading_system(messages: Sequence[RawMessage]) -> int:
    """How many messages of the system stand before all others."""
    return next((i for i, m in enumerate(messages) if m.role != "system"), len(messages))


class Copies:
    """Conversations of one run that repeat the beginning of one another.

    Resuming or forking a session copies its messages under a new session's id. What both share
    counts once: the later is a branch that shares a prefix, or left out where it has nothing of its
    own.
    """

    def __init__(self) -> None:
        self._lines: dict[str, list[tuple[str, tuple[Any, ...]]]] = {}

    def place(self, conversation: RawConversation) -> RawConversation | None:
        """The conversation, as a branch where it is one; None where another holds all of it."""
        keys = tuple(
            hash((message.refs.get("message"), message.role, message.content, message.tool_calls))
            for message in conversation.messages
        )
        names = {f"{conversation.source} {keys[0]}"} if keys else set[str]()
        if origin := conversation.refs.get("forked_from"):
            names.add(f"{conversation.source} forks of {origin}")
        if not conversation.branch_of:
            names.add(f"{conversation.source} forks of {conversation.id}")
        family = conversation.id.partition("~")[0]
        best, shared, is_new = "", 0, True
        for other, line in {line for name in names for line in self._lines.get(name, ())}:
            size = next(
                (i for i, (a, b) in enumerate(zip(line, keys, strict=False)) if a != b),
                min(len(line), len(keys)),
            )
            if other.partition("~")[0] == family:
                is_new = False  # an older or a newer state of the same, or its branch
            elif size > shared:
                best, shared = other, size
        for name in names:
            self._lines.setdefault(name, []).append((conversation.id, keys))
        if shared == len(keys) and is_new:
            return None
        answers = any(m.role == "assistant" for m in conversation.messages[:shared])
        if not answers or not is_new or conversation.branch_of or conversation.parent:
            return conversation
        return msgspec.structs.replace(conversation, branch_of=best, branch_at=shared)
