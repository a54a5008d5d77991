"""Conversations of calls to models: requests that repeat their context, each with its answer.

A session is put together from its traces, and a trace (one turn of the person) from its calls. The
calls of a trace that go on from one another are its line; others (a router, a title, a sub-agent)
are conversations of their own whose `parent` is the session. Where later traces repeat what came
before, the history is joined by `history.join_requests`; where every trace holds only its own turn,
the turns follow one another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from upshot.records import AuthorSpan, RawConversation, RawMessage, Signal
from upshot.sources.history import (
    MIN_WINDOW,
    Taking,
    Thread,
    is_same,
    join_requests,
    overlap,
    shared_prefix,
)
from upshot.sources.notes import skip

_MIN_QUOTED = 12
"""Characters of a person's message that a side call repeats, to be one about the conversation."""
_INTRODUCERS = ':>"\u201c\u2018`|'
"""What stands before a quotation."""
_MIN_PAUSE = 3.0
"""Seconds between an answer and what a person types next; programs call again at once."""
_MIN_TYPED = 3
"""Characters of what was typed that are looked for in a request: fewer stand anywhere."""
_SAME_SYSTEM = 40
"""Characters in which two system prompts of one assistant agree; dates and names come later."""


class Exchange(NamedTuple):
    """One call of a model."""

    request: tuple[RawMessage, ...]
    answer: tuple[RawMessage, ...]
    session: str = ""
    trace: str = ""
    user: str = ""
    start: float | None = None
    end: float | None = None
    model: str = ""
    refs: Mapping[str, str] = {}
    """Ids of the answer: observation, span, run, response."""
    signals: tuple[Signal, ...] = ()
    """What people said of the answer."""
    metadata: Mapping[str, Any] = {}


class TraceRoot(NamedTuple):
    """What a log says of a whole trace."""

    prompt: tuple[RawMessage, ...] = ()
    """What the person gave, before templates."""
    answer: tuple[RawMessage, ...] = ()
    signals: tuple[Signal, ...] = ()
    session: str = ""
    user: str = ""
    start: float | None = None
    end: float | None = None
    metadata: Mapping[str, Any] = {}


class Call(NamedTuple):
    """One span of a trace, with the call that it records, if it records one."""

    id: str
    parent: str
    exchange: Exchange | None = None
    is_tool: bool = False
    is_plain: bool = False
    """Whether its request is a text, not messages: another record of the same call is better."""


def pick_calls(calls: Sequence[Call]) -> list[Exchange]:
    """The calls of a trace, each once: where a span that records a call holds spans that record
    the same (an SDK's inside a framework's), the inner ones count, which have every step.
    """
    by_id = {call.id: call for call in calls if call.id}
    dropped: set[int] = set()
    signals: dict[int, tuple[Signal, ...]] = {}
    for inner in calls:
        if inner.exchange is None:
            continue
        for outer in _wrappers_of(inner, by_id):
            if outer.exchange is None:
                continue
            loser, winner = outer, inner
            if inner.is_plain and not outer.is_plain:
                loser, winner = inner, outer
            elif not _is_same_call(outer.exchange, inner.exchange):
                continue
            dropped.add(id(loser))
            if loser.exchange is not None and loser.exchange.signals:
                signals[id(winner)] = loser.exchange.signals
    if dropped:
        skip("calls", "recorded twice", len(dropped))
    return [
        call.exchange._replace(signals=(*call.exchange.signals, *signals.get(id(call), ())))
        for call in calls
        if call.exchange is not None and id(call) not in dropped
    ]


def _wrappers_of(call: Call, by_id: Mapping[str, Call]) -> Iterator[Call]:
    """The spans around a call, up to the tool that made it."""
    visited: set[str] = set()
    parent = by_id.get(call.parent)
    while parent is not None and not parent.is_tool and parent.id not in visited:
        visited.add(parent.id)
        yield parent
        parent = by_id.get(parent.parent)


def _is_same_call(outer: Exchange, inner: Exchange) -> bool:
    if not outer.answer:
        return True
    return bool(inner.answer) and is_same(outer.answer[-1], inner.answer[-1])


