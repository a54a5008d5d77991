# scipy.optimize has no types.
# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false
"""Verdicts are weighed against a model trained on other users.

Some users lie, some are easily pleased, most say nothing. Right answers resemble each other from
user to user, and wrong ones are each wrong in their own way: a policy that has imitated what one
half of the users called good finds the other half's good answers likelier than their bad ones. How
much likelier is learned from the verdicts themselves, together with the shares of wrong verdicts (a
logistic curve under label noise: Patrini et al., 2017; teachers that learned from others: Han et
al., 2018; Northcutt et al., 2021), and both are combined by Bayes' rule: praise that nobody else
would share stops teaching, and an answer without a verdict begins to. Where the verdicts do not
follow the likelihood, nothing changes.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from trl.trainer.utils import selective_log_softmax

from upshot.hub.loss_masks import example_tokens
from upshot.hub.models import open_policy, open_tokenizer
from upshot.hub.padding import pad_tokens
from upshot.hub.sampling import batches
from upshot.policy.data import make_data
from upshot.policy.methods import load_method
from upshot.policy.recipe import Recipe
from upshot.policy.train import train
from upshot.records import Example
from upshot.records.verdicts import EVEN
from upshot.stats.sampling import draw

Array = NDArray[np.float64]
MIN_GOOD = 50
"""Answers that each half of the users must have called good before a policy imitates them."""
_MIN_GAIN = 10.0
"""Rise of twice the verdicts' log likelihood from which the curve is believed (χ²₃: p < .02)."""
_MAX_WRONG = 0.45
"""Largest share of wrong verdicts, on good answers and on bad ones; at .5 verdicts say nothing."""
_MAX_SLOPE = 12.0
"""Largest slope and intercept: beyond, the curve is a step between any two answers."""
_SLOPE_PENALTY = 0.05
"""Of the squared slope: a prior of standard deviation 3.2, so that few verdicts make no step."""
_EXTREME = 1e-6
"""Probabilities are kept so far from 0 and 1, where logarithms would diverge."""


class Curve(NamedTuple):
    """How verdicts follow the likelihood of an answer."""

    slope: float
    """Log odds of being good per standard deviation of the likelihood; 0: they do not follow it."""
    intercept: float
    praised: float
    """Share of praise among the verdicts on bad answers."""
    blamed: float
    """Share of blame among the verdicts on good answers."""

    def good(self, likelihood: Array) -> Array:
        """Probability that an answer is good, by its standardised likelihood alone."""
        return 1 / (1 + np.exp(-np.clip(self.slope * likelihood + self.intercept, -30, 30)))

    def posterior(self, likelihood: Array, score: Array, weight: Array) -> Array:
        """The same given its verdict; a verdict without weight says nothing.

        >>> curve = Curve(2.0, 0.0, 0.1, 0.1)
        >>> score, weight = np.array([0.9, 0.5, 0.9]), np.array([1.0, 0.0, 1.0])
        >>> curve.posterior(np.array([2.0, 2.0, -2.0]), score, weight).round(2).tolist()
        [1.0, 0.98, 0.08]
        """
        prior, has_verdict = self.good(likelihood), weight > 0
        praise = np.where(has_verdict, score, EVEN)
        if_good = praise * (1 - self.blamed) + (1 - praise) * self.blamed
        if_bad = praise * self.praised + (1 - praise) * (1 - self.praised)
        if_good, if_bad = np.where(has_verdict, if_good, 1.0), np.where(has_verdict, if_bad, 1.0)
        return prior * if_good / (prior * if_good + (1 - prior) * if_bad)


class Agreed(NamedTuple):
    """Examples as all users together see them."""

    rows: list[Example]
    """Score: probability that the answer is good. Weight: how sure that is, |2 score - 1|."""
    details: dict[str, Any]
    """The curve and its effect; `why`, where nothing was learned and the rows are unchanged."""


