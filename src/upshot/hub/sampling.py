"""Answers drawn from a policy: by transformers, or by vLLM where it is installed and there is a
GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from transformers import AutoModelForCausalLM, set_seed

from upshot.errors import ConfigError, NotFoundError
from upshot.hub.loss_masks import open_tokenizer, prompt_ids
from upshot.hub.trainers import quiet
from upshot.records import Turn

_TOKENS = 24_000
"""Tokens of a batch, its answers included: what fits a laptop's memory."""


class Drawing(NamedTuple):
    """How answers are drawn."""

    max_tokens: int = 256
    temperature: float = 1.0
    """0: the likeliest token always."""
    top_p: float = 1.0
    seed: int = 0


class Sampler(Protocol):
    """Draws one answer a prompt."""

    def __call__(
        self, prompts: Sequence[Sequence[Turn]], drawing: Drawing = Drawing()
    ) -> list[str]:
        """Answers in the order of the prompts; the same seed gives the same answers."""
        ...


@quiet()
def open_policy(base: str, **init: Any) -> Any:
    """A causal language model, whole or an adapter on its base, ready to be asked.

    Raises:
        NotFoundError: there is no such model.
        ConfigError: it cannot be loaded.
    """
    if not Path(base).is_dir() and Path(base).is_absolute():
        raise NotFoundError(f"could not open the policy {base}: there is no such folder")
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(base, **{"dtype": "float32", **init})
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"could not open the policy {base}: {str(error).splitlines()[0]}"
        ) from error
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def open_sampler(base: str, **init: Any) -> Sampler:
    """What draws answers fastest here."""
    if find_spec("vllm") and torch.cuda.is_available():
        return VLLM(base, **init)
    return Local(open_policy(base, **init), open_tokenizer(base))


class Local:
    """Draws with transformers, prompts of like length together."""

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
        for rows in batches([len(one) for one in ids], drawing.max_tokens):
            for row, answer in zip(rows, self._batch([ids[i] for i in rows], drawing), strict=True):
                out[row] = answer
        self.model.train(training)
        return out

    def _batch(self, ids: Sequence[Sequence[int]], drawing: Drawing) -> list[list[int]]:
        width = max(map(len, ids))
        pad, device = self.tokenizer.pad_token_id, next(self.model.parameters()).device
        inputs = torch.tensor(
            [[pad] * (width - len(one)) + list(one) for one in ids], device=device
        )
        mask = torch.tensor(
            [[0] * (width - len(one)) + [1] * len(one) for one in ids], device=device
        )
        chosen: dict[str, Any] = (
            {"do_sample": False}
            if drawing.temperature == 0
            else {
                "do_sample": True,
                "temperature": drawing.temperature,
                "top_p": drawing.top_p,
                "top_k": 0,
            }
        )
        with torch.inference_mode():
            found = self.model.generate(
                input_ids=inputs,
                attention_mask=mask,
                max_new_tokens=drawing.max_tokens,
                pad_token_id=pad,
                eos_token_id=ends(self.model, self.tokenizer),
                **chosen,
            )
        return [
            _until(answer, ends(self.model, self.tokenizer)) for answer in found[:, width:].tolist()
        ]


class VLLM:
    """Draws with vLLM."""

    def __init__(self, base: str, **init: Any) -> None:
        from vllm import LLM  # pyright: ignore[reportMissingImports]

        self.model = LLM(
            model=base,
            enable_prefix_caching=True,
            **{
                k: v
                for k, v in init.items()
                if k in ("dtype", "trust_remote_code", "max_model_len")
            },
        )

    def __call__(
        self, prompts: Sequence[Sequence[Turn]], drawing: Drawing = Drawing()
    ) -> list[str]:
        from vllm import SamplingParams  # pyright: ignore[reportMissingImports]

        chosen = SamplingParams(
            max_tokens=drawing.max_tokens,
            temperature=drawing.temperature,
            top_p=drawing.top_p,
            seed=drawing.seed,
        )
        told = [
            [{"role": turn.role, "content": turn.content} for turn in prompt] for prompt in prompts
        ]
        return [out.outputs[0].text for out in self.model.chat(told, chosen, use_tqdm=False)]


def ends(model: Any, tokenizer: Any) -> list[int]:
    """Tokens that end an answer."""
    told = model.generation_config.eos_token_id
    found = [told] if isinstance(told, int) else list(told or ())
    return list(dict.fromkeys([tokenizer.eos_token_id, *found]))


def _until(answer: list[int], stops: Sequence[int]) -> list[int]:
    first = next((i for i, token in enumerate(answer) if token in stops), None)
    return answer if first is None else answer[: first + 1]


def batches(lengths: Sequence[int], more: int) -> Iterator[list[int]]:
    """Rows that are computed together, of like length, `more` tokens added to each."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    start = 0
    while start < len(order):
        size = max(1, _TOKENS // (lengths[order[start]] + more))
        yield order[start : start + size]
        start += size
