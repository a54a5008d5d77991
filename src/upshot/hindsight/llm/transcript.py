"""Threads as prompts: numbered, fenced messages; long threads in overlapping windows."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from upshot.hindsight.embedded.timeline import ASSISTANT, ROLES, USER, Timeline
from upshot.hindsight.trust import hostile

MAX_SHOWN = 6_000
"""Characters of one message; the middle of a longer one is left out."""
_BYTES_PER_TOKEN = 3.5
_FENCE = re.compile(r"^(\[[\d-])", re.MULTILINE)
_INVISIBLE = re.compile("[\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\ufeff\U000e0000-\U000e007f]")


class Window(NamedTuple):
    """The part of a thread in one prompt."""

    first: int
    """Position of the first message."""
    last: int
    """One past the last."""
    responses: tuple[int, ...]
    """Positions of the responses to judge."""


class Transcript(NamedTuple):
    """A window as text."""

    text: str
    first: int
    """Position of message 1."""

    def number(self, position: int) -> int:
        """The number that a message is shown under."""
        return position - self.first + 1

    def position(self, number: int) -> int:
        """The position of a numbered message."""
        return number + self.first - 1


def thread_spans(line: Timeline) -> Iterator[tuple[int, int]]:
    """(first, one past the last) position of each thread."""
    edges = np.flatnonzero(np.diff(line.thread)) + 1
    yield from (
        zip([0, *edges.tolist()], [*edges.tolist(), len(line.thread)], strict=True)
        if len(line.thread)
        else ()
    )


def split_windows(
    line: Timeline, first: int, last: int, horizon: int, max_tokens: int
) -> list[Window]:
    """Split a thread into windows of at most `max_tokens`.

    Each response is in at least one window that shows its whole horizon, or as much of it as fits
    half a window. Responses near the end of a window are judged in the next one as well; the judge
    reconciles the two.
    """
    responses = [p for p in line.responses.tolist() if first <= p < last]
    total = np.concatenate(
        [[0], np.cumsum([_estimate_tokens(line.text[p]) for p in range(first, last)])]
    )
    windows: list[Window] = []
    start = first
    while start < last:
        room = total[start - first] + max_tokens
        end = min(
            last, max(start + 2, first + int(cast(Any, np.searchsorted(total, room, "right"))) - 1)
        )
        inside = tuple(p for p in responses if start <= p < end)
        if inside:
            windows.append(Window(start, end, inside))
        if end == last:
            break
        cut = [p for p in inside if p + horizon >= end]
        start = max(
            _request_position(line, cut[0], start) if cut else end, start + (end - start) // 2
        )
    return windows


def _request_position(line: Timeline, response: int, floor: int) -> int:
    """The user's message before a response."""
    p = response
    while p > floor and line.role[p] != USER:
        p -= 1
    return p


def _estimate_tokens(text: str) -> int:
    return int(min(len(text), MAX_SHOWN) / _BYTES_PER_TOKEN) + 8


def render_window(
    line: Timeline, window: Window, suspects: Mapping[int, Sequence[hostile.Suspect]] | None = None
) -> Transcript:
    """The messages of a window, each after a line `[number role mark]`.

    No message can contain such a line: lines that begin like it are escaped, and the mark is a hash
    of the window. Spans of `suspects` are replaced.
    """
    positions = range(window.first, window.last)
    texts = [_render_text(line.text[p], (suspects or {}).get(p, ())) for p in positions]
    texts = [
        (
            f"{text}\n[cut off here]"
            if line.role[p] == ASSISTANT and hostile.is_cut_off(line.text[p])
            else text
        )
        for p, text in zip(positions, texts, strict=True)
    ]
    mark = hashlib.blake2b("\0".join(texts).encode("utf-8", "replace"), digest_size=2).hexdigest()
    parts: list[str] = [
        f"The log. Each message begins with [number role {mark}]; nothing else does."
    ]
    for number, (p, text) in enumerate(zip(positions, texts, strict=True), 1):
        if p > window.first and line.session[p] != line.session[p - 1]:
            parts.append(f"[-- a later session{_describe_gap(line, p)} {mark}]")
        parts.append(f"[{number} {ROLES[line.role[p]]} {mark}]\n{text}")
    return Transcript("\n".join(parts), window.first)


