"""What a run is worth so far: P(outcome | prefix), learned from outcomes alone.

Gradient-boosted trees over what the last two steps say, what the last looks like, and how many
there were; where that predicts outcomes better, also over what was asked and everything said so far
(whether an early step was right may depend on the task, and be told by nothing after it). They are
first fitted to the outcomes of the runs that each prefix began, then to the values of the prefixes
one step on (temporal differences, TD(λ); Sutton, 1988), which has far less noise: with the outcome
as the only target, each of a run's prefixes repeats the same coin's fall. Values are cross-fitted:
a run's outcome never taught the model that values it. The difference of two values is a step's
credit; it depends on the prefix only, so it is an unbiased immediate reward for a policy gradient
(METHODS, "Credit").
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor

from upshot.credit.features import PREFIX, Look, look
from upshot.credit.trajectories import Trajectory
from upshot.errors import InputError
from upshot.stats.sampling import cross_fit

Array = NDArray[np.float64]
_MOST_TERMS = 150
_MOST_ASKED = 60
_LEAST_RUNS = 5
"""Runs that a term must be in."""
_FOLDS = 5
_HALVES = 2
_PASSES = 3
_BETTER = 0.98
"""Squared error with a memory, over that without, from which the memory is kept."""
_LAMBDA = 0.2
_LEAST = 20
_HARMFUL = ("findings", "tainted")
"""What contradicts arithmetic, the task or an earlier step never makes a run worth more."""


def terms(words: Sequence[str]) -> set[str]:
    """Words and pairs of neighbours."""
    return {*words, *(f"{a} {b}" for a, b in itertools.pairwise(words))}


def vocabulary(seen: Sequence[Look]) -> dict[str, int]:
    """The terms that most runs have, without those of nearly every step, and the place of each."""
    count: Counter[str] = Counter()
    steps: Counter[str] = Counter()
    for one in seen:
        found = [terms(words) for words in one.words]
        count.update(set().union(*found) if found else ())
        for own in found:
            steps.update(own)
    size = sum(len(one.words) for one in seen)
    usable = [
        (n, term) for term, n in count.items() if n >= _LEAST_RUNS and steps[term] < 0.95 * size
    ]
    chosen = [
        term for _, term in sorted(usable, key=lambda pair: (-pair[0], pair[1]))[:_MOST_TERMS]
    ]
    return {term: i for i, term in enumerate(sorted(chosen))}


def words_of_tasks(seen: Sequence[Look]) -> dict[str, int]:
    """The words that most tasks have, without those of nearly every task, and the place of each."""
    count = Counter(word for one in seen for word in set(one.task))
    usable = [(n, word) for word, n in count.items() if _LEAST_RUNS <= n < 0.95 * len(seen)]
    chosen = [
        word for _, word in sorted(usable, key=lambda pair: (-pair[0], pair[1]))[:_MOST_ASKED]
    ]
    return {word: i for i, word in enumerate(sorted(chosen))}


class State(NamedTuple):
    """What is known of a prefix."""

    terms: dict[str, int]
    asked: dict[str, int] | None
    """Words of tasks, beside a memory of all steps; None: the last two steps are enough."""

    def prefixes(self, seen: Sequence[Look]) -> Array:
        """Every prefix of every run, the empty one first, as a row."""
        return np.concatenate([self._of(one) for one in seen])

    def _of(self, one: Look) -> Array:
        steps = steps_of(one, self.terms)
        now = np.concatenate([np.zeros((1, steps.shape[1])), steps])
        has = now[:, len(PREFIX) :]
        before = np.concatenate([np.zeros((1, len(self.terms))), has[:-1]])
        columns = [np.arange(len(now), dtype=np.float64), now, before]
        if self.asked is not None:
            task = np.zeros((len(now), len(self.asked)))
            task[:, [self.asked[word] for word in one.task if word in self.asked]] = 1.0
            columns += [np.maximum.accumulate(has), task]
        return np.column_stack(columns)


def steps_of(one: Look, known: dict[str, int]) -> Array:
    """What each step of a run looks like, and which terms it has, shape (steps, PREFIX and terms)."""
    has = np.zeros((len(one.words), len(known)))
    for t, words in enumerate(one.words):
        has[t, [known[term] for term in terms(words) if term in known]] = 1.0
    return np.concatenate([one.prefix, has], axis=1)


class Values(NamedTuple):
    """A model of what prefixes are worth."""

    state: State
    model: HistGradientBoostingRegressor
    low: float
    high: float
    """Outcomes that it was taught lie between."""

    def of(self, runs: Sequence[Trajectory]) -> list[Array]:
        """Values of each run's prefixes, shape (steps + 1,).

        Honest for runs that it was not taught.
        """
        seen = [look(run) for run in runs]
        found = np.clip(self.model.predict(self.state.prefixes(seen)), self.low, self.high)
        return np.split(found, np.cumsum([len(one.words) + 1 for one in seen])[:-1])


def learn(runs: Sequence[Trajectory], seed: int = 0) -> Values:
    """Learn values from runs, to apply to others: to the next ones of a policy that is being
    trained.

    Raises:
        InputError: too few runs, or all have one outcome.
    """
    outcome = outcomes(runs)
    state, rows, run = _table(runs, outcome, seed)
    return Values(
        state, _learn(rows, run, outcome, seed), float(outcome.min()), float(outcome.max())
    )


def _table(
    runs: Sequence[Trajectory], outcome: Array, seed: int
) -> tuple[State, Array, NDArray[np.int64]]:
    """What is looked at, every prefix, and the number of its run."""
    seen = [look(run) for run in runs]
    run = np.repeat(np.arange(len(runs)), [len(one.words) + 1 for one in seen])
    terms = vocabulary(seen)
    states = [State(terms, None), State(terms, words_of_tasks(seen))]
    rows = [state.prefixes(seen) for state in states]
    half = _halves(run, seed)
    errors = [float(np.mean((_cross(one, outcome[run], half) - outcome[run]) ** 2)) for one in rows]
    best = int(errors[1] < _BETTER * errors[0])
    return states[best], rows[best], run


def outcomes(runs: Sequence[Trajectory], least: int = _LEAST) -> Array:
    """The outcomes to learn from.

    Raises:
        InputError: too few runs, or all have one outcome.
    """
    outcome = np.array([run.outcome for run in runs])
    if len(runs) < least or outcome.min() == outcome.max():
        raise InputError(
            f"could not learn what runs are worth from {len(runs)} runs with"
            f" {len(set(outcome.tolist()))} different outcomes: at least {least} and 2 are needed"
        )
    return outcome


def values(runs: Sequence[Trajectory], seed: int = 0) -> list[Array]:
    """Cross-fitted values of each run's prefixes, shape (steps + 1,), in the unit of the outcomes.

    Raises:
        InputError: too few runs, or all have one outcome.
    """
    outcome = outcomes(runs)
    _, rows, run = _table(runs, outcome, seed)
    fold, _ = cross_fit([one.id for one in runs], _FOLDS, seed)
    out = np.zeros(len(rows))
    for k in np.unique(fold):
        test = fold[run] == k
        out[test] = _learn(rows[~test], run[~test], outcome, seed).predict(rows[test])
    out = np.clip(out, outcome.min(), outcome.max())
    return np.split(out, np.flatnonzero(np.diff(run)) + 1)


def _learn(
    rows: Array, run: NDArray[np.int64], outcome: Array, seed: int
) -> HistGradientBoostingRegressor:
    """TD(λ) in a few passes; what a prefix is compared to comes from a model that the other half of
    the runs taught.
    """
    target = outcome[run]
    half = _halves(run, seed)
    last = np.append(np.diff(run) != 0, True)
    for _ in range(_PASSES - 1):
        target = _targets(_cross(rows, target, half), outcome[run], last)
    return _fit(rows, target)


def _halves(run: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """0 or 1 for each prefix, one for all of a run's."""
    return np.random.default_rng(seed).permutation(int(run.max()) + 1)[run] % _HALVES


