"""What every Hugging Face trainer needs here: quiet libraries, whole checkpoints, the right device."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def quiet() -> Iterator[None]:
    """Without the libraries' own bars, reports of what was loaded, and complaints of each other."""
    import datasets
    from transformers.utils import logging as loudness

    mapping = datasets.are_progress_bars_disabled()
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
        if not mapping:
            datasets.enable_progress_bars()
        if bars:
            loudness.enable_progress_bar()


def last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that is whole; what a kill left half written is passed over."""
    found = sorted(
        (int(path.name.rpartition("-")[2]), path)
        for path in folder.glob("checkpoint-*")
        if path.name.rpartition("-")[2].isdigit()
    )
    return next((str(path) for _, path in reversed(found) if _is_whole(path)), None)


def _is_whole(checkpoint: Path) -> bool:
    try:  # the trainer writes its state last
        return isinstance(json.loads((checkpoint / "trainer_state.json").read_bytes()), dict)
    except (OSError, ValueError):
        return False


def cpu_when_alone(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Where there is no GPU, say so, or TRL refuses what it sets by default."""
    import torch

    return (
        {}
        if torch.cuda.is_available() or "use_cpu" in trainer
        else {"use_cpu": True, "bf16": False}
    )


def is_main() -> bool:
    """Is this the process that writes? `accelerate launch` starts several."""
    return int(os.environ.get("RANK", "0")) == 0
