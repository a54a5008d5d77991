# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false
# scikit-learn
"""The value of a run so far: P(outcome | prefix), learned from outcomes alone.

Gradient-boosted trees over the words of the last two steps, the form of the last one and the number
of steps; where that predicts outcomes better, also over the task and all steps so far (whether an
early step was right may depend on the task and be visible in no later step). They are first fitted
to the outcomes of the runs that each prefix began, then to the values of the prefixes one step on
(temporal differences, TD(λ); Sutton, 1988), which has far less noise: with the outcome as the only
target, all prefixes of a run share one random draw. Values are cross-fitted: a run is valued by a
model that never saw its outcome. The difference of two values is a step's credit; it depends on the
prefix only, so it is an unbiased immediate reward for a policy gradient.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor

from upshot.credit.checks import GENERAL_CHECKS, Check
from upshot.credit.features import PREFIX_COLUMNS, PrefixFeatures, extract_prefix_features
from upshot.credit.trajectories import Trajectory
from upshot.errors import InputError
from upshot.stats.sampling import assign_folds

Array = NDArray[np.float64]
_MAX_TERMS = 150
"""Columns for terms, few enough for some hundred runs."""
_MAX_TASK_WORDS = 60
"""Columns for words of the task."""
_MIN_RUNS_WITH_TERM = 5
"""Rarer terms are noise."""
_MAX_TERM_SHARE = 0.95
"""Terms in nearly every step, and words in nearly every task, carry no information."""
_FOLDS = 5
"""Of the cross-fitting, the usual number."""
_HALVES = 2
"""A prefix is compared with values learned from the other half of the runs."""
_TD_PASSES = 3
"""Fits: one to outcomes, the others to values one step on."""
_MAX_ERROR_RATIO = 0.98
"""Squared error with a memory of all steps over that without, below which the memory is used."""
_LAMBDA = 0.2
"""Of TD(λ): mostly bootstrapped, since outcomes are noisy."""
_MIN_RUNS = 20
"""With fewer, folds and halves leave too few runs per fit."""
_NEVER_POSITIVE = ("findings", "tainted")
"""Contradictions never raise the value of a run: a monotonic constraint."""


def extract_terms(words: Sequence[str]) -> set[str]:
    """Words and pairs of adjacent words.

    >>> sorted(extract_terms(["it", "failed"]))
    ['failed', 'it', 'it failed']
    """
    return {*words, *(f"{a} {b}" for a, b in itertools.pairwise(words))}


def build_vocabulary(runs: Sequence[PrefixFeatures]) -> dict[str, int]:
    """The most common terms, except those of nearly every step, and the column of each."""
    count: Counter[str] = Counter()
    steps: Counter[str] = Counter()
    for run in runs:
        step_terms = [extract_terms(words) for words in run.words]
        count.update(set(itertools.chain.from_iterable(step_terms)))
        for own_terms in step_terms:
            steps.update(own_terms)
    size = sum(len(run.words) for run in runs)
    usable = [
        (n, term)
        for term, n in count.items()
        if n >= _MIN_RUNS_WITH_TERM and steps[term] < _MAX_TERM_SHARE * size
    ]
    chosen = [term for _, term in sorted(usable, key=lambda pair: (-pair[0], pair[1]))[:_MAX_TERMS]]
    return {term: i for i, term in enumerate(sorted(chosen))}


def build_task_vocabulary(runs: Sequence[PrefixFeatures]) -> dict[str, int]:
    """The most common words of tasks, except those of nearly every task, and their columns."""
    count = Counter(word for run in runs for word in set(run.task))
    usable = [
        (n, word)
        for word, n in count.items()
        if _MIN_RUNS_WITH_TERM <= n < _MAX_TERM_SHARE * len(runs)
    ]
    chosen = [
        word for _, word in sorted(usable, key=lambda pair: (-pair[0], pair[1]))[:_MAX_TASK_WORDS]
    ]
    return {word: i for i, word in enumerate(sorted(chosen))}


class PrefixEncoder(NamedTuple):
    """Turns prefixes of runs into rows."""

    terms: dict[str, int]
    """The column of each term."""
    task_words: dict[str, int] | None
    """Columns of task words, used with a memory of all steps; None: the last two steps only."""

    def encode(self, runs: Sequence[PrefixFeatures]) -> Array:
        """Encode every prefix of every run as a row, the empty prefix first."""
        return np.concatenate([self._encode_run(run) for run in runs])

    def _encode_run(self, run: PrefixFeatures) -> Array:
        steps = encode_steps(run, self.terms)
        now = np.concatenate([np.zeros((1, steps.shape[1])), steps])
        has = now[:, len(PREFIX_COLUMNS) :]
        before = np.concatenate([np.zeros((1, len(self.terms))), has[:-1]])
        columns = [np.arange(len(now), dtype=np.float64), now, before]
        if self.task_words is not None:
            task = np.zeros((len(now), len(self.task_words)))
            task[:, [self.task_words[word] for word in run.task if word in self.task_words]] = 1.0
            columns += [np.maximum.accumulate(has), task]
        return np.column_stack(columns)


def encode_steps(run: PrefixFeatures, vocabulary: dict[str, int]) -> Array:
    """Features and terms of each step of a run, shape (steps, PREFIX_COLUMNS + terms)."""
    has = np.zeros((len(run.words), len(vocabulary)))
    for t, words in enumerate(run.words):
        has[t, [vocabulary[term] for term in extract_terms(words) if term in vocabulary]] = 1.0
    return np.concatenate([run.values, has], axis=1)


class ValueModel(NamedTuple):
    """Predicts values of prefixes."""

    checks: Sequence[Check]
    encoder: PrefixEncoder
    model: HistGradientBoostingRegressor
    low: float
    high: float
    """`low` and `high`: the range of the outcomes it was trained on."""

    def predict(self, runs: Sequence[Trajectory]) -> list[Array]:
        """Values of each run's prefixes, shape (steps + 1,); unbiased only for unseen runs."""
        prefixes = [extract_prefix_features(run, self.checks) for run in runs]
        values = np.clip(self.model.predict(self.encoder.encode(prefixes)), self.low, self.high)
        return np.split(values, np.cumsum([len(prefix.words) + 1 for prefix in prefixes])[:-1])


