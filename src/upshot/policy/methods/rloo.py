"""REINFORCE leave-one-out: TRL's `RLOOTrainer` with a steered KL penalty."""

from __future__ import annotations

from pathlib import Path

from trl.trainer.rloo_config import RLOOConfig
from trl.trainer.rloo_trainer import RLOOTrainer

from upshot.policy.job import Job
from upshot.policy.online import Steered, open_trainer

CONFIG = RLOOConfig


class _Trainer(Steered, RLOOTrainer):
    """TRL's, steered."""


def fit(job: Job) -> Path:
    """Train on answers to the prompts."""
    trainer = open_trainer(job, _Trainer, CONFIG)
    return job.run(trainer, trainer.seen_kl)
