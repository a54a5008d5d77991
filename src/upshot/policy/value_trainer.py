# trl, accelerate and safetensors have no full types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
"""The trainer of proximal policy optimisation (Schulman et al., 2017) for language models.

A value of every token, generalised advantage estimation, clipped steps, and a penalty on every
token's distance from the base whose coefficient is steered to a target (Ziegler et al., 2019). TRL
1.16 has no such trainer. Sampling, rewards, checkpoints and the clipped loss are those of its
`GRPOTrainer`; the value head, the advantages and the penalty are here. The value head reads the
policy's last hidden layer, and is thrown away with the run.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from trl.trainer.grpo_trainer import GRPOTrainer

from upshot.policy.online import Steered, find_step_tokens

if TYPE_CHECKING:
    from upshot.policy.methods.ppo import PpoOptions

_HEAD_FILE = "value_head.safetensors"
_MIN_VARIANCE = 1e-8
"""Of advantages, so that equal ones can be divided by their spread."""


def estimate_advantages(
    rewards: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, gamma: float, lam: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Advantages and returns of every token, all of shape (answers, tokens).

    Nothing comes after the mask's end. A_t = Σ_k (γλ)^k δ_{t+k}, δ_t = r_t + γ V_{t+1} − V_t;
    returns are A + V (Schulman et al., 2016).

    >>> rewards, values = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.5, 0.5]])
    >>> a, r = estimate_advantages(rewards, values, torch.ones(1, 2), 1.0, 1.0)
    >>> a.tolist(), r.tolist()
    ([[0.5, 0.5]], [[1.0, 1.0]])
    """
    advantages = torch.zeros_like(rewards)
    after, value_after = rewards.new_zeros(len(rewards)), rewards.new_zeros(len(rewards))
    for t in range(rewards.shape[1] - 1, -1, -1):
        delta = rewards[:, t] + gamma * value_after - values[:, t]
        after = (delta + gamma * lam * after) * mask[:, t]
        value_after = values[:, t] * mask[:, t]
        advantages[:, t] = after
    return advantages, (advantages + values) * mask


class ValueTrainer(Steered, GRPOTrainer):
    """TRL's, steered, with a value head."""

    def add_value_head(self, options: PpoOptions) -> None:
        """Put the value head on the policy, and listen to its last hidden layer."""
        self.options = options
        model: Any = self.model
        inner: Any = model.get_base_model() if hasattr(model, "get_base_model") else model
        size = inner.config.get_text_config().hidden_size
        head = torch.nn.Linear(size, 1, dtype=torch.float32, device=next(inner.parameters()).device)
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
        model.add_module("value_head", head)
        inner.base_model.register_forward_hook(self._listen)

    def _listen(self, module: Any, inputs: Any, out: Any) -> None:
        self._hidden = out.last_hidden_state

    def _values(self, tokens: int) -> torch.Tensor:
        """Values before each of the last tokens, from the forward pass that was just made."""
        head: Any = self.accelerator.unwrap_model(self.model).value_head
        return head(self._hidden[:, -tokens - 1 : -1].float())[..., 0]

    def _calculate_rewards(self, *inputs: Any) -> Any:
        self._rewards: Any = super()._calculate_rewards(*inputs)
        return self._rewards

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        out: Any = super()._generate_and_score_completions(inputs)
        mask = out["completion_mask"].float()
        tokens = mask.shape[1]
        ids = torch.cat([out["prompt_ids"], out["completion_ids"]], dim=1)
        attended = torch.cat([out["prompt_mask"], out["completion_mask"]], dim=1)
        with torch.no_grad():
            old = self._get_per_token_logps_and_entropies(self.model, ids, attended, tokens)[0]
            values = self._values(tokens) * mask
        reference = out.get("ref_per_token_logps")
        away = (old - reference) * mask if reference is not None else torch.zeros_like(old)
        rewards = -self.controller.coefficient * away
        first = self.accelerator.process_index * len(mask)
        totals = (self._rewards * self.reward_weights.to(mask.device)).nansum(dim=1)
        self._pay(rewards, totals[first : first + len(mask)], out, inputs)
        advantages, returns = estimate_advantages(
            rewards, values, mask, self.options.gamma, self.options.lam
        )
        sums = torch.stack([advantages.sum(), (advantages**2).sum(), mask.sum()])[None]
        gathered: Any = self.accelerator.gather(sums)
        total, squares, count = gathered.sum(0)
        mean = total / count
        spread = (squares / count - mean**2).clamp(min=_MIN_VARIANCE).sqrt()
        out |= {
            "advantages": (advantages - mean) / spread * mask,
            "old_per_token_logps": old,
            "returns": returns,
            "values": values,
        }
        self._metrics["train"]["kl"].append(float(away.sum() / mask.sum()))
        return out

    def _pay(self, rewards: torch.Tensor, totals: torch.Tensor, out: Any, inputs: Any) -> None:
        """Pay each answer's reward at its last token.

        Where the reward knows steps, theirs are paid where they end and the rest at the last token.
        """
        last = out["completion_mask"].sum(1).clamp(min=1) - 1
        row = torch.arange(len(rewards), device=rewards.device)
        for i, steps in enumerate(self.reward_steps(inputs, out) or ()):
            ids = out["completion_ids"][i][out["completion_mask"][i].bool()].tolist()
            ends = find_step_tokens(self.processing_class, ids, [end for end, _ in steps])
            for end, (_, value) in zip(ends, steps, strict=True):
                rewards[i, end] += value
                totals[i] -= value
        rewards[row, last] += totals

    def _compute_loss(self, model: Any, inputs: Any) -> Any:
        steered, self.beta = self.beta, 0.0  # the penalty is in the rewards
        try:
            loss = super()._compute_loss(model, inputs)
        finally:
            self.beta = steered
        mask = inputs["completion_mask"].float()
        values, old, returns = self._values(mask.shape[1]), inputs["values"], inputs["returns"]
        near = old + (values - old).clamp(-self.options.value_clip, self.options.value_clip)
        error = torch.maximum((values - returns) ** 2, (near - returns) ** 2)
        value_loss = 0.5 * (error * mask).sum() / mask.sum().clamp(min=1)
        self._metrics["train"]["value_loss"].append(float(value_loss.detach()))
        return (
            loss + self.options.value_weight * value_loss / self.current_gradient_accumulation_steps
        )

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The policy without its value head; a checkpoint has it in a file of its own."""
        model: Any = self.accelerator.unwrap_model(self.model)
        head = model.value_head
        del model.value_head
        try:
            super().save_model(output_dir, _internal_call)
        finally:
            model.value_head = head
        if _internal_call and output_dir is not None and self.accelerator.is_main_process:
            save_file(head.state_dict(), Path(output_dir) / _HEAD_FILE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        inner: Any = self.accelerator.unwrap_model(self.model)
        head = inner.value_head
        del inner.value_head
        try:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        finally:
            inner.value_head = head
        head.load_state_dict(load_file(Path(resume_from_checkpoint) / _HEAD_FILE))
