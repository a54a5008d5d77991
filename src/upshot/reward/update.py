"""Teach an existing model new rows: its posterior becomes the prior, old rows are not needed.

The new rows are first predicted, then learned from, so that accuracy and calibration are those on
rows that the model had not learned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from upshot.errors import InputError
from upshot.records.verdicts import EVEN
from upshot.reward import domain, fit
from upshot.reward.batches import (
    Rows,
    as_examples,
    as_pairs,
    drop_equal_pairs,
    make_batch,
    row_owner,
    users_of,
)
from upshot.reward.calibration import calibrate, soften
from upshot.reward.features import features, surface_features
from upshot.reward.model import (
    LEVELS,
    Head,
    RewardModel,
    clip_difference,
    find_head,
    remove_leniency,
    split_folds,
)

Array = NDArray[np.float64]
_MIN_CALIBRATION_ROWS = 200
"""New rows from which calibration is learned again; with fewer the old one stays."""


def update(model: RewardModel, data: Mapping[str, Rows], keep: float = 1.0) -> RewardModel:
    """Learn more rows of some of the heads. Pairs of equal responses are left out.

    `keep`: share of the old evidence that still counts, below 1 where tastes change.

    Raises:
        InputError: the model has no such head, the rows are of the other kind, or the model is
            private (its ε would be spent).
    """
    if model.epsilon is not None:
        raise InputError(
            "could not update a private model: train it again, so that what each user pays is known"
        )
    if not 0 < keep <= 1:
        raise InputError(f"could not keep {keep} of the evidence: a share in (0, 1]")
    heads = {head.name: head for head in model.heads}
    data, equal = drop_equal_pairs(data)
    extended = model.domain
    for name, rows in data.items():
        head = find_head(model, name)
        if not rows:
            raise InputError(f"could not update head {name!r}: there are no rows")
        if (as_pairs(rows) is not None) != (head.kind == "pairs"):
            raise InputError(
                f"could not update head {name!r}: it learns from {head.kind}, and these rows"
                " are not"
            )
        batch = make_batch(rows)
        table = features(batch.prompts, batch.responses, model.embed)
        heads[name] = _update_head(model, head, rows, model.scaled(table.values), keep)
        extended = (
            None
            if extended is None
            else domain.extend_domain(
                extended, batch.prompts, batch.responses, surface_features(table)
            )
        )
    users = tuple(sorted({*model.users, *users_of(data)}))
    return replace(
        model,
        heads=tuple(heads[head.name] for head in model.heads),
        users=users,
        domain=extended,
        left_out=model.left_out + equal,
    )


class _Design(NamedTuple):
    """Rows of a head as those of a logistic regression."""

    x: Array
    weights: Array
    offset: Array
    row: NDArray[np.int64]
    """Which of the head's rows each is of."""
    merit: Array
    """Features of each of the head's rows."""
    cut: float
    """Logit from which a response counts as good."""


def _update_head(model: RewardModel, head: Head, rows: Rows, values: Array, keep: float) -> Head:
    weight = np.array([row.weight for row in rows])
    design, sign = _make_design(head, rows, values, weight)
    before = sign * (design.merit @ head.posterior.mean - design.cut)
    posterior = fit.update(
        head.posterior, design.x, model.group, design.weights, design.offset, keep=keep
    )
    calibration = head.calibration
    if len(rows) >= _MIN_CALIBRATION_ROWS:
        logits = np.zeros(len(rows))
        for learned, test in split_folds([row_owner(row) for row in rows]):
            own = np.isin(design.row, learned)
            crossed = fit.update(
                head.posterior,
                design.x[own],
                model.group,
                design.weights[own],
                design.offset[own],
                keep=keep,
            )
            merit = design.merit[test]
            logits[test] = soften(
                sign[test] * (merit @ crossed.mean - design.cut), crossed.variance(merit)
            )
        calibration = calibrate(logits, weight)
    accuracy = {"all": float(((before > 0) + 0.5 * (before == 0)).mean())}
    return replace(
        head,
        posterior=posterior,
        calibration=calibration,
        rows=head.rows + len(rows),
        accuracy=accuracy,
    )


def _make_design(head: Head, rows: Rows, values: Array, weight: Array) -> tuple[_Design, Array]:
    """The rows of a head as a regression, and the sign of each label."""
    if (pairs := as_pairs(rows)) is not None:
        x = clip_difference(values[: len(rows)] - values[len(rows) :])
        offset = -np.array([row.margin for row in pairs])
        return _Design(x, weight, offset, np.arange(len(rows)), x, 0.0), np.ones(len(rows))
    score = remove_leniency(as_examples(rows))
    above = np.where(score[:, None] > LEVELS, 1.0, -1.0)
    x = (above[:, :, None] * values[:, None, :]).reshape(-1, values.shape[1])
    offset = (-above * head.cuts).ravel()
    weights = np.repeat(weight / len(LEVELS), len(LEVELS))
    row = np.repeat(np.arange(len(rows)), len(LEVELS))
    design = _Design(x, weights, offset, row, values, float(np.median(head.cuts)))
    return design, np.where(score > EVEN, 1.0, -1.0)
