"""How far a policy is from its base, and what keeps it near.

KL is that of whole answers, in nats: along answers drawn from the policy, the exact divergence of
the next token's two distributions, summed over the answer's tokens. It is never negative, and its
expectation is KL(π ‖ π_base) of answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import TrainerCallback

from upshot.hub.sampling import Drawing, Local
from upshot.policy.recipe import Kl

_GAIN = 0.1
"""Most by which one step moves the penalty's coefficient, relative (Ziegler et al., 2019, eq. 5).
"""
_CLIP = 0.2
_TOKENS = 24_000


class Distance(NamedTuple):
    """KL(π ‖ π_base) of answers."""

    nats: float
    error: float
    """Standard error over prompts."""


class Controller:
    """Steers the penalty's coefficient so that the achieved KL meets a target (Ziegler et al.,
    2019).
    """

    def __init__(self, coefficient: float, target: float | None) -> None:
        self.coefficient, self.target = coefficient, target

    def update(self, nats: float) -> float:
        """After a step whose answers were so far from the base; returns the next coefficient.

        >>> round(Controller(0.1, 6.0).update(12.0), 6)
        0.102
        """
        if self.target:
            self.coefficient *= 1 + _GAIN * float(np.clip(nats / self.target - 1, -_CLIP, _CLIP))
        return self.coefficient


@contextmanager
def without_adapter(model: Any):
    """The base of a model with an adapter."""
    with model.disable_adapter():
        yield model


def has_adapter(model: Any) -> bool:
    """Is it a base with an adapter that can be switched off?"""
    return hasattr(model, "disable_adapter") and hasattr(model, "peft_config")


def measure(
    policy: Any,
    base: Any | None,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    drawing: Drawing,
) -> Distance:
    """KL of answers to these prompts (token ids).

    `base`: None where the policy is an adapter that can be switched off.
    """
    if not len(prompts):
        return Distance(float("nan"), float("nan"))
    answers = Local(policy, tokenizer).draw(prompts, drawing)
    nats = np.array(
        along(policy, base, tokenizer.pad_token_id, prompts, answers, drawing.temperature or 1.0)
    )
    return Distance(
        float(nats.mean()),
        float(nats.std(ddof=1) / np.sqrt(len(nats))) if len(nats) > 1 else float("nan"),
    )


def along(
    policy: Any,
    base: Any | None,
    pad: int,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    temperature: float = 1.0,
) -> list[float]:
    """For each answer the sum over its tokens of KL(π(. | before) ‖ π_base(. | before))."""
    out: list[float] = []
    width = max(len(p) + len(a) for p, a in zip(prompts, answers, strict=True))
    size = max(1, _TOKENS // width)
    training = policy.training
    policy.eval()
    for start in range(0, len(prompts), size):
        asked, said = prompts[start : start + size], answers[start : start + size]
        with torch.inference_mode():
            ours = _next(policy, pad, asked, said, temperature)
            if base is None:
                with without_adapter(policy):
                    theirs = _next(policy, pad, asked, said, temperature)
            else:
                theirs = _next(base, pad, asked, said, temperature)
            each = (ours.exp() * (ours - theirs)).sum(-1)
        out += [
            float(row[len(p) - 1 : len(p) + len(a) - 1].sum())
            for row, p, a in zip(each, asked, said, strict=True)
        ]
    policy.train(training)
    return out


def _next(
    model: Any,
    pad: int,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    temperature: float,
) -> torch.Tensor:
    rows = [[*p, *a] for p, a in zip(prompts, answers, strict=True)]
    width, device = max(map(len, rows)), next(model.parameters()).device
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
    return torch.log_softmax(
        model(input_ids=ids, attention_mask=mask, use_cache=False).logits.float() / temperature,
        dim=-1,
    )


class Bound(TrainerCallback):
    """Ends training before the policy is further from its base than it may be, at the last step
    that was seen within.

    `look` gives the present KL, or None where this step has none.
    """

    def __init__(self, rule: Kl, look: Callable[[Any, int], float | None]) -> None:
        self.rule, self.look = rule, look
        self.stopped = ""
        self.readings: list[tuple[int, float]] = []
        self._kept: list[torch.Tensor] | None = None

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, **_: Any
    ) -> None:
        if self.rule.stop is not None:
            self._keep(model)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        found = self.look(model, state.global_step)
        if found is None:
            return
        self.readings.append((state.global_step, found))
        if self.rule.stop is None:
            return
        if found > self.rule.stop:
            self._restore(model)
            before = self.readings[-2] if len(self.readings) > 1 else (0, 0.0)
            self.stopped = (
                f"KL {found:.2f} nats an answer at step {state.global_step} is over the bound of"
                f" {self.rule.stop:g}: went back to step {before[0]} ({before[1]:.2f})"
            )
            control.should_training_stop = True
        else:
            self._keep(model)

    def _keep(self, model: Any) -> None:
        self._kept = [
            p.detach().to("cpu", copy=True) for p in model.parameters() if p.requires_grad
        ]

    def _restore(self, model: Any) -> None:
        assert self._kept is not None
        with torch.no_grad():
            for p, kept in zip(
                (p for p in model.parameters() if p.requires_grad), self._kept, strict=True
            ):
                p.copy_(kept.to(p.device))
