"""Redaction of a batch of texts by typed placeholders.

A value has the same placeholder in all of a user's sessions. What is found in a text does not
depend on the texts beside it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from upshot.privacy import patterns
from upshot.privacy.normalised import find_rewritten, normalise
from upshot.privacy.pseudonyms import Pseudonyms
from upshot.privacy.scan import Batch, TypedSpan, find_spans


class Span(NamedTuple):
    """One piece of personal data, in characters of its text."""

    kind: str
    start: int
    end: int


Recogniser = Callable[[str], Iterable[Span]]
"""Finds names and other free-text data; see `privacy.recogniser`."""


def find_personal_data(
    texts: Sequence[str], names: bool = True, recogniser: Recogniser | None = None
) -> list[list[Span]]:
    """Personal data in each text: spans in order, without overlap.

    >>> find_personal_data(["call +1 415 555 0132"])
    [[Span(kind='PHONE', start=5, end=20)]]
    """
    families = patterns.WITH_NAMES if names else patterns.WITHOUT_NAMES
    batch = Batch(texts)
    spans = find_spans(batch, families)
    for number, span in find_rewritten(batch, names):
        spans.setdefault(number, []).append(span)
    if recogniser is not None:
        for number, text in enumerate(texts):
            spans.setdefault(number, []).extend(recogniser(text))
    merged: list[list[Span]] = [[] for _ in texts]
    for number, own in spans.items():
        merged[number] = _merge_spans(texts[number], own)
    return merged


_RANK = {
    "PRIVATE_KEY": 0,
    "CREDENTIALS": 1,
    "KEY": 2,
    "SECRET": 3,
    "EMAIL": 4,
    "CARD": 5,
    "IBAN": 5,
    "WALLET": 5,
    "IP": 6,
    "MAC": 6,
    "NATIONAL_ID": 7,
    "BIRTH_DATE": 7,
    "HOME_PATH": 8,
    "ACCOUNT": 8,
}
"""Certainty of types where spans overlap; others come last."""


def _merge_spans(text: str, spans: Iterable[TypedSpan]) -> list[Span]:
    """Merge overlapping spans into one, of the most certain type."""
    merged: list[Span] = []
    for kind, start, end in sorted(spans, key=lambda span: (span[1], -span[2])):
        if merged and start < merged[-1].end:
            last = merged[-1]
            surest = min(last.kind, kind, key=lambda name: _RANK.get(name, 9))
            merged[-1] = Span(surest, last.start, max(last.end, end))
        else:
            merged.append(Span(kind, start, end))
    return [_spare_escape(text, span) for span in merged] if "\\" in text else merged


def _spare_escape(text: str, span: Span) -> Span:
    """The span without half an escape such as `\\n` at either end: strings of JSON stay strings."""
    start, end = span.start, span.end
    if start and text[start - 1] == "\\" and text[start] in 'nrtbfu/"\\':
        before = text[max(0, start - 32) : start]
        if (len(before) - len(before.rstrip("\\"))) % 2:
            start = min(end - 1, start + (5 if text[start] == "u" else 1))
    while end - 1 > start and text[end - 1] == "\\":
        end -= 1
    return Span(span.kind, start, end)


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
            text = texts[i]
            if pattern is not None and (own := _find_names(pattern, text)):
                spans = _merge_spans(text, [*spans, *own])
            out.append(
                self._replace(text, spans, owners[i]) if spans else Redacted(text, _NONE, ())
            )
        return out

    def _replace(self, text: str, spans: Sequence[Span], owner: str) -> Redacted:
        parts: list[str] = []
        edits: list[tuple[int, int, int]] = []
        last = 0
        bare = _find_bare(text, spans)
        for row, span in enumerate(spans):
            value = _canonicalise(text[span.start : span.end])
            # twelve digits under any key: a text has the same length whatever the key
            number = self._pseudonyms.number(owner, span.kind, value)
            placeholder = f"<{span.kind}_{number:012d}>"
            if row in bare:
                placeholder = f'"{placeholder}"'
            parts += (text[last : span.start], placeholder)
            edits.append((span.start, span.end, len(placeholder)))
            last = span.end
        return Redacted(
            "".join((*parts, text[last:])), Counter(span.kind for span in spans), tuple(edits)
        )


def _find_names(pattern: Any, text: str) -> list[Span]:
    return [Span("NAME", match.start(), match.end()) for match in pattern.finditer(text)]


_NONE: Counter[str] = Counter()


def _canonicalise(value: str) -> str:
    """One form for all spellings of a value, so that they get the same placeholder."""
    folded = normalise(value).text.lower()
    if "@" in folded or " at" in folded or ("at" in folded and "dot" in folded):
        folded = re.sub(r"\s*[\[({<]?\s*\bat\b\s*[\])}>]?\s*", "@", folded)
        folded = re.sub(r"\s*[\[({<]?\s*\bdot\b\s*[\])}>]?\s*", ".", folded)
    if re.search("[0-9]", folded):
        return re.sub(r"[\s()\-/+]", "", folded)
    return re.sub(r"\s", "", folded)


# ---- Values that stand bare in code or JSON become strings, so that it still parses

_FENCE = re.compile(r"^[ \t]*```", re.MULTILINE)
_JSON_STRING = re.compile(r"\\.|\"", re.DOTALL)
_LINE_REACH = 400
"""Characters of a line before a value that are looked at for quotes and comments."""


def _find_bare(text: str, spans: Sequence[Span]) -> set[int]:
    """Numbers of the spans that stand in code or JSON outside of a string or comment."""
    if text[:1] in ("{", "[") and text[-1:] in ("}", "]"):
        return set(_find_bare_in_json(text, spans))
    if "```" not in text:
        return set()
    fences = [match.start() for match in _FENCE.finditer(text)]
    bare: set[int] = set()
    passed = 0
    for row, span in enumerate(spans):
        while passed < len(fences) and fences[passed] <= span.start:
            passed += 1
        if passed % 2 and _is_bare_in_code(text, span):
            bare.add(row)
    return bare


def _find_bare_in_json(text: str, spans: Sequence[Span]) -> Iterator[int]:
    inside = False
    last = 0
    for row, span in enumerate(spans):
        for match in _JSON_STRING.finditer(text, last, span.start):
            inside ^= match.group() == '"'
        last = span.start
        before = text[max(0, span.start - 1) : span.start]
        if not inside and before in (":", "[", ",", " ", "\n", "\t"):
            yield row


def _is_bare_in_code(text: str, span: Span) -> bool:
    low = max(text.rfind("\n", max(0, span.start - _LINE_REACH), span.start) + 1, 0)
    line = text[max(low, span.start - _LINE_REACH) : span.start]
    quoted = any(line.count(quote) % 2 for quote in "\"'`")
    commented = re.search(r"(?:^|\s)(?:#|//|--)|^\s*\*", line) is not None
    inside_word = bool(line) and (line[-1].isalnum() or line[-1] in "_/:@.-")
    return not (quoted or commented or inside_word)
