# datasets has no full types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""What methods share that sample while they train (rloo, grpo, ppo): rewards, a steered penalty."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from datasets import Dataset

from upshot.hub.trainers import quiet
from upshot.policy.job import Job, lora_of
from upshot.policy.kl import Controller
from upshot.policy.rewards import Part, Rewards
from upshot.records import Turn
from upshot.records.training import turns_to_messages

COEFFICIENT = 0.05
"""Of the penalty where the recipe states none; between TRL's defaults of 0.04 and 0.05."""
NO_PENALTY = 1e-12
"""A penalty of nothing: at 0 TRL loads no reference, and KL could not be measured."""


class Steered:
    """Mixed into a TRL trainer: `beta` follows a controller, a guard is shown the answers."""

    controller: Controller
    job: Job
    _answer_length = 0.0

    def read_kl(self, model: Any, step: int) -> float | None:
        """Nats per answer by the last batch; steers the penalty's coefficient."""
        trainer: Any = self
        metrics = trainer._metrics["train"]
        if lengths := metrics.get("completions/mean_length"):
            self._answer_length = lengths[-1]
        if not (per_token := metrics.get("kl")):
            return None
        nats = max(0.0, per_token[-1] * self._answer_length)
        trainer.beta = self.controller.update(nats)
        metrics["kl_nats"].append(nats)
        metrics["kl_coefficient"].append(trainer.beta)
        return nats

    def reward_steps(self, inputs: Any, out: Any) -> list[list[tuple[int, float]]] | None:
        """End (a character) and reward of each answer's steps; None: the reward has no steps."""
        steps = self.job.need_rewards().steps
        if steps is None:
            return None
        places: list[int] = [row["row"] for row in inputs]
        return steps(
            [prompt_of(row) for row in inputs],
            decode_answers(self, out),
            [self.job.data.prompts[place].facts for place in places],
        )

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        trainer: Any = super()
        out = trainer._generate_and_score_completions(inputs)
        if self.job.guard is not None:
            self.job.guard.show([prompt_of(row) for row in inputs], decode_answers(self, out))
        return out


@quiet()
def make_online_trainer(job: Job, kind: type[Any], config: type[Any]) -> Any:
    """A trainer that samples answers to the job's prompts."""
    rewards, prompts = job.need_rewards(), job.need_prompts()
    coefficient = COEFFICIENT if job.recipe.kl.coefficient is None else job.recipe.kl.coefficient
    beta = coefficient or (NO_PENALTY if job.recipe.kl.stop is not None else 0.0)
    model, args = job.with_reference(
        config,
        beta=beta,
        max_completion_length=job.recipe.draw.max_tokens,
        temperature=job.recipe.draw.temperature,
        reward_weights=[part.weight for part in rewards.parts],
    )
    rows = [
        {"prompt": turns_to_messages(prompt.turns), "row": number}
        for number, prompt in enumerate(prompts)
    ]
    trainer = kind(
        model=model,
        reward_funcs=[_make_reward_function(job, part) for part in rewards.parts],
        args=args,
        train_dataset=Dataset.from_list(rows),
        processing_class=job.tokenizer,
        peft_config=lora_of(job.recipe),
    )
    trainer.job, trainer.controller = job, Controller(beta, job.recipe.kl.target)
    return trainer


def _make_reward_function(job: Job, part: Part) -> Callable[..., list[float]]:
    """A reward as TRL calls it."""
    facts = [prompt.facts for prompt in job.data.prompts]

    def reward(
        prompts: Sequence[Any], completions: Sequence[Any], row: Sequence[int], **_: Any
    ) -> list[float]:
        values = Rewards((part,)).score_parts(
            [_parse_messages(prompt) for prompt in prompts],
            [completion[0]["content"].strip() for completion in completions],
            [facts[i] for i in row],
        )
        return values[0].tolist()

    reward.__name__ = part.name
    return reward


def _parse_messages(messages: Sequence[Any]) -> list[Turn]:
    return [Turn(message["role"], message["content"]) for message in messages]


def prompt_of(row: Any) -> list[Turn]:
    """The prompt of a row of the dataset."""
    return _parse_messages(row["prompt"])


def decode_answers(trainer: Any, out: Any) -> list[str]:
    """The answers of a batch as texts."""
    ids = [
        row[mask.bool()].tolist()
        for row, mask in zip(out["completion_ids"], out["completion_mask"], strict=True)
    ]
    texts = trainer.processing_class.batch_decode(ids, skip_special_tokens=True)
    return [text.strip() for text in texts]


def find_step_tokens(tokenizer: Any, ids: Sequence[int], ends: Sequence[int]) -> list[int]:
    """The token with which each step ends, from the character where it ends."""
    tokens: list[int] = []
    for end in ends:
        low, high = 0, len(ids)
        while low < high:  # the smallest number of tokens whose text reaches that far
            middle = (low + high) // 2
            if len(tokenizer.decode(ids[:middle], skip_special_tokens=True)) >= end:
                high = middle
            else:
                low = middle + 1
        tokens.append(max(0, low - 1))
    return tokens
