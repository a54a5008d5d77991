"""Kahneman-Tversky optimisation: TRL's `KTOTrainer`; an answer's weight is how often it is drawn.

Good and bad answers count alike in sum.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from upshot.errors import NothingToLearnError
from upshot.policy.methods.method import Method
from upshot.records.training import turns_to_messages
from upshot.records.verdicts import EVEN

if TYPE_CHECKING:
    from upshot.policy.job import Job


class KtoOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of Kahneman-Tversky optimisation."""

    least_weight: Annotated[float, Meta(description="examples that weigh less are left out; 0")] = (
        0.0
    )
    band: Annotated[
        float,
        Meta(description="scores within this of one half are left out: they say neither; 0"),
    ] = 0.0


def load_config() -> type[Any]:
    """TRL's configuration."""
    from trl.trainer.kto_config import KTOConfig  # torch: seconds to load

    return KTOConfig


def fit(job: Job) -> Path:
    """Train on the examples."""
    from trl.trainer.kto_trainer import KTOTrainer  # torch: seconds to load

    from upshot.policy.weights import make_weighted_trainer  # torch

    options = job.read_options(KtoOptions)
    examples = [
        row
        for row in job.need_examples()
        if row.weight > 0
        and row.weight >= options.least_weight
        and abs(row.score - EVEN) >= options.band
    ]
    good, bad = (
        sum(row.weight for row in examples if (row.score >= EVEN) is side) for side in (True, False)
    )
    if not good or not bad:
        raise NothingToLearnError(
            "could not train by kto: it needs good answers (score from .5) and bad ones"
        )
    rows = [
        {
            "prompt": turns_to_messages(row.prompt),
            "completion": turns_to_messages(row.completion),
            "label": row.score >= EVEN,
        }
        for row in examples
    ]
    balance = {"desirable_weight": max(1.0, bad / good), "undesirable_weight": max(1.0, good / bad)}
    model, args = job.with_reference(load_config(), **job.penalty, **balance)
    weights = [row.weight for row in examples]
    return job.run(make_weighted_trainer(KTOTrainer, job, model, args, rows=rows, weights=weights))


METHOD = Method(
    name="Kahneman-Tversky optimisation",
    does="Raises good answers and lowers bad ones, each by itself, relative to the base.",
    choose=(
        "When verdicts come without pairs, which is most of a log; lopsided data is balanced by"
        " its weights."
    ),
    needs="examples with scores: good from one half (`upshot pairs --for examples`).",
    steps="no",
    source="Ethayarajh et al. 2024; TRL KTOTrainer",
    load_config=load_config,
    fit=fit,
    option_type=KtoOptions,
    keeps_reference=True,
)
