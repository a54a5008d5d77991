"""REINFORCE leave-one-out: TRL's `RLOOTrainer` with a steered KL penalty."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from upshot.policy.methods.method import Method

if TYPE_CHECKING:
    from upshot.policy.job import Job


def load_config() -> type[Any]:
    """TRL's configuration."""
    from trl.trainer.rloo_config import RLOOConfig  # torch: seconds to load

    return RLOOConfig


def fit(job: Job) -> Path:
    """Train on answers to the prompts."""
    from trl.trainer.rloo_trainer import RLOOTrainer  # torch: seconds to load

    from upshot.policy.online import Steered, make_online_trainer  # torch

    class SteeredTrainer(Steered, RLOOTrainer):
        """TRL's, steered."""

    trainer = make_online_trainer(job, SteeredTrainer, load_config())
    return job.run(trainer, trainer.read_kl)


METHOD = Method(
    name="REINFORCE leave-one-out",
    does="Policy gradient on whole answers; each is compared with the others to its prompt.",
    choose="The default with a reward model or verifier: few knobs, no value model.",
    needs="prompts and --reward.",
    steps="no: its ratio is of whole answers; use grpo.",
    source="Ahmadian et al. 2024; TRL RLOOTrainer",
    load_config=load_config,
    fit=fit,
    keeps_reference=True,
)
