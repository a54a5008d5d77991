"""Code edits of a response: from its tool calls, and from SEARCH/REPLACE blocks, unified diffs and
patches in its words.

Lines are compared by their stripped text and the end of their file's path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import msgspec

from upshot.records import ToolCall

_MIN_CHARACTERS = 10
"""Shorter lines (`else:`, `}`) occur everywhere and identify nothing."""
_BLOCK = re.compile(
    r"^(?:<{5,9}|-{5,9}) SEARCH>?\n(.*?)^={5,9}\n(.*?)^(?:>{5,9}|\+{5,9}) REPLACE",
    re.DOTALL | re.MULTILINE,
)
_HUNK = re.compile(r"^@@ [^\n]*@@[^\n]*\n((?:[ +\-\\][^\n]*\n?|\n)+)", re.MULTILINE)
_PATCH = re.compile(r"^\*\*\* Begin Patch$(.*?)(?:^\*\*\* End Patch|\Z)", re.DOTALL | re.MULTILINE)
_PATCHED_FILE = re.compile(r"^\*\*\* (?:Update|Add|Delete) File: (.+)$")
_DIFFED_FILE = re.compile(r"^\+\+\+ (?:b/)?(\S+)", re.MULTILINE)
_HEREDOC = re.compile(
    r"(?:cat|tee)[^\n|;&]*?>{0,2} *[\"']?([\w./~<>-]+)[\"']? *<<-? *[\"']?(\w+)[\"']?"
    r"[^\n]*\n(.*?)^\2$",
    re.DOTALL | re.MULTILINE,
)
_PROSE = (".md", ".rst", ".txt", ".adoc", ".mdx", ".org", ".tex")
_PATHS = (
    "file_path",
    "path",
    "filePath",
    "target_file",
    "targetFile",
    "TargetFile",
    "notebook_path",
    "filename",
    "absolute_path",
    "file",
)
_OLD = ("old_string", "old_str", "oldString", "old_text", "oldText", "search", "old_code")
_NEW = (
    "new_string",
    "new_str",
    "newString",
    "new_text",
    "newText",
    "replace",
    "new_code",
    "new_source",
    "insert_text",
)
_WHOLE = ("content", "contents", "file_text", "CodeContent")
_PARTS = ("edits", "replacements", "changes", "ReplacementChunks")
_PATCHES = ("patch", "diff", "input", "command", "cmd", "script")
"""Names that coding agents' tools give to their arguments: Claude Code, Codex, Gemini CLI, Cline,
Roo, Cursor, opencode, OpenHands, Windsurf, Amp, as their own logs show them.
"""


class Line(NamedTuple):
    """A line of code in a file."""

    file: str
    """The last two parts of its path; empty where it is unknown."""
    text: str


class Edit(NamedTuple):
    """The lines of one message's edits."""

    added: frozenset[Line]
    removed: frozenset[Line]
    shown: frozenset[Line]
    """Present both before and after the edit."""
    written: frozenset[str]
    """Files that were written whole, so that every other line of theirs is gone."""


def parse_edit(text: str, calls: Sequence[ToolCall] = ()) -> Edit | None:
    """The edits in a message, None where there are none.

    >>> block = "<<<<<<< SEARCH\\nold_line = 1\\n=======\\nnew_line = 2\\n>>>>>>> REPLACE"
    >>> [line.text for line in parse_edit(block).added]
    ['new_line = 2']
    >>> call = ToolCall("Edit", '{"file_path": "src/a.py", "old_string": "", "new_string": "n = 100000"}')
    >>> parse_edit("", [call]).added
    frozenset({Line(file='src/a.py', text='n = 100000')})
    """  # noqa: E501
    changes = [*_read_text(text), *(change for call in calls for change in _read_call(call))]
    before = {line for old, _, _ in changes for line in old}
    after = {line for _, new, _ in changes for line in new}
    written = frozenset(file for _, _, file in changes if file)
    if not before and not after:
        return None
    return Edit(
        frozenset(after - before), frozenset(before - after), frozenset(before & after), written
    )


_Change = tuple[list[Line], list[Line], str]
"""Lines before and after, and the file where it was written whole."""


