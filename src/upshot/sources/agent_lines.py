"""What readers of coding agents' logs share: fields that may hold anything, and a conversation that
grows line by line and of which a part may be taken back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from upshot.errors import RecordError
from upshot.io.files import Bad, Input, read_json
from upshot.io.json_values import as_object, is_array, is_object
from upshot.records import AuthorSpan, BadRecord, RawConversation, RawMessage
from upshot.sources.agent_steps import News, Step, build_conversations
from upshot.sources.history import take_back
from upshot.sources.notes import skip
from upshot.sources.reading import describe
from upshot.sources.speakers import find_pasted, find_wrapped, merge_spans, rest_of


def string_of(record: Any, *names: str) -> str:
    """The first of the fields that holds a text or a whole number; empty where none does.

    >>> string_of({"id": None, "uuid": "a"}, "id", "uuid"), string_of({"id": 7}, "id")
    ('a', '7')
    """
    if not is_object(record):
        return ""
    for name in names:
        value = record.get(name)
        if isinstance(value, str) and value:
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
    return ""


def object_of(record: Any, *names: str) -> Mapping[str, Any]:
    """The object at the end of a way of fields; empty where there is none.

    >>> object_of({"a": {"b": {"c": 1}}}, "a", "b"), object_of({"a": 5}, "a")
    ({'c': 1}, {})
    """
    for name in names:
        record = record.get(name) if is_object(record) else None
    return as_object(record)


def list_of(record: Any, name: str) -> Sequence[Any]:
    """A field that is a list; empty where it is none."""
    value = record.get(name) if is_object(record) else None
    return value if is_array(value) else ()


def facts_of(record: Any, **names: str) -> dict[str, Any]:
    """Fields that say something of a session, under our names, those that are texts.

    >>> facts_of({"cwd": "/a", "branch": 5}, cwd="cwd", gitBranch="branch")
    {'cwd': '/a'}
    """
    if not is_object(record):
        return {}
    return {
        ours: value
        for ours, theirs in names.items()
        if isinstance(value := record.get(theirs), str) and value
    }


class Trail:
    """Messages in the order of a log, of which the last may be taken back."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.tip = ""
        self._by_name: dict[str, Step] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def add(
        self, messages: Sequence[RawMessage], news: Sequence[News] = (), name: str = ""
    ) -> None:
        """Go on. A step of the same name is replaced: it grew while it was written."""
        name = name or f"#{len(self.steps)}"
        if (step := self._by_name.get(name)) is not None:
            step.messages, step.news = list(messages), list(news)
            return
        step = Step(name, self.tip, messages, news)
        self.steps.append(step)
        self._by_name[name] = step
        self.tip = name

    def tell(self, news: Sequence[News], name: str = "") -> None:
        """Say something of the last response, if one came since the person's last words."""
        step = self._by_name.get(self.tip)
        while step is not None and not step.messages:
            step = self._by_name.get(step.parent)
        if news and step is not None and step.messages[-1].role != "user":
            self.add((), news, name)

    def go_on_from(self, name: str) -> None:
        """Go on behind another step than the last; what came behind it is a branch."""
        if name in self._by_name:
            self.tip = name

    def take_back(self, name: str) -> None:
        """Take the step of a name back, and all behind it; all, where there is none."""
        step = self._by_name.get(name)
        self.tip = step.parent if step is not None else ""
        self.add(())

    def live_steps(self) -> list[Step]:
        """The steps that were not taken back."""
        line: list[Step] = []
        name = self.tip
        while name in self._by_name:
            line.append(self._by_name[name])
            name = self._by_name[name].parent
        return line[::-1]

    def take_back_turns(self, count: int) -> None:
        """Take the last turns back, each from its person's message on."""
        starts = [s for s in self.live_steps() if any(is_typed(m) for m in s.messages)]
        if starts:
            self.take_back(starts[max(0, len(starts) - count)].name)

    def _find_leaves(self) -> list[Step]:
        parents = {step.parent for step in self.steps}
        return [step for step in self.steps if step.name not in parents]

    def make_name(self) -> str:
        """An id for a conversation to which others refer, where its log has none: by its content
        and times.
        """
        digest = hashlib.sha256()
        for step in self.live_steps():
            for m in step.messages:
                digest.update(f"{m.role}\0{m.time}\0{m.content}\0".encode("utf-8", "replace"))
        return f"untitled-{digest.hexdigest()[:16]}"

    def build(self, base: RawConversation) -> list[RawConversation]:
        """The conversation and what was taken back of it, as branches; none without messages."""
        if not any(step.messages for step in self.steps):
            return []
        if not base.id and any(step.name != self.tip for step in self._find_leaves()):
            base = msgspec.structs.replace(base, id=self.make_name())
        return build_lines(base, self.steps, self.tip)


