"""Per-token loss masks: messages as tokens, each with its weight in the loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from upshot.errors import InputError
from upshot.records import Example, Turn
from upshot.records.training import turns_to_messages


class Tokens(NamedTuple):
    """A conversation as tokens."""

    ids: list[int]
    weight: list[float]
    """Of each token in the loss; 0: context only."""


def prompt_ids(tokenizer: Any, turns: Sequence[Turn]) -> list[int]:
    """Token ids of a prompt, up to where the assistant's turn begins."""
    return apply_template(tokenizer, turns, add_generation_prompt=True)


def completion_ids(
    tokenizer: Any, prompt: Sequence[Turn], turns: Sequence[Turn]
) -> tuple[list[int], list[int]]:
    """Token ids of a prompt and of what follows it; each token is in one of them."""
    before = prompt_ids(tokenizer, prompt)
    whole = apply_template(tokenizer, (*prompt, *turns))
    shared = _shared_prefix(before, whole)
    return whole[:shared], whole[shared:]


def weigh_turns(
    tokenizer: Any, turns: Sequence[Turn], weights: Sequence[float], max_length: int = 0
) -> Tokens:
    """A conversation with each turn's weight on the tokens that the assistant writes in it.

    The end of turn counts as written. `weights`: one per turn; only the assistant's count. A
    conversation longer than `max_length` loses its beginning.
    """
    whole = apply_template(tokenizer, turns)
    weight = [0.0] * len(whole)
    for number, turn in enumerate(turns):
        if turn.role != "assistant" or not weights[number]:
            continue
        start = _shared_prefix(
            apply_template(tokenizer, turns[:number], add_generation_prompt=True) if number else [],
            whole,
        )
        stop = _shared_prefix(apply_template(tokenizer, turns[: number + 1]), whole)
        weight[start:stop] = [weights[number]] * (stop - start)
    return Tokens(whole[-max_length:], weight[-max_length:])


def example_tokens(
    tokenizer: Any, row: Example, weight: float = 1.0, max_length: int = 0
) -> Tokens:
    """An example, with weight on the assistant's unmasked turns of the completion alone."""
    train = row.train or (False,) * len(row.prompt) + (True,) * len(row.completion)
    return weigh_turns(
        tokenizer,
        (*row.prompt, *row.completion),
        [weight if is_trained else 0.0 for is_trained in train],
        max_length,
    )


def answer_tokens(
    tokenizer: Any, prompt: Sequence[Turn], answer: str, max_length: int = 0
) -> Tokens:
    """A prompt without weight, and the policy's own answer to it with weight 1."""
    return weigh_turns(
        tokenizer, (*prompt, Turn("assistant", answer)), [0.0] * len(prompt) + [1.0], max_length
    )


def _shared_prefix(prefix: Sequence[int], whole: Sequence[int]) -> int:
    """Number of tokens that both begin with."""
    same = next((i for i, (a, b) in enumerate(zip(prefix, whole, strict=False)) if a != b), None)
    return min(len(prefix), len(whole)) if same is None else same


def apply_template(tokenizer: Any, turns: Sequence[Turn], **options: Any) -> list[int]:
    """Token ids of messages by the model's chat template.

    Raises:
        InputError: the template refuses the messages.
    """
    try:
        encoded = tokenizer.apply_chat_template(
            turns_to_messages(turns), return_dict=True, **options
        )
        return list(encoded["input_ids"])
    except Exception as error:  # templates raise whatever they like
        raise InputError(
            f"could not format {[turn.role for turn in turns]}: the model's chat template says"
            f" {error}"
        ) from error
