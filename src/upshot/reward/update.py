"""New rows for a model that is there: the posterior becomes the prior, old rows are not needed.

The new rows are first predicted, then learned from: what is said of accuracy and calibration
afterwards was earned on rows that the model had not seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from upshot.errors import InputError
from upshot.records import Example, Preference
from upshot.reward import domain, fit
from upshot.reward.calibration import calibrate, soften
from upshot.reward.features import features, surface_features
from upshot.reward.model import (
    LEVELS,
    Head,
    RewardModel,
    Rows,
    clip_difference,
    find_head,
    make_batch,
    remove_leniency,
    row_owner,
    split_folds,
    users_of,
)

Array = NDArray[np.float64]
_ENOUGH = 200
"""New rows from which calibration is learned anew; with fewer the old one stays."""


def update(model: RewardModel, data: Mapping[str, Rows], keep: float = 1.0) -> RewardModel:
    """Learn from more rows of some of the heads.

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
    known = model.domain
    for name, rows in data.items():
        head = find_head(model, name)
        if not rows:
            raise InputError(f"could not update head {name!r}: there are no rows")
        if isinstance(rows[0], Preference) != (head.kind == "pairs"):
            raise InputError(
                f"could not update head {name!r}: it learns from {head.kind}, and these rows"
                " are not"
            )
        batch = make_batch(rows)
        found = features(batch.prompts, batch.responses, model.embed)
        heads[name] = _updated(model, head, rows, model.clip_difference(found.values), keep)
        known = (
            None
            if known is None
            else domain.extend_domain(
                known, batch.prompts, batch.responses, surface_features(found)
            )
        )
    users = tuple(sorted({*model.users, *users_of(data)}))
    return replace(
        model, heads=tuple(heads[head.name] for head in model.heads), users=users, domain=known
    )


def _updated(model: RewardModel, head: Head, rows: Rows, values: Array, keep: float) -> Head:
    weight = np.array([row.weight for row in rows])
    if isinstance(rows[0], Preference):
        x = clip_difference(values[: len(rows)] - values[len(rows) :])
        offset, every, weights, merit = (
            -np.array([row.margin for row in rows if isinstance(row, Preference)]),
            x,
            weight,
            x,
        )
        sign, cut = np.ones(len(rows)), 0.0
        part = np.arange(len(rows))
    else:
        score = remove_leniency([row for row in rows if isinstance(row, Example)])
        above = np.where(score[:, None] > LEVELS, 1.0, -1.0)
        every = (above[:, :, None] * values[:, None, :]).reshape(-1, values.shape[1])
        offset, weights = (-above * head.cuts).ravel(), np.repeat(weight / len(LEVELS), len(LEVELS))
        sign, cut, merit = np.where(score > 0.5, 1.0, -1.0), float(np.median(head.cuts)), values
        part = np.repeat(np.arange(len(rows)), len(LEVELS))
    before = sign * (merit @ head.posterior.mean - cut)
    posterior = fit.update(head.posterior, every, model.group, weights, offset, keep)
    calibration = head.calibration
    if len(rows) >= _ENOUGH:
        logits = np.zeros(len(rows))
        for train, test in split_folds([row_owner(row) for row in rows]):
            of = np.isin(part, train)
            crossed = fit.update(
                head.posterior, every[of], model.group, weights[of], offset[of], keep
            )
            logits[test] = soften(
                sign[test] * (merit[test] @ crossed.mean - cut), crossed.variance(merit[test])
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
