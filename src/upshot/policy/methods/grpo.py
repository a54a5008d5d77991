"""Group relative policy optimisation with step credit: TRL's `GRPOTrainer`.

There are two ways to give credit: a reward whose `steps` say what each part of an answer is worth
while answers are sampled, or logged runs of the present policy with credits, and nothing is
sampled. Both mix A = (1 − λ)(R − b) + λ T (c − mean c), with λ at most .4 (docs/credit.md). The
trainers are in `policy.step_credit`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from upshot.policy.methods.method import Method

if TYPE_CHECKING:
    from upshot.policy.job import Job


class GrpoOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of group relative policy optimisation."""

    share: Annotated[
        float, Meta(description="share of step credit in the advantage, at most 0.4; 0.3")
    ] = 0.3
    causal: Annotated[
        bool,
        Meta(
            description=(
                "credits are differences of prefix values (`upshot credit --reviewer trained`):"
                " they are used alone; false"
            )
        ),
    ] = False
    max_length: Annotated[int, Meta(description="tokens of a logged run; 4096")] = 4096


def load_config() -> type[Any]:
    """TRL's configuration."""
    from trl.trainer.grpo_config import GRPOConfig  # torch: seconds to load

    return GRPOConfig


def fit(job: Job) -> Path:
    """Learn from logged runs where there are any, else from sampled answers."""
    from upshot.policy.online import make_online_trainer  # torch
    from upshot.policy.step_credit import SamplingTrainer, make_logged_trainer  # TRL

    options = job.read_options(GrpoOptions)
    if job.data.runs:
        trainer = make_logged_trainer(job, options)
    else:
        trainer = make_online_trainer(job, SamplingTrainer, load_config())
        trainer.share = options.share
    return job.run(trainer, trainer.read_kl)


METHOD = Method(
    name="Group relative policy optimisation, with step credit",
    does=(
        "Policy gradient on tokens, answers compared within a prompt's group and scaled by its"
        " spread. With step credits each step's tokens have their own advantage."
    ),
    choose=(
        "For verifiable rewards; and for runs of many steps with --credits, where it learns from"
        " logged runs and from which step earned the outcome."
    ),
    needs=(
        "prompts and --reward; or logged runs of the present policy with --credits (no sampling)."
    ),
    steps=(
        "yes: advantages of shape (batch, tokens), A = (1 - share)(R - b) + share T (c - mean c)."
    ),
    source="Shao et al. 2024; docs/credit.md; TRL GRPOTrainer",
    load_config=load_config,
    fit=fit,
    option_type=GrpoOptions,
    keeps_reference=True,
)
