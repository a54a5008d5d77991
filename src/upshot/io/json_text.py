"""JSON as it is in the wild: decoding what is sound, and finding the next value after what is not.

Values may stand one a line, over several lines, in arrays, or in any mixture of these.
"""

from __future__ import annotations

import codecs
import itertools
import json
import re
from collections import deque
from collections.abc import Generator, Iterator
from typing import Any, NamedTuple, NoReturn

import msgspec

from upshot.io.json_values import is_array, is_object
from upshot.io.streams import BLOCK, Limits, Stream, read_parts

_DECODE = msgspec.json.Decoder().decode
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_LONE = re.compile("[\ud800-\udfff]")
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)
_SPACE = re.compile(r"[\s,\ufeff\x00]*")
_NEXT_ITEM = re.compile(r"[}\]]\s*,\s*(?=[{\[])")
_BLANK = b"\xef\xbb\xbf \t\r\n,"
_MAX_REASON = 160
"""Characters of a reason."""


class Bad(NamedTuple):
    """A stretch of a file that is not JSON."""

    reason: str


def decode(data: bytes) -> Any:
    """One value. Lone surrogates become U+FFFD.

    Raises:
        ValueError: it is not JSON, not UTF-8, or holds a number that JSON has not (NaN, Infinity).

    >>> decode(b'"\\\\ud83d!"')
    '\ufffd!'
    """
    try:
        return _DECODE(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        first = error
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}") from None
    try:
        value = _PYTHON.decode(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except ValueError:
        raise ValueError(f"not JSON: {first}"[:_MAX_REASON]) from None
    return replace_surrogates(value) if _SURROGATE.search(text) else value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


_PYTHON = json.JSONDecoder(strict=False, parse_constant=_refuse)


def replace_surrogates(value: Any) -> Any:
    """The same value with U+FFFD for every surrogate that stands alone."""
    if isinstance(value, str):
        return value if value.isascii() else _LONE.sub("\ufffd", value)
    if isinstance(value, list):
        return [replace_surrogates(item) for item in value]  # pyright: ignore[reportUnknownVariableType]  # JSON
    if isinstance(value, dict):
        return {
            replace_surrogates(name): replace_surrogates(item)
            for name, item in value.items()  # pyright: ignore[reportUnknownVariableType]  # JSON
        }
    return value


def read_lines(stream: Stream, limits: Limits) -> Iterator[tuple[int, bytes | Bad]]:
    """Numbered lines, from 1, without their ends; blank ones are passed over.

    A line over the limit is a `Bad`, and the next is read.
    """
    number = 0
    rest: list[bytes] = []
    size = 0
    failure: Exception | None = None
    while True:
        try:
            block = stream.read(BLOCK)
        except Exception as error:  # noqa: BLE001  # delivered after what was whole
            failure, block = error, b""
        if not block:
            break
        first, *others = block.split(b"\n")
        size += len(first)
        if size <= limits.line:
            rest.append(first)
        if not others:
            continue
        number += 1
        line = b"".join(rest)
        if size > limits.line:
            yield number, _too_long(limits)
        elif line and not line.isspace():
            yield number, line
        for line in others[:-1]:
            number += 1
            if line and not line.isspace():
                yield number, line if len(line) <= limits.line else _too_long(limits)
        rest, size = [others[-1]], len(others[-1])
    line = b"".join(rest)
    if size > limits.line:
        yield number + 1, _too_long(limits)
    elif line and not line.isspace():
        yield number + 1, line
    if failure is not None:
        raise failure


def _too_long(limits: Limits) -> Bad:
    return Bad(f"longer than {limits.line / 1e6:,.0f} MB; raise sources.line_mb if that is meant")


def read_values(stream: Stream, limits: Limits) -> Iterator[tuple[str, Any | Bad]]:
    """(position, value) for each value of a file: lines, values over several lines, and the items
    of arrays that span lines or are alone in the file.

    What is not JSON becomes a `Bad`, and the next value is looked for.
    """
    head = stream.peek(BLOCK).lstrip(_BLANK)
    arrays = 0
    while head[:1] == b"[" and not _is_array_a_line(head):
        arrays += 1
        within = f" of array {arrays}" if arrays > 1 else ""
        items = _read_array(stream, limits)
        while True:
            try:
                position, value = next(items)
            except StopIteration as end:
                rest: str = end.value or ""
                break
            yield position + within, value
        tail = rest.encode("utf-8", "replace")
        stream = Stream(itertools.chain([tail], read_parts(stream)))
        head = stream.peek(BLOCK).lstrip(_BLANK)
        if not head:
            return
    after = " after the array" if arrays else ""
    for position, value in _read_line_values(stream, limits):
        yield position + after, value


def _is_array_a_line(head: bytes) -> bool:
    """Whether the first line is an array and the second begins another."""
    first, newline, rest = head.partition(b"\n")
    if not newline or rest.lstrip()[:1] != b"[":
        return False
    try:
        decode(first)
    except ValueError:
        return False
    return True


def _read_line_values(stream: Stream, limits: Limits) -> Iterator[tuple[str, Any | Bad]]:
    lines = read_lines(stream, limits)
    waiting: deque[tuple[int, bytes | Bad]] = deque()
    tried_up_to = 0
    """Lines that were part of a value which came to nothing are not tried as its beginning."""
    while True:
        number, line = waiting.popleft() if waiting else next(lines, (0, b""))
        if not number:
            return
        if isinstance(line, Bad):
            yield f"line {number}", line
            continue
        try:
            yield f"line {number}", decode(line)
            continue
        except ValueError as error:
            reason = str(error)
        if "trailing characters" in reason and (values := split_values(line)):
            for place, value in enumerate(values, 1):
                yield f"line {number}, value {place}", value
            continue
        depth = _depth_after(line, 0)
        if depth is None or depth <= 0 or number <= tried_up_to:
            yield f"line {number}", Bad(reason)
            continue
        taken, value = _gather_value(line, depth, lines, waiting, limits)
        if taken is None:
            tried_up_to = waiting[-1][0] if waiting else number
            yield f"line {number}", Bad(reason)
        else:
            for _ in range(taken):
                waiting.popleft()
            yield f"line {number}", value


def split_values(line: bytes) -> list[Any]:
    """Objects that follow each other without a line's end between; none where that is not so."""
    values: list[Any] = []
    position = 0
    try:
        text = line.decode().lstrip("\ufeff").strip()
        while position < len(text):
            value, position = _PYTHON.raw_decode(text, position)
            if not isinstance(value, (dict, list)):
                return []
            values.append(replace_surrogates(value))
            position = _SPACE.match(text, position).end()  # pyright: ignore[reportOptionalMemberAccess]
    except (ValueError, RecursionError):
        return []
    return values if len(values) > 1 else []


def _gather_value(
    line: bytes,
    depth: int,
    lines: Iterator[tuple[int, bytes | Bad]],
    waiting: deque[tuple[int, bytes | Bad]],
    limits: Limits,
) -> tuple[int | None, Any]:
    """A value that begins with `line` and goes on: how many lines more it has, and the value.

    The lines are left in `waiting`. None where it never ends, or ends in nothing.
    """
    parts, size, count = [line], len(line), 0
    current: int | None = depth
    while current:
        if count == len(waiting):
            following = next(lines, None)
            if following is None:
                return None, None
            waiting.append(following)
        part = waiting[count][1]
        count += 1
        if isinstance(part, Bad) or size > limits.line:
            return None, None
        if part[:1] in (b"{", b"[") and _is_whole(part):  # at column 0: the next record
            return None, None
        parts.append(part)
        size += len(part)
        current = _depth_after(part, current)
    if current is None:
        return None, None
    try:
        return count, decode(b"\n".join(parts))
    except ValueError:
        return None, None


def _is_whole(line: bytes) -> bool:
    try:
        decode(line)
    except ValueError:
        return False
    return True


def _depth_after(line: bytes, depth: int) -> int | None:
    """How many brackets are open after a line; None where it ends inside a string."""
    for token in _TOKEN.finditer(line):
        mark = token.group()
        if mark[:1] == b'"':
            if len(mark) < 2 or mark[-1:] != b'"':
                return None
        else:
            depth += 1 if mark in b"[{" else -1
    return depth


class _Window:
    """A sliding piece of a file's text."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.failure: Exception | None = None
        """What ended the file too early."""
        self.text = ""
        self.position = 0
        self._grow = BLOCK

    def read(self, size: int) -> str:
        """More text, about so much; empty at the end."""
        parts: list[str] = []
        while size > 0 and self.failure is None:
            try:
                block = self._stream.read(BLOCK)
            except Exception as error:  # noqa: BLE001  # raised when what was whole is delivered
                self.failure = error
                break
            if not block:
                break
            parts.append(self._decoder.decode(block))
            size -= len(block)
        return "".join(parts)

    def extend(self) -> bool:
        """Add text, each time twice as much; False at the end."""
        addition = self.read(self._grow)
        if not addition:
            return False
        self.text, self.position = self.text[self.position :] + addition, 0
        self._grow *= 2
        return True

    def advance(self, position: int) -> None:
        """Go on from a position."""
        self.position, self._grow = position, BLOCK
        if position > BLOCK:
            self.text, self.position = self.text[position:], 0

    def skip_to_next_item(self, start: int) -> bool:
        """Go to what looks like the beginning of the next item; False where there is none."""
        following = _NEXT_ITEM.search(self.text, start)
        while following is None and (addition := self.read(BLOCK)):
            self.text = self.text[-_NEAR:] + addition
            following = _NEXT_ITEM.search(self.text)
        if following is not None:
            self.advance(following.end())
        return following is not None


_NEAR = 64
"""Characters kept of a passed-over piece: the mark between two items may begin in it."""


def _read_array(stream: Stream, limits: Limits) -> Generator[tuple[str, Any | Bad], None, str]:
    """Items of an array, decoded one by one from a sliding window; returns what follows it."""
    window = _Window(stream)
    window.extend()
    window.advance(window.text.find("[") + 1)
    item = 0
    while True:
        window.position = _SPACE.match(window.text, window.position).end()  # pyright: ignore[reportOptionalMemberAccess]
        if window.text[window.position : window.position + 1] == "]":
            return window.text[window.position + 1 :]
        value, end, error_at = _decode_item(window)
        if isinstance(value, Bad):
            too_long = len(window.text) - window.position > limits.line
            if not (too_long or _is_final(value.reason)) and window.extend():
                continue
            if window.position >= len(window.text):
                value = Bad("the array does not end")
        if isinstance(value, Bad) and window.failure is not None and not window.text.strip():
            raise window.failure
        item += 1
        yield f"item {item}", value
        if not isinstance(value, Bad):
            window.advance(end)
        elif not window.skip_to_next_item(max(window.position, error_at - 1)):
            if window.failure is not None:
                raise window.failure
            return ""


def _decode_item(window: _Window) -> tuple[Any | Bad, int, int]:
    """The value at the window's position, where it ends, and where it is broken."""
    text, start = window.text, window.position
    value: Any
    try:
        value, end = _PYTHON.raw_decode(text, start)
    except json.JSONDecodeError as error:
        return Bad(f"not JSON: {error.msg}"[:_MAX_REASON]), start, error.pos
    except RecursionError:
        return Bad(_TOO_DEEP), start, start
    except ValueError as error:
        return Bad(f"not JSON: {error}"[:_MAX_REASON]), start, start
    if end == len(text) and not (is_object(value) or is_array(value)):
        return Bad("not JSON: it does not end"), start, start  # a number may go on
    if _SURROGATE.search(text, start, end):
        value = replace_surrogates(value)
    return value, end, start


_TOO_DEEP = "it is nested too deeply"


def _is_final(reason: str) -> bool:
    """Whether more text could not mend it."""
    return reason == _TOO_DEEP or "no JSON number" in reason
