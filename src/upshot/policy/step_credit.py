# trl, accelerate and datasets have no full types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportMissingTypeStubs=false
"""Trainers that give each step of an answer its own advantage, on top of TRL's `GRPOTrainer`.

TRL's loss takes advantages of shape (batch, tokens).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from datasets import Dataset
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from upshot.credit.conserve import Credit
from upshot.credit.training_signals import advantages
from upshot.errors import InputError
from upshot.hub.loss_masks import weigh_turns
from upshot.hub.padding import pad_rows
from upshot.hub.trainers import quiet
from upshot.policy.data import Run
from upshot.policy.job import Job, lora_of
from upshot.policy.kl import Controller
from upshot.policy.online import COEFFICIENT, NO_PENALTY, Steered, find_step_tokens

if TYPE_CHECKING:
    from upshot.policy.methods.grpo import GrpoOptions

_NONZERO = 1e-9
"""Added to a step's advantage: a weight of 0 would mark its tokens as not the assistant's."""


class SamplingTrainer(Steered, GRPOTrainer):
    """TRL's, steered, with an advantage for each token where the reward knows steps."""

    share = 0.3

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        out: Any = super()._generate_and_score_completions(inputs)
        if (steps := self.reward_steps(inputs, out)) is not None:
            out["advantages"] = mix_advantages(self.processing_class, out, steps, self.share)
        return out


def mix_advantages(
    tokenizer: Any, out: Any, steps: Sequence[Sequence[tuple[int, float]]], share: float
) -> torch.Tensor:
    """Advantages of shape (answers, tokens): the answer's own, mixed with its steps' rewards.

    `steps`: for each answer the end (a character) and reward of each step.
    """
    whole, mask = out["advantages"], out["completion_mask"]
    rewards = [value for answer in steps for _, value in answer]
    spread = float(np.std(rewards)) if rewards else 0.0
    result = whole[:, None].repeat(1, mask.shape[1])
    for row, answer in enumerate(steps):
        if not answer or spread == 0:
            continue
        ids = out["completion_ids"][row][mask[row].bool()].tolist()
        ends = find_step_tokens(tokenizer, ids, [end for end, _ in answer])
        own = np.array([value for _, value in answer])
        centred = (own - own.mean()) / spread
        start = 0
        for end, value in zip(ends, centred.tolist(), strict=True):
            result[row, start : end + 1] = (1 - share) * whole[row] + share * value
            start = end + 1
    return result


class LoggedTrainer(Steered, GRPOTrainer):
    """TRL's loss on logged runs of the present policy: nothing is sampled."""

    pad = 0

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        rows: list[dict[str, Any]] = [
            {**row, "ones": [1] * len(row["ids"])} for row in generation_batch
        ]
        device = self.accelerator.device

        def prompt_part(name: str, filler: float) -> torch.Tensor:
            parts = [row[name][: row["start"]] for row in rows]
            return pad_rows(parts, filler, left=True, device=device)

        def completion_part(name: str, filler: float) -> torch.Tensor:
            return pad_rows([row[name][row["start"] :] for row in rows], filler, device=device)

        inputs = {
            "prompt_ids": prompt_part("ids", self.pad),
            "prompt_mask": prompt_part("ones", 0),
            "completion_ids": completion_part("ids", self.pad),
            "completion_mask": completion_part("ones", 0),
            "tool_mask": completion_part("own", 0),
            "advantages": completion_part("advantages", 0.0).float(),
        }
        inputs["num_items_in_batch"] = (inputs["tool_mask"] * inputs["completion_mask"]).sum()
        self._metrics["train"]["completions/mean_length"].append(
            float(inputs["tool_mask"].sum(1).float().mean())
        )
        reference = self._reference_logps(inputs)
        # the base itself made the runs
        inputs["ref_per_token_logps"] = inputs["old_per_token_logps"] = reference
        return inputs

    def _reference_logps(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
        mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
        tokens = inputs["completion_ids"].shape[1]
        with torch.no_grad():
            if self.ref_model is not None:
                return self._get_per_token_logps_and_entropies(self.ref_model, ids, mask, tokens)[0]
            model: Any = self.accelerator.unwrap_model(self.model)
            with model.disable_adapter():
                return self._get_per_token_logps_and_entropies(self.model, ids, mask, tokens)[0]

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        rows: Any = self.train_dataset if dataset is None else dataset
        generator = torch.Generator().manual_seed(self.args.seed)
        return torch.utils.data.RandomSampler(rows, generator=generator)


@quiet()
def make_logged_trainer(job: Job, options: GrpoOptions) -> LoggedTrainer:
    """A trainer on the job's logged runs."""
    rows = tokenize_runs(
        job.tokenizer,
        job.data.runs,
        options.share,
        causal=options.causal,
        max_length=options.max_length,
    )
    coefficient = COEFFICIENT if job.recipe.kl.coefficient is None else job.recipe.kl.coefficient
    model, args = job.with_reference(
        GRPOConfig,
        beta=coefficient or NO_PENALTY,
        steps_per_generation=1,
        num_generations=2,
        scale_rewards="none",
    )
    functions: Any = [_refuse_reward]
    trainer = LoggedTrainer(
        model=model,
        reward_funcs=functions,
        args=args,
        train_dataset=Dataset.from_list(rows),
        processing_class=job.tokenizer,
        peft_config=lora_of(job.recipe),
    )
    trainer.job, trainer.pad = job, job.tokenizer.pad_token_id
    trainer.controller = Controller(coefficient, job.recipe.kl.target)
    return trainer


def _refuse_reward(prompts: Sequence[Any], completions: Sequence[Any], **_: Any) -> list[float]:
    raise InputError("could not reward an answer: logged runs have their outcome")


def tokenize_runs(
    tokenizer: Any, runs: Sequence[Run], share: float, *, causal: bool, max_length: int
) -> list[dict[str, Any]]:
    """Runs as tokens, each step's with its advantage in units of the outcomes' spread.

    Without credits every step has the outcome's advantage.
    """
    credits = [
        Credit(
            "",
            run.outcome,
            run.credits or tuple([run.outcome / len(run.steps)] * len(run.steps)),
            "",
            luck=run.residual,
        )
        for run in runs
    ]
    has_credits = all(run.credits for run in runs)
    step_advantages = advantages(
        credits, share if has_credits else 0.0, causal=causal and has_credits
    )
    spread = float(np.std([run.outcome for run in runs])) or 1.0
    rows: list[dict[str, Any]] = []
    for run, values in zip(runs, step_advantages, strict=True):
        weights = np.zeros(len(run.turns))
        weights[list(run.steps)] = values / spread + _NONZERO
        tokens = weigh_turns(tokenizer, run.turns, weights.tolist())
        own = [int(weight != 0) for weight in tokens.weight]
        rows.append(
            {
                "prompt": "",
                "ids": tokens.ids[:max_length],
                "own": own[:max_length],
                "advantages": tokens.weight[:max_length],
                "start": own.index(1),
            }
        )
    return rows
