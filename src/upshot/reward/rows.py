"""Rows that reward models learn from, and items that they score."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, Protocol, cast

import msgspec

from upshot.errors import InputError, RecordError
from upshot.io.files import open_input, read_json, read_objects, require_objects
from upshot.preferences.importers import SAME_ANSWERS, parse_preferences, read_preferences
from upshot.records import BadRecord, Example, Preference, Role, Source, Turn
from upshot.reward.model import Score
from upshot.sources import fields
from upshot.sources.messages import read_call

_BATCH = 512
"""Rows scored together: a second's work for the embedded model."""


class Scorer(Protocol):
    """A reward model of either kind."""

    def score(
        self, prompts: Sequence[Sequence[Turn]], completions: Sequence[Sequence[Turn]]
    ) -> list[Score]:
        """Score responses."""
        ...


def read_rows(
    path: str | os.PathLike[str], on_left_out: Callable[[int], None] = lambda count: None
) -> list[Preference] | list[Example]:
    """Pairs of any shape that `preferences.importers` reads, or scored examples.

    A scored example has `prompt`, `completion` and `score` in [0, 1]. `on_left_out`: called with
    the number of pairs left out because their chosen answer equals the rejected one.

    Raises:
        FormatError: the rows are neither.
    """
    name = os.fspath(path)
    if name.endswith(".parquet"):
        pairs, left_out = collect_pairs(lambda bad: read_preferences(path, bad))
        on_left_out(left_out)
        return pairs
    source = open_input(name)
    try:
        records = read_json(source)
        start = list(islice(records, 1))
        rows = chain(start, records)
        first = cast("object", start[0][1]) if start else None
        if (
            isinstance(first, Mapping)
            and "score" in first
            and ("completion" in first or "response" in first)
        ):
            return [parse_example(record, place) for place, record in require_objects(name, rows)]
        pairs, left_out = collect_pairs(lambda bad: parse_preferences(name, rows, bad))
        on_left_out(left_out)
        return pairs
    finally:
        source.close()


def collect_pairs(
    read: Callable[[Callable[[BadRecord], None]], Iterator[Preference]],
) -> tuple[list[Preference], int]:
    """Pairs, and how many were left out because their chosen answer equals the rejected one.

    `read`: reads the pairs, and calls its argument with every record that it cannot use.

    Raises:
        RecordError: a record is bad in another way.
    """
    left_out = 0

    def skip(bad: BadRecord) -> None:
        nonlocal left_out
        if bad.reason != SAME_ANSWERS:
            raise RecordError(f"could not read {bad.file}: {bad.position}: {bad.reason}")
        left_out += 1

    return list(read(skip)), left_out


def training_rows(
    path: str | os.PathLike[str], on_left_out: Callable[[int], None] = lambda count: None
) -> list[Preference] | list[Example]:
    """Rows as `read_rows` reads them, without those marked as test."""
    rows = read_rows(path, on_left_out)
    pairs = [row for row in rows if isinstance(row, Preference) and row.source.split != "test"]
    return pairs or [row for row in rows if isinstance(row, Example) and row.source.split != "test"]


def parse_example(record: Mapping[str, Any], place: str) -> Example:
    """A scored answer from an object; `place` says where the object is.

    Raises:
        InputError: something is missing or out of bounds.
    """
    try:
        value = float(record["score"])
        if not 0 <= value <= 1:
            raise InputError(f"score {value} is not in [0, 1]")
        origin = record.get("source")
        details = cast("Mapping[str, Any]", origin if isinstance(origin, Mapping) else {})
        users = (
            tuple(details.get("users", ()))
            or tuple(str(record[key]) for key in ("user", "rater") if record.get(key))[:1]
        )
        source = Source(
            str(details.get("kind", "scores")),
            users,
            str(details.get("thread", "")),
            split=str(details.get("split", "")),
        )
        return Example(
            parse_turns(record.get("prompt", ()), "user"),
            parse_turns(record.get("completion", record.get("response")), "assistant"),
            value,
            float(record.get("weight", 1.0)),
            source,
            _parse_tags(record.get("tags")),
            after=parse_turns(record.get("after", ()), "user"),
        )
    except (KeyError, TypeError, ValueError, AttributeError, RecordError) as error:
        raise InputError(
            f"could not read {place}: {error}; a row needs prompt, completion and score"
        ) from error


def parse_turns(value: Any, role: Role) -> tuple[Turn, ...]:
    """Messages from a text (of this role) or from a list of objects.

    >>> [(turn.role, turn.content) for turn in parse_turns("hi", "user")]
    [('user', 'hi')]
    """
    if isinstance(value, str):
        return (Turn(role, value),)
    return tuple(
        Turn(
            fields.role(turn["role"]),
            fields.text(turn["content"]),
            tuple(read_call(call) for call in turn.get("tool_calls") or ()),
            str(turn.get("name") or "") if turn["role"] == "tool" else "",
        )
        for turn in value
    )


def _parse_tags(value: Any) -> dict[str, str | float]:
    if not isinstance(value, Mapping):
        return {}
    tags = cast("Mapping[str, Any]", value)
    return {name: tag if isinstance(tag, int | float) else str(tag) for name, tag in tags.items()}


ObjectiveReward = Callable[[Sequence[Sequence[Turn]], Sequence[Sequence[Turn]]], Any]
"""Rewards by an objective over users, shape (responses,), from prompts and completions."""


def score_file(
    model: Scorer, path: str | os.PathLike[str], objective: ObjectiveReward | None = None
) -> Iterator[dict[str, Any]]:
    """Score every row of a file, in order.

    A row has `completion` (or `response`), or both of `chosen` and `rejected`.
    """
    records = read_objects(path)
    while batch := list(islice(records, _BATCH)):
        prompts: list[tuple[Turn, ...]] = []
        answers: list[tuple[Turn, ...]] = []
        keys: list[list[str]] = []
        for place, record in batch:
            own = [key for key in ("completion", "response", "chosen", "rejected") if key in record]
            if not own:
                raise InputError(
                    f"could not score {place}: it has none of completion, response, chosen,"
                    " rejected"
                )
            keys.append(own)
            prompts += [parse_turns(record.get("prompt", ()), "user")] * len(own)
            answers += [parse_turns(record[key], "assistant") for key in own]
        rows = [msgspec.to_builtins(score) for score in model.score(prompts, answers)]
        if objective is not None:
            values = objective(prompts, answers)
            rows = [
                row | {"objective": float(value)} for row, value in zip(rows, values, strict=True)
            ]
        scores = iter(rows)
        for (_, record), own in zip(batch, keys, strict=True):
            by_key = {key: next(scores) for key in own}
            out = {"id": record["id"]} if "id" in record else {}
            yield out | (next(iter(by_key.values())) if len(by_key) == 1 else by_key)
