"""How far a policy is from its base, and what keeps it near.

KL is that of whole answers, in nats: along answers sampled from the policy, the exact divergence of
the two distributions of the next token, summed over the answer's tokens. It is never negative, and
its expectation is KL(π ‖ π_base) of answers.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import TrainerCallback

from upshot.errors import InputError
from upshot.hub.padding import pad_tokens
from upshot.hub.sampling import MAX_BATCH_TOKENS, Drawing, Local
from upshot.policy.recipe import Kl

_GAIN = 0.1
"""Gain of the controller, relative per step (Ziegler et al., 2019, section 2.2)."""
_CLIP = 0.2
"""Largest relative error that the controller reacts to (the same)."""


class Distance(NamedTuple):
    """KL(π ‖ π_base) of answers."""

    nats: float
    error: float
    """Standard error over prompts."""


class Controller:
    """Steers the penalty's coefficient so that KL meets a target (Ziegler et al., 2019)."""

    def __init__(self, coefficient: float, target: float | None) -> None:
        self.coefficient, self.target = coefficient, target

    def update(self, nats: float) -> float:
        """Take the KL of a step's answers, and return the next coefficient.

        >>> round(Controller(0.1, 6.0).update(12.0), 6)
        0.102
        """
        if self.target:
            self.coefficient *= 1 + _GAIN * float(np.clip(nats / self.target - 1, -_CLIP, _CLIP))
        return self.coefficient


@contextmanager
def without_adapter(model: Any) -> Generator[Any]:
    """The base of a model with an adapter, which is switched off meanwhile."""
    with model.disable_adapter():
        yield model


def has_adapter(model: Any) -> bool:
    """Whether a model is a base with an adapter that can be switched off."""
    return hasattr(model, "disable_adapter") and hasattr(model, "peft_config")


def measure(
    policy: Any,
    base: Any | None,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    drawing: Drawing,
) -> Distance:
    """KL of answers to prompts (token ids), from a base.

    `base`: None where the policy is an adapter that can be switched off.
    """
    if not len(prompts):
        return Distance(float("nan"), float("nan"))
    answers = Local(policy, tokenizer).draw(prompts, drawing)
    temperature = drawing.temperature or 1.0
    nats = np.array(
        sum_divergence(
            policy, base, prompts, answers, pad=tokenizer.pad_token_id, temperature=temperature
        )
    )
    error = float(nats.std(ddof=1) / np.sqrt(len(nats))) if len(nats) > 1 else float("nan")
    return Distance(float(nats.mean()), error)


def sum_divergence(
    policy: Any,
    base: Any | None,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    *,
    pad: int,
    temperature: float = 1.0,
) -> list[float]:
    """For each answer the sum over its tokens of KL(π(. | before) ‖ π_base(. | before))."""
    out: list[float] = []
    width = max(len(p) + len(a) for p, a in zip(prompts, answers, strict=True))
    size = max(1, MAX_BATCH_TOKENS // width)
    training = policy.training
    policy.eval()
    for start in range(0, len(prompts), size):
        stop = start + size
        pairs = list(zip(prompts[start:stop], answers[start:stop], strict=True))
        ids, mask = pad_tokens([[*prompt, *answer] for prompt, answer in pairs], pad)
        with torch.inference_mode():
            ours = _next_logps(policy, ids, mask, temperature)
            if base is None:
                with without_adapter(policy):
                    theirs = _next_logps(policy, ids, mask, temperature)
            else:
                theirs = _next_logps(base, ids, mask, temperature)
            kl = (ours.exp() * (ours - theirs)).sum(-1)
        out += [
            float(row[len(prompt) - 1 : len(prompt) + len(answer) - 1].sum())
            for row, (prompt, answer) in zip(kl, pairs, strict=True)
        ]
    policy.train(training)
    return out


def _next_logps(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Log probabilities of every token of the vocabulary at every place."""
    device = next(model.parameters()).device
    outputs = model(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False)
    return torch.log_softmax(outputs.logits.float() / temperature, dim=-1)


class Bound(TrainerCallback):
    """Ends training when the policy is too far from its base, back at the last step within bounds.

    `read_kl` gives the present KL, or None where this step has none.
    """

    def __init__(self, rule: Kl, read_kl: Callable[[Any, int], float | None]) -> None:
        self.rule, self.read_kl = rule, read_kl
        self.stopped = ""
        self.readings: list[tuple[int, float]] = []
        self._weights: list[torch.Tensor] | None = None

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, **_: Any
    ) -> None:
        if self.rule.stop is not None:
            self._store(model)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        nats = self.read_kl(model, state.global_step)
        if nats is None:
            return
        self.readings.append((state.global_step, nats))
        if self.rule.stop is None:
            return
        if nats > self.rule.stop:
            self._restore(model)
            before = self.readings[-2] if len(self.readings) > 1 else (0, 0.0)
            self.stopped = (
                f"KL {nats:.2f} nats per answer at step {state.global_step} is over the bound of"
                f" {self.rule.stop:g}: went back to step {before[0]} ({before[1]:.2f})"
            )
            control.should_training_stop = True
        else:
            self._store(model)

    def _store(self, model: Any) -> None:
        self._weights = [
            p.detach().to("cpu", copy=True) for p in model.parameters() if p.requires_grad
        ]

    def _restore(self, model: Any) -> None:
        if self._weights is None:
            raise InputError("could not go back to a step within the bound: none was stored")
        trained = (p for p in model.parameters() if p.requires_grad)
        with torch.no_grad():
            for parameter, weights in zip(trained, self._weights, strict=True):
                parameter.copy_(weights.to(parameter.device))