def build_lines(base: RawConversation, steps: Sequence[Step], leaf: str) -> list[RawConversation]:
    """The main line that ends at a leaf and its branches; each with the model of its answers.

    A step whose parent is not before it in the log (a line that was lost) goes on from the step
    before it. Where all was taken back, the last line is read, and says so.

    Raises:
        RecordError: the steps hold no messages.
    """
    names: set[str] = set()
    for number, step in enumerate(steps):
        if step.parent and step.parent not in names:
            step.parent = steps[number - 1].name if number else ""
        names.add(step.name)
    by_name = {step.name: step for step in steps}
    name, is_empty = leaf, True
    while name in by_name and is_empty:
        is_empty = not by_name[name].messages
        name = by_name[name].parent
    if is_empty:
        leaf = next((step.name for step in reversed(steps) if step.messages), leaf)
    main, *branches = build_conversations(base, steps, leaf)
    if is_empty:
        messages = tuple(take_back(main.messages, 0, "undo"))
        main = msgspec.structs.replace(main, messages=messages)
    model = base.model or next((m.model for m in main.messages if m.model), "")
    return [msgspec.structs.replace(c, model=model) for c in (main, *branches)]


def plain_text(content: Any) -> str:
    """The texts of a content, for probes: nothing is noted of the parts that are none.

    >>> plain_text([{"type": "text", "text": "a"}, {"type": "image"}, "b"])
    'a\\nb'
    """
    if isinstance(content, str):
        return content
    parts = content if is_array(content) else [content]
    return "\n".join(
        filter(None, (p if isinstance(p, str) else string_of(p, "text") for p in parts))
    )


def is_typed(message: RawMessage) -> bool:
    """Whether a person's turn holds words of the person."""
    return message.role == "user" and message.author != "machine"


def make_turn(
    text: str, typed: Sequence[tuple[int, int]], time: float | None = None, name: str = ""
) -> RawMessage:
    """A turn of which a person typed some stretches; the rest is a machine's. What was pasted or
    wrapped inside a stretch is marked there too.

    >>> make_turn("Issue: it fails. Go on.", [(7, 16)]).spans[0]
    AuthorSpan(start=0, end=7, author='machine')
    """
    spans: list[AuthorSpan] = []
    last = 0
    for start, end in typed:
        spans.append(AuthorSpan(last, start, "machine"))
        piece = text[start:end]
        inner = [*find_wrapped(piece), *find_pasted(piece)]
        spans += [AuthorSpan(start + s.start, start + s.end, s.author) for s in inner]
        last = end
    spans.append(AuthorSpan(last, len(text), "machine"))
    spans = merge_spans(spans)
    message = RawMessage("user", text, time, refs={"message": name} if name else {})
    if not rest_of(text, spans).strip():
        return msgspec.structs.replace(message, author="machine")
    return msgspec.structs.replace(message, spans=tuple(spans))


def disown(messages: Iterable[RawMessage]) -> list[RawMessage]:
    """The same, what stands in the person's turns as a machine's: nobody types to a sub-agent."""
    return [
        msgspec.structs.replace(m, author="machine", spans=()) if m.role == "user" else m
        for m in messages
    ]


def read_lines_into(
    source: Input,
    add: Callable[[Any], None],
    finish: Callable[[], Iterable[RawConversation]],
) -> Iterator[RawConversation | BadRecord]:
    """Give each record of a file to `add`, then what `finish` makes of them.

    Whatever they raise is one bad record.
    """
    for position, value in read_json(source):
        if isinstance(value, Bad):
            yield BadRecord(source.name, position, value.reason)
            continue
        try:
            add(value)
        except Exception as error:  # noqa: BLE001 - whatever a line holds is one bad record
            yield BadRecord(source.name, position, describe(error))
    try:
        yield from finish()
    except Exception as error:  # noqa: BLE001
        yield BadRecord(source.name, "whole file", describe(error))


def take_each(format: str, records: Iterable[Any], take: Callable[[Any], None]) -> None:
    """Give each record inside a larger one to `take`; those that it trips over are counted."""
    for record in records:
        try:
            take(record)
        except Exception as error:  # noqa: BLE001 - one bad message must not take the others
            skip(format, f"unreadable: {describe(error)}")


def require_object(record: Any) -> Mapping[str, Any]:
    """The record, which must be an object.

    Raises:
        RecordError: it is none.
    """
    if not is_object(record):
        raise RecordError("not an object")
    return record