class _Trace:
    def __init__(self, name: str, root: TraceRoot | None = None) -> None:
        self.name, self.exchanges = name, list[Exchange]()
        self.root = root or TraceRoot()
        self.line: list[RawMessage] = []
        self.sides: list[list[RawMessage]] = []

    @property
    def session(self) -> str:
        return self.root.session or next((e.session for e in self.exchanges if e.session), "")

    @property
    def user(self) -> str:
        return self.root.user or next((e.user for e in self.exchanges if e.user), "")

    @property
    def first(self) -> Exchange:
        return min(self.exchanges, key=lambda e: e.start or e.end or 0.0)

    @property
    def start(self) -> float:
        times = [e.start or e.end for e in self.exchanges] + [self.root.start]
        return min((time for time in times if time is not None), default=0.0)


class _Session:
    def __init__(self, name: str, is_named: bool) -> None:
        self.name, self.is_named = name, is_named
        self.traces: dict[str, _Trace] = {}


def join_exchanges(
    exchanges: Iterable[Exchange], source: str, roots: Mapping[str, TraceRoot] | None = None
) -> Iterator[RawConversation]:
    """Conversations of calls: by session, else by trace, else by what they repeat.

    `roots`: what the log says of whole traces, by their ids; a trace without readable calls is its
    root's prompt and answer.
    """
    for session in _group(list(exchanges), roots or {}):
        yield from _read_session(session, source)


def _group(exchanges: list[Exchange], roots: Mapping[str, TraceRoot]) -> list[_Session]:
    traces: dict[str, _Trace] = {}
    loose: list[Exchange] = []
    for exchange in exchanges:
        if exchange.trace:
            name = exchange.trace
            traces.setdefault(name, _Trace(name, roots.get(name))).exchanges.append(exchange)
        else:
            loose.append(exchange)
    for name, root in roots.items():
        if name not in traces and (root.prompt or root.answer):
            trace = traces.setdefault(name, _Trace(name, root))
            trace.exchanges.append(_read_root_exchange(name, root))
    for number, exchange in enumerate(loose):
        traces.setdefault(f"\0{number}", _Trace("")).exchanges.append(exchange)
    users: dict[str, set[str]] = {}
    for trace in traces.values():
        if trace.user:
            users.setdefault(trace.session, set()).add(trace.user)
    families = _find_families(traces.values())
    families |= _find_windows(traces.values())
    sessions: dict[tuple[str, str, str], _Session] = {}
    for name, trace in traces.items():
        if key := trace.session:  # one id of several users is several sessions
            place = (key, trace.user if len(users.get(key, ())) > 1 else "", "")
        else:
            family = _family_of(trace.first)
            place = ("", trace.user, families.get((trace.user, family), family))
        session = sessions.setdefault(
            place, _Session(key or trace.name or _name_of(trace.exchanges[0]), bool(key))
        )
        session.traces[name] = trace
    return list(sessions.values())


def _find_families(traces: Iterable[_Trace]) -> dict[tuple[str, str], str]:
    """What requests that failed belong to: the same ones, sent again, that were answered."""
    failed = {
        (trace.user, _family_of(trace.first))
        for trace in traces
        if not any(m.role == "assistant" for m in (*trace.first.request, *trace.first.answer))
    }
    families: dict[tuple[str, str], str] = {}
    for trace in traces if failed else ():
        question = (trace.user, _family_of(trace.first._replace(answer=())))
        if question in failed and trace.first.answer:
            families.setdefault(question, _family_of(trace.first))
    return families


_MIN_WINDOW_TEXT = 40
"""Characters by which a window of one exchange is told from a greeting that many exchange."""


