"""Whether a policy goes out: chosen on some users, tested once on others, and held to guards that
each have their own bound.

*Value.* Answers drawn fresh on frozen prompts by the candidate and by the policy in service, scored
by the same calibrated judge; where an audit labelled some of each policy's answers, the judge's
mean error on them is added, policy by policy (one policy's error is not another's). The candidate
is better where the lower end of a one-sided t interval over users, of the paired difference, is
above 0.

*Many candidates.* The best is chosen on one split of users and tested on the other, once. The
test's level is spent over tests and earned back by promotions (LORD++; Ramdas et al., 2017), so
that of all promotions the expected share that was no improvement is at most α, however many are
tried.

*Trials.* Where a share of the users can get a candidate, its guards let it in, and what came of its
answers, user by user, lets it out to all.

*Guards.* Each measures harm, candidate against the policy in service (or against a floor), with its
own interval and its own margin: refuse where even the interval's better end is beyond the margin,
ask a person where there is harm for sure and the estimate is beyond it, pass else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from upshot.errors import InputError
from upshot.stats.intervals import t_quantile
from upshot.stats.sampling import draw

Array = NDArray[np.float64]
Decision = Literal["promote", "refuse", "ask"]
_DECAY, _SUM = 1.6, 2.285766
"""Σ n^-1.6 over n = 1, 2, … is 2.2858."""
SPLITS = ("learn", "choose", "test")


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How strict a gate is."""

    alpha: float = 0.05
    """Of all promotions, the expected share that was no improvement."""
    least_gain: float = 0.0
    """By how much a candidate must be better, in the judge's units."""
    guard_level: float = 0.95
    """Of each guard's interval."""
    margins: dict[str, float] = {}
    """Harm that is put up with, by guard; others have their own default."""

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 0.5 or not 0.5 < self.guard_level < 1:
            raise InputError(
                f"could not use the gate's rules: alpha {self.alpha} lies in (0, .5), guard_level"
                f" {self.guard_level} in (.5, 1)"
            )


class Answers(NamedTuple):
    """A policy's answers to the frozen prompts, scored; the same prompts, in the same order, for
    every policy.
    """

    score: Array
    """By the judge; NaN: it could not tell, which counts as the worst score there is (what escapes
    judgement earns nothing).
    """
    user: NDArray[np.object_]
    """Whose prompt it is."""
    audited: NDArray[np.bool_]
    """Was it drawn for the audit and labelled?"""
    label: Array
    """In the judge's units, where audited."""


class Value(NamedTuple):
    """Candidate less policy in service."""

    difference: float
    low: float
    """One-sided, at the level that was spent."""
    users: int


class Harm(NamedTuple):
    """What a guard measured."""

    name: str
    harm: float
    low: float
    high: float
    margin: float
    what: str = ""

    @property
    def verdict(self) -> Decision:
        """Refuse: surely beyond the margin.

        Ask: surely harm, perhaps beyond it. A few answers that differ by chance ask nobody.
        """
        return (
            "refuse"
            if self.low > self.margin
            else "ask"
            if self.harm > self.margin and self.low > 0
            else "promote"
        )


class Ruling(msgspec.Struct, frozen=True):
    """What the gate decided, and why."""

    decision: Decision
    chosen: str
    """The candidate."""
    difference: float | None
    low: float | None
    level: float
    """α that this test spent; 0: there was none."""
    reasons: list[str]
    guards: dict[str, dict[str, float | str]]


def split_of(user: str, shares: Sequence[float] = (0.7, 0.15, 0.15), seed: str = "gate") -> str:
    """Where a user's rows belong, always: to learn from, to choose on, to test on."""
    place, at = draw(f"{seed}/{user}"), 0.0
    for name, share in zip(SPLITS, shares, strict=True):
        at += share
        if place < at:
            return name
    return SPLITS[-1]


def next_level(alpha: float, before: Sequence[bool]) -> float:
    """The level of the next test; `before`: of every test so far, in order, whether it promoted.

    >>> [round(next_level(0.05, tests), 4) for tests in ([], [False], [True])]
    [0.0109, 0.0036, 0.0145]
    """
    now = len(before) + 1
    promoted = [test + 1 for test, yes in enumerate(before) if yes]
    half = alpha / 2
    first = half * _spending_share(now - promoted[0]) if promoted else 0.0
    return (
        half * _spending_share(now)
        + first
        + alpha * sum(_spending_share(now - test) for test in promoted[1:])
    )


def _spending_share(test: int) -> float:
    """Of what is to be spent, at the test of this number; they add up to 1."""
    return test**-_DECAY / _SUM


def correct_scores(answers: Answers, worst: float) -> Array:
    """Scores with the audit's mean residual added, and each audited answer's own in its place;
    shape (answers,), whose mean is the policy's value.
    """
    score = np.where(np.isfinite(answers.score), answers.score, worst)
    if not answers.audited.any():
        return score
    residual = np.where(answers.audited, answers.label - score, 0.0) / answers.audited.mean()
    return score + residual


def estimate_difference(candidate: Answers, present: Answers, alpha: float) -> Value:
    """Paired over prompts, in clusters of users.

    Raises:
        InputError: they are not answers to the same prompts.
    """
    if len(candidate.score) != len(present.score) or not np.array_equal(
        candidate.user, present.user
    ):
        raise InputError("could not compare two policies: they answered different prompts")
    finite = np.concatenate([arm.score[np.isfinite(arm.score)] for arm in (candidate, present)])
    worst = float(finite.min()) if len(finite) else 0.0
    each = correct_scores(candidate, worst) - correct_scores(present, worst)
    return Value(*_lower_bound(each, candidate.user, alpha))


