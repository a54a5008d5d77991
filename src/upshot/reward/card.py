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
_SIDE, _MARGIN = 240, 40


def card(model: RewardModel | Transformer) -> str:
    """Markdown: data, accuracy by slice, calibration, what it attends to, known failures, whose
    data it holds.
    """
    embedded = isinstance(model, RewardModel)
    parts = [
        "# Reward model card",
        "",
        _embedded(model) if isinstance(model, RewardModel) else _transformer(model),
        "",
    ]
    for head in model.heads:
        parts += [
            *_head(head),
            *(
                _strongest(model, head)
                if isinstance(model, RewardModel) and isinstance(head, Head)
                else []
            ),
        ]
    parts += ["![Calibration](calibration.svg)", "", "## Domain", ""]
    parts += [
        (
            f"Inputs less familiar than {model.domain.threshold:.2f} are flagged;"
            f" {model.domain.false_alarms:.0%} of inputs of the training kind are."
            if model.domain is not None
            else (
                "None is kept: a picture of what it was trained on would tell whose texts those"
                " were."
            )
        ),
        "",
    ]
    if model.epsilon is not None:
        parts += [
            "## Privacy",
            "",
            (
                f"Differentially private by user: ε = {model.epsilon:g}, δ = {model.delta:g}, for"
                " everything in `model.json` and in the weights; the number of users, rounded, is"
                " taken to be public. `users.json` is for erasure and is not covered: do not give"
                " it away."
            ),
            "",
        ]
    parts += [
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
        "## Whose data",
        "",
        (
            f"{len(model.users):,} users (pseudonyms in `users.json`). Erasing one of them means"
            " training this model again."
            if model.users
            else "The rows name no users."
        ),
        "",
    ]
    return "\n".join(parts)


def plot(model: RewardModel | Transformer) -> str:
    """Calibration of every head as SVG: predicted probability across, share that was right up, area
    by number of rows.
    """
    width = _SIDE + 2 * _MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width * len(model.heads)}"'
        f' height="{width}" font-family="sans-serif" font-size="12">'
    ]
    for number, head in enumerate(model.heads):
        most = max((count for *_, count in head.calibration.bins), default=1)
        dots = "".join(
            f'<circle cx="{_place(p)}" cy="{_SIDE + _MARGIN - (_place(share) - _MARGIN)}"'
            f' r="{2 + 5 * (count / most) ** 0.5:.1f}" fill="#36c" fill-opacity=".7"/>'
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
            f'<text x="{_place(v)}" y="{width - 10}" text-anchor="middle">{v:.2f}</text>'
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


def _place(share: float) -> float:
    """Where a probability of .5 to 1 stands."""
    return round(_MARGIN + _SIDE * (min(1.0, max(0.5, share)) - 0.5) / 0.5, 1)


def _embedded(model: RewardModel) -> str:
    figures = (
        "Figures are of users who were held out, with noise."
        if model.epsilon is not None
        else "Figures are cross-fitted: no user, thread or prompt is on both sides."
    )
    return (
        f"An embedded Bradley-Terry or ordinal model over {len(model.names):,}"
        f" features{', MiniLM embeddings among them' if model.embed else ''}. {figures}"
    )


def _transformer(model: Transformer) -> str:
    members = (
        f"an ensemble of {len(model.members)}"
        if len(model.members) > 1
        else "one model, which does not know its own uncertainty"
    )
    return f"A transformer from `{model.base}`, {members}. Figures are of users who were held out."


def _head(head: Any) -> Sequence[str]:
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


def _strongest(model: RewardModel, head: Head) -> Sequence[str]:
    weight = head.posterior.mean
    narrow = [
        i for i in range(len(weight)) if GROUPS[model.group[i]] in ("form", "relation", "words")
    ]
    strongest = sorted(narrow, key=lambda i: -abs(float(weight[i])))[:_STRONGEST]
    told = ", ".join(f"{model.names[i]} {weight[i]:+.2f}" for i in strongest)
    return [
        (
            "Strongest named features, in logits a standard deviation (`form` is left out of the"
            f" reward): {told}."
        ),
        "",
    ]
