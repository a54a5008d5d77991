"""The summary as one HTML file: no script, no network, light and dark, usable on a phone.

Plots are drawn as SVG.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import jinja2
from markupsafe import Markup, escape

from upshot.report.summary import FATES, Row, Summary

_WIDTH = 720
_HALF = 400
"""Width of plots that stand side by side."""


@cache
def _environment() -> jinja2.Environment:
    """Templates escape everything that they are given: texts are strangers'."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("upshot.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[[float], str]] = {
        "percent": lambda share: f"{100 * share:.0f}%",
        "thousands": lambda number: f"{number:,}",
    }
    environment.filters.update(filters)  # pyright: ignore[reportUnknownMemberType]  # jinja2
    return environment


def to_html(summary: Summary) -> str:
    """The report as one page."""
    judged = max(1, summary.all.total - summary.all.silent)
    return (
        _environment()
        .get_template("template.html")
        .render(
            s=summary,
            judged=judged,
            share_plot=_draw_shares(summary.all),
            week_plot=_draw_weeks(summary.by_week),
            model_plot=_draw_bars(summary.by_model),
            topic_plot=_draw_bars(summary.by_topic),
            histogram_plot=_draw_histogram(summary.histogram),
            kind_plot=_draw_kinds(summary.kinds),
            shift_plot=_draw_shifts(summary),
        )
    )


def _wrap_svg(height: float, label: str, body: Sequence[str], width: int = _WIDTH) -> Markup:
    """`body` holds only numbers and escaped text."""
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        width,
        round(height),
        label,
        # Parts escape what they are given.
        Markup("").join(Markup(part) for part in body),  # noqa: S704
    )


def _draw_text(x: float, y: float, text: object, css: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{css}">{escape(text)}</text>'


def _draw_rect(
    x: float, y: float, width: float, height: float, css: str, *, title: str = ""
) -> str:
    inner = f"<title>{escape(title)}</title>" if title else ""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{max(height, 0):.1f}"'
        f' class="{css}" rx="2">{inner}</rect>'
    )


def _draw_shares(row: Row) -> Markup:
    """One bar of all responses."""
    body: list[str] = []
    x = 0.0
    for name in FATES:
        count: int = getattr(row, name)
        width = _WIDTH * count / max(1, row.total)
        body.append(_draw_rect(x, 0, width - 2, 34, name, title=f"{name}: {count:,}"))
        if width > 60:
            body.append(_draw_text(x + 10, 22, f"{name} {count:,}", f"on-{name}"))
        x += width
    return _wrap_svg(34, "share of responses by what became of them", body)


def _draw_bars(rows: Sequence[Row]) -> Markup:
    """Horizontal bars: the share of each fate, the number beside it."""
    body: list[str] = []
    for number, row in enumerate(rows):
        y = number * 30.0
        name = row.name if len(row.name) < 17 else row.name[:15] + "…"
        body.append(_draw_text(0, y + 19, name))
        x, room = 124.0, _HALF - 180.0
        for fate in FATES:
            count: int = getattr(row, fate)
            width = room * count / max(1, row.total)
            body.append(
                _draw_rect(x, y + 4, width - 1, 20, fate, title=f"{row.name}, {fate}: {count:,}")
            )
            x += width
        body.append(_draw_text(_HALF - 46, y + 19, f"{row.total:,}", "quiet"))
    return _wrap_svg(max(30, 30 * len(rows)), "responses by group", body, _HALF)


