"""The model card that is written with a reward model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from upshot.reward.features import GROUPS
from upshot.reward.model import Head, RewardModel

if TYPE_CHECKING:
    from upshot.reward.transformer import Transformer

_STRONGEST = 8
"""Named features that are listed."""
_SIDE, _MARGIN = 240, 40
"""Of a plot, in pixels."""


def render_card(model: RewardModel | Transformer) -> str:
    """Markdown: accuracy, calibration, strongest features, domain, known failures, whose data."""
    embedded = isinstance(model, RewardModel)
    kind = _describe_embedded(model) if embedded else _describe_transformer(model)
    parts = ["# Reward model card", "", kind, ""]
    for head in model.heads:
        parts += _render_head(head)
        if isinstance(model, RewardModel) and isinstance(head, Head):
            parts += _render_strongest(model, head)
    parts += ["![Calibration](calibration.svg)", "", *_render_domain(model)]
    if model.epsilon is not None:
        parts += _render_privacy(model.epsilon, model.delta)
    return "\n".join([*parts, *_render_failures(embedded), *_render_data(model)])


def _render_domain(model: RewardModel | Transformer) -> list[str]:
    text = "None is kept: a description of the training texts would reveal whose they were."
    if model.domain is not None:
        text = (
            f"Inputs less familiar than {model.domain.threshold:.2f} are flagged;"
            f" {model.domain.false_alarms:.0%} of inputs of the training kind are."
        )
    return ["## Domain", "", text, ""]


def _render_privacy(epsilon: float, delta: float) -> list[str]:
    text = (
        f"Differentially private by user: ε = {epsilon:g}, δ = {delta:g}, for everything in"
        " `model.json` and in the weights; the number of users, rounded, is taken to be public."
        " `users.json` is for erasure and is not covered: do not give it away."
    )
    return ["## Privacy", "", text, ""]


def _render_failures(embedded: bool) -> list[str]:
    return [
        "## Known failures",
        "",
        (
            "- It reads words and form, not truth: a fluent wrong answer scores like a right one."
            if embedded
            else (
                "- It knows what its base knows: a fluent wrong answer on what that does not know"
                " scores like a right one."
            )
        ),
        "- Length, layout and marks are left out of the reward; what correlates with them is not.",
        (
            "- A policy that is trained against it will find what it overrates: watch true"
            " outcomes, not the reward."
        ),
        (
            "- Outside its domain the reward means nothing; the flag misses texts that use the"
            " domain's words."
        ),
        "",
    ]


def _render_data(model: RewardModel | Transformer) -> list[str]:
    lines: list[str] = []
    if model.left_out:
        lines.append(
            f"{model.left_out:,} pairs were left out: their chosen response equals the rejected"
            " one."
        )
    if model.raters:
        lines.append(
            "Scores are those of responses: leniency, scale and taste of their raters were taken"
            " out first."
        )
    lines.append(
        f"{len(model.users):,} users (pseudonyms in `users.json`). Erasing one of them means"
        " training this model again."
        if model.users
        else "The rows name no users."
    )
    return ["## Whose data", "", *(part for line in lines for part in (line, ""))]


def plot_calibration(model: RewardModel | Transformer) -> str:
    """Calibration of every head as SVG.

    Predicted probability goes across, the share that was right up, area by number of rows.
    """
    width = _SIDE + 2 * _MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width * len(model.heads)}"'
        f' height="{width}" font-family="sans-serif" font-size="12">'
    ]
    for number, head in enumerate(model.heads):
        largest = max((count for *_, count in head.calibration.bins), default=1)
        dots = "".join(
            f'<circle cx="{_position(p)}" cy="{_SIDE + _MARGIN - (_position(share) - _MARGIN)}"'
            f' r="{2 + 5 * (count / largest) ** 0.5:.1f}" fill="#36c" fill-opacity=".7"/>'
            for p, share, count in head.calibration.bins
        )
        frame = (
            f'<rect x="{_MARGIN}" y="{_MARGIN}" width="{_SIDE}" height="{_SIDE}" fill="none"'
            ' stroke="#999"/>'
        )
        line = (
            f'<line x1="{_MARGIN}" y1="{_SIDE + _MARGIN}" x2="{_SIDE + _MARGIN}" y2="{_MARGIN}"'
            ' stroke="#999" stroke-dasharray="4"/>'
        )
        ends = "".join(
            f'<text x="{_position(v)}" y="{width - 10}" text-anchor="middle">{v:.2f}</text>'
            for v in (0.5, 0.75, 1.0)
        )
        title = (
            f'<text x="{_MARGIN}" y="{_MARGIN - 10}">{escape(head.name)}: predicted, and was right'
            " (.5 to 1)</text>"
        )
        parts.append(
            f'<g transform="translate({number * width})">{title}{frame}{line}{dots}{ends}</g>'
        )
    return "".join([*parts, "</svg>"])


def _position(share: float) -> float:
    """The coordinate of a probability of .5 to 1."""
    return round(_MARGIN + _SIDE * (min(1.0, max(0.5, share)) - 0.5) / 0.5, 1)


def _describe_embedded(model: RewardModel) -> str:
    figures = (
        "Figures are of users who were held out, with noise."
        if model.epsilon is not None
        else "Figures are cross-fitted: no user, thread or prompt is on both sides."
    )
    return (
        f"An embedded Bradley-Terry or ordinal model over {len(model.names):,}"
        f" features{', MiniLM embeddings among them' if model.embed else ''}. {figures}"
    )


def _describe_transformer(model: Transformer) -> str:
    members = (
        f"an ensemble of {len(model.members)}"
        if len(model.members) > 1
        else "one model, whose uncertainty is not known"
    )
    return f"A transformer from `{model.base}`, {members}. Figures are of users who were held out."


def _render_head(head: Any) -> Sequence[str]:
    rows = "pairs" if head.kind == "pairs" else "scored responses"
    return [
        f"## Head `{head.name}`",
        "",
        (
            f"{head.rows:,} {rows}; calibration error {head.calibration.error:.3f}; estimated label"
            f" noise {head.calibration.noise:.0%}."
        ),
        "",
        "| slice | accuracy |",
        "|---|---|",
        *(f"| {name} | {share:.3f} |" for name, share in head.accuracy.items()),
        "",
        "| predicted | was right | rows |",
        "|---|---|---|",
        *(f"| {p:.2f} | {share:.2f} | {count} |" for p, share, count in head.calibration.bins),
        "",
    ]


def _render_strongest(model: RewardModel, head: Head) -> Sequence[str]:
    weight = head.posterior.mean
    narrow = [
        i for i in range(len(weight)) if GROUPS[model.group[i]] in ("form", "relation", "words")
    ]
    strongest = sorted(narrow, key=lambda i: -abs(float(weight[i])))[:_STRONGEST]
    weights = ", ".join(f"{model.names[i]} {weight[i]:+.2f}" for i in strongest)
    return [
        (
            "Strongest named features, in logits per standard deviation (`form` is left out of the"
            f" reward): {weights}."
        ),
        "",
    ]
