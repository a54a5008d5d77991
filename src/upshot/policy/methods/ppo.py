"""Proximal policy optimisation (Schulman et al., 2017); its trainer is `policy.value_trainer`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from upshot.policy.methods.method import Method

if TYPE_CHECKING:
    from upshot.policy.job import Job


class PpoOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of proximal policy optimisation."""

    gamma: Annotated[float, Meta(description="discount; 1")] = 1.0
    lam: Annotated[float, Meta(description="lambda of the advantage estimation; 0.95")] = 0.95
    value_weight: Annotated[float, Meta(description="of the value loss; 0.1")] = 0.1
    value_clip: Annotated[float, Meta(description="how far a value may move in one batch; 0.2")] = (
        0.2
    )


def load_config() -> type[Any]:
    """TRL's configuration."""
    from trl.trainer.grpo_config import GRPOConfig  # torch: seconds to load

    return GRPOConfig


def fit(job: Job) -> Path:
    """Train on answers to the prompts."""
    from upshot.policy.online import make_online_trainer  # torch
    from upshot.policy.value_trainer import ValueTrainer  # TRL: seconds to load

    trainer = make_online_trainer(job, ValueTrainer, load_config())
    trainer.add_value_head(job.read_options(PpoOptions))
    return job.run(trainer, trainer.read_kl)


METHOD = Method(
    name="Proximal policy optimisation",
    does=(
        "Policy gradient with a learned value of every token (value head, generalised advantage"
        " estimation), clipped steps, and a penalty on every token's distance from the base,"
        " steered to kl.target."
    ),
    choose=(
        "When rewards arrive late in long answers, or with step rewards, where a baseline per"
        " token pays. Otherwise rloo is simpler and mostly as good."
    ),
    needs="prompts and --reward.",
    steps="a reward that says what each step is worth (`steps`) is paid where the step ends.",
    source="Schulman et al. 2017; Ziegler et al. 2019 (adaptive KL). Ours: TRL has none",
    load_config=load_config,
    fit=fit,
    option_type=PpoOptions,
    keeps_reference=True,
)
