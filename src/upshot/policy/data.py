"""What policies learn from: pairs, scored answers, conversations, runs with credits, prompts.

The files are those that `upshot pairs`, `upshot credit` and `upshot attempt` write; a file's first
row tells its kind. Every row also gives its prompt, for methods that sample their own answers.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple, cast

from upshot.credit.conserve import Credit
from upshot.credit.trajectories import Trajectory, parse_trajectory
from upshot.errors import FormatError, InputError
from upshot.io.files import open_input, read_json, read_objects, require_objects
from upshot.preferences.importers import parse_preferences, read_preferences
from upshot.records import Example, Preference, Source, Turn
from upshot.records.training import turns_to_messages
from upshot.reward.rows import collect_pairs, parse_example, parse_turns


class Prompt(NamedTuple):
    """A prompt."""

    turns: tuple[Turn, ...]
    facts: Mapping[str, Any] = {}
    """The row as it was read: what a verifier needs (tests), a hint."""


class Run(NamedTuple):
    """A run of an agent as messages."""

    turns: tuple[Turn, ...]
    steps: tuple[int, ...]
    """Where in `turns` each step's action is."""
    outcome: float
    credits: tuple[float, ...] = ()
    """Of each step; empty: the outcome is not split."""
    residual: float = 0.0
    """The part of the outcome that no step explains."""


class Data(NamedTuple):
    """Everything that a policy is trained on."""

    pairs: Sequence[Preference] = ()
    examples: Sequence[Example] = ()
    runs: Sequence[Run] = ()
    prompts: Sequence[Prompt] = ()
    """Distinct prompts of all rows."""
    users: tuple[str, ...] = ()
    """Pseudonyms of the rows' users."""
    rows: int = 0
    left_out: int = 0
    """Pairs left out because their chosen answer equals the rejected one."""


def read_data(
    paths: Sequence[str | os.PathLike[str]], credits: str | os.PathLike[str] | None = None
) -> Data:
    """Read files. `credits`: the output of `upshot credit` for the runs among them.

    Rows marked as test are left out.

    Raises:
        FormatError: a file is of no known kind.
        InputError: a row lacks something; says where.
    """
    split = {} if credits is None else {record["id"]: record for _, record in read_objects(credits)}
    parts = [_read_file(os.fspath(path), split) for path in paths]
    if credits is not None and not any(part.runs for part in parts):
        raise InputError(
            f"could not use the credits in {os.fspath(credits)}: there are no runs they could"
            " belong to"
        )
    return join_data(parts)


def join_data(parts: Iterable[Data]) -> Data:
    """Several as one, each prompt once; pairs of equal answers are left out and counted."""
    parts = list(parts)
    every_pair = [row for part in parts for row in part.pairs if row.source.split != "test"]
    pairs = [row for row in every_pair if row.chosen != row.rejected]
    examples = [row for part in parts for row in part.examples if row.source.split != "test"]
    runs = [run for part in parts for run in part.runs]
    prompts: dict[tuple[Turn, ...], Prompt] = {}
    for prompt in chain.from_iterable(part.prompts for part in parts):
        prompts.setdefault(prompt.turns, prompt)
    row_prompts = chain(
        (Prompt(row.prompt) for row in pairs),
        (Prompt(row.prompt, _follow_up(row)) for row in examples),
        (Prompt(run.turns[: run.steps[0]]) for run in runs if run.steps),
    )
    for prompt in row_prompts:
        if prompt.turns and (prompt.turns not in prompts or not prompts[prompt.turns].facts):
            prompts[prompt.turns] = prompt
    users = {user for row in chain(pairs, examples) for user in row.source.users}
    users |= {user for part in parts for user in part.users}
    rows = len(pairs) + len(examples) + len(runs)
    left_out = len(every_pair) - len(pairs) + sum(part.left_out for part in parts)
    return Data(
        pairs,
        examples,
        runs,
        list(prompts.values()),
        tuple(sorted(users)),
        rows or len(prompts),
        left_out,
    )


def _follow_up(row: Example) -> dict[str, Any]:
    """The messages after an answer: a hint for another attempt."""
    return {"after": turns_to_messages(row.after)} if row.after else {}


def make_data(rows: Sequence[Preference] | Sequence[Example] | Sequence[Prompt]) -> Data:
    """Data in memory."""
    pairs = [row for row in rows if isinstance(row, Preference)]
    examples = [row for row in rows if isinstance(row, Example)]
    return join_data(
        [Data(pairs, examples, prompts=[row for row in rows if isinstance(row, Prompt)])]
    )


def make_run(trajectory: Trajectory, credit: Credit | None = None) -> Run:
    """A run as messages: the user's task, the assistant's actions, the tools' observations."""
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


def _read_file(path: str, split: Mapping[str, Mapping[str, Any]]) -> Data:
    if path.endswith(".parquet"):
        pairs, left_out = collect_pairs(lambda bad: read_preferences(path, bad))
        return Data(pairs=pairs, left_out=left_out)
    source = open_input(path)
    try:
        records = read_json(source)
        start = list(islice(records, 1))
        rows = chain(start, records)
        row = start[0][1] if start else None
        first: Mapping[str, Any] = (
            cast("Mapping[str, Any]", row) if isinstance(row, Mapping) else {}
        )
        if "steps" in first:
            return Data(runs=list(_parse_runs(require_objects(path, rows), split)))
        if "score" in first and ("completion" in first or "response" in first):
            return Data(
                examples=[
                    parse_example(record, place) for place, record in require_objects(path, rows)
                ]
            )
        if "messages" in first:
            return Data(
                examples=[
                    _parse_conversation(record, place)
                    for place, record in require_objects(path, rows)
                ]
            )
        if "prompt" in first and not {"chosen", "rejected"} & set(first):
            return Data(
                prompts=[
                    Prompt(parse_turns(record["prompt"], "user"), record)
                    for _, record in require_objects(path, rows)
                ]
            )
        pairs, left_out = collect_pairs(lambda bad: parse_preferences(path, rows, bad))
        return Data(pairs=pairs, left_out=left_out)
    except KeyError as error:
        raise FormatError(f"could not read {path}: a row has no {error}") from error
    finally:
        source.close()


def _parse_runs(
    records: Iterable[tuple[str, Mapping[str, Any]]], split: Mapping[str, Mapping[str, Any]]
) -> Iterator[Run]:
    for number, (place, record) in enumerate(records):
        try:
            trajectory = parse_trajectory(record, f"t{number}")
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"could not read {place}: {error}; a run needs steps and an outcome"
            ) from error
        if not trajectory.steps:
            continue
        run, credit = make_run(trajectory), split.get(trajectory.id)
        credits = tuple(map(float, credit["credits"])) if credit else ()
        if credits and len(credits) != len(run.steps):
            raise InputError(
                f"could not use the credits of {trajectory.id}: {len(credits)} for"
                f" {len(run.steps)} steps ({place})"
            )
        residual = float(credit.get("luck") or 0.0) if credit and credits else 0.0
        yield run._replace(credits=credits, residual=residual)


def _parse_conversation(record: Mapping[str, Any], place: str) -> Example:
    """A whole conversation, as `upshot pairs --for sft` writes it."""
    try:
        turns = parse_turns(record["messages"], "user")
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
