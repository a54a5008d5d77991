"""Rank responses to align human feedback (Yuan et al., 2023).

Answers to one prompt are ranked by the mean log probability of their tokens as their scores rank
them, and the best is imitated. No reference model; TRL has no such trainer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from upshot.errors import NothingToLearnError
from upshot.hub.loss_masks import completion_ids
from upshot.policy.methods.method import Method
from upshot.records import Turn

if TYPE_CHECKING:
    import torch

    from upshot.policy.job import Job

Group = tuple[Sequence[Turn], list[tuple[str, float]]]
"""A prompt, and its answers with their scores."""


class RrhfOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of ranking."""

    answers: Annotated[
        int, Meta(description="answers drawn a prompt, where a reward is given; 4")
    ] = 4
    imitate: Annotated[float, Meta(description="weight of imitating the best; 1")] = 1.0


def load_config() -> type[Any]:
    """Transformers' configuration."""
    from transformers import TrainingArguments  # torch: seconds to load

    return TrainingArguments


def fit(job: Job) -> Path:
    """Rank scored answers; with a reward and prompts alone, sample and score answers first."""
    import torch

    from upshot.policy.trainer import make_list_trainer, token_logps  # torch

    options = job.read_options(RrhfOptions)
    rows = _tokenize(job, _group_data(job) or _sample_groups(job, options.answers))

    def loss(model: Any, batch: Sequence[Any]) -> torch.Tensor:
        prompts = [row["prompt"] for row in batch for _ in row["answers"]]
        answers = [ids for row in batch for ids in row["answers"]]
        logps, mask = token_logps(model, prompts, answers, job.tokenizer.pad_token_id)
        mean = (logps * mask).sum(1) / mask.sum(1)
        parts: list[torch.Tensor] = []
        start = 0
        for row in batch:
            part = mean[start : start + len(row["answers"])]
            start += len(row["answers"])
            scores = torch.tensor(row["scores"], device=part.device)
            parts.append(ranking_loss(part, scores, options.imitate))
        return torch.stack(parts).mean()

    return job.run(make_list_trainer(job, rows, loss))


def ranking_loss(mean: torch.Tensor, scores: torch.Tensor, imitate: float = 1.0) -> torch.Tensor:
    """RRHF's loss of one prompt: Σ over pairs max(0, p_worse − p_better), and −p of the best."""
    worse = scores[:, None] < scores[None, :]
    differences = (mean[:, None] - mean[None, :]).relu()
    return (differences * worse).sum() - imitate * mean[scores.argmax()]


def _group_data(job: Job) -> list[Group]:
    """Prompts of the data that have answers with different scores."""
    groups: dict[tuple[Turn, ...], dict[str, float]] = {}
    for pair in job.data.pairs:
        group = groups.setdefault(tuple(pair.prompt), {})
        group.setdefault(pair.rejected[-1].content, 0.0)
        group[pair.chosen[-1].content] = max(
            pair.margin or 1.0, group.get(pair.chosen[-1].content, 0.0)
        )
    for row in job.data.examples:
        if row.prompt:
            groups.setdefault(tuple(row.prompt), {})[row.completion[-1].content] = row.score
    return [
        (prompt, list(group.items()))
        for prompt, group in groups.items()
        if len(set(group.values())) > 1
    ]


def _sample_groups(job: Job, answers: int) -> list[Group]:
    """Sampled answers of prompts where the reward tells them apart."""
    from upshot.policy.samples import sample_answers  # torch

    job.need_prompts()
    groups: list[Group] = [
        (sample.prompt, list(zip(sample.answers, sample.scores, strict=True)))
        for sample in sample_answers(job, answers, "drawn.jsonl")
        if len(set(sample.scores)) > 1
    ]
    if not groups:
        raise NothingToLearnError(
            "could not train by rrhf: no prompt has two answers with different scores"
        )
    return groups


def _tokenize(job: Job, groups: Sequence[Group]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for prompt, answers in groups:
        ids = [
            completion_ids(job.tokenizer, prompt, [Turn("assistant", text)]) for text, _ in answers
        ]
        scores = [float(score) for _, score in answers]
        rows.append(
            {"prompt": ids[0][0], "answers": [answer for _, answer in ids], "scores": scores}
        )
    return rows


METHOD = Method(
    name="Rank responses to align human feedback",
    does=(
        "Ranks several answers to one prompt by their mean token probability as their scores rank"
        " them, and imitates the best."
    ),
    choose=(
        "When one prompt has several scored answers (regenerations, samples scored by a reward"
        " model), and memory is short: no reference model."
    ),
    needs=(
        "pairs, or examples of which several share a prompt; with --reward and prompts only,"
        " answers are drawn and scored first."
    ),
    steps="no",
    source="Yuan et al. 2023",
    load_config=load_config,
    fit=fit,
    option_type=RrhfOptions,
)
