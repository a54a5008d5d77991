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
from upshot.privacy.pseudonyms import Pseudonyms, fold_name

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

    What is found in a text does not depend on the texts beside it.

    >>> find_personal_data(["call +1 415 555 0132"])
    [[Span(kind='PHONE', start=5, end=20)]]
    """
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    blob, offsets = _join(encoded)
    spans, crossed = _scan(texts, blob, offsets, names)
    for text in crossed:  # a candidate ran over a border and may hide others in both texts
        own, _ = _scan([texts[text]], *_join([encoded[text]]), names)
        spans[text] = own.get(0, [])
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
    return [_merge_spans(own) if (own := spans.get(i)) else [] for i in range(len(texts))]


def _join(encoded: Sequence[bytes]) -> tuple[bytes, list[int]]:
    """The texts in one, and where each begins."""
    return _SEPARATOR.encode().join(encoded), [0, *accumulate(len(part) + 1 for part in encoded)]


def _scan(
    texts: Sequence[str], blob: bytes, offsets: list[int], names: bool
) -> tuple[dict[int, list[Span]], set[int]]:
    """Spans by text, and the texts that a candidate touched from outside."""
    spans: dict[int, list[Span]] = {}
    crossed: set[int] = set()
    pattern = _WITH_NAMES if names else _WITHOUT_NAMES
    for match in pattern.finditer(blob):
        start = match.start()
        text = bisect_right(offsets, start) - 1
        last = bisect_right(offsets, max(start, match.end() - 1)) - 1
        if last > text or match.end() > offsets[text + 1] - 1:
            crossed.update(range(text, min(last + 2, len(texts))))
            continue
        first = len(blob[offsets[text] : start].decode("utf-8", "ignore"))
        candidate = match.group().decode("utf-8", "ignore")
        for kind, begin, end in patterns.classify(candidate, names):
            begin += first
            end += first
            if kind == "PRIVATE_KEY":
                end = _find_key_end(texts[text], end)
            spans.setdefault(text, []).append(Span(kind, begin, end))
    return spans, crossed


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


class Redacted(NamedTuple):
    """A text with placeholders."""

    text: str
    counts: Counter[str]
    """Of each type."""
    edits: tuple[tuple[int, int, int], ...]
    """(start, end, new length) of what was replaced, in characters of the original."""

    def move(self, position: int) -> int:
        """Where a position of the original stands now; inside a value: where it begins."""
        shift = 0
        for start, end, length in self.edits:
            if position <= start:
                break
            if position < end:
                return start + shift
            shift += length - (end - start)
        return position + shift


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
        redacted = self.redact_all(texts, owners)
        return [one.text for one in redacted], [one.counts for one in redacted]

    def redact_all(
        self,
        texts: Sequence[str],
        owners: Sequence[str],
        names: Sequence[Any] | None = None,
    ) -> list[Redacted]:
        """The texts with placeholders, each with what was replaced in it.

        `names`: for each text a compiled pattern of its user's names, or None (`name_pattern`).
        """
        out: list[Redacted] = []
        for i, spans in enumerate(find_personal_data(texts, self._names, self._recogniser)):
            pattern = None if names is None else names[i]
            if pattern is not None and (own := _find_names(pattern, texts[i])):
                spans = _merge_spans([*spans, *own])
            text = texts[i]
            out.append(
                self._replace(text, spans, owners[i]) if spans else Redacted(text, _NONE, ())
            )
        return out

    def _replace(self, text: str, spans: Sequence[Span], owner: str) -> Redacted:
        parts: list[str] = []
        edits: list[tuple[int, int, int]] = []
        last = 0
        fences = [match.start() for match in _FENCE.finditer(text)] if "```" in text else []
        for span in spans:
            value = _canonicalise(text[span.start : span.end])
            placeholder = f"<{span.kind}_{self._pseudonyms.number(owner, span.kind, value)}>"
            if bisect_right(fences, span.start) % 2:
                placeholder = _quote_in_code(text, span, placeholder)
            parts += (text[last : span.start], placeholder)
            edits.append((span.start, span.end, len(placeholder)))
            last = span.end
        return Redacted(
            "".join((*parts, text[last:])), Counter(span.kind for span in spans), tuple(edits)
        )


def name_pattern(names: Iterable[str]) -> Any | None:
    """A pattern of the spellings of a user's names; None where there is nothing to look for.

    `jane.roe@example.org` and `Jane Roe` are both looked for as jane roe, jane.roe, jane_roe, …

    >>> bool(name_pattern(["jane.roe@example.org"]).search("ask Jane_Roe"))
    True
    """
    wanted: set[str] = set()
    for name in names:
        local = name.partition("@")[0]
        words = [w for w in re.split(r"[^\w]+|_+", local) if w]
        letters = sum(map(str.isalpha, local))
        if letters < _MIN_NAME or fold_name(local) in _NO_NAMES or not words:
            continue
        if "@" not in name and not _is_name(words):
            continue
        wanted.add(r"[\s._\-+]{0,2}".join(map(re.escape, words)))
    if not wanted:
        return None
    return re.compile(rf"(?<!\w)(?:{'|'.join(sorted(wanted))})(?!\w)", re.IGNORECASE)


_MIN_NAME = 3
"""Letters of a name that is looked for; shorter ones are words of some language."""
_GENERIC = """
user users admin administrator root test tester guest anonymous unknown customer client student
human person me you system bot assistant owner member default local none null prompter worker dev
developer engineer team company support agent operator someone anybody
"""
_NO_NAMES = frozenset(_GENERIC.split())
"""What stands in the place of a name and is none."""


def _is_name(words: Sequence[str]) -> bool:
    """Whether words are a person's name: `u17`, `SGD-4` and words of code are none."""
    return all(word.isalpha() for word in words)


def _find_names(pattern: Any, text: str) -> list[Span]:
    return [Span("NAME", match.start(), match.end()) for match in pattern.finditer(text)]


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
