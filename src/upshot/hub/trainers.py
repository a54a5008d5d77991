# transformers has no full types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportMissingTypeStubs=false
"""What every Hugging Face trainer needs: quiet libraries, whole checkpoints, the right device."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def quiet() -> Generator[None]:
    """Silence the libraries' progress bars, loading reports and warnings about each other."""
    import datasets
    from transformers.utils import logging as loudness

    had_bars = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    level, bars = loudness.get_verbosity(), loudness.is_progress_bar_enabled()
    loudness.set_verbosity_error()
    loudness.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        loudness.set_verbosity(level)
        if not had_bars:
            datasets.enable_progress_bars()
        if bars:
            loudness.enable_progress_bar()


def last_checkpoint(folder: Path) -> str | None:
    """The newest complete checkpoint; one that a kill left half written is skipped."""
    checkpoints = sorted(
        (int(path.name.rpartition("-")[2]), path)
        for path in folder.glob("checkpoint-*")
        if path.name.rpartition("-")[2].isdigit()
    )
    return next((str(path) for _, path in reversed(checkpoints) if _is_complete(path)), None)


def _is_complete(checkpoint: Path) -> bool:
    try:  # the trainer writes its state last
        return isinstance(json.loads((checkpoint / "trainer_state.json").read_bytes()), dict)
    except (OSError, ValueError):
        return False


def cpu_settings(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Settings for a machine without a GPU, where TRL refuses its own defaults."""
    import torch

    return (
        {}
        if torch.cuda.is_available() or "use_cpu" in trainer
        else {"use_cpu": True, "bf16": False}
    )


def is_main() -> bool:
    """Whether this is the process that writes; `accelerate launch` starts several."""
    return int(os.environ.get("RANK", "0")) == 0