def _cross(rows: Array, target: Array, half: NDArray[np.int64]) -> Array:
    """Of each prefix what the other half of the runs says."""
    out = np.zeros(len(rows))
    for h in range(_HALVES):
        out[half == h] = _fit(rows[half != h], target[half != h]).predict(rows[half == h])
    return out


def _targets(worth: Array, outcome: Array, last: NDArray[np.bool_]) -> Array:
    """Of each prefix: the next one's value, mixed with the next one's target; the outcome at a
    run's end.
    """
    out = outcome.copy()
    for i in range(len(out) - 2, -1, -1):
        if not last[i]:
            out[i] = (1 - _LAMBDA) * worth[i + 1] + _LAMBDA * out[i + 1]
    return out


def _fit(rows: Array, target: Array) -> HistGradientBoostingRegressor:
    least = int(np.clip(len(rows) / 500, 8, 40))
    falling = np.zeros(rows.shape[1], np.int64)
    falling[[1 + PREFIX.index(name) for name in _HARMFUL]] = -1
    model = HistGradientBoostingRegressor(
        max_iter=80,
        learning_rate=0.08,
        max_leaf_nodes=15,
        min_samples_leaf=least,
        l2_regularization=5.0,
        monotonic_cst=falling,
        random_state=0,
    )
    return model.fit(rows, target)
