"""Answers sampled from a policy and scored by its rewards, once per run, and stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from upshot.hub.sampling import open_sampler
from upshot.policy.data import Prompt
from upshot.policy.job import Job
from upshot.records import Turn

_PROMPTS = 256
"""Prompts per batch: the step of a progress bar."""


class Sample(NamedTuple):
    """A prompt with its answers and their rewards."""

    prompt: tuple[Turn, ...]
    answers: list[str]
    scores: list[float]


def sample_answers(
    job: Job, count: int, name: str, prompts: Sequence[Prompt] | None = None
) -> list[Sample]:
    """Sample and score `count` answers to each prompt.

    They are stored under `name` in the run's folder, so that a killed run does not sample again.
    """
    rewards = job.need_rewards()
    chosen = job.data.prompts if prompts is None else prompts

    def make_rows() -> Iterator[dict[str, Any]]:
        sampler = open_sampler(job.recipe.base, **job.model_options)
        for start in range(0, len(chosen), _PROMPTS):
            batch = chosen[start : start + _PROMPTS]
            repeated = [prompt for prompt in batch for _ in range(count)]
            turns = [prompt.turns for prompt in repeated]
            answers = sampler(turns, job.drawing._replace(seed=job.recipe.seed + start))
            scores = rewards(turns, answers, [prompt.facts for prompt in repeated]).tolist()
            for number, prompt in enumerate(batch):
                own = slice(number * count, (number + 1) * count)
                yield {
                    "prompt": list(prompt.turns),
                    "answers": answers[own],
                    "scores": scores[own],
                }
            job.progress("draw", min(start + _PROMPTS, len(chosen)), len(chosen))

    return [
        Sample(tuple(msgspec.convert(row["prompt"], list[Turn])), row["answers"], row["scores"])
        for row in job.store_rows(name, make_rows)
    ]
