"""How far a lake's verdicts can be trusted, by labels: calibration, abstention, agreement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import msgspec
import numpy as np

from upshot.errors import InputError
from upshot.hindsight.trust.audit import Labels
from upshot.records.verdicts import EVEN
from upshot.stats import agreement
from upshot.stats.calibration import (
    Abstention,
    Bin,
    Calibrator,
    cross_fit_probabilities,
    ece,
    estimate_leniency,
    fit_abstention,
    fit_calibrator,
    reliability_bins,
)

_MIN_LABELS = 20
"""With fewer, neither the curve nor its cross-fitted error means anything."""
_MIN_SHARED = 10
"""Responses that both of two raters labelled; kappa of fewer is noise."""


class Calibration(msgspec.Struct, frozen=True):
    """A lake's scores against labels.

    Probabilities are cross-fitted by user: no label is predicted by a curve that was fitted to it.
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
    """Share of labelled responses on which exactly one answer stays possible."""
    judge_and_people: agreement.Agreement
    """Krippendorff's alpha of the judge and the mean label, interval scale."""
    raters: dict[str, agreement.Agreement]
    """Cohen's kappa of each pair of raters, on whether the response helped."""
    leniency: float
    """Standard deviation between users of the effects of `estimate_leniency`."""


def calibrate(
    rows: Sequence[Mapping[str, Any]], labels: Labels, error: float = 0.1
) -> tuple[Calibration, Calibrator, list[str]]:
    """Calibrate the scores of verdict rows (`id`, `index`, `score`, `user`).

    Returns the report, the curve, and the users whose rows it was fitted to.

    Raises:
        InputError: too few labels are of these rows.
    """
    labelled = [row for row in rows if (row["id"], row["index"]) in labels.mean]
    if len(labelled) < _MIN_LABELS:
        raise InputError(
            f"could not calibrate: {len(labelled)} of {len(labels.mean)} labels are of responses in"
            f" this lake, at least {_MIN_LABELS} are needed"
        )
    score = np.array([row["score"] for row in labelled], float)
    label = np.array([labels.mean[(row["id"], row["index"])] for row in labelled], float)
    users = [row["user"] for row in labelled]
    curve = fit_calibrator(score, label)
    probability = cross_fit_probabilities(score, label, users)
    helped_label = (label > EVEN).astype(float)
    chosen = fit_abstention(probability, helped_label, error)
    helped, harmed = chosen.sets(probability)
    raters = {
        f"{a} and {b}": agreement.cohen_kappa(
            [labels.by_rater[a][n] > EVEN for n in both],
            [labels.by_rater[b][n] > EVEN for n in both],
        )
        for a, b in combinations(sorted(labels.by_rater), 2)
        if len(both := sorted(labels.by_rater[a].keys() & labels.by_rater[b].keys())) >= _MIN_SHARED
    }
    report = Calibration(
        len(labelled),
        curve.kind,
        ece(score, label),
        ece(probability, label),
        reliability_bins(score, label),
        reliability_bins(probability, label),
        chosen,
        float((helped != harmed).mean()),
        agreement.krippendorff_alpha(np.vstack([probability, label])),
        raters,
        estimate_leniency(probability - label, users)[1],
    )
    return report, curve, users
