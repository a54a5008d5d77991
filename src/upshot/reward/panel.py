"""A guard while a policy is trained: reward models that the policy is not trained against, made by
other people.

The policy's reward rises by construction. A panel of models trained on disjoint users does not
share its noise, so what it says less twice its members' disagreement is a reading that
over-optimisation turns down first (Coste et al., 2024); probes of style say what is being gamed.
What the whole panel believes wrongly, it cannot see: the share of samples out of the domain is
watched for that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from upshot.errors import InputError
from upshot.preferences.balance import owners
from upshot.records import Preference
from upshot.reward.features import features
from upshot.reward.model import RewardModel, Score, score, train
from upshot.stats.sampling import draw

Array = NDArray[np.float64]
_DISAGREEMENT = 2.0
_RISE = 0.05
"""Rise of the trained reward, in its spread at the start, that the panel must follow."""
_STRANGE = 3.0
"""Times the share out of domain at the start, and so many points above it at least, that are too
many.
"""
_LEAST_STRANGE = 0.15
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
"""Features whose drift is reported: length, layout, flattery, hedging, needless questions,
refusals.
"""


def agreed(rewards: Array) -> Array:
    """Mean over members less twice the variance between them; rewards of shape (members, samples),
    shape (samples,).
    """
    return rewards.mean(axis=0) - _DISAGREEMENT * rewards.var(axis=0)


class Reading(NamedTuple):
    """What the guard saw at one checkpoint; rewards in units of their spread at the first
    checkpoint.
    """

    trained: float
    panel: float
    """Mean over members less twice the variance between them."""
    error: float
    """Standard error of it, over samples."""
    strange: float
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
    readings: list[Reading] = field(default_factory=list)
    _scale: tuple[float, float, Array, Array] | None = None

    def add(
        self,
        trained: Array,
        panel: Array,
        strange: NDArray[np.bool_],
        probes: Mapping[str, Array] | None = None,
    ) -> Alarm | None:
        """Look at one checkpoint's samples.

        `trained`: rewards that the policy is trained on, shape (samples,); `panel`: shape (members,
        samples).
        """
        if self._scale is None:
            spread = np.maximum(panel.std(axis=1), 1e-9)
            self._scale = (
                float(trained.mean()),
                max(float(trained.std()), 1e-9),
                panel.mean(axis=1),
                spread,
            )
        centre, spread_, centres, spreads = self._scale
        rise = (panel - centres[:, None]) / spreads[:, None]
        conservative = agreed(rise)
        means = {name: float(np.mean(values)) for name, values in (probes or {}).items()}
        self.readings.append(
            Reading(
                float((trained.mean() - centre) / spread_),
                float(conservative.mean()),
                float(conservative.std() / np.sqrt(len(conservative))),
                float(strange.mean()),
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
        first = self.readings[0].strange
        return self.readings[number].strange > max(_STRANGE * first, first + _LEAST_STRANGE)

    def _alarm(self) -> Alarm | None:
        now, best = len(self.readings) - 1, self.best
        if self._outside(now):
            return Alarm(
                best,
                f"{self.readings[now].strange:.0%} of the samples are out of the reward model's"
                f" domain, {self.readings[0].strange:.0%} at the start",
            )
        rose = self.readings[now].trained - self.readings[best].trained
        fell = self.readings[best].panel - self.readings[now].panel
        if now - best < self.patience or rose < _RISE or fell < self.readings[now].error:
            return None
        return Alarm(
            best,
            f"the trained reward rose by {rose:.2f} since checkpoint {best} and the panel did not"
            f" follow{self._gamed(now)}",
        )

    def _gamed(self, now: int) -> str:
        before, after = self.readings[0].probes, self.readings[now].probes
        moved = sorted(
            before, key=lambda name: -abs(after[name] - before[name]) / max(abs(before[name]), 0.05)
        )[:3]
        told = [
            f"{name} {before[name]:.2f} → {after[name]:.2f}"
            for name in moved
            if abs(after[name] - before[name]) > 0.1 * max(abs(before[name]), 0.5)
        ]
        return f"; what moved most: {', '.join(told)}" if told else ""


def disjoint(rows: Sequence[Preference], members: int = 4) -> list[list[Preference]]:
    """Pairs split so that no user (or, where nobody is named, no prompt) teaches two members.

    Raises:
        InputError: a member would be left without rows.
    """
    parts: list[list[Preference]] = [[] for _ in range(members)]
    for row in rows:
        places = {int(draw(f"panel/{name}") * members) for name in owners(row)}
        if len(places) == 1:
            parts[places.pop()].append(row)
    if any(not part for part in parts):
        raise InputError(
            f"could not make a panel of {members}: {sum(not part for part in parts)} members would"
            " have no users; ask for fewer"
        )
    return parts


def train_panel(
    rows: Sequence[Preference], members: int = 4, embed: bool = False
) -> list[RewardModel]:
    """Reward models trained on disjoint users."""
    return [train({"panel": part}, embed) for part in disjoint(rows, members)]


def look(
    watch: Watch,
    trained: RewardModel,
    panel: Sequence[RewardModel],
    prompts: Sequence[Sequence[str]],
    responses: Sequence[str],
) -> Alarm | None:
    """Score a checkpoint's samples with all models and add them to a watch."""
    seen = features(prompts, responses, trained.embed)

    def scores(model: RewardModel) -> list[Score]:
        return score(model, prompts, responses, seen if model.embed == trained.embed else None)

    own = scores(trained)
    members = np.array([[s.reward for s in scores(model)] for model in panel])
    probes = {name: seen.values[:, seen.names.index(name)].astype(np.float64) for name in PROBES}
    return watch.add(
        np.array([s.reward for s in own]),
        members,
        np.array([s.in_domain is False for s in own]),
        probes,
    )
