"""Submissions to verify, as JSON lines, and their outcomes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from upshot.errors import InputError
from upshot.io.files import read_objects


class Item(msgspec.Struct, frozen=True):
    """One submission: code with tests of it, tests of given code, or a proof."""

    id: str
    code: str = ""
    """The submission; or, if `tests` are the submission, the code that they test."""
    tests: str = ""
    """HumanEval's format (`def check(candidate)`), or a pytest file that imports `solution`."""
    entry_point: str = ""
    """The function that `check` gets, and that is timed."""
    prompt: str = ""
    """The text before the code; helpers that tests call come from it, not from the submission."""
    hidden_tests: str = ""
    """More tests, in either format, that the author has not seen."""
    reference: str = ""
    """Correct code: answers on inputs near those of the tests are compared with its answers."""
    inputs: str = ""
    """A program that defines `inputs(size, seed)`, the arguments of a call, to measure speed."""
    submitted: str = "code"
    """What is judged: code, tests or proof."""
    proof: str = ""
    language: str = ""
    """Of a proof: smt, coq or lean."""
    statement: str = ""
    """Of a proof: the theorem, in its language."""
    response: tuple[str, int] | None = None
    """(conversation, index) of the response with the submission."""


class Part(msgspec.Struct, frozen=True):
    """One measured aspect of a submission."""

    value: float | None
    """In [0, 1]; None: it could not be measured."""
    facts: Mapping[str, Any] = {}
    why: str = ""


class Outcome(msgspec.Struct, frozen=True):
    """The outcome of an item."""

    id: str
    outcome: float
    """In [0, 1]: 0 if a gate is closed, else the formula of the parts."""
    gates: dict[str, bool]
    parts: dict[str, Part]
    reasons: list[str]
    seconds: float
    response: tuple[str, int] | None = None


def read_items(path: str | os.PathLike[str]) -> Iterator[Item]:
    """Read the items of a file, in order.

    HumanEval's field names work too: `task_id`, `completion`, `test`, `canonical_solution`.

    Raises:
        InputError: a row is not an item; says where.
    """
    for number, (place, record) in enumerate(read_objects(path)):
        try:
            yield parse_item(record, f"i{number}")
        except msgspec.ValidationError as error:
            raise InputError(f"could not read {place}: {error}") from error


def parse_item(record: Mapping[str, Any], name: str = "") -> Item:
    """Parse an item; `name`: its id if it has none.

    >>> record = {"task_id": "HumanEval/0", "prompt": "def f():\\n", "completion": "    return 1"}
    >>> parse_item(record).code
    'def f():\\n    return 1'

    Raises:
        msgspec.ValidationError: a field has the wrong type.
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
