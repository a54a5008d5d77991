# datasets has no full types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Imitation with a weight on every token: TRL's `SFTTrainer`, and what data weighs.

Behind every method that imitates: sft, conditioned, raft, star.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from upshot.credit.conserve import Credit
from upshot.credit.training_signals import imitation_masks, imitation_weights
from upshot.errors import NothingToLearnError
from upshot.hub.loss_masks import Tokens, example_tokens, weigh_turns
from upshot.hub.padding import pad_rows
from upshot.policy.data import Run
from upshot.policy.job import Job, lora_of
from upshot.records import Example

_MAX_WEIGHT = 20.0
"""Most that one answer counts, as in advantage-weighted regression (Peng et al., 2019)."""
_IGNORED = -100
"""Label of tokens without loss, by PyTorch's convention."""


def imitate(job: Job, rows: Sequence[Tokens]) -> Path:
    """Train on tokens with weights.

    Raises:
        NothingToLearnError: no row has any weight.
    """
    rows = [row for row in rows if any(row.weight)]
    if not rows:
        raise NothingToLearnError(
            f"could not train by {job.recipe.method}: no row is good enough to be imitated (see"
            f" `least` in --explain {job.recipe.method})"
        )
    args = job.arguments(
        SFTConfig,
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=1024,
    )
    trainer = WeightedTrainer(
        model=job.model(),
        args=args,
        train_dataset=make_dataset(rows),
        processing_class=job.tokenizer,
        peft_config=lora_of(job.recipe),
        data_collator=lambda batch: collate(batch, job.tokenizer.pad_token_id),
    )
    weights = [weight for row in rows for weight in row.weight if weight]
    trainer.mean_weight = float(np.mean(weights))
    return job.run(trainer)


class WeightedTrainer(SFTTrainer):
    """TRL's trainer; a token's loss counts by its weight over the mean weight of trained tokens."""

    mean_weight = 1.0

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        weight = inputs["weights"][:, 1:]
        outputs = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            labels=inputs["labels"],
            fused_lm_head=True,
            use_cache=False,
        )
        tokens = (
            (inputs["labels"][:, 1:] != _IGNORED).sum()
            if num_items_in_batch is None
            else num_items_in_batch
        )
        total = -(outputs.log_probs * weight).sum() / self.mean_weight
        loss = total / torch.as_tensor(tokens).clamp(min=1)
        args: Any = self.args
        if args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss


def make_dataset(rows: Sequence[Tokens]) -> Any:
    """Rows as TRL takes them, tokenised."""
    ids, weights = [row.ids for row in rows], [row.weight for row in rows]
    labels = [
        [token if weight else _IGNORED for token, weight in zip(row.ids, row.weight, strict=True)]
        for row in rows
    ]
    return Dataset.from_dict({"input_ids": ids, "labels": labels, "weights": weights})


def collate(batch: Sequence[Any], pad: int) -> dict[str, torch.Tensor]:
    """A batch padded on the right."""
    return {
        "input_ids": pad_rows([row["input_ids"] for row in batch], pad),
        "labels": pad_rows([row["labels"] for row in batch], _IGNORED),
        "weights": pad_rows([row["weights"] for row in batch], 0.0),
        "attention_mask": pad_rows([[1] * len(row["input_ids"]) for row in batch], 0),
    }


def weigh_data(job: Job, least: float, temperature: float | None) -> Iterator[Tokens]:
    """The examples and runs of a job as tokens with weights.

    `least`: score from which an answer is imitated; with a `temperature` every answer counts
    exp((score - mean) / temperature) instead.

    Raises:
        InputError: there are neither examples nor runs.
    """
    if not job.data.runs:
        job.need_examples()
    length, examples = job.recipe.max_length, job.data.examples
    values = _weigh_scores(examples, least, temperature)
    for row, value in zip(examples, values, strict=True):
        yield example_tokens(job.tokenizer, row, value * row.weight, length)
    for run, step_weights in zip(job.data.runs, weigh_steps(job.data.runs), strict=True):
        weights = np.zeros(len(run.turns))
        weights[list(run.steps)] = step_weights
        yield weigh_turns(job.tokenizer, run.turns, weights.tolist(), length)


def _weigh_scores(
    rows: Sequence[Example], least: float, temperature: float | None
) -> Sequence[float]:
    score = np.array([row.score for row in rows])
    if temperature is None:
        return (score >= least).astype(float).tolist()
    exponent = (score - score.mean()) / temperature
    return np.exp(np.minimum(exponent, np.log(_MAX_WEIGHT))).tolist()


def weigh_steps(runs: Sequence[Run]) -> list[list[float]]:
    """How much each step counts: by its credit, or, without credits, 1 in runs of good outcome."""
    if not all(run.credits for run in runs):
        middle = float(np.mean([run.outcome for run in runs])) if runs else 0.0
        return [[float(run.outcome >= middle)] * len(run.steps) for run in runs]
    credits = [Credit("", run.outcome, run.credits, "", luck=run.residual) for run in runs]
    return [
        (mask * weight).tolist()
        for mask, weight in zip(imitation_masks(credits), imitation_weights(credits), strict=True)
    ]
