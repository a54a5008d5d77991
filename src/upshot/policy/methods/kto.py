"""Kahneman-Tversky optimisation: TRL's `KTOTrainer`; answers are drawn as often as they weigh, good
and bad ones count alike in sum.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from trl.trainer.kto_config import KTOConfig
from trl.trainer.kto_trainer import KTOTrainer

from upshot.errors import NothingToLearnError
from upshot.policy.job import Job, lora_of
from upshot.policy.recipe import options
from upshot.policy.weights import ByWeight
from upshot.preferences.export import messages

CONFIG = KTOConfig


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of this method."""

    least_weight: float = 0.0
    band: float = 0.0


class _Trainer(ByWeight, KTOTrainer):
    """TRL's, with weights."""


def fit(job: Job) -> Path:
    """Train on the examples."""
    chosen = options(job.recipe, Options)
    rows = [
        row
        for row in job.need("examples")
        if row.weight > 0
        and row.weight >= chosen.least_weight
        and abs(row.score - 0.5) >= chosen.band
    ]
    good, bad = (
        sum(row.weight for row in rows if (row.score >= 0.5) is side) for side in (True, False)
    )
    if not good or not bad:
        raise NothingToLearnError(
            "could not train by kto: it needs good answers (score from .5) and bad ones"
        )
    from datasets import Dataset

    data = Dataset.from_list(
        [
            {
                "prompt": messages(row.prompt),
                "completion": messages(row.completion),
                "label": row.score >= 0.5,
            }
            for row in rows
        ]
    )
    even = {"desirable_weight": max(1.0, bad / good), "undesirable_weight": max(1.0, good / bad)}
    model, args = job.with_reference(CONFIG, **job.penalty, **even)
    trainer = _Trainer(
        model=model,
        args=args,
        train_dataset=data,
        processing_class=job.tokenizer,
        peft_config=lora_of(job.recipe),
    )
    trainer.row_weights = [row.weight for row in rows]
    return job.run(trainer)
