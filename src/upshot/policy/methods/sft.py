"""Supervised fine-tuning, weighted and masked: TRL's `SFTTrainer` with a weight on every token.

What is masked stays in the context with zero loss. Answers count by their weight; steps of runs by
their credit, exp(credit / temperature), and harmful steps not at all, even in successful runs
(`bench/credit_learning.py` compares that with filtering by outcome).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from upshot.policy.methods.method import Method

if TYPE_CHECKING:
    from upshot.policy.job import Job


class SftOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of supervised fine-tuning."""

    least: Annotated[float, Meta(description="score from which an answer is imitated; 0.5")] = 0.5
    temperature: Annotated[
        float | None,
        Meta(
            description=(
                "when set, every answer counts exp((score - mean) / temperature), at most 20, and"
                " `least` is not used"
            )
        ),
    ] = None


def load_config() -> type[Any]:
    """TRL's configuration."""
    from trl.trainer.sft_config import SFTConfig  # torch: seconds to load

    return SFTConfig


def fit(job: Job) -> Path:
    """Imitate the examples and the runs."""
    from upshot.policy.imitation import imitate, weigh_data  # TRL: seconds to load

    options = job.read_options(SftOptions)
    return imitate(job, list(weigh_data(job, options.least, options.temperature)))


METHOD = Method(
    name="Supervised fine-tuning, weighted and masked",
    does=(
        "Imitates answers. Each answer counts by its weight, tokens that are not the assistant's,"
        " and turns that are masked, stay in the context with zero loss."
    ),
    choose=(
        "First, on answers that you trust: people's edits, verified solutions, conversations with"
        " what failed masked (`upshot pairs --for sft`). Not on raw logs: imitating everything"
        " teaches the mistakes too."
    ),
    needs=(
        "examples: scored answers (`--for examples`), conversations with `train` masks, or runs"
        " with --credits."
    ),
    steps=(
        "--credits with runs: a step counts exp(credit / temperature), at most 20; harmful steps"
        " are masked, in successes too."
    ),
    source="Peng et al. 2019 (advantage-weighted regression); TRL SFTTrainer",
    load_config=load_config,
    fit=fit,
    option_type=SftOptions,
)