def _draw_weeks(rows: Sequence[Row]) -> Markup:
    """Columns a week, as high as there were responses; those without evidence are left out of the
    height.
    """
    highest = max([row.total for row in rows] or [1])
    step = _WIDTH / max(8, len(rows))
    body: list[str] = []
    for number, row in enumerate(rows):
        y = 150.0
        for fate in FATES:
            count: int = getattr(row, fate)
            height = 140.0 * count / highest
            y -= height
            body.append(
                _draw_rect(
                    number * step + 2,
                    y,
                    step - 4,
                    height - 1,
                    fate,
                    title=f"week of {row.name}, {fate}: {count:,}",
                )
            )
        if number % max(1, len(rows) // 8) == 0:
            body.append(_draw_text(number * step + 2, 168, row.name[5:], "quiet"))
    return _wrap_svg(176, "responses by week", body)


def _draw_histogram(bins: Sequence[int]) -> Markup:
    highest = max([*bins, 1])
    step = _HALF / len(bins)
    body: list[str] = []
    for number, count in enumerate(bins):
        height = 120.0 * count / highest
        css = "harmed" if number < 8 else "helped" if number >= 12 else "unclear"
        body.append(
            _draw_rect(
                number * step + 2,
                124 - height,
                step - 2,
                height,
                css,
                title=f"score {number / 20:.2f}-{(number + 1) / 20:.2f}: {count:,}",
            )
        )
    body += [
        _draw_text(0, 142, "0  harmed", "quiet"),
        _draw_text(_HALF / 2 - 10, 142, "0.5", "quiet"),
        _draw_text(_HALF - 62, 142, "helped  1", "quiet"),
    ]
    return _wrap_svg(148, "scores of responses with evidence", body, _HALF)


def _draw_kinds(kinds: Sequence[tuple[str, int, int]]) -> Markup:
    """Kinds of evidence, good news to the right and bad to the left."""
    highest = max([count for _, _, count in kinds] or [1])
    middle = _HALF / 2
    body: list[str] = [
        f'<line x1="{middle}" x2="{middle}" y1="0" y2="{26 * len(kinds)}" class="axis"/>'
    ]
    for number, (kind, polarity, count) in enumerate(kinds):
        y = number * 26.0
        width = (middle - 110) * count / highest
        label = f"{kind.replace('_', ' ')} {count:,}"
        if polarity < 0:
            body += [
                _draw_rect(middle - width, y + 3, width, 18, "harmed", title=label),
                _draw_text(middle + 8, y + 17, label),
            ]
        else:
            css = "helped" if polarity > 0 else "unclear"
            body += [
                _draw_rect(middle, y + 3, width, 18, css, title=label),
                f'<text x="{middle - 8}" y="{y + 17}" text-anchor="end">{escape(label)}</text>',
            ]
    return _wrap_svg(max(26, 26 * len(kinds)), "kinds of evidence", body, _HALF)


def _draw_shifts(summary: Summary) -> Markup:
    """From foresight to hindsight: an arrow for each of the cases shown."""
    cases = summary.overturned
    body: list[str] = [
        (
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="4"'
            ' markerHeight="4" orient="auto"><path d="M0 0 L8 4 L0 8 z"'
            ' class="tip"/></marker></defs>'
        ),
        (
            f'<line x1="{_WIDTH / 2}" x2="{_WIDTH / 2}" y1="0" y2="{26 * len(cases) + 6}"'
            ' class="axis"/>'
        ),
    ]
    for number, case in enumerate(cases):
        y = 16 + number * 26.0
        x1, x2 = 20 + (_WIDTH - 40) * case.foresight, 20 + (_WIDTH - 40) * case.score
        css = "up" if x2 > x1 else "down"
        body.append(
            f'<line x1="{x1:.0f}" x2="{x2:.0f}" y1="{y:.0f}" y2="{y:.0f}" class="shift {css}"'
            f' marker-end="url(#tip)"><title>{escape(case.request[:80])}</title></line>'
        )
        body.append(f'<circle cx="{x1:.0f}" cy="{y:.0f}" r="4" class="dot"/>')
    body += [
        _draw_text(0, 26 * len(cases) + 22, "0", "quiet"),
        _draw_text(_WIDTH - 12, 26 * len(cases) + 22, "1", "quiet"),
    ]
    return _wrap_svg(26 * len(cases) + 28, "scores without and with hindsight", body)
