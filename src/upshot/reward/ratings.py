"""Ratings of several people, rater effects taken out.

Leniency, scale, taste for length, carelessness and coordination belong to who rated, not to what
was rated (`rater_model`). They can be separated only where people rated the same responses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from upshot.errors import InputError
from upshot.records import Example
from upshot.reward.batches import Rows, answer_text, as_examples, as_pairs
from upshot.reward.rater_model import correct, separate


def take_out_rater_effects(data: Mapping[str, Rows]) -> dict[str, Rows]:
    """The same heads, their ratings corrected.

    Heads of pairs stay as they are, since leniency cancels within a pair.

    Raises:
        InputError: a head of scored examples names no raters, or no response has two of them; or
            every head is of pairs.
    """
    if all(as_pairs(rows) is not None for rows in data.values() if rows):
        raise InputError(
            "could not take out rater effects: they are those of ratings, and all rows are pairs;"
            " give rows with prompt, completion, score and rater"
        )
    return {
        name: correct_ratings(name, as_examples(rows)) if rows and as_pairs(rows) is None else rows
        for name, rows in data.items()
    }


def correct_ratings(name: str, rows: Sequence[Example]) -> list[Example]:
    """Each rating as a rater of usual leniency and scale, without a taste, would have given it.

    A row's rater is its single user (`rater`, `user` or `source.users`). Scores stay in [0, 1];
    ratings of coordinated raters are left out. Rows that name nobody, or several people, are
    returned as they are. One row per rating, not per response: how raters disagree about a response
    says how sure its merit is, and a model trained on
    means alone ranks worse than one trained on the ratings as they are.

    Raises:
        InputError: no row names a rater, or no response has ratings of two people.
    """
    rated = [row for row in rows if len(row.source.users) == 1]
    if not rated:
        raise InputError(
            f"could not take out rater effects of head {name!r}: no row names a single rater; rows"
            " need rater, user or source.users"
        )
    names, rater = np.unique([row.source.users[0] for row in rated], return_inverse=True)
    numbers: dict[tuple[object, object], int] = {}
    item = np.array(
        [numbers.setdefault((row.prompt, row.completion), len(numbers)) for row in rated]
    )
    pairs = {(int(i), int(r)) for i, r in zip(item, rater, strict=True)}
    if len(pairs) == len(numbers):
        raise InputError(
            f"could not take out rater effects of head {name!r}: {len(names)} raters rated"
            f" {len(numbers)} responses, and no response has ratings of two of them"
        )
    lengths = np.zeros(len(numbers))
    for row, number in zip(rated, item.tolist(), strict=True):
        lengths[number] = np.log1p(len(answer_text(row.completion).split()))
    rating = np.array([row.score for row in rated])
    raters = separate(rater, item, rating, lengths)
    scores = np.clip(correct(raters, rater, item, rating, lengths), 0.0, 1.0).tolist()
    corrected = [
        msgspec.structs.replace(row, score=score)
        for row, score, number in zip(rated, scores, rater.tolist(), strict=True)
        if not raters.coordinated[number]
    ]
    return [*corrected, *(row for row in rows if len(row.source.users) != 1)]
