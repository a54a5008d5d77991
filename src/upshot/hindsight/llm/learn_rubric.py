"""Learning a domain's signs of success and failure from labelled exchanges.

After SPUR (Lin et al., 2024).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from upshot.errors import EndpointError, InputError
from upshot.hindsight.llm.rubric import Rubric, Signs, render_plain
from upshot.hindsight.trust import hostile
from upshot.hindsight.trust.audit import Item, Labels
from upshot.llm import Budget, Client, Endpoint, Request, ask, make_response_format
from upshot.llm.client import make_prompt
from upshot.records.verdicts import EVEN

_PER_PROMPT = 12
"""Exchanges in one prompt."""
_MAX_SIGNS = 10
"""Of each kind: as many as SPUR's rubrics have."""
_MIN_EXCHANGES = 6
"""Fewer show accidents, not signs."""
_MAX_SHOWN = 1_200
"""Characters of one message that the model reads."""


class FoundSigns(msgspec.Struct, frozen=True):
    """The model's answer."""

    good: list[str]
    bad: list[str]


def learn_signs(
    items: Sequence[Item],
    labels: Labels,
    rubric: Rubric,
    endpoint: Endpoint,
    budget: Budget | None = None,
) -> Rubric:
    """The rubric with signs that a language model finds in labelled exchanges.

    It reads a dozen exchanges at a time and refines the signs each time.

    Raises:
        InputError: too few exchanges have a label, or all have the same.
        EndpointError: the model gave no usable answer.
    """
    labelled = [
        (item, labels.mean[(item.id, item.index)])
        for item in items
        if (item.id, item.index) in labels.mean
    ]
    if len(labelled) < _MIN_EXCHANGES or len({value > EVEN for _, value in labelled}) < 2:
        raise InputError(
            f"could not learn a rubric: {len(labelled)} labelled exchanges, at least {_MIN_EXCHANGES} of both"  # noqa: E501
            " kinds are needed"
        )
    labelled.sort(key=lambda pair: pair[1] > EVEN)
    rounds = max(1, -(-len(labelled) // _PER_PROMPT))
    signs = Signs(rubric.signs.good, rubric.signs.bad)
    signs = asyncio.run(
        _refine_signs([labelled[k::rounds] for k in range(rounds)], signs, endpoint, budget)
    )  # each round sees both kinds
    return msgspec.structs.replace(rubric, signs=signs)


async def _refine_signs(
    rounds: Sequence[Sequence[tuple[Item, float]]],
    signs: Signs,
    endpoint: Endpoint,
    budget: Budget | None,
) -> Signs:
    async with Client(endpoint, budget) as client:
        for exchanges in rounds:
            earlier = msgspec.json.encode(signs).decode()
            shown = "\n\n".join(
                _render_exchange(number, item, value)
                for number, (item, value) in enumerate(exchanges, 1)
            )
            question = f"Signs found earlier: {earlier}\n\n{shown}"
            request = Request(
                endpoint.model,
                make_prompt(("system", render_plain("signs.md", {})), ("user", question)),
                1200,
                0.0,
                1,
                None,
                make_response_format(FoundSigns, "signs"),
            )
            _, (answer,), _ = await ask(client, request, FoundSigns, _check_signs)
            if answer is None:
                raise EndpointError(
                    f"could not learn a rubric: {endpoint.model} gave no usable signs, not even"
                    " when asked again"
                )
            signs = Signs(_clean_signs(answer.good), _clean_signs(answer.bad))
    return signs


def _check_signs(answer: FoundSigns) -> str:
    return "" if answer.good or answer.bad else "no sign at all"


def _clean_signs(signs: Sequence[str]) -> list[str]:
    """Short lines, without any that address a judge."""
    lines = [" ".join(sign.split())[:200] for sign in signs]
    return [line for line in dict.fromkeys(lines) if line and not hostile.scan(line)][:_MAX_SIGNS]


def _render_exchange(number: int, item: Item, value: float) -> str:
    verdict = "HELPED" if value > EVEN else "DID NOT HELP"
    parts = [
        ("request", item.request),
        ("response", item.response),
        *(("after", text) for text in item.after),
    ]
    shown = "\n".join(f"[{number} {name}]\n{_render_text(text)}" for name, text in parts)
    return f"[{number} label] {verdict}\n{shown}"


def _render_text(text: str) -> str:
    return hostile.drop(text[:_MAX_SHOWN], hostile.scan(text[:_MAX_SHOWN])).replace("\n[", "\n\\[")