def _read_text(text: str, file: str = "") -> Iterator[_Change]:
    if " SEARCH" in text:
        for old, new in _BLOCK.findall(text):
            yield _long_lines(file, old.split("\n")), _long_lines(file, new.split("\n")), ""
    if "*** Begin Patch" in text:
        for patch in _PATCH.findall(text):
            yield from _read_patch(patch)
    if "@@" in text:
        for match in _HUNK.finditer(text):
            named = [m.group(1) for m in _DIFFED_FILE.finditer(text, 0, match.start())]
            rows = match.group(1).split("\n")
            yield (*_split_rows(file or _short_path(named[-1] if named else ""), rows), "")


def _read_patch(patch: str) -> Iterator[_Change]:
    file, rows = "", list[str]()
    for row in [*patch.split("\n"), "*** Update File: "]:
        if row.startswith("*** "):
            if rows:
                yield (*_split_rows(file, rows), "")
            named = _PATCHED_FILE.match(row)
            file, rows = _short_path(named.group(1)) if named else file, []
        elif not row.startswith("@@"):
            rows.append(row)


def _split_rows(file: str, rows: Sequence[str]) -> tuple[list[Line], list[Line]]:
    """Lines before and after of the rows of a diff."""
    return (
        _long_lines(file, [row[1:] for row in rows if row[:1] in (" ", "-")]),
        _long_lines(file, [row[1:] for row in rows if row[:1] in (" ", "+")]),
    )


def _read_call(call: ToolCall) -> Iterator[_Change]:
    """The changes that a tool call makes to files."""
    if not call.arguments.lstrip().startswith("{"):
        yield from _read_text(call.arguments)
        return
    try:
        given = msgspec.json.decode(call.arguments)
    except msgspec.DecodeError:
        return
    arguments = cast(Mapping[str, Any], given)
    path = _first_text(arguments, _PATHS)
    file = _short_path(path or "")
    parts = next((arguments[name] for name in _PARTS if _is_list(arguments.get(name))), None)
    for part in cast(list[Any], parts) if parts else [arguments]:
        if isinstance(part, Mapping):
            yield from _read_change(cast(Mapping[str, Any], part), file)
    if path:
        whole = _first_text(arguments, _WHOLE)
        if whole is not None:
            yield [], _long_lines(file, whole.split("\n")), file
    for name in _PATCHES:
        text = arguments.get(name)
        if _is_list(text):
            text = "\n".join(str(word) for word in cast(list[Any], text))
        if isinstance(text, str):
            yield from _read_text(text, file)
            if "<<" in text:
                for target, _, content in _HEREDOC.findall(text):
                    name_of_file = _short_path(target)
                    yield [], _long_lines(name_of_file, content.split("\n")), name_of_file


def _read_change(part: Mapping[str, Any], file: str) -> Iterator[_Change]:
    """One replacement of one text by another."""
    new = _first_text(part, _NEW)
    if new is None:
        return
    named = _first_text(part, _PATHS)
    file = _short_path(named) if named else file
    old = _first_text(part, _OLD) or ""
    if file:
        yield _long_lines(file, old.split("\n")), _long_lines(file, new.split("\n")), ""


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _first_text(arguments: Mapping[str, Any], names: Iterable[str]) -> str | None:
    return next((v for name in names if isinstance(v := arguments.get(name), str)), None)


def _short_path(path: str) -> str:
    """The last two parts of a path, by which a file is known whatever the folder.

    >>> _short_path("/home/me/app/src/a.py")
    'src/a.py'
    """
    return "/".join(path.strip().replace("\\", "/").rstrip("/").split("/")[-2:])


def is_code(file: str) -> bool:
    """Whether tests may say something of a file; of prose they say nothing.

    >>> is_code("src/a.py"), is_code("docs/a.md"), is_code("")
    (True, False, True)
    """
    return not file.lower().endswith(_PROSE)


def _long_lines(file: str, rows: Iterable[str]) -> list[Line]:
    return [Line(file, text) for row in rows if len(text := row.strip()) >= _MIN_CHARACTERS]