def _find_windows(traces: Iterable[_Trace]) -> dict[tuple[str, str], str]:
    """What requests belong to whose history is the end of an earlier one: a sliding window has
    dropped the beginning.
    """
    families: dict[tuple[str, str], str] = {}
    begun: set[tuple[str, str]] = set()
    ends: dict[tuple[str, str], list[tuple[list[RawMessage], str]]] = {}
    loose = [trace for trace in traces if not trace.session]
    for trace in sorted(loose, key=lambda trace: trace.start):
        first = trace.first
        line = [m for m in (*first.request, *first.answer) if m.role != "system"]
        last = max((n for n, m in enumerate(first.request) if m.role == "assistant"), default=-1)
        history = [m for m in first.request[: last + 1] if m.role != "system"]
        family = (trace.user, _family_of(first))
        if history and family not in begun:
            size = sum(len(m.content) for m in history)
            for other, origin in ends.get((trace.user, history[-1].content.strip()), ()):
                whole = len(other) > len(history) and overlap(other, history) == len(history)
                if whole and (len(history) > MIN_WINDOW or size >= _MIN_WINDOW_TEXT):
                    families[family] = origin
        begun.add(family)
        if line and line[-1].role == "assistant":
            origin = families.get(family, family[1])
            ends.setdefault((trace.user, line[-1].content.strip()), []).append((line, origin))
    return families


def _read_root_exchange(name: str, root: TraceRoot) -> Exchange:
    """The call that a trace is of which no call is logged; some repeat the prompt in the answer."""
    answer = root.answer[shared_prefix(root.prompt, root.answer) :]
    last = max((place for place, m in enumerate(answer) if m.role == "user"), default=-1)
    return Exchange(
        root.prompt, answer[last + 1 :], root.session, name, root.user, root.start, root.end
    )


def _name_of(exchange: Exchange) -> str:
    return next(iter(exchange.refs.values()), "")


def _family_of(exchange: Exchange) -> str:
    """What requests of one conversation have in common: all up to the first answer."""
    texts: list[str] = []
    for message in (*exchange.request, *exchange.answer):
        if message.role == "system":
            continue
        texts.append(f"{message.role}:{message.content.strip()}")
        if message.role == "assistant":
            texts += [f"{call.name}({call.arguments})" for call in message.tool_calls]
            break
    return "\n".join(texts)


def _read_session(session: _Session, source: str) -> Iterator[RawConversation]:
    traces = sorted(session.traces.values(), key=lambda trace: trace.start)
    repeated = _repeated_answers(traces)
    for trace in traces:
        _read_trace(trace, repeated)
    traces = [trace for trace in traces if trace.line]
    if not traces:
        return
    exchanges = [e for trace in traces for e in trace.exchanges]
    base = RawConversation(
        (),
        session.name,
        next((trace.user for trace in traces if trace.user), ""),
        traces[0].start or None,
        next((e.model for e in reversed(exchanges) if e.model), ""),
        source,
        {n: v for trace in traces for n, v in _metadata_of(trace).items()},
        refs={
            **({"session": session.name} if session.is_named else {}),
            **({"trace": traces[0].name} if traces[0].name else {}),
        },
    )
    is_cumulative = len(traces) > 1 and bool(repeated)
    if is_cumulative or not session.is_named:
        conversations = _join_lines(base, traces, session)
    else:
        conversations = _join_turns(base, traces)
    conversations += _read_sides(base, traces, conversations[0].messages)
    yield from map(_index_signals, _attach_signals(conversations, traces))


def _metadata_of(trace: _Trace) -> dict[str, Any]:
    return {**trace.root.metadata, **{n: v for e in trace.exchanges for n, v in e.metadata.items()}}


def _repeated_answers(traces: Sequence[_Trace]) -> set[str]:
    """Texts of answers that a later trace has in its requests."""
    answers: dict[str, str] = {}
    repeated: set[str] = set()
    for trace in traces:
        key = trace.name or str(id(trace))
        for exchange in trace.exchanges:
            repeated.update(
                text
                for message in exchange.request
                if message.role == "assistant"
                and (text := message.content.strip())
                and answers.get(text, key) != key
            )
        for exchange in trace.exchanges:
            for message in exchange.answer:
                answers.setdefault(message.content.strip(), key)
    return repeated


