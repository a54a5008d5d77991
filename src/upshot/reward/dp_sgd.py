# opacus and torch have no full types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportMissingTypeStubs=false
"""DP-SGD by user for transformers (Abadi et al., 2016), on Opacus.

A step draws each user with the same probability, and of a drawn user one row at random, so that a
record of the mechanism is a person, not a row. The gradients of a pair's two sequences are added up
before they are clipped.
"""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from opacus import GradSampleModule
from opacus.accountants.utils import get_noise_multiplier
from opacus.optimizers import DPOptimizer

from upshot.errors import InputError
from upshot.reward.private import Privacy

if TYPE_CHECKING:
    from upshot.reward.transformer import Item

_MIN_USERS = 20
"""With fewer nothing but noise is left."""


@contextmanager
def _quiet() -> Generator[None]:
    """Without Opacus's remarks on Rényi orders and on inputs that need no gradient."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s)Optimal order|Full backward hook", UserWarning)
        yield


@_quiet()
def fit(
    model: Any,
    args: Any,
    items: Sequence[Item],
    collate: Callable[[Sequence[Item]], dict[str, torch.Tensor]],
    losses: Callable[[torch.Tensor, dict[str, torch.Tensor]], torch.Tensor],
    *,
    privacy: Privacy,
    progress: Callable[[int, int], None],
) -> None:
    """Train in place.

    Of `args` (trl.RewardConfig): learning_rate, weight_decay, num_train_epochs,
    per_device_train_batch_size, and max_grad_norm, to which a user's gradient is clipped.

    Raises:
        InputError: too few users.
    """
    by_user: dict[str, list[Item]] = {}
    for item in items:
        by_user.setdefault(item.owner, []).append(item)
    names = sorted(by_user)
    if len(names) < _MIN_USERS:
        raise InputError(f"could not train on {len(names)} users: at least {_MIN_USERS} are needed")
    rate = min(1.0, args.per_device_train_batch_size / len(names))
    steps = max(1, round(args.num_train_epochs / rate))
    rng = np.random.default_rng(secrets.randbits(256))
    _freeze_norms(model)
    wrapped: Any = GradSampleModule(model, loss_reduction="sum", strict=False)
    trained = [parameter for parameter in wrapped.parameters() if parameter.requires_grad]
    optimiser = _make_optimiser(trained, args, privacy, rate=rate, steps=steps, users=len(names))
    device = trained[0].device
    wrapped.train()
    for step in range(steps):
        drawn = [
            by_user[name][int(rng.integers(len(by_user[name])))]
            for name, is_drawn in zip(names, rng.random(len(names)) < rate, strict=True)
            if is_drawn
        ]
        optimiser.zero_grad()
        if drawn:
            batch = {name: value.to(device) for name, value in collate(drawn).items()}
            logits = wrapped(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                use_cache=False,
            ).logits.float()
            (losses(logits, batch) * batch["weight"]).sum().backward()
            join_pairs(trained, batch["second"])
        else:  # nobody was drawn: a step of noise alone
            for parameter in trained:
                parameter.grad_sample = parameter.new_zeros((0, *parameter.shape))
        optimiser.step()
        progress(step + 1, steps)
    wrapped.to_standard_module()


def _freeze_norms(model: Any) -> None:
    """Freeze what Opacus has no per-sample gradients for: all but linear layers and embeddings."""
    for module in model.modules():
        if not isinstance(module, torch.nn.Linear | torch.nn.Embedding):
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)


def _make_optimiser(
    trained: Sequence[Any], args: Any, privacy: Privacy, *, rate: float, steps: int, users: int
) -> Any:
    """AdamW with the noise that the privacy costs over all steps."""
    multiplier = get_noise_multiplier(
        target_epsilon=privacy.epsilon,
        target_delta=privacy.delta,
        sample_rate=rate,
        steps=steps,
        accountant="prv",
    )
    return DPOptimizer(
        torch.optim.AdamW(trained, lr=args.learning_rate, weight_decay=args.weight_decay),
        noise_multiplier=multiplier,
        max_grad_norm=args.max_grad_norm,
        expected_batch_size=max(1, round(rate * users)),
        generator=torch.Generator().manual_seed(secrets.randbits(63)),
    )


def join_pairs(trained: Sequence[Any], second: torch.Tensor) -> None:
    """Add the gradient of each pair's second sequence to its first one's."""
    rows, paired = len(second), second >= 0
    for parameter in trained:
        both = parameter.grad_sample
        joined = both[:rows].clone()
        joined[paired] += both[second[paired]]
        parameter.grad_sample = joined