def learn(
    runs: Sequence[Trajectory], seed: int = 0, checks: Sequence[Check] = GENERAL_CHECKS
) -> ValueModel:
    """Learn values from runs, to apply to others, such as the next runs of a policy in training.

    Raises:
        InputError: too few runs, or all have one outcome.
    """
    outcome = collect_outcomes(runs)
    encoder, rows, run_index = _build_table(runs, outcome, seed, checks)
    model = _learn_td(rows, run_index, outcome, seed)
    return ValueModel(checks, encoder, model, float(outcome.min()), float(outcome.max()))


def _build_table(
    runs: Sequence[Trajectory], outcome: Array, seed: int, checks: Sequence[Check]
) -> tuple[PrefixEncoder, Array, NDArray[np.int64]]:
    """The encoder that predicts better, the rows of all prefixes, and the run of each."""
    features = [extract_prefix_features(run, checks) for run in runs]
    run_index = np.repeat(np.arange(len(runs)), [len(run.words) + 1 for run in features])
    terms = build_vocabulary(features)
    encoders = [PrefixEncoder(terms, None), PrefixEncoder(terms, build_task_vocabulary(features))]
    tables = [encoder.encode(features) for encoder in encoders]
    half = _halves(run_index, seed)
    target = outcome[run_index]
    errors = [float(np.mean((_cross_predict(rows, target, half) - target) ** 2)) for rows in tables]
    best = int(errors[1] < _MAX_ERROR_RATIO * errors[0])
    return encoders[best], tables[best], run_index


def collect_outcomes(runs: Sequence[Trajectory], min_runs: int = _MIN_RUNS) -> Array:
    """The outcomes to learn from.

    Raises:
        InputError: too few runs, or all have one outcome.
    """
    outcome = np.array([run.outcome for run in runs])
    if len(runs) < min_runs or outcome.min() == outcome.max():
        raise InputError(
            f"could not learn the value of prefixes from {len(runs)} runs with"
            f" {len(set(outcome.tolist()))} different outcomes: at least {min_runs} and 2 are"
            " needed"
        )
    return outcome


def cross_fit_values(
    runs: Sequence[Trajectory], seed: int = 0, checks: Sequence[Check] = GENERAL_CHECKS
) -> list[Array]:
    """Cross-fitted values of each run's prefixes, shape (steps + 1,), in the unit of the outcomes.

    Raises:
        InputError: too few runs, or all have one outcome.
    """
    outcome = collect_outcomes(runs)
    _, rows, run_index = _build_table(runs, outcome, seed, checks)
    fold, _ = assign_folds([run.id for run in runs], _FOLDS, seed)
    out = np.zeros(len(rows))
    for k in np.unique(fold):
        test = fold[run_index] == k
        model = _learn_td(rows[~test], run_index[~test], outcome, seed)
        out[test] = model.predict(rows[test])
    out = np.clip(out, outcome.min(), outcome.max())
    return np.split(out, np.flatnonzero(np.diff(run_index)) + 1)


def _learn_td(
    rows: Array, run_index: NDArray[np.int64], outcome: Array, seed: int
) -> HistGradientBoostingRegressor:
    """TD(λ) in a few passes; targets come from a model fitted to the other half of the runs."""
    target = outcome[run_index]
    half = _halves(run_index, seed)
    last = np.append(np.diff(run_index) != 0, True)
    for _ in range(_TD_PASSES - 1):
        target = _td_targets(_cross_predict(rows, target, half), outcome[run_index], last)
    return _fit(rows, target)


def _halves(run_index: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """0 or 1 for each prefix, the same for all prefixes of a run."""
    return np.random.default_rng(seed).permutation(int(run_index.max()) + 1)[run_index] % _HALVES


def _cross_predict(rows: Array, target: Array, half: NDArray[np.int64]) -> Array:
    """Predict each prefix with a model fitted to the other half of the runs."""
    out = np.zeros(len(rows))
    for h in range(_HALVES):
        out[half == h] = _fit(rows[half != h], target[half != h]).predict(rows[half == h])
    return out


def _td_targets(values: Array, outcome: Array, last: NDArray[np.bool_]) -> Array:
    """The next prefix's value mixed with the next prefix's target; at a run's end the outcome."""
    out = outcome.copy()
    for i in range(len(out) - 2, -1, -1):
        if not last[i]:
            out[i] = (1 - _LAMBDA) * values[i + 1] + _LAMBDA * out[i + 1]
    return out


def _fit(rows: Array, target: Array) -> HistGradientBoostingRegressor:
    min_samples = int(np.clip(len(rows) / 500, 8, 40))
    falling = np.zeros(rows.shape[1], np.int64)
    falling[[1 + PREFIX_COLUMNS.index(name) for name in _NEVER_POSITIVE]] = -1
    model = HistGradientBoostingRegressor(
        max_iter=80,
        learning_rate=0.08,
        max_leaf_nodes=15,
        min_samples_leaf=min_samples,
        l2_regularization=5.0,
        monotonic_cst=falling,
        random_state=0,
    )
    return model.fit(rows, target)
