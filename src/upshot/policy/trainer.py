"""Our own trainer, for methods that TRL lacks: transformers' `Trainer` on lists of tokens, with a
loss of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from transformers import Trainer, TrainingArguments

from upshot.hub.trainers import quiet
from upshot.policy.job import Job, lora_of

CONFIG = TrainingArguments
Loss = Callable[[Any, Any], torch.Tensor]
"""The loss of a batch; model and batch (a list of rows) in."""


class ListTrainer(Trainer):
    """Batches are lists of rows; `loss_of` makes one number of a model and such a list."""

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
def list_trainer(job: Job, rows: Sequence[Mapping[str, Any]], loss: Loss) -> ListTrainer:
    """A trainer of rows (dictionaries of lists of numbers) by a loss."""
    from datasets import Dataset

    model = job.model()
    if (lora := lora_of(job.recipe)) is not None:
        from peft import get_peft_model

        model = get_peft_model(model, lora)
    args = job.arguments(CONFIG, remove_unused_columns=False)
    trainer = ListTrainer(
        model=model,
        args=args,
        train_dataset=Dataset.from_list([dict(row) for row in rows]),
        data_collator=lambda batch: {"rows": batch},
    )
    trainer.loss_of = loss
    trainer.can_return_loss = True
    return trainer


def padded(
    rows: Sequence[Sequence[int]], pad: int, device: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask, padded on the right."""
    width = max(map(len, rows))
    ids = torch.tensor([list(row) + [pad] * (width - len(row)) for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
    return ids, mask


def answer_mask(
    prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], width: int, device: Any
) -> torch.Tensor:
    """1.0 where the next token is the answer's, shape (rows, width - 1)."""
    mask = torch.zeros(len(prompts), width - 1, device=device)
    for row, (p, a) in enumerate(zip(prompts, answers, strict=True)):
        mask[row, len(p) - 1 : len(p) + len(a) - 1] = 1.0
    return mask


def token_logps(
    model: Any, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], pad: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log probability of every next token, and which of them are the answers'; shape (rows, width -
    1).
    """
    device = next(model.parameters()).device
    ids, seen = padded([[*p, *a] for p, a in zip(prompts, answers, strict=True)], pad, device)
    logits = model(input_ids=ids, attention_mask=seen, use_cache=False).logits[:, :-1].float()
    logps = torch.gather(torch.log_softmax(logits, -1), 2, ids[:, 1:, None])[..., 0]
    return logps, answer_mask(prompts, answers, ids.shape[1], device)
