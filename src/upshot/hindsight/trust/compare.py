# scipy and scikit-learn have no type stubs.
# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false
"""Is B better than A for users? An augmented inverse-propensity estimate around a random audit.

Follow-ups favour flattery and hide users who leave in silence; no reweighting cures that. So a
random sample of each arm, independent of the outcome, is labelled by someone whom the answer could
not flatter (a person, a test, a strong judge), and the verdicts on everything make its mean
precise:

    y~ = m + r / rate x (y - m)
    mean(arm) = mean of [ mu(x) + 1{arm} / e(x) x (y~ - mu(x)) ]

m: the verdict, calibrated in its own arm; r: audited; y: label; e: P(arm | x); mu: E[y~ | x] in
the arm. x comes from the *prompt* only (what follows is an effect, not a cause), e is logged or
fitted; mu, e and m are cross-fitted by user, and intervals are by user. Without an audit r is 0
everywhere, and the answer says so.
"""

from __future__ import annotations

import math
from typing import Any, cast

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from upshot.errors import InputError
from upshot.hindsight.trust.units import Units
from upshot.stats.intervals import t_quantile
from upshot.stats.sampling import assign_folds

Numbers = NDArray[np.float64]
_FOLDS = 5
"""Of cross-fitting, whole users each."""
_MIN_PROPENSITY = 0.02
"""Smallest P(arm | x) that is divided by."""
_RIDGE = 1.0
"""Strength of the penalty on standardised columns: that of one row."""
_CALIBRATION_PARAMETERS = 4
"""Degrees of freedom that the audit loses: slope and level of the calibration, and of what prompts
explain.
"""
_MIN_AUDITED = 20
"""Labels per arm below which the audit's interval means nothing."""
_MAX_GAMMA = 50.0
"""Larger odds ratios are not searched: no hidden cause is that strong."""


class Estimate(msgspec.Struct, frozen=True):
    """Mean of B minus mean of A."""

    difference: float
    low: float
    """95 % interval."""
    high: float
    a: float
    """Mean of arm A over everybody's prompts."""
    b: float


class Comparison(msgspec.Struct, frozen=True):
    """The comparison of two arms."""

    naive: Estimate
    """Difference of the mean verdicts, as a dashboard shows it."""
    logs: Estimate
    """The same, weighted for differences in prompts; still based on follow-ups."""
    audited: Estimate | None
    """Based on the audit; None where there is none, or too small a one."""
    labels: tuple[int, int]
    """Audited rows of A and of B."""
    flattered: float | None
    """How much more the verdicts favour B than the labels do; None without an audit."""
    flattered_low: float | None
    flattered_high: float | None
    judge_bias: float
    """Difference in the judge's error between the arms that would reverse the log's answer."""
    gamma: float
    """Odds ratio of hidden confounding at which the log's interval reaches 0; near 1: fragile."""
    overlap: float
    """Effective share of the rows under the weights, in (0, 1]."""
    answer: str


def compare(units: Units, names: tuple[str, str] = ("A", "B"), seed: int = 0) -> Comparison:
    """Compare two arms.

    Raises:
        InputError: an arm is empty, or too small for its user-wise folds.
    """
    counts = np.bincount(units.arm, minlength=2)
    if min(counts) < 20 or len(np.unique(units.user.astype(str))) < 2 * _FOLDS:
        raise InputError(
            f"could not compare {names[0]} ({counts[0]} rows) with {names[1]} ({counts[1]} rows):"
            f" at least 20 of each and {2 * _FOLDS} users are needed"
        )
    fold, user = assign_folds(units.user, _FOLDS, seed)
    e = _fit_propensity(units, fold)
    labels = (int(units.audited[units.arm == 0].sum()), int(units.audited[units.arm == 1].sum()))
    naive = _naive_difference(units.verdict, units.arm, user)
    log_rows = _doubly_robust_scores(units, units.verdict, e, fold)
    logs = _estimate(*log_rows, user)
    enough = min(labels) >= _MIN_AUDITED
    audited = flattered = None
    if enough:
        rows = _doubly_robust_scores(units, _correct_verdicts(units, fold), e, fold)
        audited = _estimate(*rows, user, min(labels))
        flattered = _estimate(log_rows[0] - rows[0], log_rows[1] - rows[1], user, min(labels))
    weight = np.where(units.arm == 1, 1 / e, 1 / (1 - e))
    overlap = float(
        min(
            weight[units.arm == k].sum() ** 2 / (weight[units.arm == k] ** 2).sum() / counts[k]
            for k in (0, 1)
        )
    )
    gamma = _tipping_gamma(units, e, logs)
    return Comparison(
        naive,
        logs,
        audited,
        labels,
        flattered.difference if flattered else None,
        flattered.low if flattered else None,
        flattered.high if flattered else None,
        abs(logs.difference),
        gamma,
        overlap,
        _phrase_answer(names, logs, audited, flattered, gamma),
    )


