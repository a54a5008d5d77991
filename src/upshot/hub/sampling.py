# What transformers and vllm return has no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportMissingTypeStubs=false
"""Answers drawn from a policy: by Transformers, or by vLLM where it is installed and has a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple, Protocol

import torch
from transformers import set_seed

from upshot.hub.loss_masks import prompt_ids
from upshot.hub.models import open_policy, open_tokenizer
from upshot.hub.padding import pad_tokens
from upshot.records import Turn
from upshot.records.training import turns_to_messages

MAX_BATCH_TOKENS = 24_000
"""Tokens per batch, answers included: what fits a laptop's memory."""


class Drawing(NamedTuple):
    """How answers are drawn."""

    max_tokens: int = 256
    temperature: float = 1.0
    """0: always the likeliest token."""
    top_p: float = 1.0
    seed: int = 0


class Sampler(Protocol):
    """Draws one answer per prompt."""

    def __call__(
        self, prompts: Sequence[Sequence[Turn]], drawing: Drawing = Drawing()
    ) -> list[str]:
        """Answers in the order of the prompts; the same seed gives the same answers."""
        ...


def open_sampler(base: str, *, trust_remote_code: bool = False, **init: Any) -> Sampler:
    """The fastest sampler that this machine can run."""
    if find_spec("vllm") and torch.cuda.is_available():
        return VLLM(base, trust_remote_code=trust_remote_code, **init)
    return Local(
        open_policy(base, trust_remote_code=trust_remote_code, **init),
        open_tokenizer(base, trust_remote_code=trust_remote_code),
    )


class Local:
    """Draws with Transformers, prompts of similar length together."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer

    def __call__(
        self, prompts: Sequence[Sequence[Turn]], drawing: Drawing = Drawing()
    ) -> list[str]:
        ids = [prompt_ids(self.tokenizer, prompt) for prompt in prompts]
        drawn = self.draw(ids, drawing)
        return self.tokenizer.batch_decode(drawn, skip_special_tokens=True)

    def draw(self, ids: Sequence[Sequence[int]], drawing: Drawing = Drawing()) -> list[list[int]]:
        """Token ids of the answers, the end of turn included where the model wrote it."""
        out: list[list[int]] = [[] for _ in ids]
        set_seed(drawing.seed)
        training = self.model.training
        self.model.eval()
        for rows in batches([len(prompt) for prompt in ids], drawing.max_tokens):
            for row, answer in zip(rows, self._batch([ids[i] for i in rows], drawing), strict=True):
                out[row] = answer
        self.model.train(training)
        return out

    def _batch(self, ids: Sequence[Sequence[int]], drawing: Drawing) -> list[list[int]]:
        pad, device = self.tokenizer.pad_token_id, next(self.model.parameters()).device
        inputs, mask = pad_tokens(ids, pad, left=True, device=device)
        options: dict[str, Any] = (
            {"do_sample": False}
            if drawing.temperature == 0
            else {
                "do_sample": True,
                "temperature": drawing.temperature,
                "top_p": drawing.top_p,
                "top_k": 0,
            }
        )
        stops = stop_tokens(self.model, self.tokenizer)
        with torch.inference_mode():
            outputs = self.model.generate(
                input_ids=inputs,
                attention_mask=mask,
                max_new_tokens=drawing.max_tokens,
                pad_token_id=pad,
                eos_token_id=stops,
                **options,
            )
        return [_cut_at_stop(answer, stops) for answer in outputs[:, inputs.shape[1] :].tolist()]


class VLLM:
    """Draws with vLLM."""

    def __init__(self, base: str, *, trust_remote_code: bool = False, **init: Any) -> None:
        from vllm import LLM  # pyright: ignore[reportMissingImports]  # has no build for every CPU

        options = {name: init[name] for name in ("dtype", "max_model_len") if name in init}
        self.model: Any = LLM(
            model=base,
            enable_prefix_caching=True,
            trust_remote_code=trust_remote_code,
            **options,
        )

    def __call__(
        self, prompts: Sequence[Sequence[Turn]], drawing: Drawing = Drawing()
    ) -> list[str]:
        from vllm import SamplingParams  # pyright: ignore[reportMissingImports]  # as above

        parameters: Any = SamplingParams(
            max_tokens=drawing.max_tokens,
            temperature=drawing.temperature,
            top_p=drawing.top_p,
            seed=drawing.seed,
        )
        messages = [turns_to_messages(prompt) for prompt in prompts]
        outputs = self.model.chat(messages, parameters, use_tqdm=False)
        return [output.outputs[0].text for output in outputs]


def stop_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Tokens that end an answer."""
    own = model.generation_config.eos_token_id
    tokens = [own] if isinstance(own, int) else list(own or ())
    return list(dict.fromkeys([tokenizer.eos_token_id, *tokens]))


def _cut_at_stop(answer: list[int], stops: Sequence[int]) -> list[int]:
    first = next((i for i, token in enumerate(answer) if token in stops), None)
    return answer if first is None else answer[: first + 1]


def batches(lengths: Sequence[int], extra: int) -> Iterator[list[int]]:
    """Rows to compute together, of similar length, each with `extra` tokens on top.

    >>> list(batches([5, 20_000, 6], 0))
    [[1], [2, 0]]
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    start = 0
    while start < len(order):
        size = max(1, MAX_BATCH_TOKENS // (lengths[order[start]] + extra))
        yield order[start : start + size]
        start += size
