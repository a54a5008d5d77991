"""The recipe is kept, and run again on every new model: which ones the method works for, and at
what cost.

A rerun trains the new base on the lessons of a round that is kept, by the same recipe, and has it
answer the same frozen prompts as its own base; the same reward model scores both. `reruns.json` in
the loop's folder tabulates all models so far.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from upshot.errors import NotFoundError
from upshot.hub.sampling import Drawing, open_sampler
from upshot.loop import lessons
from upshot.loop.config import Config
from upshot.loop.run import Progress
from upshot.loop.state import Loop, write
from upshot.policy.rewards import of_function, of_model, scores
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
        """Is the gain more than noise?"""
        return None if self.low is None else self.low > 0


def rerun(
    config: Config,
    model: str,
    number: int | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> list[Rerun]:
    """Train a new base by the kept recipe, and return the table of all models so far.

    Raises:
        NotFoundError: no round has kept its lessons.
    """
    loop = Loop(Path(config.folder))
    kept = [
        one
        for one in loop.rounds()
        if one.done("agree") and (number is None or one.number == number)
    ]
    if not kept:
        raise NotFoundError(
            f"could not run the recipe again: no round {'' if number is None else number} in"
            f" {config.folder} has kept its lessons"
        )
    here = kept[-1]
    folder = (
        loop.folder
        / "reruns"
        / f"{re.sub(r'[^A-Za-z0-9.-]+', '-', model).strip('-')}-{here.folder.name}"
    )
    made = (here.done("reward") or {}).get("made", "")
    judge = load(made) if made else None
    data = lessons.taught(here.folder)
    rewards = (
        of_function(of_model(judge), "reward model")
        if judge is not None and config.reward is not None and config.reward.use
        else None
    )
    done = train(config.recipe(model), data, folder, rewards, None, progress)
    found: dict[str, Any] = {"before": None, "after": None, "gain": None, "low": None, "high": None}
    prompts = lessons.read_prompts(lessons.at(here.folder).test)
    if judge is not None and prompts:
        asked = [one.prompt for one in prompts]
        recipe = config.recipe(model)
        drawing = Drawing(recipe.draw.max_tokens, recipe.draw.temperature, seed=config.seed)
        old, new = (
            np.array(
                [
                    one.probability
                    for one in scores(
                        judge,
                        asked,
                        [text.strip() for text in open_sampler(policy)(asked, drawing)],
                    )
                ]
            )
            for policy in (model, str(folder))
        )
        _, user = np.unique([one.user for one in prompts], return_inverse=True)
        gain, low, high = ratio_interval(
            np.bincount(user, new - old).astype(float), np.bincount(user).astype(float)
        )
        found = {
            "before": float(old.mean()),
            "after": float(new.mean()),
            "gain": gain,
            "low": low,
            "high": high,
        }
    one = Rerun(
        model,
        here.number,
        str(folder),
        **found,
        kl=done.kl,
        seconds=done.seconds,
        memory_gb=done.memory_gb,
    )
    table = [row for row in table_of(config) if (row.model, row.round) != (model, here.number)] + [
        one
    ]
    write(loop.folder / "reruns.json", table)
    return table


def table_of(config: Config) -> list[Rerun]:
    """All models so far."""
    path = Path(config.folder) / "reruns.json"
    return msgspec.json.decode(path.read_bytes(), type=list[Rerun]) if path.is_file() else []
