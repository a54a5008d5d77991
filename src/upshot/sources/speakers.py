"""Who wrote what: the author of every message and of every span of one.

A reader states the author where its format says it (`RawMessage.author`). What a harness wraps into
a person's turn is told by its tags; what a person pasted (a traceback, a log, a diff, a quotation)
by its lines.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from importlib import resources

import msgspec

from upshot.records import Author, AuthorSpan, RawMessage

_TABLE = tomllib.loads(
    resources.files("upshot.sources").joinpath("speakers.toml").read_text("utf-8")
)
_MACHINE = frozenset(_TABLE["machine"])
_PERSON = frozenset(_TABLE["person"])
_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9_\- ]{1,40})((?:\s[^<>]{0,300})?)(/?)>")
_FENCE = re.compile(r"^[ \t]*(```|~~~)[^\n]*$", re.MULTILINE)
_MIN_LINES = 3
"""Lines in a row that look like a log's, before they are taken for one: one line is often typed."""
_LOG_LINE = re.compile(
    r"""^\s*(?:
      \[?\d{4}[-/]\d\d[-/]\d\d[T\ ]\d\d:\d\d                                    # a date and a time
    | \[?\d\d:\d\d:\d\d | \w{3}\ [\ \d]\d\ \d\d:\d\d:\d\d\                       # a time
    | (?:\[\w+\]\ )?(?:DEBUG|INFO|WARN(?:ING)?|ERROR|FATAL|TRACE)\b[\ :\]]        # a level
    | npm\ (?:ERR!|WARN|error|warn)
    | \s+at\ [\w.$<>]+\ ?\( | \s+File\ ".+",\ line\ \d+ | E\ {3} | >\s{3,}      # a trace
    | \$\                                                                       # a prompt
    )""",
    re.VERBOSE,
)
_RULE = re.compile(r"^\s*(?:={5,}|-{5,})")
"""A rule: of a log where other lines are a log's, else of anybody."""
_TRACE_START = re.compile(
    r"^(?:Traceback \(most recent call last\):|Exception in thread |panic: |thread '.+' panicked"
    r"|[\w.]+(?:Error|Exception)(?:: |$)|Unhandled|Uncaught |error(?:\[E\d+\])?: )",
    re.MULTILINE,
)
_DIFF = re.compile(r"^(?:diff --git |--- a/|\+\+\+ b/|@@ -\d+)", re.MULTILINE)
_DIFF_LINE = re.compile(r"^(?:[ +\-@\\]|diff |index |new file|deleted file|similarity|rename )")
_QUOTE = re.compile(
    r"^(?:(?:On|Am|Le|El|Il)\b[^\n]{8,200}:[ \t]*\n(?=[ \t]*>))?[ \t]*>[ \t]?.*$", re.MULTILINE
)
"""A line that quotes, with the one before it that says whom."""
_MAIL = re.compile(
    r"^(?:-{3,}[^\n]{0,60}-{3,}\n)?"
    r"(?:[ \t]*\*?(?:From|Sent|Date|To|Cc|Subject|Von|Gesendet|An|Betreff|De|Envoyé|À|Objet)"
    r":\*?[ \t][^\n]*(?:\n|\Z)){3,}",
    re.MULTILINE,
)
"""The head of a forwarded mail."""


_HARNESS_TEXT = re.compile(
    r"\s*(?:\[Request interrupted by user|Caveat: The messages below were generated"
    r"|This session is being continued from a previous conversation"
    r"|Implement the following plan:\s*\n|Base directory for this skill: "
    r"|Stop hook feedback:|Operation (?:stopped|blocked) by hook: "
    r"|Unknown (?:slash command|skill): )"
)


def is_harness_text(text: str) -> bool:
    """Whether a text in a person's turn begins as what coding agents write there themselves.

    >>> is_harness_text("Stop hook feedback: commit first"), is_harness_text("commit first")
    (True, False)
    """
    return _HARNESS_TEXT.match(text) is not None


