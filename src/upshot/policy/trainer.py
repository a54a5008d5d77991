# transformers, peft and datasets have no full types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportMissingTypeStubs=false
"""A trainer for methods that TRL lacks: Transformers' `Trainer` on token lists with any loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset
from peft import get_peft_model
from transformers import Trainer, TrainingArguments

from upshot.hub.padding import pad_tokens
from upshot.hub.trainers import quiet
from upshot.policy.job import Job, lora_of

Loss = Callable[[Any, Any], torch.Tensor]
"""The loss of a batch, from the model and the batch's rows."""


class ListTrainer(Trainer):
    """Batches are lists of rows; `loss_of` turns the model and such a list into one number."""

    loss_of: Loss

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        loss = self.loss_of(model, inputs["rows"])
        return (loss, None) if return_outputs else loss

    def _prepare_inputs(self, inputs: Any) -> Any:
        return inputs

    def floating_point_ops(self, inputs: Any) -> int:
        return 0


@quiet()
def make_list_trainer(job: Job, rows: Sequence[Mapping[str, Any]], loss: Loss) -> ListTrainer:
    """A trainer of rows (dictionaries of lists of numbers) by a loss."""
    model = job.model()
    if (lora := lora_of(job.recipe)) is not None:
        model = get_peft_model(model, lora)
    args = job.arguments(TrainingArguments, remove_unused_columns=False)
    trainer = ListTrainer(
        model=model,
        args=args,
        train_dataset=Dataset.from_list([dict(row) for row in rows]),
        data_collator=lambda batch: {"rows": batch},
    )
    trainer.loss_of = loss
    trainer.can_return_loss = True
    return trainer


def answer_mask(
    prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], width: int, device: Any
) -> torch.Tensor:
    """1.0 where the next token is the answer's, shape (rows, width - 1)."""
    mask = torch.zeros(len(prompts), width - 1, device=device)
    for row, (p, a) in enumerate(zip(prompts, answers, strict=True)):
        mask[row, len(p) - 1 : len(p) + len(a) - 1] = 1.0
    return mask


def next_token_logits(
    model: Any, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], pad: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits of every next token, those tokens, and 1.0 where they are the answers'.

    Shapes (rows, width - 1, vocabulary) and twice (rows, width - 1).
    """
    device = next(model.parameters()).device
    rows = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
    ids, mask = pad_tokens(rows, pad, device=device)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
    return logits, ids[:, 1:], answer_mask(prompts, answers, ids.shape[1], device)


def token_logps(
    model: Any, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], pad: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log probability of every next token, and 1.0 where it is the answers'.

    Both of shape (rows, width - 1).
    """
    logits, tokens, mask = next_token_logits(model, prompts, answers, pad)
    return torch.gather(torch.log_softmax(logits, -1), 2, tokens[:, :, None])[..., 0], mask
