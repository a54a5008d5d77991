"""How far a lake's verdicts can be trusted, by the labels that people gave: calibration,
abstention, agreement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import msgspec
import numpy as np

from upshot.errors import InputError
from upshot.hindsight.trust.audit import Labels
from upshot.stats import agreement
from upshot.stats.calibration import (
    Abstention,
    Bin,
    Calibrator,
    abstention,
    cross_fitted,
    ece,
    fit,
    leniency,
    reliability,
)


class Calibration(msgspec.Struct, frozen=True):
    """What labels say of a lake's scores.

    Probabilities are cross-fitted by user: no label vouches for itself.
    """

    labels: int
    kind: str
    """platt or isotonic."""
    ece_before: float
    ece_after: float
    before: list[Bin]
    after: list[Bin]
    abstention: Abstention
    decided: float
    """Share of the labelled on which one answer is left."""
    judge_and_people: agreement.Agreement
    """Krippendorff's alpha of the judge and the mean label, interval scale."""
    raters: dict[str, agreement.Agreement]
    """Cohen's kappa of each pair of raters, of whether it helped."""
    leniency: float
    """Standard deviation between users of how far their reactions lie above what their responses
    deserve.
    """


def calibrate(
    rows: Sequence[Mapping[str, Any]], labels: Labels, error: float = 0.1
) -> tuple[Calibration, Calibrator, list[str]]:
    """Calibrate the scores of verdict rows (id, index, score, user); returns the report, the curve
    and who taught it.

    Raises:
        InputError: too few labels are of these rows.
    """
    mine = [row for row in rows if (row["id"], row["index"]) in labels.mean]
    if len(mine) < 20:
        raise InputError(
            f"could not calibrate: {len(mine)} of {len(labels.mean)} labels are of responses in"
            " this lake, at least 20 are needed"
        )
    score = np.array([row["score"] for row in mine], float)
    label = np.array([labels.mean[(row["id"], row["index"])] for row in mine], float)
    users = [row["user"] for row in mine]
    curve = fit(score, label)
    probability = cross_fitted(score, label, users)
    hard = (label > 0.5).astype(float)
    chosen = abstention(probability, hard, error)
    helped, harmed = chosen.sets(probability)
    raters = {
        f"{a} and {b}": agreement.kappa(
            [labels.by_rater[a][n] > 0.5 for n in both], [labels.by_rater[b][n] > 0.5 for n in both]
        )
        for a, b in combinations(sorted(labels.by_rater), 2)
        if len(both := sorted(labels.by_rater[a].keys() & labels.by_rater[b].keys())) >= 10
    }
    report = Calibration(
        len(mine),
        curve.kind,
        ece(score, label),
        ece(probability, label),
        reliability(score, label),
        reliability(probability, label),
        chosen,
        float((helped != harmed).mean()),
        agreement.alpha(np.vstack([probability, label])),
        raters,
        leniency(probability - label, users)[1],
    )
    return report, curve, users
