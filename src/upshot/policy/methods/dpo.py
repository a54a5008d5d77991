"""Direct preference optimisation: TRL's `DPOTrainer`; a pair's weight is how often it is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from upshot.errors import NothingToLearnError
from upshot.policy.methods.method import Method
from upshot.records.training import turns_to_messages

if TYPE_CHECKING:
    from upshot.policy.job import Job


class DpoOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of direct preference optimisation."""

    least_weight: Annotated[float, Meta(description="pairs that weigh less are left out; 0")] = 0.0


def load_config() -> type[Any]:
    """TRL's configuration."""
    from trl.trainer.dpo_config import DPOConfig  # torch: seconds to load

    return DPOConfig


def fit(job: Job) -> Path:
    """Train on the pairs."""
    from trl.trainer.dpo_trainer import DPOTrainer  # torch: seconds to load

    from upshot.policy.weights import make_weighted_trainer  # torch

    least = job.read_options(DpoOptions).least_weight
    pairs = [row for row in job.need_pairs() if row.weight >= least and row.weight > 0]
    if not pairs:
        raise NothingToLearnError(f"could not train by dpo: no pair weighs {least}")
    rows = [
        {
            "prompt": turns_to_messages(row.prompt),
            "chosen": turns_to_messages(row.chosen),
            "rejected": turns_to_messages(row.rejected),
        }
        for row in pairs
    ]
    model, args = job.with_reference(load_config(), **job.penalty)
    weights = [row.weight for row in pairs]
    return job.run(make_weighted_trainer(DPOTrainer, job, model, args, rows=rows, weights=weights))


METHOD = Method(
    name="Direct preference optimisation",
    does=(
        "Raises the chosen answer over the rejected one against the base, without a reward model"
        " and without sampling."
    ),
    choose=(
        "With a few hundred pairs or more, and when you want something stable and cheap. Clean"
        " pairs matter: with a quarter flipped it loses a third of its gain."
    ),
    needs="pairs (`upshot pairs --for trl`).",
    steps="pairs of steps (`credit.training_signals.step_pairs`) are pairs like others.",
    source="Rafailov et al. 2023; TRL DPOTrainer",
    load_config=load_config,
    fit=fit,
    option_type=DpoOptions,
    keeps_reference=True,
)
