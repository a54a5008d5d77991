"""Training rows as texts, and whose they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias, cast

from upshot.records import Example, Preference, Turn

Rows: TypeAlias = Sequence[Preference] | Sequence[Example]
"""Rows of one head: all pairs, or all scored examples."""


class Batch(NamedTuple):
    """Prompts and responses as texts."""

    prompts: list[list[str]]
    responses: list[str]


def prompt_texts(prompt: Iterable[Turn]) -> list[str]:
    """The texts of a prompt's messages."""
    return [turn.content for turn in prompt]


def answer_text(turns: Iterable[Turn]) -> str:
    """What the assistant says in a completion.

    >>> answer_text([Turn("user", "hi"), Turn("assistant", "hello")])
    'hello'
    """
    return "\n".join(turn.content for turn in turns if turn.role == "assistant")


def as_pairs(rows: Rows) -> Sequence[Preference] | None:
    """The rows as pairs; None where they are scored examples."""
    return cast("Sequence[Preference]", rows) if isinstance(rows[0], Preference) else None


def as_examples(rows: Rows) -> Sequence[Example]:
    """Rows that are scored examples."""
    return cast("Sequence[Example]", rows)


def make_batch(rows: Rows) -> Batch:
    """Responses as texts; of pairs first all chosen ones, then all rejected ones."""
    prompts = [prompt_texts(row.prompt) for row in rows]
    if (pairs := as_pairs(rows)) is not None:
        chosen = [answer_text(row.chosen) for row in pairs]
        return Batch(prompts * 2, chosen + [answer_text(row.rejected) for row in pairs])
    return Batch(prompts, [answer_text(row.completion) for row in as_examples(rows)])


def users_of(data: Mapping[str, Rows]) -> tuple[str, ...]:
    """Pseudonyms of all users whose rows these are."""
    return tuple(
        sorted({user for rows in data.values() for row in rows for user in row.source.users})
    )


def row_owner(row: Preference | Example) -> str:
    """What must stay on one side of a split: the user, else the thread, else the prompt."""
    if row.source.users:
        return row.source.users[0]
    return row.source.thread or "\n".join(prompt_texts(row.prompt))


def drop_equal_pairs(data: Mapping[str, Rows]) -> tuple[dict[str, Rows], int]:
    """The rows without pairs whose chosen response equals the rejected one, and their number."""
    out: dict[str, Rows] = {}
    left_out = 0
    for name, rows in data.items():
        pairs = as_pairs(rows) if rows else None
        if pairs is not None:
            different = [row for row in pairs if row.chosen != row.rejected]
            left_out += len(rows) - len(different)
            out[name] = different
        else:
            out[name] = rows
    return out, left_out