def _fit_propensity(units: Units, fold: NDArray[np.int64]) -> Numbers:
    """P(B | prompt), logged or by ridge logistic regression, cross-fitted."""
    if units.propensity is not None:
        return np.clip(units.propensity, _MIN_PROPENSITY, 1 - _MIN_PROPENSITY)
    out = np.full(len(units.arm), units.arm.mean())
    for k in range(_FOLDS):
        rest = fold != k
        if len(np.unique(units.arm[rest])) == 2:  # of the two arms
            out[~rest] = _fit_logistic(
                units.prompt[rest], units.arm[rest] == 1, units.prompt[~rest]
            )
    return np.clip(out, _MIN_PROPENSITY, 1 - _MIN_PROPENSITY)


def _correct_verdicts(units: Units, fold: NDArray[np.int64]) -> Numbers:
    """y~ of every row: the verdict calibrated within its arm, plus the audit's residual if any."""
    calibrated = units.verdict.copy()
    for arm in (0, 1):
        for k in range(_FOLDS):
            held_out = (units.arm == arm) & (fold == k)
            labelled = (units.arm == arm) & (fold != k) & units.audited
            if labelled.sum() >= 10:
                line = fit_ridge(
                    units.verdict[labelled, None],
                    units.label[labelled],
                    units.verdict[held_out, None],
                    3.0,
                )
                calibrated[held_out] = np.clip(line, 0, 1)
    return calibrated + np.where(
        units.audited, (units.label - calibrated) / np.maximum(units.rate, 1e-6), 0.0
    )


def _doubly_robust_scores(
    units: Units, outcome: Numbers, e: Numbers, fold: NDArray[np.int64]
) -> tuple[Numbers, Numbers]:
    """Each row's contribution to the mean of A and of B."""
    scores: list[Numbers] = []
    for arm, p in ((0, 1 - e), (1, e)):
        in_arm = units.arm == arm
        mu = np.full(len(outcome), outcome[in_arm].mean())
        for k in range(_FOLDS):
            rest, held_out = in_arm & (fold != k), fold == k
            if rest.sum() >= 20:
                # The audit's residuals are large and rare, so the curve is fitted to the verdicts
                # and shifted.
                mu[held_out] = fit_ridge(
                    units.prompt[rest], units.verdict[rest], units.prompt[held_out]
                )
                mu[held_out] += outcome[rest].mean() - units.verdict[rest].mean()
        weight = np.where(in_arm, 1 / p, 0.0)
        weight /= weight.mean()  # stabilised (Hajek)
        scores.append(mu + weight * (outcome - mu))
    return scores[0], scores[1]


def _estimate(
    a: Numbers, b: Numbers, user: NDArray[np.int64], audited: int | None = None
) -> Estimate:
    """Difference of means with an interval by user.

    With an audit, the `audited` rows of the smaller arm carry the uncertainty: the degrees of
    freedom are theirs, less those of the calibration.
    """
    difference = float((b - a).mean())
    total = np.bincount(user, b - a - difference)
    groups = len(total)
    degrees_of_freedom = (
        groups - 1 if audited is None else min(groups - 1, audited - _CALIBRATION_PARAMETERS)
    )
    inflation = 1.0 if audited is None else audited / (audited - _CALIBRATION_PARAMETERS)
    error = float(np.sqrt(inflation * groups / (groups - 1) * (total**2).sum()) / len(a))
    half_width = t_quantile(0.975, degrees_of_freedom) * error
    return Estimate(
        difference,
        difference - half_width,
        difference + half_width,
        float(a.mean()),
        float(b.mean()),
    )