def _read_trace(trace: _Trace, repeated: set[str]) -> None:
    """Set the trace's own line, and the calls beside it."""
    exchanges = sorted(trace.exchanges, key=lambda e: e.start or e.end or 0.0)
    requests = [_time_messages(exchange) for exchange in exchanges]
    threads = join_requests(requests, None)
    if not threads:
        return
    main = max(range(len(threads)), key=lambda n: (*_rank(threads[n], trace, repeated), n))
    line = list(threads[main].messages)
    turns = {main} if trace.root.prompt else _find_turns(threads, main)
    if len(turns) > 1:
        line = [m for number in sorted(turns) for m in _skip_system(threads[number].messages)]
        line = [m for m in threads[main].messages[:1] if m.role == "system"] + line
    trace.line = _mark_typed(line, trace.root.prompt)
    for number, thread in enumerate(threads):
        if number not in turns:
            at = thread.branch_at if thread.branch_of >= 0 else 0
            own = list(thread.messages[at:])
            if thread.branch_of >= 0 and not any(m.role == "assistant" for m in own):
                continue
            trace.sides.append(list(thread.messages))


def _find_turns(threads: Sequence[Thread], main: int) -> set[int]:
    """The threads of a trace that are turns of one chat, where a trace is a whole chat: they have
    the same instructions, none is about another, and a person had the time to read and type.
    """
    lead = [m for m in threads[main].messages[:1] if m.role == "system"]
    turns = [
        number
        for number, thread in enumerate(threads)
        if thread.branch_of < 0 and _is_same_system(thread.messages, lead)
    ]
    typed = [words for number in turns for words in _typed_in(threads[number].messages)]
    if any(_quotes(threads[number].messages, typed) for number in turns):
        return {main}
    last: float | None = None
    for number in turns:
        times = [m.time for m in threads[number].messages if m.time is not None]
        if not times or (last is not None and min(times) - last < _MIN_PAUSE):
            return {main}
        last = max(times)
    return set(turns)


def _skip_system(messages: Sequence[RawMessage]) -> Sequence[RawMessage]:
    return messages[1:] if messages and messages[0].role == "system" else messages


def _rank(thread: Thread, trace: _Trace, repeated: set[str]) -> tuple[int, ...]:
    """How likely a thread is the one that the person sees."""
    answers = {m.content.strip() for m in thread.messages if m.role == "assistant" and m.content}
    requests = {m.content.strip() for m in thread.messages if m.role == "user"}
    last = next((m.content.strip() for m in thread.messages[::-1] if m.role == "assistant"), "")
    shown = {m.content.strip() for m in trace.root.answer if m.content}
    typed = {m.content.strip() for m in trace.root.prompt if m.role == "user"}
    return (
        int(last in repeated) if last else 0,
        int(bool(last) and last in shown),
        len(answers & repeated),
        int(bool(requests & typed)),
        int(thread.branch_of < 0),
        len(thread.requests),
        int(any(m.role == "system" for m in thread.messages)),
        len(thread.messages),
    )


def _time_messages(exchange: Exchange) -> list[RawMessage]:
    """The messages of a call; those since the last answer get its time."""
    messages = list(exchange.request)
    for place in range(len(messages) - 1, -1, -1):
        if messages[place].role == "assistant":
            break
        if messages[place].time is None and exchange.start is not None:
            messages[place] = msgspec.structs.replace(messages[place], time=exchange.start)
    for message in exchange.answer:
        is_model = message.role == "assistant"
        messages.append(
            msgspec.structs.replace(
                message,
                time=message.time or exchange.end or exchange.start,
                model=message.model or (exchange.model if is_model else ""),
                refs={
                    **message.refs,
                    **({"trace": exchange.trace} if exchange.trace and is_model else {}),
                    **(exchange.refs if is_model else {}),
                },
            )
        )
    return messages


def _mark_typed(line: list[RawMessage], prompt: Sequence[RawMessage]) -> list[RawMessage]:
    """The line with what the application wrote around or beside the person's words marked."""
    typed = [m.content.strip() for m in prompt if m.role == "user" and m.content.strip()]
    if not typed:
        return line
    places = [p for p, m in enumerate(line) if m.role == "user" and not m.author and not m.spans]
    exact = [p for p in places if line[p].content.strip() in typed]
    for place in (exact or places)[::-1]:
        message = line[place]
        words = next((t for t in typed if _stands_in(t, message.content)), "")
        if not words:
            continue
        start = message.content.rfind(words)
        spans = (
            AuthorSpan(0, start, "machine"),
            AuthorSpan(start + len(words), len(message.content), "machine"),
        )
        spans = tuple(s for s in spans if message.content[s.start : s.end].strip())
        line[place] = msgspec.structs.replace(message, spans=spans)
        before = place - 1
        while before >= 0 and line[before].role == "user":
            if line[before].content.strip() not in typed:
                line[before] = msgspec.structs.replace(line[before], author="machine")
            before -= 1
        break
    return line


