"""Rows of unequal length as one tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def pad_rows(
    rows: Sequence[Sequence[float]], filler: float, *, left: bool = False, device: Any = None
) -> torch.Tensor:
    """Rows filled up to the longest, on the right unless `left`; shape (rows, width).

    >>> pad_rows([[1, 2], [3]], 0).tolist(), pad_rows([[1, 2], [3]], 0, left=True).tolist()
    ([[1, 2], [3, 0]], [[1, 2], [0, 3]])
    """
    width = max(map(len, rows))
    gaps = [[filler] * (width - len(row)) for row in rows]
    lines = [[*gap, *row] if left else [*row, *gap] for row, gap in zip(rows, gaps, strict=True)]
    return torch.tensor(lines, device=device)


def pad_tokens(
    rows: Sequence[Sequence[int]], pad: int, *, left: bool = False, device: Any = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and their attention mask, both of shape (rows, width)."""
    ones = [[1] * len(row) for row in rows]
    return (
        pad_rows(rows, pad, left=left, device=device),
        pad_rows(ones, 0, left=left, device=device),
    )
