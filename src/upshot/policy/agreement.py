"""Do other users agree?

A verdict beside what an answer looks like to a policy that other users taught.

Some users lie, some are charmed, most say nothing. What is right is alike from user to user, and
what is wrong each in its own way: a policy that has imitated what one half of the users called good
finds the good answers that the other half got likelier than their bad ones. How far it does so is
learned from the verdicts themselves, with the shares of wrong verdicts beside it (a logistic curve
under label noise: Patrini et al., 2017; teachers that learned from others: Han et al., 2018;
Northcutt et al., 2021), and both are put together by Bayes' rule: a lone praise of what nobody else
would call good stops teaching, and an answer of which nothing was said begins to. Where the
verdicts do not follow the likelihood, nothing changes.
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

from upshot.hub.loss_masks import open_tokenizer, tokens_of
from upshot.hub.sampling import batches, open_policy
from upshot.policy.data import of_rows
from upshot.policy.methods import sft
from upshot.policy.recipe import Recipe
from upshot.policy.train import train
from upshot.policy.trainer import padded
from upshot.records import Example
from upshot.stats.sampling import draw

Array = NDArray[np.float64]
LEAST = 50
"""Answers called good by each half of the users, at least."""
_SURE = 10.0
"""By how much twice the log likelihood of the verdicts must rise for the curve to be believed (χ²,
three degrees of freedom: p < .02).
"""
_MOST_WRONG = 0.45
"""Share of verdicts on good answers, and on bad ones, that may be wrong."""
_STEEPEST = 12.0


class Curve(NamedTuple):
    """How verdicts follow the likelihood of an answer."""

    slope: float
    """Of the log odds of being good, by standard deviation of the likelihood; 0: they do not follow
    it.
    """
    intercept: float
    praised: float
    """Share of what verdicts say of bad answers that is praise."""
    blamed: float
    """Share of what they say of good answers that is blame."""

    def good(self, likelihood: Array) -> Array:
        """Probability that an answer is good, by its standardised likelihood alone."""
        return 1 / (1 + np.exp(-np.clip(self.slope * likelihood + self.intercept, -30, 30)))

    def posterior(self, likelihood: Array, score: Array, weight: Array) -> Array:
        """The same with its verdict; one of no weight says nothing.

        >>> Curve(2.0, 0.0, 0.1, 0.1).posterior(np.array([2.0, 2.0, -2.0]), np.array([0.9, 0.5, 0.9]), np.array([1.0, 0.0, 1.0])).round(2).tolist()
        [1.0, 0.98, 0.08]
        """
        prior = self.good(likelihood)
        said = np.where(weight > 0, score, 0.5)
        of_good = said * (1 - self.blamed) + (1 - said) * self.blamed
        of_bad = said * self.praised + (1 - said) * (1 - self.praised)
        of_good, of_bad = np.where(weight > 0, of_good, 1.0), np.where(weight > 0, of_bad, 1.0)
        return prior * of_good / (prior * of_good + (1 - prior) * of_bad)


class Agreed(NamedTuple):
    """Examples as all users together see them."""

    rows: list[Example]
    """Score: probability that the answer is good. Weight: how sure that is, |2 score - 1|."""
    told: dict[str, Any]
    """What was learned; `why`, where nothing was and the rows are as they were."""


def agree(
    recipe: Recipe,
    rows: Sequence[Example],
    folder: Path,
    least: float = 0.7,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Agreed:
    """Ask two policies, each taught by one half of the users, what they think of the other half's
    answers. They lie in `folder` while that lasts.

    `rows`: every answer, also those of which nothing was said (weight 0). `least`: the score from
    which an answer is imitated.
    """
    score, weight = (
        np.array([row.score for row in rows], float),
        np.array([row.weight for row in rows], float),
    )
    half = np.array([draw(f"agreement/{row.source.users[0]}") < 0.5 for row in rows], bool)
    good = (score >= least) & (weight > 0)
    fewest = int(min(good[half].sum(), good[~half].sum())) if len(rows) else 0
    if fewest < LEAST:
        return Agreed(
            list(rows),
            {"why": f"half of the users called {fewest} answers good; at least {LEAST} are needed"},
        )
    if not ((score < 0.5) & (weight > 0)).any():
        return Agreed(list(rows), {"why": "no answer is called bad"})
    likelihood = np.zeros(len(rows))
    for which in (False, True):
        teacher = folder / f"half-{int(which)}"
        taught = [
            row
            for row, mine, is_good in zip(rows, half == which, good, strict=True)
            if mine and is_good
        ]
        train(_imitation(recipe, least), of_rows(taught), teacher, progress=progress)
        others = np.flatnonzero(half != which).tolist()
        likelihood[others] = _standard(likelihoods(str(teacher), [rows[i] for i in others], recipe))
    shutil.rmtree(folder)
    curve = fit(likelihood, score, weight)
    if not curve.slope:
        return Agreed(list(rows), {"why": "verdicts do not follow what others taught"})
    found = curve.posterior(likelihood, score, weight)
    out = [
        msgspec.structs.replace(row, score=float(p), weight=abs(float(2 * p - 1)))
        for row, p in zip(rows, found, strict=True)
    ]
    before, after = good, found >= least
    return Agreed(
        out,
        {
            **curve._asdict(),
            "good_before": int(before.sum()),
            "good_after": int(after.sum()),
            "no_longer_good": int((before & ~after).sum()),
        },
    )


def fit(likelihood: Array, score: Array, weight: Array) -> Curve:
    """The curve by which the verdicts are likeliest; slope 0 where it explains them no better than
    none.

    Shapes (answers,). `likelihood`: standardised; `score`, `weight`: of the verdicts, in [0, 1].
    """
    from scipy.optimize import minimize

    def surprise(given: Array) -> float:
        curve = Curve(*given)
        praise = np.clip(
            curve.praised + (1 - curve.praised - curve.blamed) * curve.good(likelihood),
            1e-6,
            1 - 1e-6,
        )
        return (
            -float((weight * (score * np.log(praise) + (1 - score) * np.log(1 - praise))).sum())
            + 0.05 * curve.slope**2
        )

    bounds = [(0.0, _STEEPEST), (-_STEEPEST, _STEEPEST), (0.0, _MOST_WRONG), (0.0, _MOST_WRONG)]
    found = min(
        (
            minimize(surprise, [slope, 0.0, wrong, wrong], bounds=bounds)
            for slope in (0.5, 3.0)
            for wrong in (0.05, 0.25)
        ),
        key=lambda one: float(one.fun),
    )
    share = float(np.clip((weight * score).sum() / max(weight.sum(), 1e-9), 1e-6, 1 - 1e-6))
    without = -float((weight * (score * np.log(share) + (1 - score) * np.log(1 - share))).sum())
    best = Curve(*map(float, found.x))
    return best if 2 * (without - surprise(found.x)) > _SURE else Curve(0.0, 0.0, 0.0, 0.0)


@torch.inference_mode()
def likelihoods(policy: str, rows: Sequence[Example], recipe: Recipe) -> Array:
    """Mean log probability of an answer's tokens, nats; shape (rows,)."""
    tokenizer, model = open_tokenizer(policy), open_policy(policy, **recipe.init)
    tokens = [tokens_of(tokenizer, row, 1.0, recipe.max_length) for row in rows]
    out = np.zeros(len(rows))
    device = next(model.parameters()).device
    for some in batches([len(one.ids) for one in tokens], 0):
        ids, seen = padded([tokens[i].ids for i in some], tokenizer.pad_token_id, device)
        logps = selective_log_softmax(
            model(input_ids=ids, attention_mask=seen, use_cache=False).logits[:, :-1].float(),
            ids[:, 1:],
        )
        for i, row in zip(some, logps.cpu().numpy(), strict=True):
            of = np.array(tokens[i].weight[1:])
            out[i] = float((row[: len(of)] * of).sum() / max(of.sum(), 1.0))
    return out


def _standard(values: Array) -> Array:
    return (values - values.mean()) / max(float(values.std()), 1e-9)


def _imitation(recipe: Recipe, least: float) -> Recipe:
    """The recipe as far as imitating is concerned."""
    known = {field.name for field in fields(sft.CONFIG)}
    trainer = {name: value for name, value in recipe.trainer.items() if name in known}
    return msgspec.structs.replace(
        recipe,
        method="sft",
        trainer=trainer,
        options={"least": least},
        kl=msgspec.structs.replace(recipe.kl, stop=None, prompts=1),
    )
