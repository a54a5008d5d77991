"""Steps of a coding agent's log on their way to a tree: what hangs from what, and which signals a
record carries about the response before it.

Used by the readers of agents' logs; `history` makes conversations of the tree.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from upshot.records import Author, AuthorSpan, RawConversation, RawMessage, Signal
from upshot.sources.history import Node, Taking, make_conversations
from upshot.sources.speakers import find_pasted, find_wrapped, is_harness_text, merge_spans


class News(NamedTuple):
    """What a record says of the last response before it."""

    kind: str
    value: float
    detail: str = ""


INTERRUPTED = News("interrupt", -0.5)
"""The person stopped the response."""
DENIED = News("reject", -0.5)
"""The person did not let a call run."""


_INTERRUPTED = re.compile(r"^\s*\[Request interrupted by user[^\]\n]*\]")
_DENIED = re.compile(
    r"The user doesn't want to (?:proceed with this tool use|take this action)"
    r"|\s*(?:Error: )?User rejected tool use"
    r"|\s*Permission to use .{1,200} has been denied by the user"
    r"|\s*The user rejected this tool call"
    r"|\s*(?:exec command |patch |tool call |command )?rejected by (?:the )?user",
    re.IGNORECASE,
)
_DENIAL_WORDS = re.compile(r"(?:the user said:\s*\n|User feedback:\s*)", re.IGNORECASE)
_EXIT_CODE = re.compile(
    r"^(?:Error: )?(?:Exit code:? |(?:Process|Command) exited with (?:exit )?code:? )(-?\d{1,3})\b",
    re.MULTILINE,
)
_HEADER = 400
"""Characters of an output in which harnesses state its exit code."""


class Step:
    """One record that holds messages, or connects some that do."""

    def __init__(
        self, name: str, parent: str, messages: Sequence[RawMessage] = (), news: Sequence[News] = ()
    ) -> None:
        self.name = name
        self.parent = parent
        self.messages = list(messages)
        self.news = list(news)


def build_conversations(
    base: RawConversation, steps: Sequence[Step], leaf: str = "", taking: Taking = "undo"
) -> list[RawConversation]:
    """The main line of the steps and its branches, news on the responses that they concern.

    Steps stand behind their parents.

    Raises:
        RecordError: they hold no messages.
    """
    _place_news(steps)
    nodes = [Node(step.name, step.parent, tuple(step.messages)) for step in steps]
    return [_drop_dangling(c) for c in make_conversations(base, nodes, leaf, taking)]


def _place_news(steps: Sequence[Step]) -> None:
    """Put each step's news on the last response of the way to it."""
    tree = {step.name: step for step in steps}
    sizes: dict[str, int] = {}
    responses: dict[str, tuple[Step, int] | None] = {}
    for step in steps:
        at = sizes.get(step.parent, 0)
        response = responses.get(step.parent)
        sizes[step.name] = at + len(step.messages)
        own = [i for i, m in enumerate(step.messages) if m.role == "assistant"]
        responses[step.name] = (step, own[-1]) if own else response
        if response is None or response[0].name not in tree:
            continue
        holder, place = response
        at = at if step.messages else max(at - 1, 0)
        for news in step.news:
            message = holder.messages[place]
            time = step.messages[0].time if step.messages else None
            signal = Signal(news.kind, news.value, at, news.detail, time)
            if not any((s.kind, s.detail) == (signal.kind, signal.detail) for s in message.signals):
                holder.messages[place] = msgspec.structs.replace(
                    message, signals=(*message.signals, signal)
                )


def _drop_dangling(conversation: RawConversation) -> RawConversation:
    """Without signals that another branch's messages show."""
    size = len(conversation.messages)
    if all(s.at < size for m in conversation.messages for s in m.signals):
        return conversation
    last = size - 1
    return msgspec.structs.replace(
        conversation,
        messages=tuple(
            msgspec.structs.replace(
                m,
                signals=tuple(msgspec.structs.replace(s, at=min(s.at, last)) for s in m.signals),
            )
            for m in conversation.messages
        ),
    )


