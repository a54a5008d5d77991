"""What is to be verified, as JSON lines, and what comes of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from upshot.errors import InputError
from upshot.io.files import json_objects


class Item(msgspec.Struct, frozen=True):
    """One submission: code with tests of it, tests of given code, or a proof."""

    id: str
    code: str = ""
    """The submission; or, where `tests` are the submission, the code that they are to test."""
    tests: str = ""
    """HumanEval's form (`def check(candidate)`), or a pytest file that imports the code as
    `solution`.
    """
    entry_point: str = ""
    """The function that `check` is given; also the one that is timed."""
    prompt: str = ""
    """What stood before the code; helpers that tests call come from here, not from the submission.
    """
    hidden_tests: str = ""
    """More tests, in either form, that the author has not seen."""
    reference: str = ""
    """Code that is right: answers on inputs near those of the tests are compared with its."""
    inputs: str = ""
    """A program with `inputs(size, seed)`, which gives the arguments of a call: for speed and
    growth.
    """
    submitted: str = "code"
    """code, tests or proof: what is judged."""
    proof: str = ""
    language: str = ""
    """Of a proof: smt, coq or lean."""
    statement: str = ""
    """Of a proof: what is to be proved, in its language."""
    response: tuple[str, int] | None = None
    """(conversation, index) that the submission came in."""


class Part(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    value: float | None
    """In [0, 1]; None: it could not be told."""
    facts: Mapping[str, Any] = {}
    why: str = ""


class Outcome(msgspec.Struct, frozen=True):
    """What the world says of an item."""

    id: str
    outcome: float
    """In [0, 1]: 0 where a gate is shut, else the formula of the parts."""
    gates: dict[str, bool]
    parts: dict[str, Part]
    reasons: list[str]
    seconds: float
    response: tuple[str, int] | None = None


def read(path: str | os.PathLike[str]) -> Iterator[Item]:
    """Items of a file, in order.

    HumanEval's own names are read too (`task_id`, `completion`, `test`, `canonical_solution`).

    Raises:
        InputError: a row is no item; says where.
    """
    for number, (place, record) in enumerate(json_objects(path)):
        try:
            yield of_record(record, f"i{number}")
        except msgspec.ValidationError as error:
            raise InputError(f"could not read {place}: {error}") from error


def of_record(record: Mapping[str, Any], name: str = "") -> Item:
    """An item from an object.

    >>> of_record({"task_id": "HumanEval/0", "prompt": "def f():\\n", "completion": "    return 1\\n", "test": "", "entry_point": "f"}).code
    'def f():\\n    return 1\\n'

    Raises:
        msgspec.ValidationError: a field is of the wrong kind.
    """
    row = {**record, "id": str(record.get("id", record.get("task_id", name)))}
    prompt = str(row.get("prompt") or "")
    row.setdefault("tests", row.get("test", ""))
    if "completion" in row and "code" not in row:
        row["code"] = prompt + str(row["completion"])
    if "canonical_solution" in row and "reference" not in row:
        row["reference"] = prompt + str(row["canonical_solution"])
    return msgspec.convert(
        {field: row[field] for field in Item.__struct_fields__ if field in row}, Item
    )
