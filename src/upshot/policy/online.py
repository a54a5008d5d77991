"""What methods share that draw answers while they train (rloo, grpo, ppo): rewards as TRL takes
them, and a KL penalty that is steered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from upshot.hub.trainers import quiet
from upshot.policy.job import Job, lora_of
from upshot.policy.kl import Controller
from upshot.policy.rewards import Part, Rewards
from upshot.preferences.export import messages
from upshot.records import Turn

COEFFICIENT = 0.05
"""Of the penalty, where the recipe says nothing."""


class Steered:
    """Mixed into a TRL trainer: its `beta` follows a controller, its answers are shown to a guard."""

    controller: Controller
    job: Job

    def seen_kl(self, model: Any, step: int) -> float | None:
        """Nats an answer by the last batch; moves the penalty's coefficient."""
        found, lengths = (
            self._metrics["train"].get(name) for name in ("kl", "completions/mean_length")
        )  # pyright: ignore[reportAttributeAccessIssue]
        if lengths:
            self._length = lengths[-1]
        if not found:
            return None
        nats = max(0.0, found[-1] * self._length)
        self.beta = self.controller.update(nats)
        self._metrics["train"]["kl_nats"].append(nats)  # pyright: ignore[reportAttributeAccessIssue]
        self._metrics["train"]["kl_coefficient"].append(self.beta)  # pyright: ignore[reportAttributeAccessIssue]
        return nats

    def worth_of_steps(self, inputs: Any, out: Any) -> list[list[tuple[int, float]]] | None:
        """For each answer of a batch where its steps end and what they are worth; None: the reward
        knows no steps.
        """
        steps = self.job.need_rewards().steps
        if steps is None:
            return None
        return steps(
            [asked(row) for row in inputs],
            answers_of(self, out),
            [self.job.data.prompts[row["row"]].facts for row in inputs],
        )

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        out = super()._generate_and_score_completions(inputs)  # pyright: ignore[reportAttributeAccessIssue]
        if self.job.guard is not None:
            self.job.guard.show([asked(row) for row in inputs], answers_of(self, out))
        return out


@quiet()
def open_trainer(job: Job, kind: type[Any], config: type[Any], **usual: Any) -> Any:
    """A trainer of answers that it draws itself."""
    from datasets import Dataset

    rewards, prompts = job.need_rewards(), job.need("prompts")
    coefficient = COEFFICIENT if job.recipe.kl.coefficient is None else job.recipe.kl.coefficient
    beta = coefficient or (
        1e-12 if job.recipe.kl.stop is not None else 0.0
    )  # TRL loads no reference for 0, and nothing could be seen
    drawn = {
        "max_completion_length": job.recipe.draw.max_tokens,
        "temperature": job.recipe.draw.temperature,
    }
    model, args = job.with_reference(
        config, beta=beta, **drawn, reward_weights=[part.weight for part in rewards.parts], **usual
    )
    data = Dataset.from_list(
        [{"prompt": messages(one.turns), "row": number} for number, one in enumerate(prompts)]
    )
    functions = [_as_trl(job, part) for part in rewards.parts]
    trainer = kind(
        model=model,
        reward_funcs=functions,
        args=args,
        train_dataset=data,
        processing_class=job.tokenizer,
        peft_config=lora_of(job.recipe),
    )
    trainer.job, trainer.controller = job, Controller(beta, job.recipe.kl.target)
    return trainer


def _as_trl(job: Job, part: Part) -> Callable[..., list[float]]:
    facts = [one.facts for one in job.data.prompts]

    def reward(
        prompts: Sequence[Any], completions: Sequence[Any], row: Sequence[int], **_: Any
    ) -> list[float]:
        asked_ = [[Turn(one["role"], one["content"]) for one in prompt] for prompt in prompts]
        return (
            Rewards((part,))
            .each(
                asked_, [one[0]["content"].strip() for one in completions], [facts[i] for i in row]
            )[0]
            .tolist()
        )

    reward.__name__ = part.name
    return reward


def asked(row: Any) -> list[Turn]:
    """The prompt of a row of the dataset."""
    return [Turn(one["role"], one["content"]) for one in row["prompt"]]


def answers_of(trainer: Any, out: Any) -> list[str]:
    """The answers of a batch as texts."""
    ids = [
        row[mask.bool()].tolist()
        for row, mask in zip(out["completion_ids"], out["completion_mask"], strict=True)
    ]
    return [
        text.strip()
        for text in trainer.processing_class.batch_decode(ids, skip_special_tokens=True)
    ]


def token_steps(tokenizer: Any, ids: Sequence[int], ends: Sequence[int]) -> list[int]:
    """The token with which each step ends, by the character where it ends."""
    found: list[int] = []
    for end in ends:
        low, high = 0, len(ids)
        while low < high:  # the least number of tokens whose text reaches that far
            middle = (low + high) // 2
            if len(tokenizer.decode(ids[:middle], skip_special_tokens=True)) >= end:
                high = middle
            else:
                low = middle + 1
        found.append(max(0, low - 1))
    return found