def _stands_in(words: str, text: str) -> bool:
    """Whether words stand in a text, not in the middle of other words."""
    start = text.rfind(words)
    if start < 0 or len(words) < _MIN_TYPED:
        return False
    around = text[max(0, start - 1) : start] + text[start + len(words) : start + len(words) + 1]
    return not any(mark.isalnum() for mark in around)


def _join_lines(
    base: RawConversation, traces: Sequence[_Trace], session: _Session
) -> list[RawConversation]:
    """Conversations of traces that repeat what came before them.

    Without a session, every request without history begins another conversation.
    """
    if session.is_named:
        return _join_chat(base, traces, "regenerate")
    chats: list[list[_Trace]] = []
    for trace in traces:
        answers = sum(message.role == "assistant" for message in trace.line)
        last = chats[-1][-1].line if chats else []
        is_retry = bool(last) and last[-1].role != "assistant" and _begins_with(trace.line, last)
        if chats and (answers > 1 or is_retry):
            chats[-1].append(trace)
        else:
            chats.append([trace])
    taking = "regenerate" if base.user else None
    conversations: list[RawConversation] = []
    for chat in chats:
        name = chat[0].name or next((_name_of(e) for e in chat[0].exchanges), "")
        refs = {"trace": chat[0].name} if chat[0].name else {}
        own = msgspec.structs.replace(
            base, id=name, started_at=chat[0].start or None, refs={**base.refs, **refs}
        )
        conversations += _join_chat(own, chat, taking)
    return conversations


def _begins_with(line: Sequence[RawMessage], start: Sequence[RawMessage]) -> bool:
    return shared_prefix(line, start) == len(start)


def _join_chat(
    base: RawConversation, traces: Sequence[_Trace], taking: Taking | None
) -> list[RawConversation]:
    threads = join_requests(_restore_steps([trace.line for trace in traces]), taking)
    roots = [number for number, thread in enumerate(threads) if thread.branch_of < 0]
    main = max(roots, key=lambda n: (len(threads[n].requests), len(threads[n].messages), -n))
    typed = _typed_in(threads[main].messages)
    forks = [thread.branch_at for thread in threads if thread.branch_of == main]
    conversations = [
        msgspec.structs.replace(
            base, messages=threads[main].messages, fork=min(forks) if forks else -1
        )
    ]
    names = {main: base.id}
    for number, thread in enumerate(threads):
        if number == main:
            continue
        start = traces[thread.requests[0]].start or None
        names[number] = _name_part(base.id, number)
        if thread.branch_of >= 0:
            conversations.append(
                msgspec.structs.replace(
                    base,
                    messages=thread.messages,
                    id=names[number],
                    branch_of=names.get(thread.branch_of, base.id),
                    branch_at=thread.branch_at,
                )
            )
        else:
            conversations.append(_make_part(base, thread.messages, names[number], start, typed))
    return conversations


def _restore_steps(lines: Sequence[Sequence[RawMessage]]) -> list[list[RawMessage]]:
    """The lines, with the steps of earlier turns of which a later history has only the outcome:
    applications keep what was shown, not the calls of tools and their results.
    """
    complete: dict[int, Sequence[RawMessage]] = {}
    restored: list[list[RawMessage]] = []
    for line in lines:
        shown = _find_shown(line)
        best: tuple[Sequence[RawMessage], int] | None = None
        key = 0
        for place in shown:
            message = line[place]
            key = hash((key, message.role, message.content.strip()))
            earlier = complete.get(key)
            if earlier is not None and message.role == "assistant" and place + 1 < len(line):
                best = (earlier, place + 1)
        own = list(line)
        if best is not None and shared_prefix(best[0], own) < len(best[0]):
            own = [*best[0], *line[best[1] :]]
        restored.append(own)
        if shown and own[-1].role == "assistant":
            complete[key] = own
    return restored


