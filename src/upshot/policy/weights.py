# datasets has no full types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Rows drawn as often as they weigh, for trainers whose losses know no weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import WeightedRandomSampler

from upshot.policy.job import Job, lora_of


class ByWeight:
    """Mixed into a trainer: an epoch draws as many rows as there are, by their weights."""

    row_weights: Sequence[float] = ()

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        trainer: Any = self
        default: Any = super()
        if len(set(self.row_weights)) < 2:
            return default._get_train_sampler(train_dataset)
        data = trainer.train_dataset if train_dataset is None else train_dataset
        if len(data) != len(self.row_weights):  # the trainer dropped rows that are too long
            return default._get_train_sampler(train_dataset)
        return WeightedRandomSampler(
            list(self.row_weights),
            len(self.row_weights),
            generator=torch.Generator().manual_seed(trainer.args.seed),
        )


def make_weighted_trainer(
    kind: type[Any],
    job: Job,
    model: Any,
    args: Any,
    *,
    rows: Sequence[Mapping[str, Any]],
    weights: Sequence[float],
) -> Any:
    """A trainer of TRL's on rows with weights."""
    weighted: type[Any] = type(f"ByWeight{kind.__name__}", (ByWeight, kind), {})
    trainer: Any = weighted(
        model=model,
        args=args,
        train_dataset=Dataset.from_list([dict(row) for row in rows]),
        processing_class=job.tokenizer,
        peft_config=lora_of(job.recipe),
    )
    trainer.row_weights = list(weights)
    return trainer