class Part(NamedTuple):
    """A piece of a turn, and who wrote it."""

    text: str
    author: Author = "person"


def split_turn(text: str, *, is_machine: bool = False) -> tuple[list[Part], list[News]]:
    """The parts of a user's text in a log of Claude Code, and what it says of the response.

    >>> split_turn("[Request interrupted by user]")[1][0].kind
    'interrupt'
    """
    match = _INTERRUPTED.match(text)
    if match is not None:
        rest = text[match.end() :].lstrip("\n")
        rest_author: Author = "machine" if is_machine else "person"
        return [Part(match.group(), "machine"), Part(rest, rest_author)], [INTERRUPTED]
    author: Author = "machine" if is_machine or is_harness_text(text) else "person"
    return [Part(text, author)], []


def split_denial(text: str, *, is_denied: bool = False) -> tuple[str, str] | None:
    """The harness's words of a call that a person did not let run, and the person's own; None where
    the output is none of such a call.

    >>> split_denial("The user doesn't want to take this action. The user said:\\nuse tabs")[1]
    'use tabs'
    """
    if not is_denied and not _DENIED.match(text[:_HEADER].lstrip()):
        return None
    match = _DENIAL_WORDS.search(text)
    if match is None:
        return text, ""
    return text[: match.end()].rstrip(), text[match.end() :].strip()


def find_exit_code(text: str) -> int | None:
    """The exit code that the head of an output states.

    >>> find_exit_code("Exit code: 2\\nerror"), find_exit_code("error")
    (2, None)
    """
    match = _EXIT_CODE.search(text[:_HEADER])
    return int(match.group(1)) if match else None


def merge_answer(messages: list[RawMessage], message: RawMessage) -> None:
    """Add a message; text and calls right behind an answer belong to it."""
    old = messages[-1] if messages else None
    if old is None or old.role != "assistant" or message.role != "assistant":
        messages.append(message)
        return
    messages[-1] = msgspec.structs.replace(
        old,
        content="\n".join(text for text in (old.content, message.content) if text),
        tool_calls=(*old.tool_calls, *message.tool_calls),
        signals=(*old.signals, *message.signals),
        model=old.model or message.model,
    )


def join_turn(parts: Iterable[Part], time: float | None = None, uuid: str = "") -> RawMessage:
    """One user's message of parts by several authors.

    What a harness or a pasted log put into a person's part is marked there too. A message all of
    whose parts are a person's is left for `speakers.mark_author`.

    >>> join_turn([Part("Caveat: x", "machine"), Part("fix it")]).spans
    (AuthorSpan(start=0, end=9, author='machine'),)
    """
    parts = [part for part in parts if part.text.strip()]
    text = "\n".join(part.text for part in parts)
    refs = {"message": uuid} if uuid else {}
    message = RawMessage("user", text, time, refs=refs)
    if all(part.author == "person" for part in parts):
        return message
    if all(part.author == "machine" for part in parts):
        return msgspec.structs.replace(message, author="machine")
    spans: list[AuthorSpan] = []
    start = 0
    for part in parts:
        end = start + len(part.text)
        if part.author != "person":
            spans.append(AuthorSpan(start, end, part.author))
        else:
            inner = merge_spans([*find_wrapped(part.text), *find_pasted(part.text)])
            spans += [AuthorSpan(start + s.start, start + s.end, s.author) for s in inner]
        start = end + 1
    spans = merge_spans(spans)
    rest = [text[a:b] for a, b in _gaps(spans, len(text))]
    if not "".join(rest).strip():
        return msgspec.structs.replace(message, author="machine")
    return msgspec.structs.replace(message, spans=tuple(spans))


def _gaps(spans: Sequence[AuthorSpan], size: int) -> Iterable[tuple[int, int]]:
    last = 0
    for span in spans:
        yield last, span.start
        last = span.end
    yield last, size
