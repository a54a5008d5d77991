"""DP-SGD by user for transformers (Abadi et al., 2016), on Opacus: its per-sample gradients, its
optimiser, its accountant.

A step draws each user with the same probability, and of a drawn user one row at random, so that a
record of the mechanism is a person, not a row. The gradients of a pair's two sequences are added up
before they are clipped.
"""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Callable, Iterator, Sequence
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

_LEAST = 20


@contextmanager
def _quiet() -> Iterator[None]:
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
    privacy: Privacy,
    progress: Callable[[int, int], None],
) -> None:
    """Train in place. Of `args` (trl.RewardConfig): learning_rate, num_train_epochs,
    per_device_train_batch_size, max_grad_norm (where a user's gradient is clipped).

    Raises:
        InputError: too few users.
    """
    people: dict[str, list[Item]] = {}
    for item in items:
        people.setdefault(item.owner, []).append(item)
    names = sorted(people)
    if len(names) < _LEAST:
        raise InputError(f"could not train on {len(names)} users: at least {_LEAST} are needed")
    rate = min(1.0, args.per_device_train_batch_size / len(names))
    steps = max(1, round(args.num_train_epochs / rate))
    generator = torch.Generator().manual_seed(secrets.randbits(63))
    chance = np.random.default_rng(secrets.randbits(256))
    for module in model.modules():
        if not isinstance(module, torch.nn.Linear | torch.nn.Embedding):
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(
                    False
                )  # norms: Opacus has no per-sample gradient of theirs
    wrapped: Any = GradSampleModule(model, loss_reduction="sum", strict=False)
    trained = [parameter for parameter in wrapped.parameters() if parameter.requires_grad]
    multiplier = get_noise_multiplier(
        target_epsilon=privacy.epsilon,
        target_delta=privacy.delta,
        sample_rate=rate,
        steps=steps,
        accountant="prv",
    )
    optimiser = DPOptimizer(
        torch.optim.AdamW(trained, lr=args.learning_rate, weight_decay=args.weight_decay),
        noise_multiplier=multiplier,
        max_grad_norm=args.max_grad_norm,
        expected_batch_size=max(1, round(rate * len(names))),
        generator=generator,
    )
    device = trained[0].device
    wrapped.train()
    for step in range(steps):
        drawn = [
            people[name][int(chance.integers(len(people[name])))]
            for name, yes in zip(names, chance.random(len(names)) < rate, strict=True)
            if yes
        ]
        optimiser.zero_grad()
        if drawn:
            batch = {name: value.to(device) for name, value in collate(drawn).items()}
            found = wrapped(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                use_cache=False,
            ).logits.float()
            (losses(found, batch) * batch["weight"]).sum().backward()
            _join(trained, batch["second"])
        else:  # nobody was drawn: a step of noise alone
            for parameter in trained:
                parameter.grad_sample = parameter.new_zeros((0, *parameter.shape))
        optimiser.step()
        progress(step + 1, steps)
    wrapped.to_standard_module()


def _join(trained: Sequence[Any], second: torch.Tensor) -> None:
    """Add the gradient of each pair's second sequence to its first one's."""
    rows, paired = len(second), second >= 0
    for parameter in trained:
        both = parameter.grad_sample
        joined = both[:rows].clone()
        joined[paired] += both[second[paired]]
        parameter.grad_sample = joined
