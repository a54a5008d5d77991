"""Supervised fine-tuning, weighted and masked: TRL's `SFTTrainer` with a weight on every token.

What is masked stays in the context with zero loss. Answers count by their weight; steps of runs by
their credit, exp(credit / temperature), and harmful steps not at all, inside successes too
(METHODS, "Imitation": .80 against .51 for filtering by outcome).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from upshot.credit.conserve import Credit
from upshot.credit.training_signals import imitation_weights, masks
from upshot.errors import NothingToLearnError
from upshot.hub.loss_masks import Tokens, tokens_of, weighed
from upshot.policy.data import Run
from upshot.policy.job import Job, lora_of
from upshot.policy.recipe import options
from upshot.records import Example

CONFIG = SFTConfig
_CAP = 20.0


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of this method."""

    least: float = 0.5
    temperature: float | None = None


def fit(job: Job) -> Path:
    """Imitate the examples and the runs."""
    rows = list(rows_of(job))
    return imitate(job, rows)


def imitate(job: Job, rows: Sequence[Tokens]) -> Path:
    """Train on tokens with weights.

    Raises:
        NothingToLearnError: nothing is to be imitated.
    """
    rows = [row for row in rows if any(row.weight)]
    if not rows:
        raise NothingToLearnError(
            f"could not train by {job.recipe.method}: no row is good enough to be imitated (see"
            f" `least` in --explain {job.recipe.method})"
        )
    args = job.arguments(
        CONFIG,
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=1024,
    )
    trainer = _Weighted(
        model=job.model(),
        args=args,
        train_dataset=dataset_of(rows),
        processing_class=job.tokenizer,
        peft_config=lora_of(job.recipe),
        data_collator=lambda batch: collate(batch, job.tokenizer.pad_token_id),
    )
    trainer.usual = float(np.mean([weight for row in rows for weight in row.weight if weight]))
    return job.run(trainer)


class _Weighted(SFTTrainer):
    """TRL's trainer; a token's loss counts by its weight, the mean weight of learned tokens being
    1.
    """

    usual = 1.0

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
            (inputs["labels"][:, 1:] != -100).sum()
            if num_items_in_batch is None
            else num_items_in_batch
        )
        loss = (
            -(outputs.log_probs * weight).sum() / self.usual / torch.as_tensor(tokens).clamp(min=1)
        )
        args: Any = self.args
        if args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss


def dataset_of(rows: Sequence[Tokens]) -> Any:
    """Rows as TRL takes them, tokenised."""
    from datasets import Dataset

    ids, weights = [row.ids for row in rows], [row.weight for row in rows]
    labels = [
        [token if w else -100 for token, w in zip(row.ids, row.weight, strict=True)] for row in rows
    ]
    return Dataset.from_dict({"input_ids": ids, "labels": labels, "weights": weights})


def collate(batch: Sequence[Any], pad: int) -> dict[str, torch.Tensor]:
    """Padded on the right."""
    width = max(len(row["input_ids"]) for row in batch)

    def padded(name: str, filler: float) -> torch.Tensor:
        return torch.tensor(
            [list(row[name]) + [filler] * (width - len(row[name])) for row in batch]
        )

    seen = torch.tensor(
        [[1] * len(row["input_ids"]) + [0] * (width - len(row["input_ids"])) for row in batch]
    )
    return {
        "input_ids": padded("input_ids", pad),
        "labels": padded("labels", -100),
        "weights": padded("weights", 0.0),
        "attention_mask": seen,
    }


def rows_of(job: Job) -> Iterator[Tokens]:
    """The data as tokens with weights.

    Raises:
        InputError: there are neither examples nor runs.
    """
    if not job.data.examples and not job.data.runs:
        job.need("examples")
    chosen = options(job.recipe, Options)
    length = job.recipe.max_length
    for row, value in zip(job.data.examples, _values(job.data.examples, chosen), strict=True):
        yield tokens_of(job.tokenizer, row, value * row.weight, length)
    for run, each in zip(job.data.runs, step_weights(job.data.runs), strict=True):
        weights = np.zeros(len(run.turns))
        weights[list(run.steps)] = each
        yield weighed(job.tokenizer, run.turns, weights.tolist(), length)


def _values(rows: Sequence[Example], chosen: Options) -> Sequence[float]:
    score = np.array([row.score for row in rows])
    if chosen.temperature is None:
        return (score >= chosen.least).astype(float).tolist()
    return np.exp(np.minimum((score - score.mean()) / chosen.temperature, np.log(_CAP))).tolist()


def step_weights(runs: Sequence[Run]) -> list[list[float]]:
    """How much each step counts: by its credit where there is one, else whole runs by their
    outcome.
    """
    if not all(run.credits for run in runs):
        middle = float(np.mean([run.outcome for run in runs])) if runs else 0.0
        return [[float(run.outcome >= middle)] * len(run.steps) for run in runs]
    credits = [Credit("", run.outcome, run.credits, "", luck=run.luck) for run in runs]
    return [
        (mask * weight).tolist()
        for mask, weight in zip(masks(credits), imitation_weights(credits), strict=True)
    ]
