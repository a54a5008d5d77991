# RE2 has no type stubs.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Cues: what users write about an earlier answer, found with one RE2 automaton for all kinds."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import re2
from numpy.typing import NDArray

from upshot.records.signals import SIGNALS

_MAX_SEARCHED = 3_000
"""Characters that are searched at each end of a message: a longer one is a paste."""
_MAX_SPANS = 4
"""Of one kind in one message; more quotes of the same kind add nothing."""


class Kind(NamedTuple):
    """One kind of cue."""

    name: str
    polarity: int
    label: str
    prior: float
    """Weight in logits before learning."""
    pattern: Any
    """Compiled by RE2."""


class Cues(NamedTuple):
    """Every kind, and one automaton that tells which kinds a text contains."""

    kinds: tuple[Kind, ...]
    which: Any
    """Compiled `re2.Set`, in the order of `kinds`."""


class Matches(NamedTuple):
    """Cues found in a batch: four arrays of one length, ordered by text and start."""

    text: NDArray[np.int64]
    kind: NDArray[np.int16]
    start: NDArray[np.int32]
    """In characters of the text."""
    end: NDArray[np.int32]


@cache
def load_cues() -> Cues:
    """The shipped cues (`cues.toml`)."""
    return compile_cues(
        tomllib.loads(
            resources.files("upshot.hindsight.embedded").joinpath("cues.toml").read_text("utf-8")
        )
    )


def compile_cues(tables: Mapping[str, Any]) -> Cues:
    """Compile the tables of a cue file."""
    kinds: list[Kind] = []
    options = re2.Options()
    options.max_mem = 512 << 20
    options.case_sensitive = False
    options.never_capture = True
    which = re2.Set.SearchSet(options)
    for name, table in tables.items():
        patterns = [f"(?:{p})" for p in table["patterns"]]
        patterns += [rf"(?:\A[\s\"'*>#]*(?:{p}))" for p in table.get("start", ())]
        pattern = "|".join(patterns)
        kinds.append(
            Kind(
                name,
                SIGNALS[name].polarity,
                SIGNALS[name].label,
                table["prior"],
                re2.compile(pattern, options),
            )
        )
        which.Add(pattern)
    which.Compile()
    return Cues(tuple(kinds), which)


def find_cues(texts: Sequence[str], cues: Cues | None = None) -> Matches:
    """Find every cue in each text; kinds may overlap.

    >>> matches = find_cues(["thanks, but it still crashes"])
    >>> [load_cues().kinds[k].name for k in matches.kind]
    ['thanks', 'contrast', 'failed']
    """
    cues = cues or load_cues()
    spans_by_text: dict[str, list[tuple[int, int, int]]] = {}
    rows: list[tuple[int, int, int]] = []
    counts = np.zeros(len(texts), np.int64)
    for index, text in enumerate(texts):
        spans = spans_by_text.get(text)
        if spans is None:
            searched = _cut_middle(text)
            spans = [
                span
                for kind in cues.which.Match(searched) or ()
                for span in _find_spans(kind, searched, text, cues.kinds[kind].pattern)
            ]
            spans.sort()
            spans_by_text[text] = spans
        rows += spans
        counts[index] = len(spans)
    start, kind, end = np.array(rows, np.int32).reshape(-1, 3).T
    return Matches(np.repeat(np.arange(len(texts)), counts), kind.astype(np.int16), start, end)


def _cut_middle(text: str) -> str:
    """A long text without its middle, for which a line break stands."""
    return (
        text
        if len(text) <= 2 * _MAX_SEARCHED
        else f"{text[:_MAX_SEARCHED]}\n{text[-_MAX_SEARCHED:]}"
    )


def _find_spans(
    kind: int, searched: str, text: str, pattern: Any
) -> Iterator[tuple[int, int, int]]:
    """(start, kind, end) of the spans of one kind in one text, in characters of the whole text."""
    cut = len(text) - len(searched)
    for match in islice(pattern.finditer(searched), _MAX_SPANS):
        start, end = match.span()
        while start < end and searched[start].isspace():
            start += 1
        while end < len(searched) and searched[end - 1].isalnum() and searched[end].isalnum():
            end += 1  # a quote ends where its word does
        shift = cut if start > _MAX_SEARCHED else 0
        if start < end and text[start + shift : end + shift] == searched[start:end]:
            yield start + shift, kind, end + shift
