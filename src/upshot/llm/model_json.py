"""Reading the JSON that a language model wrote.

Around it may stand thoughts, fences and prose; in it trailing commas, comments, Python's literals
and bad escapes. What was cut off is not completed: half an answer is none.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import msgspec

from upshot.io.json_text import decode
from upshot.io.json_values import as_object, is_array, is_object

T = TypeVar("T")
_THOUGHT = re.compile(
    r"""<(?P<tag>think|thinking|thoughts?|reasoning|reflection|analysis|scratchpad)\b[^<>]*>
        .*?(?:</(?P=tag)>|\Z)
    | \[THINK\].*?(?:\[/THINK\]|\Z)
    | ◁think▷.*?(?:◁/think▷|\Z)
    | <\|channel\|>(?:analysis|commentary)\b.*?(?:<\|end\|>|(?=<\|channel\|>final)|\Z)""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_END_OF_THOUGHT = re.compile(
    r"</(?:think|thinking|thought|thoughts|reasoning|analysis)>|\[/THINK\]|◁/think▷", re.IGNORECASE
)
"""An end without a beginning, which some chat templates write into the prompt."""
_CONTROL_TOKEN = re.compile(r"<\|[a-z_]+\|>")
_MARK = re.compile(
    rf"(?P<thought>{_THOUGHT.pattern}) | (?P<end>{_END_OF_THOUGHT.pattern}) | (?P<bracket>[{{\[])",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_BEGINNING = re.compile(r"""\{\s*["']|\[\s*[\[{"']""")
"""Of what is meant to be JSON, unlike a bracket in prose."""
_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]]', re.DOTALL)
_STRING_OR_COMMENT = re.compile(
    r'(?P<string>"(?:[^"\\]|\\.)*")|//[^\n]*|/\*.*?\*/|(?P<word>\b(?:None|True|False|NaN|undefined)\b|-?\bInfinity\b)',
    re.DOTALL,
)
_STRING_OR_COMMA = re.compile(r'(?P<string>"(?:[^"\\]|\\.)*")|,(?=\s*[}\],])', re.DOTALL)
_BAD_ESCAPE = re.compile(r"\\(?:(\\)|(?![\"/bfnrt\\]|u[0-9a-fA-F]{4}))")
_WORDS = {"True": "true", "False": "false"}
_MAX_CHARACTERS = 1 << 20
"""Of a reply that are read, its end: more is no answer to what is asked here."""
_MAX_WASTED = 2 << 20
"""Characters that are read in vain, from brackets that begin nothing: about a second."""


def strip_thoughts(text: str) -> str:
    """A reply without the thoughts that some models write before it.

    >>> strip_thoughts("<think>hm</think>yes"), strip_thoughts("hm</think>yes")
    ('yes', 'yes')
    >>> strip_thoughts("<think>cut off while thinking")
    ''
    """
    rest = _THOUGHT.sub("", text)
    *_, end = [0, *(match.end() for match in _END_OF_THOUGHT.finditer(rest))]
    rest = rest[end:] if rest[end:].strip() else rest
    return _CONTROL_TOKEN.sub("", rest).strip()


def extract_json(text: str) -> bytes:
    """The last JSON object in a reply, as it stands there; empty where there is none.

    >>> extract_json('<think>{"no": 1}</think> Sure! ```json\\n{"score": 3}\\n``` done')
    b'{"score": 3}'
    """
    spans = [span for span, value in _find_values(text) if is_object(value)]
    return spans[-1].encode() if spans else b""


def parse_reply(text: str, kind: type[T], check: Callable[[T], str]) -> tuple[T | None, str]:
    """The reply as `kind` or None, and what is wrong with it.

    Of several values the last that is right counts: drafts come first.
    """
    best: T | None = None
    problem = ""
    for candidate in _candidates(text):
        try:
            value = _convert(candidate, kind)
        except (msgspec.ValidationError, RecursionError) as error:
            problem = problem or f"not the JSON that was asked for: {error}"
            continue
        trouble = check(value)
        if not trouble:
            return value, ""
        if best is None:
            best, problem = value, trouble
    return best, problem or "not the JSON that was asked for: it holds no whole JSON object"


def _candidates(text: str) -> Iterator[Any]:
    """Values in a reply, the likeliest first."""
    text = text[-_MAX_CHARACTERS:]
    try:
        whole = decode(text.strip().encode("utf-8", "replace"))
    except ValueError:
        whole = None
    if isinstance(whole, str):  # JSON in a string of JSON
        yield from (value for _, value in reversed(_find_values(whole)))
    elif whole is not None:
        yield whole
    else:
        yield from (value for _, value in reversed(_find_values(text)))


def _convert(value: Any, kind: type[T]) -> T:
    """The value as `kind`; numbers may be text, and one object too many or too few around it."""
    fields = getattr(kind, "__struct_fields__", ())
    if is_array(value) and len(value) == 1 and set(fields) & set(as_object(value[0])):
        value = value[0]
    elif is_array(value) and len(fields) == 1:
        value = {fields[0]: value}
    if is_object(value) and len(value) == 1 and not set(fields) & set(value):
        (inner,) = value.values()
        value = inner if is_object(inner) else value
    return msgspec.convert(value, kind, strict=False)


def _find_values(text: str) -> list[tuple[str, Any]]:
    """The outermost objects and arrays in a text that can be read, in order, and their spans.

    Thoughts are passed over where they stand outside of a value: in one they are a quotation.
    """
    matches: list[tuple[str, Any]] = []
    place = wasted = 0
    while wasted < _MAX_WASTED and (mark := _MARK.search(text, place)):
        place = mark.end()
        if mark.lastgroup == "end":
            matches = matches if not text[place:].strip() else []
        if mark.lastgroup != "bracket":
            continue
        start, end = mark.start(), _find_end(text, mark.start())
        try:
            span = text[start:end] if end else ""
            matches.append((span, decode_leniently(span)))
            place = end
        except ValueError:
            end = end or len(text)
            wasted += end - start
            if _BEGINNING.match(text, start):  # a broken value: what is inside of it is no answer
                place = end
    return matches


def _find_end(text: str, start: int) -> int:
    """Where the bracket at `start` is closed; 0: nowhere."""
    depth = 0
    for match in _BRACKET.finditer(text, start):
        mark = text[match.start()]
        if mark != '"':
            depth += 1 if mark in "{[" else -1
            if not depth:
                return match.end()
    return 0


def decode_leniently(text: str) -> Any:
    """A JSON value in the spellings of language models.

    Raises:
        ValueError: it is none.

    >>> decode_leniently('{"score": 1, /* good */ "right": True,}')
    {'score': 1, 'right': True}
    """
    try:
        return decode(text.encode("utf-8", "replace"))
    except ValueError:
        pass
    mended = _STRING_OR_COMMENT.sub(_mend_token, text)
    mended = _STRING_OR_COMMA.sub(lambda match: match["string"] or "", mended)
    try:
        return decode(mended.encode("utf-8", "replace"))
    except ValueError as error:
        try:
            with warnings.catch_warnings(action="ignore", category=SyntaxWarning):  # bad escapes
                value = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            raise error from None
        if not isinstance(value, (dict, list)):
            raise
        return value  # pyright: ignore[reportUnknownVariableType]  # a literal


def _mend_token(match: re.Match[str]) -> str:
    if match["string"]:
        return _BAD_ESCAPE.sub(lambda bad: bad[0] if bad[1] else r"\\", match["string"])
    return _WORDS.get(match["word"], "null") if match["word"] else ""