def mark_author(message: RawMessage) -> RawMessage:
    """The message with the spans that somebody else wrote, where its reader stated none.

    Only what stands in a person's turn is looked at. A turn of which nothing is the person's is a
    machine's.

    >>> marked = mark_author(RawMessage("user", "<system-reminder>x</system-reminder>fix it"))
    >>> marked.content[marked.spans[0].end:]
    'fix it'
    """
    if message.role != "user" or message.author or message.spans or not message.content:
        return message
    if is_harness_text(message.content):
        return msgspec.structs.replace(message, author="machine")
    wrapped = list(find_wrapped(message.content))
    spans = tuple(merge_spans([*wrapped, *find_pasted(message.content)]))
    if not spans:
        return message
    if rest_of(message.content, spans).strip():
        return msgspec.structs.replace(message, spans=spans)
    # where nothing was wrapped a person sent it, though nothing in it is theirs: the spans say so
    return msgspec.structs.replace(message, author="machine", spans=() if wrapped else spans)


def rest_of(text: str, spans: Sequence[AuthorSpan]) -> str:
    """The text without the spans; a blank stands where two words would grow together."""
    rest = ""
    last = 0
    for start, end in (*((span.start, span.end) for span in spans), (len(text), len(text))):
        part = text[last:start]
        grown = rest[-1:].strip() and part[:1].strip()
        rest += f" {part}" if grown else part
        last = end
    return rest


def words_of(message: RawMessage, author: Author = "person") -> str:
    """What one author wrote of a message.

    >>> words_of(RawMessage("user", "> no\\nwhy?", spans=(AuthorSpan(0, 5, "machine"),)))
    'why?'
    """
    if message.written_by != author:
        return "".join(
            message.content[s.start : s.end] for s in message.spans if s.author == author
        )
    others = [span for span in message.spans if span.author != author]
    return rest_of(message.content, others)


def find_wrapped(text: str) -> Iterator[AuthorSpan]:
    """Spans that a harness wrapped in its tags, tags included; a person's words inside are left."""
    if "<" not in text:
        return
    open_tag: tuple[str, int, int] | None = None
    last = 0
    """End of the last tag."""
    for match in _TAG.finditer(text):
        closing, name, _, empty = match.groups()
        key = name.lower().replace("_", "-").replace(" ", "-")
        if open_tag is None:
            if key not in _MACHINE and key not in _PERSON:
                continue
            if "-" not in key and not _begins_line(text, last, match.start()):
                continue  # a word in brackets, which people write too
            last = match.end()
            if closing or empty:
                yield AuthorSpan(match.start(), match.end(), "machine")
            else:
                open_tag = (key, match.start(), match.end())
        elif closing and key == open_tag[0]:
            last = match.end()
            if "-" not in key and _is_phrase(text, open_tag[1], match.end()):
                pass
            elif key in _MACHINE:
                yield AuthorSpan(open_tag[1], match.end(), "machine")
            else:
                yield AuthorSpan(open_tag[1], open_tag[2], "machine")
                yield AuthorSpan(match.start(), match.end(), "machine")
            open_tag = None
    if open_tag is not None and open_tag[0] in _MACHINE and open_tag[1] == 0 and "-" in open_tag[0]:
        yield AuthorSpan(0, len(text), "machine")  # cut before its end


def _begins_line(text: str, last: int, start: int) -> bool:
    """Whether nothing but blanks stands before a place, since the last tag or in its line."""
    begin = max(last, text.rfind("\n", 0, start) + 1)
    return not text[begin:start].strip()


def _is_phrase(text: str, start: int, end: int) -> bool:
    """Whether a wrapped text is part of a sentence: on one line, words behind it."""
    line_end = text.find("\n", end)
    behind = text[end : line_end if line_end >= 0 else len(text)].strip()
    return "\n" not in text[start:end] and behind[:1] not in ("", "<")