def _naive_difference(
    verdict: Numbers, arm: NDArray[np.int64], user: NDArray[np.int64]
) -> Estimate:
    shares = [(arm == k) / (arm == k).mean() for k in (0, 1)]
    return _estimate(shares[0] * verdict, shares[1] * verdict, user)


def _tipping_gamma(units: Units, e: Numbers, logs: Estimate) -> float:
    """The odds ratio of hidden confounding from which the log's difference could be 0.

    Marginal sensitivity model of the weighted means (Zhao, Small and Bhattacharya, 2019).
    """
    sign = 1.0 if logs.difference >= 0 else -1.0
    reach = (logs.high - logs.low) / 2

    def lower_end(log_gamma: float) -> float:
        gamma = float(np.exp(log_gamma))
        b = _extreme_mean(units.verdict[units.arm == 1], e[units.arm == 1], gamma, -sign)
        a = _extreme_mean(units.verdict[units.arm == 0], 1 - e[units.arm == 0], gamma, sign)
        return sign * (b - a) - reach

    if lower_end(0.0) <= 0:
        return 1.0
    top = float(np.log(_MAX_GAMMA))
    return (
        _MAX_GAMMA
        if lower_end(top) > 0
        else math.exp(cast(float, brentq(lower_end, 0.0, top, xtol=1e-3)))
    )


def _extreme_mean(value: Numbers, p: Numbers, gamma: float, sign: float) -> float:
    """The smallest (sign -1) or largest (+1) weighted mean if odds may be off by a factor gamma."""
    order = np.argsort(sign * value)
    value, odds = value[order], ((1 - p) / p)[order]
    low, high = 1 + odds / gamma, 1 + odds * gamma
    heavy = (
        np.concatenate([[0.0], np.cumsum(high[::-1])])[::-1],
        np.concatenate([[0.0], np.cumsum((high * value)[::-1])])[::-1],
    )
    light = np.concatenate([[0.0], np.cumsum(low)]), np.concatenate([[0.0], np.cumsum(low * value)])
    means = (light[1] + heavy[1]) / (light[0] + heavy[0])
    return float(sign * (sign * means).max())


def _phrase_answer(
    names: tuple[str, str],
    logs: Estimate,
    audited: Estimate | None,
    flattered: Estimate | None,
    gamma: float,
) -> str:
    a, b = names
    if audited is None or flattered is None:
        return (
            f"The logs alone cannot tell whether {b} is better than {a} for users: their difference"
            f" of {logs.difference:+.3f} would be turned round by {abs(logs.difference):.3f} more"
            " flattery (or silent leaving) in one arm, or by hidden causes of odds ratio"
            f" {gamma:.2f}. Draw an audit with `upshot audit`, label it, and compare again."
        )
    finding = (
        f"{b} is better than {a}"
        if audited.low > 0
        else (
            f"{a} is better than {b}"
            if audited.high < 0
            else f"No difference between {a} and {b} is shown"
        )
    )
    answer = f"{finding}: {audited.difference:+.3f} [{audited.low:+.3f} to {audited.high:+.3f}]."
    if flattered.low > 0 or flattered.high < 0:
        favoured = b if flattered.difference > 0 else a
        answer += (
            f" The follow-ups favour {favoured} by {abs(flattered.difference):.3f} more than the"
            " audit does: they cannot be trusted to compare these arms."
        )
    return answer


def fit_ridge(x: Numbers, y: Numbers, others: Numbers, strength: float = _RIDGE) -> Numbers:
    """What a ridge regression of `y` on the standardised columns of `x` predicts of other rows."""
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model: Any = make_pipeline(StandardScaler(), Ridge(alpha=strength)).fit(x, y)
    return model.predict(others)


def _fit_logistic(x: Numbers, y: NDArray[np.bool_], others: Numbers) -> Numbers:
    """P(y) of other rows by a logistic regression with the same penalty."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    curve = LogisticRegression(C=1 / _RIDGE, solver="newton-cholesky", tol=1e-8)
    model: Any = make_pipeline(StandardScaler(), curve).fit(x, y)
    return model.predict_proba(others)[:, 1]