def _lower_bound(each: Array, user: NDArray[np.object_], alpha: float) -> tuple[float, float, int]:
    _, place = np.unique(user.astype(str), return_inverse=True)
    sums, sizes = np.bincount(place, each), np.bincount(place).astype(float)
    count, mean = len(sums), float(each.mean())
    if count < 2:
        return mean, -np.inf, count
    error = float(np.sqrt(((sums - mean * sizes) ** 2).sum() * count / (count - 1))) / len(each)
    return mean, mean - t_quantile(1 - alpha, count - 1) * max(error, 1e-12), count


def choose(candidates: Mapping[str, Answers]) -> str:
    """The best by its mean on the users to choose on.

    Raises:
        InputError: there is none.
    """
    if not candidates:
        raise InputError("could not choose a policy: there are no candidates")
    finite = np.concatenate([arm.score[np.isfinite(arm.score)] for arm in candidates.values()])
    worst = float(finite.min()) if len(finite) else 0.0
    return max(
        sorted(candidates), key=lambda name: float(correct_scores(candidates[name], worst).mean())
    )


class Trial(msgspec.Struct, frozen=True):
    """Two policies at work, each with users of its own, drawn at random."""

    decision: Literal["promote", "refuse", "wait"]
    difference: float | None
    low: float | None
    level: float
    users: tuple[int, int]
    """Of the policy in service and of the candidate."""


def trial(
    present: Mapping[str, Sequence[float]],
    candidate: Mapping[str, Sequence[float]],
    least_users: int,
    before: Sequence[bool],
    rules: Rules = Rules(),
) -> Trial:
    """Decide by what came of answers to real users: verdicts of every answer, by user; a user's
    mean counts once (Welch's t, one-sided).

    Every answer counts, those that nothing followed too: who leaves in silence is not left out.
    """
    old, new = (
        np.array([float(np.mean(scores)) for scores in arm.values()])
        for arm in (present, candidate)
    )
    sizes = (len(old), len(new))
    if min(sizes) < max(2, least_users):
        return Trial("wait", None, None, 0.0, sizes)
    spent = next_level(rules.alpha, before)
    parts = old.var(ddof=1) / len(old), new.var(ddof=1) / len(new)
    error = float(np.sqrt(sum(parts))) or 1e-12
    freedom = (
        sum(parts) ** 2
        / max(parts[0] ** 2 / (len(old) - 1) + parts[1] ** 2 / (len(new) - 1), 1e-300)
        if sum(parts)
        else len(old) + len(new) - 2
    )
    gain = float(new.mean() - old.mean())
    low = gain - t_quantile(1 - spent, max(1.0, freedom)) * error
    return Trial("promote" if low > rules.least_gain else "refuse", gain, low, spent, sizes)


def rule_by_guards(chosen: str, guards: Sequence[Harm]) -> Ruling:
    """Whether a candidate may be tried on a share of the users: no test is spent, its guards alone
    decide.
    """
    unsure = [guard for guard in guards if guard.verdict != "promote"]
    decision: Decision = (
        "refuse"
        if any(guard.verdict == "refuse" for guard in unsure)
        else "ask"
        if unsure
        else "promote"
    )
    return Ruling(
        decision, chosen, None, None, 0.0, [_describe(guard) for guard in unsure], _tabulate(guards)
    )


def _tabulate(guards: Sequence[Harm]) -> dict[str, dict[str, float | str]]:
    return {
        guard.name: {
            "harm": guard.harm,
            "low": guard.low,
            "high": guard.high,
            "margin": guard.margin,
            "verdict": guard.verdict,
            "what": guard.what,
        }
        for guard in guards
    }


def rule(
    chosen: str,
    candidate: Answers,
    present: Answers,
    guards: Sequence[Harm],
    before: Sequence[bool],
    *,
    rules: Rules = Rules(),
) -> Ruling:
    """Decide on the chosen candidate by answers on the users to test on; they must have had no part
    in choosing. `before`: see `next_level`.
    """
    spent = next_level(rules.alpha, before)
    value = estimate_difference(candidate, present, spent)
    bad = [guard for guard in guards if guard.verdict == "refuse"]
    unsure = [guard for guard in guards if guard.verdict == "ask"]
    reasons = [_describe(guard) for guard in (*bad, *unsure)]
    better = value.low > rules.least_gain
    if not better:
        reasons.insert(
            0,
            f"not shown to be better: {value.difference:+.3f}, at least {value.low:+.3f} at level"
            f" {spent:.4f} over {value.users} users (needs more than {rules.least_gain:+.3f})",
        )
    decision: Decision = "refuse" if bad or not better else "ask" if unsure else "promote"
    return Ruling(decision, chosen, value.difference, value.low, spent, reasons, _tabulate(guards))


def _describe(guard: Harm) -> str:
    how = "is beyond" if guard.verdict == "refuse" else "may be beyond"
    return (
        f"{guard.name}: {guard.harm:+.3f} [{guard.low:+.3f}, {guard.high:+.3f}] {how} the margin of"
        f" {guard.margin:g}{f' ({guard.what})' if guard.what else ''}"
    )


def measure_harm(
    name: str,
    candidate: Array,
    present: Array,
    user: NDArray[np.object_],
    margin: float,
    *,
    level: float = 0.95,
    what: str = "",
) -> Harm:
    """A guard on a mean: how much more of something bad the candidate's answers have, paired over
    prompts, in clusters of users.
    """
    each = candidate - present
    mean, low, _ = _lower_bound(each, user, (1 - level) / 2)
    return Harm(
        name,
        mean,
        low if np.isfinite(low) else mean,
        2 * mean - low if np.isfinite(low) else mean,
        margin,
        what,
    )
