"""What tool output says of the response before it: exit codes, tests, lint, builds, tracebacks."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from upshot.records import RawConversation, Signal

_PYTEST = re.compile(r"=+ (?:(\d+) failed)?,? ?(?:(\d+) passed)?[^=\n]*in [0-9.]+m?s")
_UNITTEST = re.compile(r"^Ran (\d+) tests? in [^\n]*\n+(OK|FAILED[^\n]*)", re.MULTILINE)
_JEST = re.compile(r"^Tests:\s+(?:(\d+) failed, )?[^\n]*?(\d+) passed", re.MULTILINE)
_CARGO = re.compile(r"^test result: (ok|FAILED)\.", re.MULTILINE)
_GO = re.compile(r"^(ok|FAIL)\s+\S+\s+[0-9.]+s", re.MULTILINE)
_EXIT = re.compile(
    r"(?im)^\W{0,3}(?:(?:command |process |shell )*(?:exited|failed|terminated)(?: with)?(?: exit)?"
    r"|exit)(?: code| status)?:? ?\(?(-?\d{1,3})\)?[.)]?\s*$"
    r"|<returncode>(-?\d{1,3})</returncode>|\"(?:exit_?code|returncode)\": ?(-?\d{1,3})\b"
)
"""A line of its own or a field: `returned 12 rows` and a manual's `exit 1 if` are none."""
_LINT = re.compile(
    r"(?im)^(?:found \d+ errors?|.*\b[EFWC]\d{3}\b .*|\d+ problems? \(\d+ errors?|# Fix any"
    r" (?:linting )?errors below.*)"
)
_BUILD = re.compile(
    r"(?m)(?:^|\s)(?:error(?:\[E\d+\])?: |fatal error: |BUILD FAILED|npm ERR!|SyntaxError: |.*:"
    r" error: )"
)
_TRACE = re.compile(
    r"Traceback \(most recent call last\)|^\s+at .+\(.+:\d+:\d+\)|panic: |thread '.+'"
    r" panicked|Exception in thread",
    re.MULTILINE,
)
_COMMIT = re.compile(r"(?m)^\[[^\[\]\n]{1,200} ([0-9a-f]{7,40})\] ")
_HINT = re.compile(
    r"(?i)passed|failed|\bran \d|exit|returncode|error|traceback|panic|problem|test"
    r" result|^ok\s|exception|fix any",
    re.MULTILINE,
)
_READS = re.compile(
    r"(?i)(?:[a-z]+[_.-])?(?:read|view|open|cat|grep|rg|glob|ls|list|find|search|fetch|web|browse"
    r"|todo|task|agent|get|look|codebase|semantic|mcp)"
)
"""Names of tools that show what is there, in which errors are talked of and not made."""
_NO_TESTS = "[no tests to run]"
"""What Go says where it only compiled."""
_MAX_DETAIL = 200
"""Characters of the line that shows a result."""
_LOOK = 20_000
"""Characters read at each end of an output: summaries stand at its end, tracebacks anywhere near.
"""


def read_results(
    output: str,
    at: int,
    time: float | None = None,
    status: int | None = None,
    *,
    is_command: bool = True,
) -> Iterator[Signal]:
    """Signals that one tool output carries about the response it answers.

    `status`: the exit code as the log states it; without one the text is looked at, unless it is
    no command's output but what somebody reads or searches.

    >>> [(s.kind, s.value) for s in read_results("==== 1 failed, 3 passed in 0.1s ====", 2)]
    [('test', -0.5)]
    """
    if len(output) > 2 * _LOOK:
        output = output[:_LOOK] + "\n" + output[-_LOOK:]
    for match in _COMMIT.finditer(output):
        yield Signal(
            "commit", 0.0, at, match.group(1), time
        )  # no news in itself; what becomes of its lines is
    if status is not None:
        shown = _EXIT.search(output)
        detail = shown.group().strip() if shown else _last_line(output)
        yield Signal("exit", 0.3 if status == 0 else -0.5, at, detail, time)
    if not is_command or not _HINT.search(output):
        return
    tests = _read_tests(output)
    if tests is not None:
        yield Signal("test", tests[0], at, tests[1], time)
    if status is None and (match := _EXIT.search(output)):
        code = int(next(group for group in match.groups() if group is not None))
        yield Signal("exit", 0.3 if code == 0 else -0.5, at, match.group().strip(), time)
    if status == 0:  # it prints what it was asked for: a page about errors, a search for them
        return
    if tests is None:
        for kind, pattern, value in (
            ("trace", _TRACE, -0.7),
            ("lint", _LINT, -0.3),
            ("build", _BUILD, -0.6),
        ):
            if match := pattern.search(output):
                yield Signal(kind, value, at, _line_of(output, match), time)
                return


def _read_tests(output: str) -> tuple[float, str] | None:
    """2 × share passed - 1, from the last summary of a known runner, and the line that says it."""
    for match in reversed([*_PYTEST.finditer(output)]):
        failed, passed = int(match.group(1) or 0), int(match.group(2) or 0)
        if failed + passed:
            value = -1.0 if not passed else 1.0 if not failed else -0.5
            return value, _line_of(output, match)
    if match := _JEST.search(output):
        return (1.0 if not match.group(1) else -0.5), _line_of(output, match)
    for pattern, good in ((_UNITTEST, "OK"), (_CARGO, "ok"), (_GO, "ok")):
        results = [m for m in pattern.finditer(output) if _NO_TESTS not in _line_of(output, m)]
        bad = [match for match in results if match.group(match.re.groups) != good]
        if results:
            return (-0.5 if bad else 1.0), _line_of(output, (bad or results[-1:])[0])
    return None


def _line_of(output: str, match: re.Match[str]) -> str:
    """The line on which a match ends, cut at `_MAX_DETAIL`."""
    start = output.rfind("\n", 0, max(match.start(), match.end() - 1)) + 1
    end = output.find("\n", match.end())
    return output[start : end if end >= 0 else len(output)].strip()[:_MAX_DETAIL]


def _last_line(output: str) -> str:
    """The last line with anything on it."""
    return output.rstrip().rsplit("\n", 1)[-1].strip()[:_MAX_DETAIL]


def attach_results(conversation: RawConversation) -> RawConversation:
    """Add what each tool message says to the last response before it."""
    if not any(message.role == "tool" for message in conversation.messages):
        return conversation
    added: dict[int, list[Signal]] = {}
    response = -1
    for index, message in enumerate(conversation.messages):
        if message.role == "assistant":
            response = index
        elif message.role == "tool" and response >= 0:
            kinds = {
                signal.kind
                for signal in conversation.messages[response].signals
                if signal.at == index
            }
            signals = [
                signal
                for signal in read_results(
                    message.content,
                    index,
                    message.time,
                    message.status,
                    is_command=not _READS.match(message.name or ""),
                )
                if signal.kind not in kinds
            ]
            if signals:
                added.setdefault(response, []).extend(signals)
    if not added:
        return conversation
    messages = tuple(
        (
            msgspec.structs.replace(message, signals=(*message.signals, *added[i]))
            if i in added
            else message
        )
        for i, message in enumerate(conversation.messages)
    )
    return msgspec.structs.replace(conversation, messages=messages)
