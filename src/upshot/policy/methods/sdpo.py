"""Hindsight self-distillation: the policy that has seen what the user wrote next teaches the one
that has not.

The teacher is the policy as it was, given the same prompt, the answer, what followed, and the
request once more; it is asked how likely each token of the answer is now. The student, who sees the
prompt alone, moves toward it, token by token, on the answer that was given. A token that the
follow-up speaks against becomes unlikely, the others stay. Nothing is drawn, and nobody has to
score (Hübotter et al., 2026).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import msgspec
import torch

from upshot.errors import InputError
from upshot.hub.loss_masks import completion
from upshot.hub.sampling import open_policy
from upshot.policy.job import Job
from upshot.policy.kl import has_adapter, without_adapter
from upshot.policy.recipe import options
from upshot.policy.trainer import CONFIG, answer_mask, list_trainer, padded
from upshot.records import Example, Turn

__all__ = ["CONFIG", "Options", "divergence", "fit", "hindsight"]


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of this method."""

    divergence: Literal["forward", "reverse", "js"] = "js"
    top: int = 0
    again: str = ""


def fit(job: Job) -> Path:
    """Learn from the examples that something followed."""
    chosen = options(job.recipe, Options)
    rows = [
        row
        for row in job.need("examples")
        if any(turn.role == "user" for turn in row.after) and row.prompt
    ]
    if not rows:
        raise InputError(
            "could not train by sdpo: no example has an `after` from its user; `upshot pairs --for"
            " examples` keeps it"
        )
    pad = job.tokenizer.pad_token_id
    data = [_row(job, row, chosen.again) for row in rows]
    frozen: list[Any] = []

    def teacher(model: Any) -> Any:
        if has_adapter(model):
            return without_adapter(model)
        if not frozen:
            frozen.append(
                open_policy(job.recipe.base, **job.recipe.init).to(next(model.parameters()).device)
            )
        return nullcontext(frozen[0])

    def loss(model: Any, batch: Sequence[Any]) -> torch.Tensor:
        answers = [row["answer"] for row in batch]
        with torch.no_grad(), teacher(model) as wise:
            told = _answers_logits(wise, [row["hindsight"] for row in batch], answers, pad)
        said = _answers_logits(model, [row["prompt"] for row in batch], answers, pad)
        each = divergence(said, told, chosen.divergence, chosen.top)
        return each.mean()

    return job.run(list_trainer(job, data, loss))


def hindsight(row: Example, again: str = "") -> tuple[Turn, ...]:
    """What the teacher sees before the answer: all that was said, and the request once more."""
    request = again or next(
        (turn.content for turn in reversed(row.prompt) if turn.role == "user"), ""
    )
    after = list(row.after)
    last = max(i for i, turn in enumerate(after) if turn.role == "user")
    return (
        *row.prompt,
        *row.completion,
        *after[:last],
        Turn("user", f"{after[last].content}\n\n{request}"),
    )


def _row(job: Job, row: Example, again: str) -> dict[str, Any]:
    prompt, answer = completion(job.tokenizer, row.prompt, row.completion[-1:])
    before, same = completion(job.tokenizer, hindsight(row, again), row.completion[-1:])
    return {"prompt": prompt, "hindsight": before, "answer": answer if answer == same else same}


def _answers_logits(
    model: Any, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], pad: int
) -> torch.Tensor:
    """Logits of every token of the answers, one after the other, shape (tokens, vocabulary)."""
    device = next(model.parameters()).device
    ids, seen = padded([[*p, *a] for p, a in zip(prompts, answers, strict=True)], pad, device)
    logits = model(input_ids=ids, attention_mask=seen, use_cache=False).logits[:, :-1].float()
    return logits[answer_mask(prompts, answers, ids.shape[1], device).bool()]


def divergence(
    student: torch.Tensor, teacher: torch.Tensor, kind: str = "js", top: int = 0
) -> torch.Tensor:
    """Between next-token distributions, in nats, shape (tokens,); never negative.

    `top`: of the teacher's likeliest tokens only, each distribution renormalised over them.
    """
    if top:
        kept = teacher.topk(min(top, teacher.shape[-1]), dim=-1).indices
        student, teacher = student.gather(-1, kept), teacher.gather(-1, kept)
    p, q = torch.log_softmax(student, -1), torch.log_softmax(teacher, -1)
    if kind == "forward":
        return (q.exp() * (q - p)).sum(-1)
    if kind == "reverse":
        return (p.exp() * (p - q)).sum(-1)
    middle = torch.logaddexp(p, q) - torch.log(torch.tensor(2.0))
    return 0.5 * ((p.exp() * (p - middle)).sum(-1) + (q.exp() * (q - middle)).sum(-1))