def _find_shown(line: Sequence[RawMessage]) -> list[int]:
    """Places of what the person typed and of the last answer to each."""
    shown: list[int] = []
    for place, message in enumerate(line):
        if message.role == "assistant" and message.content.strip():
            if shown and line[shown[-1]].role == "assistant":
                shown.pop()
            shown.append(place)
        elif message.role == "user":
            shown.append(place)
    return shown


def _name_part(name: str, number: int) -> str:
    return f"{name}~{number}" if name else ""


def _typed_in(messages: Iterable[RawMessage]) -> list[str]:
    return [m.content.strip() for m in messages if m.role == "user"]


def _quotes(messages: Iterable[RawMessage], typed: Sequence[str]) -> bool:
    """Whether a request is about what was typed elsewhere: it has it behind words of its own, after
    a colon, a quotation mark, a tag or a new line. Who says the same in more words begins with it.
    """
    return any(
        len(words) >= _MIN_QUOTED and _is_quoted(words, text)
        for text in _typed_in(messages)
        for words in typed
    )


def _is_quoted(words: str, text: str) -> bool:
    before = text.partition(words)[0] if words in text else ""
    return bool(before.strip()) and (before.endswith("\n") or before.rstrip()[-1] in _INTRODUCERS)


def _make_part(
    base: RawConversation,
    messages: Sequence[RawMessage],
    name: str,
    start: float | None,
    typed: Sequence[str],
) -> RawConversation:
    """Another conversation of a session; a machine's, where it only repeats what was typed."""
    is_side = _quotes(messages, typed)
    return msgspec.structs.replace(
        base,
        messages=_by_machine(messages) if is_side else tuple(messages),
        id=name,
        started_at=start,
        parent=base.id if is_side else "",
        refs={n: v for n, v in base.refs.items() if n != "trace"},
    )


def _by_machine(messages: Iterable[RawMessage]) -> tuple[RawMessage, ...]:
    return tuple(
        msgspec.structs.replace(m, author="machine", spans=()) if m.role == "user" else m
        for m in messages
    )


def _join_turns(base: RawConversation, traces: Sequence[_Trace]) -> list[RawConversation]:
    """One conversation of traces that hold a turn each; traces about it are others."""
    if len(traces) > 1 and len({tuple(_typed_in(trace.line)) for trace in traces}) == 1:
        return _join_lines(base, traces, _Session(base.id, is_named=True))
    line: list[RawMessage] = []
    parts: list[RawConversation] = []
    for number, trace in enumerate(traces):
        lead = [m for m in trace.line if m.role == "system"][:1]
        same = _is_same_system(line, lead)
        typed = _typed_in(line)
        repeats = not same and bool(set(_typed_in(trace.line)) & set(typed))
        if line and (repeats or _quotes(trace.line, typed)):
            parts.append(
                msgspec.structs.replace(
                    base,
                    messages=_by_machine(trace.line),
                    id=_name_part(base.id, number),
                    started_at=trace.start or None,
                    parent=base.id,
                )
            )
            continue
        start = 0
        while start < len(trace.line) and trace.line[start].role == "system":
            if not any(is_same(trace.line[start], m) for m in line):
                line.append(trace.line[start])
            start += 1
        line += trace.line[start:]
    return [msgspec.structs.replace(base, messages=tuple(line)), *parts]


def _is_same_system(line: Sequence[RawMessage], lead: Sequence[RawMessage]) -> bool:
    first = next((m.content for m in line if m.role == "system"), "")
    other = lead[0].content if lead else ""
    if not first or not other:
        return first == other
    size = min(len(first), len(other), _SAME_SYSTEM)
    return first[:size] == other[:size]


