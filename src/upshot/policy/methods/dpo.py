"""Direct preference optimisation: TRL's `DPOTrainer`; pairs are drawn as often as they weigh."""

from __future__ import annotations

from pathlib import Path

import msgspec
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from upshot.errors import NothingToLearnError
from upshot.policy.job import Job, lora_of
from upshot.policy.recipe import options
from upshot.policy.weights import ByWeight
from upshot.preferences.export import messages

CONFIG = DPOConfig


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of this method."""

    least_weight: float = 0.0


class _Trainer(ByWeight, DPOTrainer):
    """TRL's, with weights."""


def fit(job: Job) -> Path:
    """Train on the pairs."""
    least = options(job.recipe, Options).least_weight
    rows = [row for row in job.need("pairs") if row.weight >= least and row.weight > 0]
    if not rows:
        raise NothingToLearnError(f"could not train by dpo: no pair weighs {least}")
    from datasets import Dataset

    data = Dataset.from_list(
        [
            {
                "prompt": messages(row.prompt),
                "chosen": messages(row.chosen),
                "rejected": messages(row.rejected),
            }
            for row in rows
        ]
    )
    model, args = job.with_reference(CONFIG, **job.penalty)
    trainer = _Trainer(
        model=model,
        args=args,
        train_dataset=data,
        processing_class=job.tokenizer,
        peft_config=lora_of(job.recipe),
    )
    trainer.row_weights = [row.weight for row in rows]
    return job.run(trainer)
