"""Ratings of several people as one example per response, rater effects taken out.

Leniency, scale, taste for length, carelessness and coordination belong to who rated, not to what
was rated (`rater_model`). They can be separated only where people rated the same responses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from upshot.errors import InputError
from upshot.records import Example, Source
from upshot.reward.batches import Rows, answer_text, as_examples, as_pairs
from upshot.reward.rater_model import Raters, separate


def take_out_rater_effects(data: Mapping[str, Rows]) -> dict[str, Rows]:
    """The same heads, their ratings replaced by merit.

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
        name: merge_ratings(name, as_examples(rows)) if rows and as_pairs(rows) is None else rows
        for name, rows in data.items()
    }


def merge_ratings(name: str, rows: Sequence[Example]) -> list[Example]:
    """One example per rated response, its score what the usual rater would give, in [0, 1].

    A row's rater is its single user (`rater`, `user` or `source.users`). An example weighs the sum
    of its ratings' weights, coordinated raters' excepted, and names no user: whoever trains on it
    must name the raters. Rows that name nobody, or several people, are returned as they are.

    Raises:
        InputError: no row names a rater, or no response has ratings of two people.
    """
    rated = [row for row in rows if len(row.source.users) == 1]
    if not rated:
        raise InputError(
            f"could not take out rater effects of head {name!r}: no row names a single rater; rows"
            " need rater, user or source.users"
        )
    rater_names, rater = np.unique([row.source.users[0] for row in rated], return_inverse=True)
    number_of: dict[tuple[object, object], int] = {}
    item = np.array(
        [number_of.setdefault((row.prompt, row.completion), len(number_of)) for row in rated]
    )
    pairs = {(int(i), int(r)) for i, r in zip(item, rater, strict=True)}
    if len(pairs) == len(number_of):
        raise InputError(
            f"could not take out rater effects of head {name!r}: {len(rater_names)} raters rated"
            f" {len(number_of)} responses, and no response has ratings of two of them"
        )
    firsts: dict[int, Example] = {}
    for row, number in zip(rated, item.tolist(), strict=True):
        firsts.setdefault(number, row)
    examples = [firsts[number] for number in range(len(firsts))]
    length = np.array([np.log1p(len(answer_text(row.completion).split())) for row in examples])
    rating = np.array([row.score for row in rated])
    raters = separate(rater, item, rating, length)
    trusted = np.array([row.weight for row in rated]) * ~raters.coordinated[rater]
    weights = np.bincount(item, trusted, minlength=len(examples))
    merged = [
        msgspec.structs.replace(
            row,
            score=score,
            weight=float(weight),
            source=Source("ratings", thread=row.source.thread, split=row.source.split),
        )
        for row, score, weight in zip(examples, _usual_scores(raters), weights, strict=True)
        if weight > 0
    ]
    return [*merged, *(row for row in rows if len(row.source.users) != 1)]


def _usual_scores(raters: Raters) -> list[float]:
    """What a rater of usual leniency and scale would give each response, within [0, 1]."""
    leniency = float(raters.leniency[~raters.coordinated].mean())
    return np.clip(leniency + raters.unit * raters.merit, 0.0, 1.0).tolist()