def _read_sides(
    base: RawConversation, traces: Sequence[_Trace], line: Sequence[RawMessage]
) -> list[RawConversation]:
    """The calls beside the traces' lines; those that only repeat one another are one."""
    lines = [(trace, side) for trace in traces for side in trace.sides]
    threads = join_requests([side for _, side in lines], None)
    sides: list[RawConversation] = []
    for number, thread in enumerate(threads, 1):
        if thread.branch_of >= 0 and len(thread.messages) <= thread.branch_at:
            continue
        start = next((m.time for m in thread.messages if m.time is not None), None)
        trace = lines[thread.requests[0]][0]
        if _is_repeat(thread.messages, line):
            skip(base.source, "calls that repeat another")
            continue
        sides.append(
            msgspec.structs.replace(
                base,
                messages=_by_machine(thread.messages),
                id=f"{base.id}~call{number}" if base.id else "",
                started_at=start,
                model=next((m.model for m in thread.messages[::-1] if m.model), base.model),
                parent=base.id,
                parent_at=_find_caller(line, start),
                refs={**base.refs, **({"trace": trace.name} if trace.name else {})},
            )
        )
    return sides


def _is_repeat(messages: Sequence[RawMessage], line: Sequence[RawMessage]) -> bool:
    """Whether another line has every answer of these messages, written in another way or not."""
    texts = {m.content.strip() for m in line if m.role == "assistant"} | {""}
    calls = {(c.name, c.id) for m in line for c in m.tool_calls}
    requests = {m.content.strip() for m in line if m.role == "user"}
    return all(
        m.content.strip() in texts and {(c.name, c.id) for c in m.tool_calls} <= calls
        if m.role == "assistant"
        else m.role != "user" or m.content.strip() in requests
        for m in messages
    )


def _find_caller(line: Sequence[RawMessage], start: float | None) -> int:
    """Index of the last message that called tools before another call began; -1: none did."""
    return max(
        (
            place
            for place, message in enumerate(line)
            if message.tool_calls
            and start is not None
            and message.time is not None
            and message.time <= start
        ),
        default=-1,
    )


def _attach_signals(
    conversations: list[RawConversation], traces: Sequence[_Trace]
) -> list[RawConversation]:
    """The conversations with what people said of their answers."""
    for trace in traces:
        for exchange in trace.exchanges:
            if exchange.signals:
                _attach(conversations, exchange.answer, exchange.refs, exchange.signals)
        if trace.root.signals:
            last = next((m for m in trace.line[::-1] if m.role == "assistant"), None)
            refs = {"trace": trace.name} if trace.name else {}
            _attach(conversations, (last,) if last else (), refs, trace.root.signals)
    return conversations


def _attach(
    conversations: list[RawConversation],
    answer: Sequence[RawMessage],
    refs: Mapping[str, str],
    signals: tuple[Signal, ...],
) -> None:
    places = [
        (number, place)
        for number, conversation in enumerate(conversations)
        for place, message in enumerate(conversation.messages)
        if message.role == "assistant"
        and place >= conversation.branch_at * bool(conversation.branch_of)
    ]

    def message_at(place: tuple[int, int]) -> RawMessage:
        return conversations[place[0]].messages[place[1]]

    matches = [p for p in places if refs and refs.items() <= message_at(p).refs.items()]
    equal = [p for p in places if answer and is_same(message_at(p), answer[-1])]
    both = [p for p in matches if p in equal]
    targets = both[-1:] or matches[-1:] or equal[-1:] or [p for p in places if p[0] == 0][-1:]
    if not targets:
        skip("scores", "of traces without an answer", len(signals))
        return
    number, place = targets[0]
    messages = list(conversations[number].messages)
    messages[place] = msgspec.structs.replace(
        messages[place], signals=(*messages[place].signals, *signals)
    )
    conversations[number] = msgspec.structs.replace(conversations[number], messages=tuple(messages))


def _index_signals(conversation: RawConversation) -> RawConversation:
    """The conversation, each signal at the message that it is about."""
    if not any(message.signals for message in conversation.messages):
        return conversation
    messages = tuple(
        msgspec.structs.replace(
            m, signals=tuple(msgspec.structs.replace(s, at=place) for s in m.signals)
        )
        if m.signals
        else m
        for place, m in enumerate(conversation.messages)
    )
    return msgspec.structs.replace(conversation, messages=messages)
