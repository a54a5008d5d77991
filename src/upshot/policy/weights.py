"""Rows that count more are drawn more often: weights for trainers whose losses know none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import WeightedRandomSampler


class ByWeight:
    """Mixed into a trainer: an epoch draws as many rows as there are, each as often as it weighs."""

    row_weights: Sequence[float] = ()

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        trainer: Any = super()
        if len(set(self.row_weights)) < 2:
            return trainer._get_train_sampler(train_dataset)
        data = self.train_dataset if train_dataset is None else train_dataset  # pyright: ignore[reportAttributeAccessIssue]
        if len(data) != len(self.row_weights):  # rows too long to be learned from were dropped
            return trainer._get_train_sampler(train_dataset)
        seed = self.args.seed  # pyright: ignore[reportAttributeAccessIssue]
        return WeightedRandomSampler(
            list(self.row_weights),
            len(self.row_weights),
            generator=torch.Generator().manual_seed(seed),
        )
