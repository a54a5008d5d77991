"""Redaction of a batch of texts by typed placeholders.

A value has the same placeholder in all of a user's sessions. All texts of a batch are joined and
scanned once by RE2, whose time is linear in the text whatever it holds. Only candidates are looked
at in Python.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple, cast

import re2

from upshot.privacy import patterns
from upshot.privacy.normalised import TRIGGERS, find_rewritten, normalise
from upshot.privacy.pseudonyms import Pseudonyms

_SEPARATOR = "\x1e"
_WINDOW_RADIUS = 160
"""Characters on each side of a trigger that are normalised: the longest values fit."""


class Span(NamedTuple):
    """One piece of personal data, in characters of its text."""

    kind: str
    start: int
    end: int


Recogniser = Callable[[str], Iterable[Span]]
"""Finds names and other free-text data; see `privacy.recogniser`."""


def _compile(pattern: bytes) -> Any:
    options = re2.Options()
    options.max_mem = 256 << 20
    options.encoding = cast(Any, re2.Options).Encoding.LATIN1
    return re2.compile(pattern, options)


def _to_bytes_pattern(pattern: str) -> bytes:
    """A text pattern for UTF-8 bytes: non-ASCII letters in a class become a group."""
    spelled = pattern.replace("[a-zäöüß]", "(?:[a-z]|ä|ö|ü|ß)").replace("[a-zé]", "(?:[a-z]|é)")
    return (
        spelled.replace("['’]", "(?:'|’)").replace("[a-zA-Z'’\\-]", "(?:[a-zA-Z'\\-]|’)").encode()
    )


_WITH_NAMES = _compile(_to_bytes_pattern(patterns.CANDIDATES))
_WITHOUT_NAMES = _compile(_to_bytes_pattern(patterns.CANDIDATES_WITHOUT_NAMES))
_TRIGGERS = _compile(TRIGGERS)


def find_personal_data(
    texts: Sequence[str], names: bool = True, recogniser: Recogniser | None = None
) -> list[list[Span]]:
    """Personal data in each text: spans in order, without overlap.

    >>> find_personal_data(["call +1 415 555 0132"])
    [[Span(kind='PHONE', start=5, end=20)]]
    """
    spans: dict[int, list[Span]] = {}
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    blob = _SEPARATOR.encode().join(encoded)
    offsets = [0, *accumulate(len(part) + 1 for part in encoded)]
    pattern = _WITH_NAMES if names else _WITHOUT_NAMES
    for match in pattern.finditer(blob):
        start = match.start()
        text = bisect_right(offsets, start) - 1
        first = len(blob[offsets[text] : start].decode("utf-8", "ignore"))
        candidate = match.group().decode("utf-8", "ignore")
        for kind, begin, end in patterns.classify(candidate, names):
            begin += first
            end += first
            if kind == "PRIVATE_KEY":
                end = _find_key_end(texts[text], end)
            spans.setdefault(text, []).append(Span(kind, begin, end))
    for text, windows in _trigger_windows(blob, offsets).items():
        original = texts[text]
        for start, end in windows:
            spans.setdefault(text, []).extend(
                Span(kind, start + begin, start + finish)
                for kind, begin, finish in find_rewritten(original[start:end])
            )
    if recogniser is not None:
        for text, original in enumerate(texts):
            spans.setdefault(text, []).extend(recogniser(original))
    return [_merge_spans(spans.get(i, ())) for i in range(len(texts))]


def _trigger_windows(blob: bytes, offsets: list[int]) -> dict[int, list[tuple[int, int]]]:
    """Parts of each text around triggers, merged, in characters."""
    windows: dict[int, list[tuple[int, int]]] = {}
    for match in _TRIGGERS.finditer(blob):
        text = bisect_right(offsets, match.start()) - 1
        base = offsets[text]
        start = len(blob[base : match.start()].decode("utf-8", "ignore"))
        end = start + len(match.group().decode("utf-8", "ignore"))
        mine = windows.setdefault(text, [])
        low, high = max(0, start - _WINDOW_RADIUS), end + _WINDOW_RADIUS
        if mine and low <= mine[-1][1]:
            mine[-1] = (mine[-1][0], max(high, mine[-1][1]))
        else:
            mine.append((low, high))
    return windows


_KEY_END = re.compile(r"-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----")


def _find_key_end(text: str, start: int) -> int:
    """The end of the block, or of the text if the block is open: half a key is secret too."""
    match = _KEY_END.search(text, start)
    return match.end() if match else len(text)


_RANK = {
    "PRIVATE_KEY": 0,
    "CREDENTIALS": 1,
    "KEY": 2,
    "SECRET": 3,
    "EMAIL": 4,
    "CARD": 5,
    "IBAN": 5,
    "NATIONAL_ID": 6,
}


def _merge_spans(spans: Iterable[Span]) -> list[Span]:
    """Merge overlapping spans into one, of the most certain type."""
    merged: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        if merged and span.start < merged[-1].end:
            last = merged[-1]
            kind = min(last.kind, span.kind, key=lambda kind: _RANK.get(kind, 9))
            merged[-1] = Span(kind, last.start, max(last.end, span.end))
        else:
            merged.append(span)
    return merged


class Redactor:
    """Replaces personal data by placeholders such as `<EMAIL_4821>`.

    >>> r = Redactor(Pseudonyms("a key of at least sixteen characters"))
    >>> texts, counts = r.redact(["mail jane@example.org", "JANE@example.org?"], ["u1", "u1"])
    >>> texts[0].removeprefix("mail ") == texts[1].removesuffix("?"), counts[0]["EMAIL"]
    (True, 1)
    """

    def __init__(
        self, pseudonyms: Pseudonyms, names: bool = True, recogniser: Recogniser | None = None
    ) -> None:
        self._pseudonyms = pseudonyms
        self._names = names
        self._recogniser = recogniser

    def redact(
        self, texts: Sequence[str], owners: Sequence[str]
    ) -> tuple[list[str], list[Counter[str]]]:
        """The texts with placeholders, and the number of each type in each text.

        `owners`: the user of each text.
        """
        clean = list(texts)
        counts: list[Counter[str]] = [_NONE] * len(clean)
        for i, spans in enumerate(find_personal_data(texts, self._names, self._recogniser)):
            if spans:
                clean[i] = self._replace(texts[i], spans, owners[i])
                counts[i] = Counter(span.kind for span in spans)
        return clean, counts

    def _replace(self, text: str, spans: Sequence[Span], owner: str) -> str:
        parts: list[str] = []
        last = 0
        fences = [match.start() for match in _FENCE.finditer(text)] if "```" in text else []
        for span in spans:
            value = _canonicalise(text[span.start : span.end])
            placeholder = f"<{span.kind}_{self._pseudonyms.number(owner, span.kind, value)}>"
            if bisect_right(fences, span.start) % 2:
                placeholder = _quote_in_code(text, span, placeholder)
            parts += (text[last : span.start], placeholder)
            last = span.end
        return "".join((*parts, text[last:]))


_NONE: Counter[str] = Counter()
_FENCE = re.compile(r"^[ \t]*```", re.MULTILINE)


def _canonicalise(value: str) -> str:
    """One form for all spellings of a value, so that they get the same placeholder."""
    folded = normalise(value).text.lower()
    folded = re.sub(r"[\[({<]?\bat\b[\])}>]?", "@", folded)
    folded = re.sub(r"[\[({<]?\bdot\b[\])}>]?", ".", folded)
    return (
        re.sub(r"[\s()\-/+]", "", folded)
        if re.search("[0-9]", folded)
        else re.sub(r"\s", "", folded)
    )


def _quote_in_code(text: str, span: Span, placeholder: str) -> str:
    """Inside a code block a bare value becomes a string, so that the block still parses."""
    line = text[text.rfind("\n", 0, span.start) + 1 : span.start]
    quoted = any(line.count(quote) % 2 for quote in "\"'`")
    commented = re.search(r"(?:^|\s)(?:#|//|--)|^\s*\*", line) is not None
    inside_word = bool(line) and (line[-1].isalnum() or line[-1] in "_/:@.=-")
    return (
        placeholder
        if quoted or commented or (inside_word and line[-1] not in "=:")
        else f'"{placeholder}"'
    )