def agree(
    recipe: Recipe,
    rows: Sequence[Example],
    folder: Path,
    least: float = 0.7,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
    *,
    trust_remote_code: bool = False,
) -> Agreed:
    """Train two policies, each on one half of the users, to rate the other half's answers.

    They are in `folder` meanwhile. `rows`: every answer, also those without a verdict (weight 0);
    `least`: the score from which an answer is imitated.
    """
    score = np.array([row.score for row in rows], float)
    weight = np.array([row.weight for row in rows], float)
    half = np.array([draw(f"agreement/{row.source.users[0]}") < 0.5 for row in rows], bool)
    good = (score >= least) & (weight > 0)
    fewest = int(min(good[half].sum(), good[~half].sum())) if len(rows) else 0
    if fewest < MIN_GOOD:
        why = f"half of the users called {fewest} answers good; at least {MIN_GOOD} are needed"
        return Agreed(list(rows), {"why": why})
    if not ((score < EVEN) & (weight > 0)).any():
        return Agreed(list(rows), {"why": "no answer is called bad"})
    likelihood = np.zeros(len(rows))
    for side in (False, True):
        teacher = folder / f"half-{int(side)}"
        lessons = [rows[i] for i in np.flatnonzero((half == side) & good).tolist()]
        train(
            _imitation_recipe(recipe, least),
            make_data(lessons),
            teacher,
            progress=progress,
            trust_remote_code=trust_remote_code,
        )
        others = np.flatnonzero(half != side).tolist()
        answers = [rows[i] for i in others]
        likelihood[others] = _standardize(
            mean_likelihoods(str(teacher), answers, recipe, trust_remote_code=trust_remote_code)
        )
    shutil.rmtree(folder)
    curve = fit(likelihood, score, weight)
    if not curve.slope:
        return Agreed(list(rows), {"why": "verdicts do not follow what others taught"})
    probability = curve.posterior(likelihood, score, weight)
    out = [
        msgspec.structs.replace(row, score=float(p), weight=abs(float(2 * p - 1)))
        for row, p in zip(rows, probability, strict=True)
    ]
    after = probability >= least
    details = {
        **curve._asdict(),
        "good_before": int(good.sum()),
        "good_after": int(after.sum()),
        "no_longer_good": int((good & ~after).sum()),
    }
    return Agreed(out, details)


def fit(likelihood: Array, score: Array, weight: Array) -> Curve:
    """The likeliest curve given the verdicts; slope 0 where it explains them no better than none.

    Shapes (answers,). `likelihood`: standardised; `score`, `weight`: of the verdicts, in [0, 1].
    """
    from scipy.optimize import minimize  # half a second to load

    def surprise(parameters: Array) -> float:
        curve = Curve(*map(float, parameters))
        share = curve.praised + (1 - curve.praised - curve.blamed) * curve.good(likelihood)
        return _cross_entropy(share, score, weight) + _SLOPE_PENALTY * curve.slope**2

    bounds = [(0.0, _MAX_SLOPE), (-_MAX_SLOPE, _MAX_SLOPE), (0.0, _MAX_WRONG), (0.0, _MAX_WRONG)]
    fits: list[Any] = [
        minimize(surprise, [slope, 0.0, wrong, wrong], bounds=bounds)
        for slope in (0.5, 3.0)
        for wrong in (0.05, 0.25)
    ]
    best = min(fits, key=lambda candidate: float(candidate.fun))
    mean = (weight * score).sum() / max(weight.sum(), _EXTREME)
    constant = _cross_entropy(np.full(len(score), mean), score, weight)
    if 2 * (constant - surprise(best.x)) <= _MIN_GAIN:
        return Curve(0.0, 0.0, 0.0, 0.0)
    return Curve(*map(float, best.x))


def _cross_entropy(share: Array, score: Array, weight: Array) -> float:
    """Of the verdicts, where `share` of them are expected to be praise; nats."""
    share = np.clip(share, _EXTREME, 1 - _EXTREME)
    return -float((weight * (score * np.log(share) + (1 - score) * np.log(1 - share))).sum())


@torch.inference_mode()
def mean_likelihoods(
    policy: str, rows: Sequence[Example], recipe: Recipe, *, trust_remote_code: bool = False
) -> Array:
    """Mean log probability of each answer's tokens, in nats; shape (rows,)."""
    tokenizer = open_tokenizer(policy, trust_remote_code=trust_remote_code)
    model = open_policy(policy, trust_remote_code=trust_remote_code, **recipe.init)
    tokens = [example_tokens(tokenizer, row, 1.0, recipe.max_length) for row in rows]
    out = np.zeros(len(rows))
    device = next(model.parameters()).device
    for batch in batches([len(row.ids) for row in tokens], 0):
        ids, mask = pad_tokens(
            [tokens[i].ids for i in batch], tokenizer.pad_token_id, device=device
        )
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
        logps = selective_log_softmax(logits, ids[:, 1:]).cpu().numpy()
        for i, row in zip(batch, logps, strict=True):
            weights = np.array(tokens[i].weight[1:])
            out[i] = float((row[: len(weights)] * weights).sum() / max(weights.sum(), 1.0))
    return out


def _standardize(values: Array) -> Array:
    return (values - values.mean()) / max(float(values.std()), 1e-9)


def _imitation_recipe(recipe: Recipe, least: float) -> Recipe:
    """The recipe as far as it concerns imitation."""
    names = {field.name for field in fields(load_method("sft").load_config())}
    return msgspec.structs.replace(
        recipe,
        method="sft",
        trainer={name: value for name, value in recipe.trainer.items() if name in names},
        options={"least": least},
        kl=msgspec.structs.replace(recipe.kl, stop=None, prompts=1),
    )
