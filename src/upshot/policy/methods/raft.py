"""Reward-ranked fine-tuning (Dong et al., 2023): sample n answers per prompt and imitate the best.

Then the same with the new policy.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np
from msgspec import Meta

from upshot.errors import NothingToLearnError
from upshot.hub.loss_masks import Tokens, answer_tokens
from upshot.policy.methods import sft
from upshot.policy.methods.method import Method

if TYPE_CHECKING:
    from upshot.policy.job import Job


class RaftOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of reward-ranked fine-tuning."""

    answers: Annotated[int, Meta(description="answers drawn a prompt, n; 8")] = 8
    rounds: Annotated[int, Meta(description="how often; 2")] = 2
    gain: Annotated[
        float,
        Meta(
            description=(
                "least by which the best must beat the prompt's mean, in standard deviations of"
                " all rewards; 0.1"
            )
        ),
    ] = 0.1


def fit(job: Job) -> Path:
    """Sample, choose and imitate, as many times as the options say."""
    from upshot.policy.imitation import imitate  # TRL: seconds to load
    from upshot.policy.rounds import run_rounds  # torch

    options = job.read_options(RaftOptions)
    job.need_prompts()
    return run_rounds(job, options.rounds, lambda part: imitate(part, _choose_best(part, options)))


def _choose_best(job: Job, options: RaftOptions) -> list[Tokens]:
    from upshot.policy.samples import sample_answers  # torch

    samples = sample_answers(job, options.answers, "drawn.jsonl")
    spread = float(np.std([score for sample in samples for score in sample.scores])) or 1.0
    out: list[Tokens] = []
    for sample in samples:
        best = int(np.argmax(sample.scores))
        if sample.scores[best] - float(np.mean(sample.scores)) > options.gain * spread:
            answer = sample.answers[best].strip()
            out.append(answer_tokens(job.tokenizer, sample.prompt, answer, job.recipe.max_length))
    if not out:
        raise NothingToLearnError(
            "could not train by raft: no answer is better than its prompt's others; draw more"
            " (options.answers), or look at the reward"
        )
    return out


METHOD = Method(
    name="Reward-ranked fine-tuning (best of n)",
    does=(
        "Draws n answers a prompt, keeps the best by reward, imitates them; again with the new"
        " policy."
    ),
    choose=(
        "With a reward you trust and no patience for tuning: it cannot diverge far (KL at most"
        " log n - (n - 1)/n each time round)."
    ),
    needs="prompts and --reward.",
    steps="no",
    source="Dong et al. 2023",
    load_config=sft.load_config,
    fit=fit,
    option_type=RaftOptions,
)
