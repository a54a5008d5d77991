"""The self-taught reasoner (Zelikman et al., 2022): imitate confirmed answers.

Answers are sampled and verified, then the same with the new policy. Where no answer to a
prompt was confirmed, the policy is given
the hint of its row (`hint`, or the user's next message, `after`) and tries again; what is then
confirmed is imitated as an answer to the prompt without the hint.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import msgspec
from msgspec import Meta

from upshot.errors import NothingToLearnError
from upshot.hub.loss_masks import Tokens, answer_tokens
from upshot.policy.methods import sft
from upshot.policy.methods.method import Method
from upshot.records import Turn

if TYPE_CHECKING:
    from upshot.policy.data import Prompt
    from upshot.policy.job import Job
    from upshot.policy.samples import Sample


class StarOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of the self-taught reasoner."""

    answers: Annotated[int, Meta(description="drawn a prompt; 4")] = 4
    rounds: Annotated[int, Meta(description="how often; 2")] = 2
    confirmed: Annotated[
        float, Meta(description="reward from which an answer counts as right; 0.5")
    ] = 0.5


def fit(job: Job) -> Path:
    """Sample, verify, try again with hints, and imitate, as many times as the options say."""
    from upshot.policy.imitation import imitate  # TRL: seconds to load
    from upshot.policy.rounds import run_rounds  # torch

    options = job.read_options(StarOptions)
    job.need_prompts()
    return run_rounds(
        job, options.rounds, lambda part: imitate(part, _sample_confirmed(part, options))
    )


def _sample_confirmed(job: Job, options: StarOptions) -> list[Tokens]:
    from upshot.policy.samples import sample_answers  # torch

    samples = sample_answers(job, options.answers, "drawn.jsonl")
    confirmed: dict[int, list[str]] = {
        i: _confirmed_answers(sample, options.confirmed) for i, sample in enumerate(samples)
    }
    rows = [(sample.prompt, answer) for i, sample in enumerate(samples) for answer in confirmed[i]]
    failed = {sample.prompt for i, sample in enumerate(samples) if not confirmed[i]}
    hinted = {
        harder.turns: prompt
        for prompt in job.data.prompts
        if prompt.turns in failed and (harder := add_hint(prompt)) is not None
    }
    if hinted:
        again = [prompt._replace(turns=turns) for turns, prompt in hinted.items()]
        rows += [
            (hinted[sample.prompt].turns, answer)
            for sample in sample_answers(job, options.answers, "hinted.jsonl", again)
            for answer in _confirmed_answers(sample, options.confirmed)
        ]
    if not rows:
        raise NothingToLearnError(
            "could not train by star: no answer was confirmed, with hints or without; the tasks are"
            " too hard for this policy yet"
        )
    return [
        answer_tokens(job.tokenizer, prompt, answer.strip(), job.recipe.max_length)
        for prompt, answer in rows
    ]


def add_hint(prompt: Prompt) -> Prompt | None:
    """The prompt with the hint of its row; None where there is none."""
    hint = prompt.facts.get("hint") or _user_texts(prompt.facts)
    if not hint or not prompt.turns or prompt.turns[-1].role != "user":
        return None
    last = Turn("user", f"{prompt.turns[-1].content}\n\n{hint}")
    return prompt._replace(turns=(*prompt.turns[:-1], last))


def _user_texts(facts: Mapping[str, Any]) -> str:
    after: list[Any] = list(facts.get("after") or ())
    turns = [cast("Mapping[str, Any]", turn) for turn in after if isinstance(turn, Mapping)]
    return "\n".join(str(turn.get("content", "")) for turn in turns if turn.get("role") == "user")


def _confirmed_answers(sample: Sample, threshold: float) -> list[str]:
    """Distinct answers whose reward reaches the threshold."""
    pairs = zip(sample.answers, sample.scores, strict=True)
    return list(dict.fromkeys(answer for answer, score in pairs if score >= threshold))


METHOD = Method(
    name="Self-taught reasoner",
    does=(
        "Draws answers, keeps those that a verifier confirms; where none was, draws again with the"
        " hint that the user or the solution gives, keeps what is then confirmed without the hint,"
        " and imitates it all."
    ),
    choose="With verifiable tasks and a policy that solves some of them already.",
    needs=(
        "prompts with --reward of a verifier; `hint` or `after` in the rows where there are any."
    ),
    steps="no",
    source="Zelikman et al. 2022",
    load_config=sft.load_config,
    fit=fit,
    option_type=StarOptions,
)