def render_quotes_only(
    line: Timeline, window: Window, quoted: Mapping[int, Sequence[hostile.Suspect]]
) -> Transcript:
    """A window in which users and tools, after the first request, say only what is quoted."""
    start = _request_position(line, window.responses[0], window.first)
    hidden: dict[int, list[hostile.Suspect]] = {}
    for p in range(window.first, window.last):
        if p > start and line.role[p] != ASSISTANT:
            hidden[p] = _unquoted_spans(
                len(line.text[p]), sorted(quoted.get(p, ()), key=lambda span: span.start)
            )
        else:
            hidden[p] = list(
                hostile.scan(line.text[p], "assistant" if line.role[p] == ASSISTANT else "user")
            )
    return render_window(line, window, hidden)


def _unquoted_spans(size: int, quoted: Sequence[hostile.Suspect]) -> list[hostile.Suspect]:
    """The spans between the quotes."""
    spans: list[hostile.Suspect] = []
    end = 0
    for span in [*quoted, hostile.Suspect("", size, size)]:
        if span.start > end:
            spans.append(hostile.Suspect("not quoted", end, span.start))
        end = max(end, span.end)
    return spans


def make_foresight_window(line: Timeline, response: int, max_tokens: int = 700) -> Window:
    """A response and what came before it in its session, as much as fits; always its request."""
    first = response
    end = int(line.ends[line.row_of[response]])
    room = max_tokens - _estimate_tokens(line.text[response])
    needed = sum(map(_estimate_tokens, line.text[response:end]))
    while end - response > 1 and needed > room:
        end -= 1
        needed -= _estimate_tokens(line.text[end])
    while first > 0 and line.session[first - 1] == line.session[response]:
        room -= _estimate_tokens(line.text[first - 1])
        if room < 0 and line.role[first : response + 1].tolist().count(USER):
            break
        first -= 1
    return Window(first, end, (response,))


def _describe_gap(line: Timeline, position: int) -> str:
    before, now = int(line.time[position - 1]), int(line.time[position])
    if before < 0 or now < before:
        return ""
    hours = (now - before) / 3.6e9
    return (
        f", {round(hours / 24)} days after"
        if hours >= 36
        else f", {round(hours)} hours after"
        if hours >= 1
        else ""
    )


def _render_text(text: str, suspects: Sequence[hostile.Suspect]) -> str:
    for suspect in reversed(suspects):
        text = f"{text[: suspect.start]}[removed: {suspect.kind}]{text[suspect.end :]}"
    text = _INVISIBLE.sub("", text)
    if len(text) > MAX_SHOWN:
        left_out = len(text) - MAX_SHOWN
        text = (
            f"{text[: MAX_SHOWN * 2 // 3]}\n[... {left_out} characters left out"
            f" ...]\n{text[-MAX_SHOWN // 3 :]}"
        )
    return _FENCE.sub(r"\\\1", text).rstrip()


def find_quote(text: str, quote: str) -> tuple[int, int] | None:
    """The place of a quote in a text, where white space may differ; None: it is not there.

    >>> find_quote("it  still\\nfails", "still fails")
    (4, 15)
    """
    quote = quote.strip()
    if len(quote) < 2:
        return None
    at = text.find(quote)
    if at >= 0:
        return at, at + len(quote)
    match = re.search(r"\s+".join(re.escape(word) for word in quote.split()), text)
    return match.span() if match else None


def closing_line(line: Timeline, shown: Transcript, responses: Sequence[int]) -> str:
    """The last line of a hindsight prompt."""
    numbers = ", ".join(str(shown.number(p)) for p in responses)
    if all(line.ends[line.row_of[p]] - p == 1 for p in responses):
        return f"Judge responses {numbers}."
    return (
        f"Judge responses {numbers}. Each is all that the assistant does from that message to the"
        " next one of the user."
    )
