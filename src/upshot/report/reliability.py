"""A reliability plot as one self-contained page: predicted against observed, before and after
calibration.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jinja2

if TYPE_CHECKING:
    from upshot.hindsight.trust.lake_trust import Calibration
    from upshot.stats.calibration import Bin

_SIDE = 320
"""Pixels of a plot's side."""


def reliability_page(calibration: Calibration) -> str:
    """The page of a calibration."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("upshot.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    template = environment.get_template("reliability.html")
    return template.render(calibration=calibration, side=_SIDE, points=_points)


def _points(bins: Sequence[Bin]) -> list[tuple[float, float, float, float, str]]:
    """For each bin: x, the ends of its interval, y (pixels), and a title."""
    return [
        (
            round(b.predicted * _SIDE, 1),
            _height(b.low),
            _height(b.high),
            _height(b.observed),
            f"{b.size} responses: predicted {b.predicted:.2f}, observed {b.observed:.2f}",
        )
        for b in bins
    ]


def _height(share: float) -> float:
    return round(_SIDE - share * _SIDE, 1)
