"""Reward-ranked fine-tuning (Dong et al., 2023): draw n answers a prompt, imitate the best; again
with the new policy.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from upshot.errors import NothingToLearnError
from upshot.hub.loss_masks import Tokens, answered
from upshot.policy.draws import draw
from upshot.policy.job import Job
from upshot.policy.methods import sft
from upshot.policy.recipe import options
from upshot.policy.rounds import rounds

CONFIG = sft.CONFIG


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of this method."""

    answers: int = 8
    rounds: int = 2
    gain: float = 0.1


def fit(job: Job) -> Path:
    """Draw, choose, imitate, so many times."""
    chosen = options(job.recipe, Options)
    job.need("prompts")
    return rounds(job, chosen.rounds, lambda part: sft.imitate(part, _best(part, chosen)))


def _best(job: Job, chosen: Options) -> list[Tokens]:
    drawn = draw(job, chosen.answers, "drawn.jsonl")
    spread = float(np.std([score for one in drawn for score in one.scores])) or 1.0
    out: list[Tokens] = []
    for one in drawn:
        best = int(np.argmax(one.scores))
        if one.scores[best] - float(np.mean(one.scores)) > chosen.gain * spread:
            out.append(
                answered(
                    job.tokenizer, one.prompt, one.answers[best].strip(), job.recipe.max_length
                )
            )
    if not out:
        raise NothingToLearnError(
            "could not train by raft: no answer is better than its prompt's others; draw more"
            " (options.answers), or look at the reward"
        )
    return out
