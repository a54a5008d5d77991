"""What policies learn from: pairs, scored answers, conversations with masks, runs with credits, or
prompts alone.

The files are those that `upshot pairs`, `upshot credit` and `upshot attempt` write; which kind a
file holds is seen from its first row. Every row also gives its prompt, for methods that draw their
own answers.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple

from upshot.credit.conserve import Credit
from upshot.credit.trajectories import Trajectory, of_record
from upshot.errors import FormatError, InputError
from upshot.io.files import as_objects, json_objects, json_records, open_input
from upshot.preferences.importers import of_records, read_preferences
from upshot.records import Example, Preference, Source, Turn
from upshot.reward.rows import example_of, turns_of


class Asked(NamedTuple):
    """A prompt."""

    turns: tuple[Turn, ...]
    facts: Mapping[str, Any] = {}
    """The row as it was: what a verifier needs (tests), what a hint says."""


class Run(NamedTuple):
    """A run of an agent as messages."""

    turns: tuple[Turn, ...]
    steps: tuple[int, ...]
    """Where in `turns` each step's action is."""
    outcome: float
    credits: tuple[float, ...] = ()
    """Of each step; empty: nobody split the outcome."""
    luck: float = 0.0
    """What no step explains of it."""


class Data(NamedTuple):
    """Everything that was given."""

    pairs: Sequence[Preference] = ()
    examples: Sequence[Example] = ()
    runs: Sequence[Run] = ()
    prompts: Sequence[Asked] = ()
    """Distinct, of all rows."""
    users: tuple[str, ...] = ()
    """Pseudonyms of those whose rows they are."""
    rows: int = 0


def read(
    paths: Sequence[str | os.PathLike[str]], credits: str | os.PathLike[str] | None = None
) -> Data:
    """Read files. `credits`: what `upshot credit` wrote of the runs among them.

    Rows marked as test are left out.

    Raises:
        FormatError: a file is of no known kind.
        InputError: a row lacks something; says where.
    """
    split = {} if credits is None else {record["id"]: record for _, record in json_objects(credits)}
    parts = [_read(os.fspath(path), split) for path in paths]
    if credits is not None and not any(part.runs for part in parts):
        raise InputError(
            f"could not use the credits in {os.fspath(credits)}: there are no runs they could"
            " belong to"
        )
    return joined(parts)


def joined(parts: Iterable[Data]) -> Data:
    """Several as one, each prompt once."""
    parts = list(parts)
    pairs = [row for part in parts for row in part.pairs if row.source.split != "test"]
    examples = [row for part in parts for row in part.examples if row.source.split != "test"]
    runs = [run for part in parts for run in part.runs]
    asked: dict[tuple[Turn, ...], Asked] = {}
    for one in chain.from_iterable(part.prompts for part in parts):
        asked.setdefault(one.turns, one)
    own_prompts = chain(
        (Asked(row.prompt) for row in pairs),
        (Asked(row.prompt, _followed(row)) for row in examples),
        (Asked(run.turns[: run.steps[0]]) for run in runs if run.steps),
    )
    for one in own_prompts:
        if one.turns and (one.turns not in asked or not asked[one.turns].facts):
            asked[one.turns] = one
    users = sorted(
        {user for row in chain(pairs, examples) for user in row.source.users}
        | {user for part in parts for user in part.users}
    )
    own = len(pairs) + len(examples) + len(runs)
    return Data(pairs, examples, runs, list(asked.values()), tuple(users), own or len(asked))


def _followed(row: Example) -> dict[str, Any]:
    """What was said after an answer: a hint to whoever tries again."""
    return (
        {"after": [{"role": turn.role, "content": turn.content} for turn in row.after]}
        if row.after
        else {}
    )


def of_rows(rows: Sequence[Preference] | Sequence[Example] | Sequence[Asked]) -> Data:
    """Data in memory."""
    pairs = [row for row in rows if isinstance(row, Preference)]
    examples = [row for row in rows if isinstance(row, Example)]
    return joined([Data(pairs, examples, prompts=[row for row in rows if isinstance(row, Asked)])])


def run_of(trajectory: Trajectory, credit: Credit | None = None) -> Run:
    """A run as messages: the task from the user, actions from the assistant, observations from
    tools.
    """
    turns = [Turn("user", trajectory.task)]
    steps: list[int] = []
    for step in trajectory.steps:
        steps.append(len(turns))
        turns.append(Turn("assistant", step.action))
        if step.observation:
            turns.append(Turn("tool", step.observation))
    return Run(
        tuple(turns),
        tuple(steps),
        trajectory.outcome,
        tuple(credit.credits) if credit is not None else (),
        credit.luck if credit is not None else 0.0,
    )


def _read(path: str, split: Mapping[str, Mapping[str, Any]]) -> Data:
    if path.endswith(".parquet"):
        return Data(pairs=list(read_preferences(path)))
    source = open_input(path)
    try:
        records = json_records(source)
        start = list(islice(records, 1))
        rows = chain(start, records)
        first = start[0][1] if start and isinstance(start[0][1], Mapping) else {}
        if "steps" in first:
            return Data(runs=list(_runs(as_objects(path, rows), split)))
        if "score" in first and ("completion" in first or "response" in first):
            return Data(
                examples=[example_of(record, place) for place, record in as_objects(path, rows)]
            )
        if "messages" in first:
            return Data(
                examples=[_conversation(record, place) for place, record in as_objects(path, rows)]
            )
        if "prompt" in first and not {"chosen", "rejected"} & set(first):
            return Data(
                prompts=[
                    Asked(turns_of(record["prompt"], "user"), record)
                    for _, record in as_objects(path, rows)
                ]
            )
        return Data(pairs=list(of_records(path, rows)))
    except KeyError as error:
        raise FormatError(f"could not read {path}: a row has no {error}") from error
    finally:
        source.close()


def _runs(
    records: Iterable[tuple[str, Mapping[str, Any]]], split: Mapping[str, Mapping[str, Any]]
) -> Iterator[Run]:
    for number, (place, record) in enumerate(records):
        try:
            found = of_record(record, f"t{number}")
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"could not read {place}: {error}; a run needs steps and an outcome"
            ) from error
        if not found.steps:
            continue
        run = run_of(found)
        credits = tuple(map(float, split[found.id]["credits"])) if found.id in split else ()
        if credits and len(credits) != len(run.steps):
            raise InputError(
                f"could not use the credits of {found.id}: {len(credits)} for {len(run.steps)}"
                f" steps ({place})"
            )
        yield run._replace(
            credits=credits, luck=float(split[found.id].get("luck") or 0.0) if credits else 0.0
        )


def _conversation(record: Mapping[str, Any], place: str) -> Example:
    """A whole conversation, as `upshot pairs --for sft` writes it."""
    try:
        turns = turns_of(record["messages"], "user")
        train = record.get("train") or [turn.role == "assistant" for turn in turns]
        if len(train) != len(turns):
            raise InputError(f"train has {len(train)} entries for {len(turns)} messages")
        return Example(
            (),
            turns,
            float(record.get("score", 1.0)),
            float(record.get("weight", 1.0)),
            Source("conversation", tuple(record.get("users", ()))),
            {},
            tuple(map(bool, train)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"could not read {place}: {error}; a conversation needs messages"
        ) from error
