"""Group relative policy optimisation with step credit: TRL's `GRPOTrainer`, whose loss takes
advantages of shape (batch, tokens).

Two ways to give credit: a reward whose `steps` say what each part of an answer is worth, while
answers are drawn; or logged runs of the present policy with credits, and nothing is drawn. Both
mix, A = (1 − λ)(R − b) + λ T (c − mean c), with λ at most .4 (METHODS, "Credit").
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from upshot.credit.conserve import Credit
from upshot.credit.training_signals import advantages
from upshot.hub.loss_masks import weighed
from upshot.hub.trainers import quiet
from upshot.policy.data import Run
from upshot.policy.job import Job, lora_of
from upshot.policy.kl import Controller
from upshot.policy.online import COEFFICIENT, Steered, open_trainer, token_steps
from upshot.policy.recipe import options

CONFIG = GRPOConfig


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of this method."""

    share: float = 0.3
    causal: bool = False
    max_length: int = 4096


def fit(job: Job) -> Path:
    """Learn from logged runs where there are any, else from answers that are drawn."""
    chosen = options(job.recipe, Options)
    if job.data.runs:
        trainer = _logged(job, chosen)
    else:
        trainer = open_trainer(job, _Drawing, CONFIG)
        trainer.share = chosen.share
    return job.run(trainer, trainer.seen_kl)


class _Drawing(Steered, GRPOTrainer):
    """TRL's, steered, with an advantage for each token where the reward knows steps."""

    share = 0.3

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        out = super()._generate_and_score_completions(inputs)
        if (found := self.worth_of_steps(inputs, out)) is not None:
            out["advantages"] = mixed(self.processing_class, out, found, self.share)
        return out


def mixed(
    tokenizer: Any, out: Any, found: Sequence[Sequence[tuple[int, float]]], share: float
) -> torch.Tensor:
    """Advantages of shape (answers, tokens): the answer's own, mixed with what its steps are worth.

    `found`: (end, worth) of each step.
    """
    whole, mask = out["advantages"], out["completion_mask"]
    spread = float(np.std([value for steps in found for _, value in steps])) if any(found) else 0.0
    result = whole[:, None].repeat(1, mask.shape[1])
    for row, steps in enumerate(found):
        if not steps or spread == 0:
            continue
        ids = out["completion_ids"][row][mask[row].bool()].tolist()
        ends = token_steps(tokenizer, ids, [end for end, _ in steps])
        worth = np.array([value for _, value in steps])
        centred = (worth - worth.mean()) / spread
        start = 0
        for end, value in zip(ends, centred.tolist(), strict=True):
            result[row, start : end + 1] = (1 - share) * whole[row] + share * value
            start = end + 1
    return result


class _Logged(Steered, GRPOTrainer):
    """TRL's loss on runs that the policy made before: nothing is drawn."""

    pad = 0

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        rows = generation_batch
        width, long = (
            max(row["start"] for row in rows),
            max(len(row["ids"]) - row["start"] for row in rows),
        )

        def table(name: str, left: bool, filler: float) -> torch.Tensor:
            out = []
            for row in rows:
                part = row[name][: row["start"]] if left else row[name][row["start"] :]
                gap = [filler] * ((width if left else long) - len(part))
                out.append([*gap, *part] if left else [*part, *gap])
            return torch.tensor(out, device=self.accelerator.device)

        rows = [{**row, "ones": [1] * len(row["ids"])} for row in rows]
        inputs = {
            "prompt_ids": table("ids", True, self.pad),
            "prompt_mask": table("ones", True, 0),
            "completion_ids": table("ids", False, self.pad),
            "completion_mask": table("ones", False, 0),
            "tool_mask": table("own", False, 0),
            "advantages": table("advantages", False, 0.0).float(),
        }
        inputs["num_items_in_batch"] = (inputs["tool_mask"] * inputs["completion_mask"]).sum()
        self._metrics["train"]["completions/mean_length"].append(
            float(inputs["tool_mask"].sum(1).float().mean())
        )
        inputs["ref_per_token_logps"] = inputs["old_per_token_logps"] = self._reference(
            inputs
        )  # the base is who made the runs
        return inputs

    def _reference(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
        seen = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
        with torch.no_grad():
            if self.ref_model is not None:
                return self._get_per_token_logps_and_entropies(
                    self.ref_model, ids, seen, inputs["completion_ids"].shape[1]
                )[0]
            with self.accelerator.unwrap_model(self.model).disable_adapter():
                return self._get_per_token_logps_and_entropies(
                    self.model, ids, seen, inputs["completion_ids"].shape[1]
                )[0]

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        return torch.utils.data.RandomSampler(
            self.train_dataset if dataset is None else dataset,
            generator=torch.Generator().manual_seed(self.args.seed),
        )  # pyright: ignore[reportArgumentType]


@quiet()
def _logged(job: Job, chosen: Options) -> _Logged:
    from datasets import Dataset

    rows = logged_rows(job.tokenizer, job.data.runs, chosen.share, chosen.causal, chosen.max_length)
    coefficient = COEFFICIENT if job.recipe.kl.coefficient is None else job.recipe.kl.coefficient
    model, args = job.with_reference(
        CONFIG,
        beta=coefficient or 1e-12,
        steps_per_generation=1,
        num_generations=2,
        scale_rewards="none",
    )
    nothing: Any = [_nothing]
    trainer = _Logged(
        model=model,
        reward_funcs=nothing,
        args=args,
        train_dataset=Dataset.from_list(rows),
        processing_class=job.tokenizer,
        peft_config=lora_of(job.recipe),
    )
    trainer.job, trainer.controller, trainer.pad = (
        job,
        Controller(coefficient, job.recipe.kl.target),
        job.tokenizer.pad_token_id,
    )
    return trainer


def _nothing(prompts: Sequence[Any], completions: Sequence[Any], **_: Any) -> list[float]:
    raise AssertionError("runs that were logged have their outcome")


def logged_rows(
    tokenizer: Any, runs: Sequence[Run], share: float, causal: bool, max_length: int
) -> list[dict[str, Any]]:
    """Runs as tokens; on the tokens of each step its advantage, in units of the outcomes' spread.

    Without credits: the outcome on every step.
    """
    credits = [
        Credit(
            "",
            run.outcome,
            run.credits or tuple([run.outcome / len(run.steps)] * len(run.steps)),
            "",
            luck=run.luck,
        )
        for run in runs
    ]
    split = all(run.credits for run in runs)
    each = advantages(credits, share if split else 0.0, causal=causal and split)
    spread = float(np.std([run.outcome for run in runs])) or 1.0
    rows: list[dict[str, Any]] = []
    for run, values in zip(runs, each, strict=True):
        weights = np.zeros(len(run.turns))
        weights[list(run.steps)] = (
            values / spread + 1e-9
        )  # a weight of 0 would mark the step as not the assistant's
        found = weighed(tokenizer, run.turns, weights.tolist())
        own = [int(w != 0) for w in found.weight]
        rows.append(
            {
                "prompt": "",
                "ids": found.ids[:max_length],
                "own": own[:max_length],
                "advantages": found.weight[:max_length],
                "start": own.index(1),
            }
        )
    return rows
