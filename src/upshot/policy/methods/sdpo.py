"""Hindsight self-distillation: the policy that has read the user's next message teaches itself.

The teacher is the policy as it was, given the same prompt, the answer, the follow-up, and the
request once more; it says how likely each token of the answer is now. The student, which sees the
prompt alone, moves toward it, token by token, on the logged answer. A token that the follow-up
speaks against becomes unlikely, the others stay. Nothing is sampled, and nobody has to score
(Hübotter et al., 2026).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from upshot.errors import InputError
from upshot.hub.loss_masks import completion_ids
from upshot.policy.methods import rrhf
from upshot.policy.methods.method import Method
from upshot.records import Example, Turn

if TYPE_CHECKING:
    import torch

    from upshot.policy.job import Job


class SdpoOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of hindsight self-distillation."""

    divergence: Annotated[
        Literal["forward", "reverse", "js"],
        Meta(description="forward, reverse or js, between teacher and student; js"),
    ] = "js"
    top: Annotated[
        int, Meta(description="only the teacher's so many likeliest tokens count; 0 is all")
    ] = 0
    again: Annotated[
        str,
        Meta(
            description=(
                "what stands after the follow-up, before the answer is weighed again; the last"
                " request once more"
            )
        ),
    ] = ""


def fit(job: Job) -> Path:
    """Learn from the examples that have a follow-up."""
    import torch

    from upshot.hub.models import open_policy  # transformers
    from upshot.policy.kl import has_adapter, without_adapter  # torch
    from upshot.policy.trainer import make_list_trainer  # torch

    options = job.read_options(SdpoOptions)
    examples = [
        row
        for row in job.need_examples()
        if any(turn.role == "user" for turn in row.after) and row.prompt
    ]
    if not examples:
        raise InputError(
            "could not train by sdpo: no example has an `after` from its user; `upshot pairs --for"
            " examples` keeps it"
        )
    pad = job.tokenizer.pad_token_id
    rows = [_tokenize(job, row, options.again) for row in examples]
    frozen: list[Any] = []

    def teacher(model: Any) -> Any:
        if has_adapter(model):
            return without_adapter(model)
        if not frozen:
            base = open_policy(job.recipe.base, **job.model_options)
            frozen.append(base.to(next(model.parameters()).device))
        return nullcontext(frozen[0])

    def loss(model: Any, batch: Sequence[Any]) -> torch.Tensor:
        answers = [row["answer"] for row in batch]
        with torch.no_grad(), teacher(model) as informed:
            target = _answer_logits(informed, [row["hindsight"] for row in batch], answers, pad)
        logits = _answer_logits(model, [row["prompt"] for row in batch], answers, pad)
        return divergence(logits, target, options.divergence, options.top).mean()

    return job.run(make_list_trainer(job, rows, loss))


def hindsight_prompt(row: Example, again: str = "") -> tuple[Turn, ...]:
    """What the teacher reads before the answer: the whole exchange, and the request once more."""
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


def _tokenize(job: Job, row: Example, again: str) -> dict[str, Any]:
    prompt, _ = completion_ids(job.tokenizer, row.prompt, row.completion[-1:])
    before, answer = completion_ids(
        job.tokenizer, hindsight_prompt(row, again), row.completion[-1:]
    )
    return {"prompt": prompt, "hindsight": before, "answer": answer}


def _answer_logits(
    model: Any, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], pad: int
) -> torch.Tensor:
    """Logits of every token of the answers, one after the other, shape (tokens, vocabulary)."""
    from upshot.policy.trainer import next_token_logits  # torch

    logits, _, mask = next_token_logits(model, prompts, answers, pad)
    return logits[mask.bool()]


def divergence(
    student: torch.Tensor, teacher: torch.Tensor, kind: str = "js", top: int = 0
) -> torch.Tensor:
    """Divergence of next-token distributions in nats, never negative; shape (tokens,).

    `top`: over the teacher's likeliest tokens only, each distribution renormalised over them.
    """
    if top:
        likeliest = teacher.topk(min(top, teacher.shape[-1]), dim=-1).indices
        student, teacher = student.gather(-1, likeliest), teacher.gather(-1, likeliest)
    p, q = student.log_softmax(-1), teacher.log_softmax(-1)
    if kind == "forward":
        return (q.exp() * (q - p)).sum(-1)
    if kind == "reverse":
        return (p.exp() * (p - q)).sum(-1)
    middle = p.logaddexp(q) - math.log(2.0)
    return 0.5 * ((p.exp() * (p - middle)).sum(-1) + (q.exp() * (q - middle)).sum(-1))


METHOD = Method(
    name="Hindsight self-distillation",
    does=(
        "The policy that has seen what the user wrote next teaches the one that has not, token by"
        " token, on the answer that was given."
    ),
    choose=(
        "When follow-ups say what was wrong but nobody scored anything: no verdicts and no reward"
        " model are needed. The policy must be able to read feedback."
    ),
    needs="examples with what followed (`upshot pairs --for examples` keeps it as `after`).",
    steps="its own: tokens that the follow-up speaks against are lowered, others stay.",
    source=(
        "Hübotter et al. 2026 (self-distillation policy optimisation); users' feedback as context"
    ),
    load_config=rrhf.load_config,
    fit=fit,
    option_type=SdpoOptions,
    keeps_reference=True,
)
