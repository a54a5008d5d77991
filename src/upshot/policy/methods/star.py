"""The self-taught reasoner (Zelikman et al., 2022): draw answers, keep what a verifier confirms,
imitate it; again with the new policy.

Where no answer to a prompt was confirmed, the policy is told the hint that its row has (`hint`, or
what the user wrote next, `after`) and draws again; what is then confirmed is imitated as an answer
to the prompt without the hint.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from upshot.errors import NothingToLearnError
from upshot.hub.loss_masks import Tokens, answered
from upshot.policy.data import Asked
from upshot.policy.draws import Drawn, draw
from upshot.policy.job import Job
from upshot.policy.methods import sft
from upshot.policy.recipe import options
from upshot.policy.rounds import rounds
from upshot.records import Turn

CONFIG = sft.CONFIG


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of this method."""

    answers: int = 4
    rounds: int = 2
    confirmed: float = 0.5


def fit(job: Job) -> Path:
    """Draw, verify, draw with hints, imitate, so many times."""
    chosen = options(job.recipe, Options)
    job.need("prompts")
    return rounds(job, chosen.rounds, lambda part: sft.imitate(part, _confirmed(part, chosen)))


def _confirmed(job: Job, chosen: Options) -> list[Tokens]:
    drawn = draw(job, chosen.answers, "drawn.jsonl")
    found = [(one.prompt, answer) for one in drawn for answer in _right(one, chosen.confirmed)]
    failed = {one.prompt for one in drawn if not _right(one, chosen.confirmed)}
    hinted = {
        hinted_.turns: one.turns
        for one in job.data.prompts
        if one.turns in failed and (hinted_ := with_hint(one)) is not None
    }
    if hinted:
        facts = {one.turns: one.facts for one in job.data.prompts}
        told = draw(
            job,
            chosen.answers,
            "hinted.jsonl",
            [Asked(turns, facts[plain]) for turns, plain in hinted.items()],
        )
        found += [
            (hinted[one.prompt], answer) for one in told for answer in _right(one, chosen.confirmed)
        ]
    if not found:
        raise NothingToLearnError(
            "could not train by star: no answer was confirmed, with hints or without; the tasks are"
            " too hard for this policy yet"
        )
    return [
        answered(job.tokenizer, prompt, answer.strip(), job.recipe.max_length)
        for prompt, answer in found
    ]


def with_hint(one: Asked) -> Asked | None:
    """The prompt with what its row tells beyond it; None: nothing."""
    hint = one.facts.get("hint") or _said(one.facts)
    if not hint or not one.turns or one.turns[-1].role != "user":
        return None
    return Asked((*one.turns[:-1], Turn("user", f"{one.turns[-1].content}\n\n{hint}")), one.facts)


def _said(facts: Mapping[str, Any]) -> str:
    after = facts.get("after") or ()
    return "\n".join(
        str(turn.get("content", ""))
        for turn in after
        if isinstance(turn, Mapping) and turn.get("role") == "user"
    )


def _right(one: Drawn, least: float) -> list[str]:
    """Distinct confirmed answers."""
    return list(
        dict.fromkeys(
            answer for answer, score in zip(one.answers, one.scores, strict=True) if score >= least
        )
    )
