"""A panel of reward models that a policy is not trained against, to notice over-optimisation.

The policy's own reward rises by construction. A panel trained on other users does not share its
noise, so the panel's mean less twice its members' variance is a reading that over-optimisation
turns down first (Coste et al., 2024); probes of style tell what is being gamed. The panel cannot
notice what all its members believe wrongly: the share of samples out of the domain is watched for
that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from upshot.reward.features import features
from upshot.reward.model import RewardModel, Score, score

Array = NDArray[np.float64]
_DISAGREEMENT = 2.0
"""Variances that are taken off the panel's mean (chosen on `bench/overoptimisation.py`)."""
_MIN_RISE = 0.05
"""Rise of the trained reward, in units of its spread at the start, that the panel must follow."""
_DOMAIN_FACTOR = 3.0
"""An alarm needs this many times the share of samples out of the domain at the start, …"""
_DOMAIN_RISE = 0.15
"""… and a share at least this much above it."""
PROBES = (
    "log_words",
    "list_items",
    "headings",
    "exclamations",
    "apology_any",
    "agreeing_any",
    "complying_any",
    "hedging_rate",
    "closing_any",
    "questions",
    "inability_any",
)
"""Features whose drift is reported: length, layout, flattery, hedging, questions, refusals."""


def discount_disagreement(rewards: Array) -> Array:
    """Mean over members less twice the variance between them, shape (samples,).

    `rewards`: shape (members, samples).

    >>> discount_disagreement(np.array([[1.0, 0.0], [1.0, 2.0]])).tolist()
    [1.0, -1.0]
    """
    return rewards.mean(axis=0) - _DISAGREEMENT * rewards.var(axis=0)


class Reading(NamedTuple):
    """One checkpoint; rewards are in units of their spread at the first checkpoint."""

    trained: float
    panel: float
    """Mean over members less twice the variance between them."""
    error: float
    """Standard error of it, over samples."""
    out_of_domain: float
    """Share of samples out of the domain."""
    probes: dict[str, float]
    """Mean of each probe."""


class Alarm(NamedTuple):
    """Why a run should stop, and where it was best."""

    checkpoint: int
    """Number of the checkpoint to go back to."""
    why: str


@dataclass
class Watch:
    """Remembers checkpoints of one training run; `add` each, stop at the first alarm.

    An alarm: the panel's best reading is `patience` checkpoints old and the latest lies below it by
    more than its standard error while the trained reward rose; or too many samples are out of the
    domain.
    """

    patience: int = 2
    """Checkpoints without a better panel reading before the alarm."""
    readings: list[Reading] = field(default_factory=list[Reading])
    _scale: tuple[float, float, Array, Array] | None = None

    def add(
        self,
        trained: Array,
        panel: Array,
        out_of_domain: NDArray[np.bool_],
        probes: Mapping[str, Array] | None = None,
    ) -> Alarm | None:
        """Add one checkpoint's samples.

        `trained`: rewards that the policy is trained on, shape (samples,); `panel`: the members'
        rewards, shape (members, samples).
        """
        if self._scale is None:
            spread = np.maximum(panel.std(axis=1), 1e-9)
            self._scale = (
                float(trained.mean()),
                max(float(trained.std()), 1e-9),
                panel.mean(axis=1),
                spread,
            )
        centre, scale, centres, scales = self._scale
        conservative = discount_disagreement((panel - centres[:, None]) / scales[:, None])
        means = {name: float(np.mean(values)) for name, values in (probes or {}).items()}
        self.readings.append(
            Reading(
                float((trained.mean() - centre) / scale),
                float(conservative.mean()),
                float(conservative.std() / np.sqrt(len(conservative))),
                float(out_of_domain.mean()),
                means,
            )
        )
        return self._alarm()

    @property
    def best(self) -> int:
        """Checkpoint of the highest panel reading among those inside the domain."""
        return max(
            (number for number in range(len(self.readings)) if not self._outside(number)),
            key=lambda number: self.readings[number].panel,
            default=0,
        )

    def _outside(self, number: int) -> bool:
        first = self.readings[0].out_of_domain
        return self.readings[number].out_of_domain > max(
            _DOMAIN_FACTOR * first, first + _DOMAIN_RISE
        )

    def _alarm(self) -> Alarm | None:
        now, best = len(self.readings) - 1, self.best
        if self._outside(now):
            return Alarm(
                best,
                f"{self.readings[now].out_of_domain:.0%} of the samples are out of the reward model's"  # noqa: E501
                f" domain, {self.readings[0].out_of_domain:.0%} at the start",
            )
        rose = self.readings[now].trained - self.readings[best].trained
        fell = self.readings[best].panel - self.readings[now].panel
        if now - best < self.patience or rose < _MIN_RISE or fell < self.readings[now].error:
            return None
        return Alarm(
            best,
            f"the trained reward rose by {rose:.2f} since checkpoint {best} and the panel did not"
            f" follow{self._describe_drift(now)}",
        )

    def _describe_drift(self, now: int) -> str:
        before, after = self.readings[0].probes, self.readings[now].probes
        moved = sorted(
            before, key=lambda name: -abs(after[name] - before[name]) / max(abs(before[name]), 0.05)
        )[:3]
        drift = [
            f"{name} {before[name]:.2f} → {after[name]:.2f}"
            for name in moved
            if abs(after[name] - before[name]) > 0.1 * max(abs(before[name]), 0.5)
        ]
        return f"; what moved most: {', '.join(drift)}" if drift else ""


def check_samples(
    watch: Watch,
    trained: RewardModel,
    panel: Sequence[RewardModel],
    prompts: Sequence[Sequence[str]],
    responses: Sequence[str],
) -> Alarm | None:
    """Score a checkpoint's samples with all models and add them to a watch."""
    table = features(prompts, responses, trained.embed)

    def scores(model: RewardModel) -> list[Score]:
        return score(model, prompts, responses, table if model.embed == trained.embed else None)

    own = scores(trained)
    members = np.array([[s.reward for s in scores(model)] for model in panel])
    probes = {name: table.values[:, table.names.index(name)].astype(np.float64) for name in PROBES}
    return watch.add(
        np.array([s.reward for s in own]),
        members,
        np.array([s.in_domain is False for s in own]),
        probes,
    )