def find_pasted(text: str) -> Iterator[AuthorSpan]:
    """Spans that were pasted: tracebacks, logs, diffs and quotations, in fences or not."""
    if "\n" not in text and not text.startswith(">"):
        return
    for start, end in _blocks_of(text):
        block = text[start:end]
        lines = block.splitlines()
        hits = sum(_LOG_LINE.match(line) is not None for line in lines)
        if hits:
            hits += sum(_RULE.match(line) is not None for line in lines)
        if _DIFF.search(block) and len(lines) >= _MIN_LINES and _is_diff(lines):
            yield AuthorSpan(start, end, "machine")
        elif (hits >= _MIN_LINES and hits * 2 >= len(lines)) or (
            _TRACE_START.search(block) and len(lines) >= _MIN_LINES and hits
        ):
            first, last = _trim_prose(block)
            yield AuthorSpan(start + first, start + last, "machine")
    for match in _QUOTE.finditer(text):
        yield AuthorSpan(match.start(), match.end(), "machine")
    for match in _MAIL.finditer(text):  # what is forwarded stands behind what one has to say of it
        is_behind = bool(text[: match.start()].strip())
        yield AuthorSpan(match.start(), len(text) if is_behind else match.end(), "machine")


def _trim_prose(block: str) -> tuple[int, int]:
    """Where a log or traceback begins and ends in a paragraph: what somebody wrote right before it
    or behind it is theirs.
    """
    if _FENCE.match(block):
        return 0, len(block)
    position, first, last = 0, -1, len(block)
    for line in block.splitlines(keepends=True):
        marks = (_LOG_LINE.match(line), _RULE.match(line), _TRACE_START.match(line))
        if any(marks) or line[:1] in (" ", "\t"):
            first = position if first < 0 else first
            last = position + len(line.rstrip("\r\n"))
        position += len(line)
    return max(first, 0), last


def _is_diff(lines: Sequence[str]) -> bool:
    inside = [line for line in lines if not line.lstrip().startswith(("```", "~~~"))]
    return sum(_DIFF_LINE.match(line) is not None or not line for line in inside) >= 0.9 * len(
        inside
    )


def _blocks_of(text: str) -> Iterator[tuple[int, int]]:
    """Fenced blocks, and runs of lines between blank ones."""
    position = 0
    fences = list(_FENCE.finditer(text))
    for opening, closing in zip(fences[::2], fences[1::2], strict=False):
        yield from _paragraphs_of(text, position, opening.start())
        yield opening.start(), closing.end()
        position = closing.end()
    yield from _paragraphs_of(text, position, len(text))


_BLANK = re.compile(r"\n[ \t]*\n")


def _paragraphs_of(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    for match in _BLANK.finditer(text, start, end):
        if match.start() > start:
            yield start, match.start()
        start = match.end()
    if start < end:
        yield start, end


def merge_spans(spans: Sequence[AuthorSpan]) -> list[AuthorSpan]:
    """The spans in order, overlaps joined."""
    merged: list[AuthorSpan] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        if span.start >= span.end:
            continue
        if merged and span.start <= merged[-1].end and span.author == merged[-1].author:
            last = merged[-1]
            merged[-1] = AuthorSpan(last.start, max(last.end, span.end), last.author)
        elif not merged or span.start >= merged[-1].end:
            merged.append(span)
    return merged


def join_authored(parts: Sequence[tuple[str, Author]], between: str = "\n") -> RawMessage:
    """One user's message of parts by several authors, with its spans.

    >>> join_authored([("fix it", "person"), ("<file>", "machine")]).spans
    (AuthorSpan(start=7, end=13, author='machine'),)
    """
    parts = [(text, author) for text, author in parts if text]
    main: Author = "person" if any(author == "person" for _, author in parts) else "machine"
    spans: list[AuthorSpan] = []
    position = 0
    for text, author in parts:
        if author != main:
            spans.append(AuthorSpan(position, position + len(text), author))
        position += len(text) + len(between)
    return RawMessage(
        "user",
        between.join(text for text, _ in parts),
        author="" if main == "person" else main,
        spans=tuple(spans),
    )
