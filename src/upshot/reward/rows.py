"""Rows that reward models learn from, and items that they score."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, Protocol

import msgspec

from upshot.errors import InputError, RecordError
from upshot.io.files import as_objects, json_objects, json_records, open_input
from upshot.preferences.importers import of_records, read_preferences
from upshot.records import Example, Preference, Source, Turn
from upshot.reward.model import Score
from upshot.sources import fields

_BATCH = 512


class Scorer(Protocol):
    """A reward model of either kind."""

    def score(
        self, prompts: Sequence[Sequence[Turn]], completions: Sequence[Sequence[Turn]]
    ) -> list[Score]:
        """Score responses."""
        ...


def read_rows(path: str | os.PathLike[str]) -> list[Preference] | list[Example]:
    """Pairs of any shape that `preferences.importers` knows, or scored examples: `prompt`,
    `completion`, `score` in [0, 1].

    Raises:
        FormatError: the rows are neither.
    """
    name = os.fspath(path)
    if name.endswith(".parquet"):
        return list(read_preferences(path))
    source = open_input(name)
    try:
        records = json_records(source)
        start = list(islice(records, 1))
        everything = chain(start, records)
        if (
            start
            and isinstance(first := start[0][1], Mapping)
            and "score" in first
            and ("completion" in first or "response" in first)
        ):
            return [example_of(record, place) for place, record in as_objects(name, everything)]
        return list(of_records(name, everything))
    finally:
        source.close()


def training_rows(path: str | os.PathLike[str]) -> list[Preference] | list[Example]:
    """The same without the rows that are marked as test."""
    return [row for row in read_rows(path) if row.source.split != "test"]  # pyright: ignore[reportReturnType]  # one kind only


def example_of(record: Mapping[str, Any], place: str) -> Example:
    """A scored answer from an object; `place` says where it stands.

    Raises:
        InputError: something is missing or out of bounds.
    """
    try:
        value = float(record["score"])
        if not 0 <= value <= 1:
            raise InputError(f"score {value} is not in [0, 1]")
        from_us = record.get("source")
        known: Mapping[str, Any] = from_us if isinstance(from_us, Mapping) else {}
        users = (
            tuple(known.get("users", ()))
            or tuple(str(record[key]) for key in ("user", "rater") if record.get(key))[:1]
        )
        source = Source(
            str(known.get("kind", "scores")),
            users,
            str(known.get("thread", "")),
            split=str(known.get("split", "")),
        )
        return Example(
            turns_of(record.get("prompt", ()), "user"),
            turns_of(record.get("completion", record.get("response")), "assistant"),
            value,
            float(record.get("weight", 1.0)),
            source,
            _tags(record.get("tags")),
            after=turns_of(record.get("after", ()), "user"),
        )
    except (KeyError, TypeError, ValueError, AttributeError, RecordError) as error:
        raise InputError(
            f"could not read {place}: {error}; a row needs prompt, completion and score"
        ) from error


def turns_of(value: Any, role: Any) -> tuple[Turn, ...]:
    """Messages from a text (of this role) or from a list of objects."""
    if isinstance(value, str):
        return (Turn(role, value),)
    return tuple(Turn(fields.role(turn["role"]), fields.text(turn["content"])) for turn in value)


def _tags(value: Any) -> dict[str, str | float]:
    return (
        {str(key): tag if isinstance(tag, int | float) else str(tag) for key, tag in value.items()}
        if isinstance(value, Mapping)
        else {}
    )


Worth = Callable[[Sequence[Sequence[Turn]], Sequence[Sequence[Turn]]], Any]
"""What responses are worth by an objective over people, shape (responses,); from prompts and
completions.
"""


def score_file(
    model: Scorer, path: str | os.PathLike[str], worth: Worth | None = None
) -> Iterator[dict[str, Any]]:
    """Score every row of a file, in order: `completion` (or `response`), or both of `chosen` and
    `rejected`.
    """
    records = json_objects(path)
    while batch := list(islice(records, _BATCH)):
        asked: list[tuple[Turn, ...]] = []
        answers: list[tuple[Turn, ...]] = []
        keys: list[list[str]] = []
        for place, record in batch:
            found = [
                key for key in ("completion", "response", "chosen", "rejected") if key in record
            ]
            if not found:
                raise InputError(
                    f"could not score {place}: it has none of completion, response, chosen,"
                    " rejected"
                )
            keys.append(found)
            prompt = turns_of(record.get("prompt", ()), "user")
            for key in found:
                asked.append(prompt)
                answers.append(turns_of(record[key], "assistant"))
        made = [msgspec.to_builtins(score) for score in model.score(asked, answers)]
        if worth is not None:
            made = [
                score | {"objective": float(value)}
                for score, value in zip(made, worth(asked, answers), strict=True)
            ]
        scores = iter(made)
        for (_, record), found in zip(batch, keys, strict=True):
            given = {key: next(scores) for key in found}
            out = {"id": record["id"]} if "id" in record else {}
            yield out | (next(iter(given.values())) if len(given) == 1 else given)
