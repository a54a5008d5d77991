"""Messages as tokens, and which tokens are whose: what a loss counts, and with which weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from transformers import AutoTokenizer

from upshot.errors import ConfigError, InputError
from upshot.records import Example, Turn


class Tokens(NamedTuple):
    """A conversation as tokens."""

    ids: list[int]
    weight: list[float]
    """Of each token in the loss; 0: context only."""


def open_tokenizer(base: str) -> Any:
    """A tokenizer with a padding token and a chat template.

    Raises:
        ConfigError: it cannot be had, or has no chat template.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(base)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"could not open the tokenizer of {base!r}: {str(error).splitlines()[0]}"
        ) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.chat_template is None:
        raise ConfigError(
            f"could not use {base!r} as a policy: its tokenizer has no chat template; name an"
            " instruction-tuned model"
        )
    return tokenizer


def prompt_ids(tokenizer: Any, turns: Sequence[Turn]) -> list[int]:
    """A prompt, up to where the assistant begins to speak."""
    return _template(tokenizer, turns, add_generation_prompt=True)


def completion(
    tokenizer: Any, prompt: Sequence[Turn], turns: Sequence[Turn]
) -> tuple[list[int], list[int]]:
    """Token ids of a prompt and of what follows it, each token in one of them."""
    before = prompt_ids(tokenizer, prompt)
    whole = _template(tokenizer, (*prompt, *turns))
    shared = _shared(before, whole)
    return whole[:shared], whole[shared:]


def weighed(
    tokenizer: Any, turns: Sequence[Turn], weights: Sequence[float], max_length: int = 0
) -> Tokens:
    """A conversation with each turn's weight on the tokens that the assistant itself writes in it,
    the end of turn included.

    `weights`: one a turn; only the assistant's count. Of a conversation longer than `max_length`
    the beginning is lost.
    """
    whole = _template(tokenizer, turns)
    weight = [0.0] * len(whole)
    for number, turn in enumerate(turns):
        if turn.role != "assistant" or not weights[number]:
            continue
        start = _shared(
            _template(tokenizer, turns[:number], add_generation_prompt=True) if number else [],
            whole,
        )
        stop = _shared(_template(tokenizer, turns[: number + 1]), whole)
        weight[start:stop] = [weights[number]] * (stop - start)
    return Tokens(whole[-max_length:], weight[-max_length:])


def tokens_of(tokenizer: Any, row: Example, weight: float = 1.0, max_length: int = 0) -> Tokens:
    """An example; only what the assistant says in the completion, and of that what is not masked."""
    train = row.train or (False,) * len(row.prompt) + (True,) * len(row.completion)
    return weighed(
        tokenizer,
        (*row.prompt, *row.completion),
        [weight if kept else 0.0 for kept in train],
        max_length,
    )


def answered(tokenizer: Any, prompt: Sequence[Turn], answer: str, max_length: int = 0) -> Tokens:
    """A prompt and the policy's own answer to it, which is what counts."""
    return weighed(
        tokenizer, (*prompt, Turn("assistant", answer)), [0.0] * len(prompt) + [1.0], max_length
    )


def _shared(prefix: Sequence[int], whole: Sequence[int]) -> int:
    """Tokens that two begin with alike."""
    same = next((i for i, (a, b) in enumerate(zip(prefix, whole, strict=False)) if a != b), None)
    return min(len(prefix), len(whole)) if same is None else same


def _template(tokenizer: Any, turns: Sequence[Turn], **options: Any) -> list[int]:
    try:
        return list(
            tokenizer.apply_chat_template(
                [{"role": turn.role, "content": turn.content} for turn in turns],
                return_dict=True,
                **options,
            )["input_ids"]
        )
    except Exception as error:  # templates raise whatever they like
        raise InputError(
            f"could not format {[turn.role for turn in turns]}: the model's chat template says"
            f" {error}"
        ) from error
