"""The recipe is stored, and run again on every new model: which models it works for, at what cost.

A rerun trains the new base on a round's stored lessons, by the same recipe, and has it answer the
same frozen prompts as its own base; the same reward model scores both. `reruns.json` in the loop's
folder tabulates all models so far.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from upshot.errors import NotFoundError
from upshot.hub.sampling import Drawing, open_sampler
from upshot.loop import lessons
from upshot.loop.config import Config
from upshot.loop.results import RewardResult
from upshot.loop.run import Progress
from upshot.loop.state import Loop, Round, write
from upshot.policy.rewards import score_answers, wrap_function, wrap_model
from upshot.policy.train import train
from upshot.reward import load
from upshot.stats.intervals import ratio_interval


class Rerun(msgspec.Struct, frozen=True):
    """One model under the recipe."""

    model: str
    round: int
    folder: str
    """Where the trained model lies."""
    before: float | None
    """Mean probability of being helpful, by the round's reward model, of the base's answers; None:
    the loop has no reward model.
    """
    after: float | None
    gain: float | None
    low: float | None
    """Of a 95 % interval over users."""
    high: float | None
    kl: float | None
    seconds: float
    memory_gb: float

    @property
    def works(self) -> bool | None:
        """Whether the gain is more than noise."""
        return None if self.low is None else self.low > 0


def rerun(
    config: Config,
    model: str,
    number: int | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> list[Rerun]:
    """Train a new base by the stored recipe, and return the table of all models so far.

    Raises:
        NotFoundError: no round has stored its lessons.
    """
    loop = Loop(Path(config.folder))
    rounds = [
        round
        for round in loop.rounds()
        if round.record("agree") and (number is None or round.number == number)
    ]
    if not rounds:
        raise NotFoundError(
            f"could not run the recipe again: no round {'' if number is None else number} in"
            f" {config.folder} has stored its lessons"
        )
    round = rounds[-1]
    slug = re.sub(r"[^A-Za-z0-9.-]+", "-", model).strip("-")
    folder = loop.folder / "reruns" / f"{slug}-{round.folder.name}"
    result = round.load("reward", RewardResult)
    judge = load(result.made) if result is not None and result.made else None
    uses_reward = judge is not None and config.reward is not None and config.reward.use
    rewards = wrap_function(wrap_model(judge), "reward model") if judge and uses_reward else None
    data = lessons.read_training_data(round.folder)
    trained = train(config.recipe(model), data, folder, rewards, progress=progress)
    gain = _measure_gain(config, round, judge, (model, str(folder)))
    row = Rerun(
        model,
        round.number,
        str(folder),
        *gain,
        kl=trained.kl,
        seconds=trained.seconds,
        memory_gb=trained.memory_gb,
    )
    others = [
        other for other in read_table(config) if (other.model, other.round) != (model, round.number)
    ]
    write(loop.folder / "reruns.json", [*others, row])
    return [*others, row]


class _Gain(NamedTuple):
    """Mean reward before and after, and the gain with its interval; None: there is no judge."""

    before: float | None = None
    after: float | None = None
    gain: float | None = None
    low: float | None = None
    high: float | None = None


def _measure_gain(config: Config, round: Round, judge: Any, policies: tuple[str, str]) -> _Gain:
    """How the judge scores two policies' answers to the round's frozen prompts, by user."""
    prompts = lessons.read_prompts(lessons.files_in(round.folder).test)
    if judge is None or not prompts:
        return _Gain()
    messages = [prompt.prompt for prompt in prompts]
    recipe = config.recipe(policies[0])
    drawing = Drawing(recipe.draw.max_tokens, recipe.draw.temperature, seed=config.seed)
    old, new = (
        np.array([score.probability for score in score_answers(judge, messages, answers)])
        for answers in (
            [text.strip() for text in open_sampler(policy)(messages, drawing)]
            for policy in policies
        )
    )
    _, user = np.unique([prompt.user for prompt in prompts], return_inverse=True)
    interval = ratio_interval(
        np.bincount(user, new - old).astype(float), np.bincount(user).astype(float)
    )
    return _Gain(float(old.mean()), float(new.mean()), *interval)


def read_table(config: Config) -> list[Rerun]:
    """All models so far."""
    path = Path(config.folder) / "reruns.json"
    return msgspec.json.decode(path.read_bytes(), type=list[Rerun]) if path.is_file() else []
