"""Rank responses to align human feedback (Yuan et al., 2023): answers to one prompt are ranked by
the mean log probability of their tokens as their scores rank them, and the best is imitated. No
reference model; TRL has no such trainer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch

from upshot.errors import NothingToLearnError
from upshot.hub.loss_masks import completion
from upshot.policy.draws import Drawn, draw
from upshot.policy.job import Job
from upshot.policy.recipe import options
from upshot.policy.trainer import CONFIG, list_trainer, token_logps
from upshot.records import Turn

__all__ = ["CONFIG", "Options", "fit", "ranked"]


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of this method."""

    answers: int = 4
    imitate: float = 1.0


def fit(job: Job) -> Path:
    """Rank what is scored; with a reward and prompts alone, answers are drawn and scored first."""
    chosen = options(job.recipe, Options)
    groups = _ranked(job)
    if not groups:
        job.need("prompts")
        drawn = draw(job, chosen.answers, "drawn.jsonl")
        groups = [
            (
                one.prompt,
                [(answer, score) for answer, score in zip(one.answers, one.scores, strict=True)],
            )
            for one in drawn
            if _told_apart(one)
        ]
    if not groups:
        raise NothingToLearnError(
            "could not train by rrhf: no prompt has two answers with different scores"
        )
    rows: list[dict[str, Any]] = []
    for prompt, answers in groups:
        found = [
            (completion(job.tokenizer, prompt, [Turn("assistant", text)]), score)
            for text, score in answers
        ]
        rows.append(
            {
                "prompt": found[0][0][0],
                "answers": [ids for (_, ids), _ in found],
                "scores": [float(score) for _, score in found],
            }
        )

    def loss(model: Any, batch: Sequence[Any]) -> torch.Tensor:
        prompts = [row["prompt"] for row in batch for _ in row["answers"]]
        answers = [ids for row in batch for ids in row["answers"]]
        logps, mask = token_logps(model, prompts, answers, job.tokenizer.pad_token_id)
        mean = (logps * mask).sum(1) / mask.sum(1)
        parts: list[torch.Tensor] = []
        start = 0
        for row in batch:
            of = mean[start : start + len(row["answers"])]
            start += len(row["answers"])
            parts.append(ranked(of, torch.tensor(row["scores"], device=of.device), chosen.imitate))
        return torch.stack(parts).mean()

    return job.run(list_trainer(job, rows, loss))


def ranked(mean: torch.Tensor, scores: torch.Tensor, imitate: float = 1.0) -> torch.Tensor:
    """RRHF's loss of one prompt: Σ over pairs max(0, p_worse − p_better), and −p of the best.

    >>> float(ranked(torch.tensor([-1.0, -0.5]), torch.tensor([1.0, 0.0]), 0.0))
    0.5
    """
    worse = scores[:, None] < scores[None, :]
    return (torch.relu(mean[:, None] - mean[None, :]) * worse).sum() - imitate * mean[
        scores.argmax()
    ]


def _ranked(job: Job) -> list[tuple[Sequence[Turn], list[tuple[str, float]]]]:
    found: dict[tuple[Turn, ...], dict[str, float]] = {}
    for pair in job.data.pairs:
        group = found.setdefault(tuple(pair.prompt), {})
        group.setdefault(pair.rejected[-1].content, 0.0)
        group[pair.chosen[-1].content] = max(
            pair.margin or 1.0, group.get(pair.chosen[-1].content, 0.0)
        )
    for row in job.data.examples:
        if row.prompt:
            found.setdefault(tuple(row.prompt), {})[row.completion[-1].content] = row.score
    return [
        (prompt, list(group.items()))
        for prompt, group in found.items()
        if len(set(group.values())) > 1
    ]


def _told_apart(one: Drawn) -> bool:
    return len(set(one.scores)) > 1
