"""Answers drawn from a policy and scored by its rewards, made once a run and kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from upshot.hub.sampling import open_sampler
from upshot.policy.data import Asked
from upshot.policy.job import Job
from upshot.records import Turn

_PROMPTS = 256
"""Prompts of one batch: what a progress bar moves by."""


class Drawn(NamedTuple):
    """A prompt with its answers and what they are worth."""

    prompt: tuple[Turn, ...]
    answers: list[str]
    scores: list[float]


def draw(job: Job, answers: int, name: str, prompts: Sequence[Asked] | None = None) -> list[Drawn]:
    """So many answers to each prompt, scored; kept as a file of this name in the run's folder."""
    rewards = job.need_rewards()
    asked = job.data.prompts if prompts is None else prompts

    def make() -> Iterator[dict[str, Any]]:
        sampler = open_sampler(job.recipe.base, **job.recipe.init)
        for start in range(0, len(asked), _PROMPTS):
            part = asked[start : start + _PROMPTS]
            each = [one for one in part for _ in range(answers)]
            said = sampler(
                [one.turns for one in each], job.drawing._replace(seed=job.recipe.seed + start)
            )
            worth = rewards([one.turns for one in each], said, [one.facts for one in each]).tolist()
            for number, one in enumerate(part):
                of = slice(number * answers, (number + 1) * answers)
                yield {"prompt": list(one.turns), "answers": said[of], "scores": worth[of]}
            job.progress("draw", min(start + _PROMPTS, len(asked)), len(asked))

    return [
        Drawn(tuple(msgspec.convert(row["prompt"], list[Turn])), row["answers"], row["scores"])
        for row in job.kept(name, make)
    ]
